"""Cues while driving: held against what the model has found, the manoeuvre first, and never a bad answer."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.scenes import one_car_ahead

from bevstack.perception.language.cue_maker import CueMaker
from bevstack.perception.language.live_cues import NoCueError
from bevstack.types import Boxes3D, Detections, Frame, SceneEstimate
from bevstack.types.trajectory import Route, RouteCommand


class Says:
    """A captioner that gives one answer."""

    name, prompt_version, cameras = "says", "none", ("CAM_FRONT",)

    def __init__(self, answer: str) -> None:
        self.answer = answer

    def caption(self, frame: Frame) -> str:
        assert frame.annotations is None
        return self.answer


class Letters:
    """An encoder that counts letters."""

    name, width = "letters", 26

    def encode(self, texts):  # type: ignore[no-untyped-def]
        counts = np.array([[text.lower().count(chr(97 + k)) for k in range(26)] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def frame_and_estimate() -> tuple[Frame, SceneEstimate]:
    """A frame to be driven to the left, in which the model has found the car ahead."""
    annotated = one_car_ahead()
    assert annotated.annotations is not None
    truth = annotated.annotations
    found = Detections(
        boxes=Boxes3D(rows=truth.boxes.rows, class_index=truth.boxes.class_index),
        scores=np.full(len(truth.boxes), 0.9, np.float32),
        attribute_index=truth.attribute_index,
    )
    route = Route(command=RouteCommand.LEFT, waypoints_ego=np.zeros((0, 2)), speed_limit_mps=float("nan"))
    frame = replace(annotated, annotations=None, route=route)
    return frame, SceneEstimate(token=frame.token, timestamp_us=frame.timestamp_us, detections=found)


def test_what_the_model_has_not_found_goes_and_the_manoeuvre_comes_first() -> None:
    frame, estimate = frame_and_estimate()
    cue = CueMaker(captioner=Says("A car is ahead. There is a bus in front."), encoder=Letters())(frame, estimate)
    assert cue.text.startswith("We turn left") and "car" in cue.text and "bus" not in cue.text
    assert (cue.frame_token, cue.timestamp_us) == (frame.token, frame.timestamp_us)
    assert cue.source == "says, prompts none, refinement estimates, letters"
    assert cue.mirrored_embedding is not None and not np.allclose(cue.mirrored_embedding, cue.embedding)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [("", "empty"), ("the road " * 300, "too long"), ("Ein Auto steht auf der Strasse", "not English")],
)
def test_an_answer_that_is_no_cue_is_named(answer: str, fault: str) -> None:
    frame, estimate = frame_and_estimate()
    with pytest.raises(NoCueError, match=frame.token) as caught:
        CueMaker(captioner=Says(answer), encoder=Letters())(frame, estimate)
    assert caught.value.fault == fault
