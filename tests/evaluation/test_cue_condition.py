"""Which text a model is given while it is scored, and what the record says of it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.nuscenes_tiny import write_tiny
from fixtures.scenes import one_car_ahead
from fixtures.training_runs import FrameList
from omegaconf import OmegaConf

from bevstack.cli.main import main
from bevstack.data.cued_frames import CuedFrames
from bevstack.data.images import ImageSize
from bevstack.evaluation.checkpoint import Checkpoint
from bevstack.evaluation.cue_condition import CueCondition, PunctualCues
from bevstack.evaluation.ranks import Ranks
from bevstack.perception.language.live_cues import NoCueError
from bevstack.types import Frame, SceneEstimate
from bevstack.types.cue import Cue

TRAINED_WITH = {"name": "c", "age_s": 0.0, "wrong_seed": None}


def _checkpoint(*, reads: bool = True, name: str | None = "c") -> Checkpoint:
    config = OmegaConf.create({"data": {"cues": {**TRAINED_WITH, "name": name}}, "model": {"language": None}})
    config.model.language = {"embedding_dim": 3} if reads else None
    model: Any = SimpleNamespace(language=object() if reads else None)
    size = ImageSize(height=32, width=32)
    return Checkpoint(
        model=model, config=config, image_size=size, cameras=(), num_sweeps=1, description={"name": "here"}
    )


def _cues_of(condition: CueCondition, checkpoint: Checkpoint) -> Any:
    return OmegaConf.to_container(condition.apply(checkpoint).config.data.cues)


def test_a_condition_changes_what_it_names_and_nothing_else() -> None:
    checkpoint = _checkpoint()
    assert CueCondition().apply(checkpoint) is checkpoint
    assert _cues_of(CueCondition(age_s=0.5), checkpoint) == {**TRAINED_WITH, "age_s": 0.5}
    assert _cues_of(CueCondition(wrong_seed=3), checkpoint) == {**TRAINED_WITH, "wrong_seed": 3}
    assert _cues_of(CueCondition(name="d", age_s=2.0), checkpoint) == {**TRAINED_WITH, "name": "d", "age_s": 2.0}
    assert _cues_of(CueCondition(is_absent=True), checkpoint) == {**TRAINED_WITH, "name": None}
    assert _cues_of(CueCondition(captioner="zero-shot"), checkpoint) == {**TRAINED_WITH, "name": None}
    assert OmegaConf.to_container(checkpoint.config.data.cues) == TRAINED_WITH


@pytest.mark.parametrize(
    ("condition", "checkpoint", "said"),
    [
        (CueCondition(is_absent=True), _checkpoint(reads=False), "reads no text"),
        (CueCondition(is_absent=True, age_s=2.0), _checkpoint(), "--no-cues"),
        (CueCondition(captioner="zero-shot", name="c"), _checkpoint(), "--live-cues"),
        (CueCondition(captioner="zero-shot", is_absent=True), _checkpoint(), "give one"),
        (CueCondition(age_s=2.0), _checkpoint(name=None), "give --cues NAME"),
    ],
)
def test_what_makes_no_sense_is_refused(condition: CueCondition, checkpoint: Checkpoint, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        condition.apply(checkpoint)


def test_a_captioner_that_reads_answers_is_not_asked_while_driving() -> None:
    with pytest.raises(ValueError, match="describer-oracle reads ground truth"):
        CueCondition(captioner="describer-oracle").source(_checkpoint(), "cpu")
    assert CueCondition().source(_checkpoint(), "cpu") == "cached"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--no-cues"], "options about cues need --checkpoint"),
        (["--cue-age", "0"], "options about cues need --checkpoint"),
        (["--figures-only"], "--figures-only needs --checkpoint"),
    ],
)
def test_predictions_that_are_made_already_have_the_text_of_then(
    option: list[str], said: str, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    root = write_tiny(tmp_path / "tiny")
    assert main(["eval", "--predictions", str(tmp_path / "x.json"), "--data", str(root), *option]) == 1
    assert said in capsys.readouterr().err


def _frame(token: str) -> Frame:
    return replace(one_car_ahead(), token=token, cameras=(), lidar=None)


def _cue(frame: Frame, estimate: SceneEstimate) -> Cue:
    if frame.token == "silent":
        raise NoCueError("empty", "nothing is said of it")
    return Cue(
        text=frame.token,
        embedding=np.array([1.0, 0.0, 0.0], np.float32),
        mirrored_embedding=None,
        frame_token=frame.token,
        timestamp_us=frame.timestamp_us,
        source="by hand",
    )


def test_a_punctual_captioner_is_always_done_with_the_frame_before() -> None:
    given = []
    with PunctualCues(_cue) as live:
        for token in ("a", "b", "silent", "c"):
            cue = live.newest()
            given.append(None if cue is None else cue.text)
            live.offer(_frame(token), SceneEstimate(token=token, timestamp_us=0))
        assert given == [None, "a", "b", "b"]  # of an older frame where one could not be described
        assert live.num_without == 1 and live.faults == {"empty": 1}
        live.reset()
        assert live.newest() is None and live.num_without == 2


def test_the_record_says_which_text_it_was_and_how_many_frames_had_none() -> None:
    frames = CuedFrames(FrameList([]), None)
    frames.with_cue(_frame("a"))
    condition = CueCondition(wrong_seed=1)
    record = condition.record(condition.apply(_checkpoint()), frames, ["cached"], Ranks())
    assert record["cues"] == {
        **TRAINED_WITH, "wrong_seed": 1, "captioner": None, "frames_without": {"there is no cache": 1},
    }  # fmt: skip
    live = PunctualCues(_cue)
    live.newest()
    spoken = CueCondition(captioner="zero-shot")
    record = spoken.record(spoken.apply(_checkpoint()), FrameList([]), [live], Ranks())
    assert record["cues"]["captioner"] == "zero-shot" and record["cues"]["frames_without"] == {"no cue yet": 1}
    assert CueCondition().record(_checkpoint(reads=False), frames, ["cached"], Ranks()) == {}
