"""A captioner on a thread of its own: the stack never waits, and no cue goes to the wrong drive or frame."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from fixtures.scenes import one_car_ahead

from bevstack.perception.language.live_cues import LiveCues, NoCueError
from bevstack.types import Frame, SceneEstimate
from bevstack.types.cue import Cue
from bevstack.types.errors import DatasetError

PATIENCE_S = 20.0


def frame_named(token: str) -> Frame:
    return replace(one_car_ahead(), token=token, cameras=(), lidar=None)


def cue_of(frame: Frame) -> Cue:
    return Cue(
        text=f"words about {frame.token}",
        embedding=np.array([1.0, 0.0], np.float32),
        mirrored_embedding=None,
        frame_token=frame.token,
        timestamp_us=frame.timestamp_us,
        source="by hand",
    )


def asked(live: LiveCues, token: str) -> Cue | None:
    """What a session does: take the newest cue, then hand over the frame with what was found in it."""
    cue = live.newest()
    live.offer(frame_named(token), SceneEstimate(token=token, timestamp_us=0))
    return cue


class SlowCaptioner:
    """Describes a frame when it is told to."""

    def __init__(self) -> None:
        self.may_go = threading.Semaphore(0)
        self.began = threading.Semaphore(0)
        self.described: list[str] = []

    def __call__(self, frame: Frame, estimate: SceneEstimate) -> Cue:
        assert estimate.token == frame.token
        self.began.release()
        assert self.may_go.acquire(timeout=PATIENCE_S)
        self.described.append(frame.token)
        return cue_of(frame)


def test_the_caller_never_waits_and_frames_in_between_are_left_out() -> None:
    slow = SlowCaptioner()
    with LiveCues(slow) as live:
        begin = time.monotonic()
        assert asked(live, "a") is None
        assert slow.began.acquire(timeout=PATIENCE_S)
        assert [asked(live, token) for token in "bcd"] == [None] * 3
        assert not live.wait(0.01) and time.monotonic() - begin < PATIENCE_S
        slow.may_go.release(2)
        assert live.wait(PATIENCE_S)
        newest = asked(live, "e")
        assert newest is not None and newest.frame_token == "d"
        slow.may_go.release()
        assert live.wait(PATIENCE_S)
    assert slow.described == ["a", "d", "e"]


def test_a_cue_that_is_finished_after_its_drive_has_ended_is_dropped() -> None:
    slow = SlowCaptioner()
    with LiveCues(slow) as live:
        asked(live, "old")
        assert slow.began.acquire(timeout=PATIENCE_S)
        live.reset()
        assert asked(live, "new") is None
        slow.may_go.release(1)
        assert slow.began.acquire(timeout=PATIENCE_S)
        assert asked(live, "newer") is None
        slow.may_go.release(2)
        assert live.wait(PATIENCE_S)
        cue = asked(live, "newest")
        assert cue is not None and cue.frame_token == "newer"
        slow.may_go.release()


@pytest.mark.parametrize("error", [DatasetError("no such model"), OSError("hub unreachable"), ValueError("empty")])
def test_a_captioner_that_fails_is_counted_and_the_last_cue_stays(error: Exception) -> None:
    def describe(frame: Frame, _: SceneEstimate) -> Cue | None:
        if frame.token.startswith("bad"):
            raise error
        return cue_of(frame)

    with LiveCues(describe) as live:
        for token in ("good", "bad-1", "bad-2"):
            asked(live, token)
            assert live.wait(PATIENCE_S)
        cue = asked(live, "after")
        assert cue is not None and cue.frame_token == "good"
        assert live.faults == {type(error).__name__: 2}


def test_answers_that_are_no_cue_are_counted_by_their_name() -> None:
    def describe(frame: Frame, _: SceneEstimate) -> Cue | None:
        raise NoCueError("not English", f"frame {frame.token}")

    with LiveCues(describe) as live:
        asked(live, "a")
        assert live.wait(PATIENCE_S)
        assert live.newest() is None and live.faults == {"not English": 1}


def test_a_cue_of_another_frame_is_refused_and_counted() -> None:
    with LiveCues(lambda frame, _: cue_of(replace(frame, token="another"))) as live:
        asked(live, "a")
        assert live.wait(PATIENCE_S)
        assert asked(live, "b") is None
        assert live.faults["another frame"] >= 1


def test_a_fault_of_our_own_does_not_pass_in_silence() -> None:
    def describe(frame: Frame, _: SceneEstimate) -> Cue | None:
        raise KeyError("a mistake")

    live = LiveCues(describe)
    asked(live, "a")
    assert live.wait(PATIENCE_S)
    with pytest.raises(KeyError, match="a mistake"):
        asked(live, "b")


def test_closed_cues_are_not_asked_again() -> None:
    with LiveCues(lambda frame, _: cue_of(frame)) as live:
        asked(live, "a")
    with pytest.raises(ValueError, match="closed"):
        asked(live, "b")
