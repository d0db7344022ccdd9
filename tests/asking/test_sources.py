from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.worlds import tiny_world  # noqa: F401 - a fixture

from bevstack.asking.drive import ask_frames, frames_asked
from bevstack.asking.sources import AnnotationBeliefs, FileBeliefs, open_run
from bevstack.asking.template import TemplateAnswerer
from bevstack.cli.main import main
from bevstack.evaluation.predictions.predicted import Predicted
from bevstack.evaluation.predictions.store import PredictionMeta
from bevstack.evaluation.predictions.writer import PredictionWriter
from bevstack.types.scene import Detections, SceneEstimate


def perfect_file(root: Path, out: Path) -> Path:
    """Predictions that are the annotations, and nothing in the first frame."""
    frames = AnnotationBeliefs(open_run(None, root, from_annotations=True).beliefs.frames).frames
    with PredictionWriter(out, PredictionMeta()) as writer:
        for index in range(len(frames)):
            truth, ego = frames.annotations(index), frames.ego(index)
            found = Detections(
                boxes=truth.boxes,
                scores=np.full(len(truth.boxes), 0.9, np.float32),
                attribute_index=truth.attribute_index,
            )
            estimate = SceneEstimate(
                token=frames.token(index), timestamp_us=0, detections=found if index else Detections.empty()
            )
            writer.add(Predicted.of_estimate(estimate, ego.T_global_ego))
    return out


def test_a_file_of_perfect_predictions_is_believed_like_the_annotations(tiny_world: Path, tmp_path: Path) -> None:  # noqa: F811
    oracle = open_run(None, tiny_world, from_annotations=True).beliefs
    told = open_run(str(perfect_file(tiny_world, tmp_path / "p.parquet")), tiny_world).beliefs
    assert isinstance(told, FileBeliefs)
    token = oracle.frames.token(4)
    for question in ("How many cars are there?", "What is the nearest vehicle?", "How fast are we?"):
        truth, answer = (TemplateAnswerer().answer(question, each.belief(token)) for each in (oracle, told))
        assert answer.text == truth.text
        assert truth.oracle and not answer.oracle


def test_a_frame_without_predicted_objects_stays_empty_although_it_is_annotated(
    tiny_world: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    told = open_run(str(perfect_file(tiny_world, tmp_path / "p.parquet")), tiny_world).beliefs
    first = told.frames.token(0)
    assert len(told.frames.annotations(0).boxes) > 0
    assert TemplateAnswerer().answer("How many objects are there?", told.belief(first)).text == "There are no objects."


def test_a_scene_is_asked_frame_by_frame(tiny_world: Path) -> None:  # noqa: F811
    beliefs = open_run(None, tiny_world, from_annotations=True).beliefs
    scene = beliefs.frames.scenes[1].name
    tokens = frames_asked(beliefs, scene, None)
    answers = list(ask_frames(beliefs, TemplateAnswerer(), "How fast are we?", tokens))
    assert [each.position for each in answers] == [0, 1, 2]
    assert answers[2].time_s == pytest.approx(1.0, abs=0.05)
    assert frames_asked(beliefs, scene, "1") == [tokens[1]]
    assert frames_asked(beliefs, None, tokens[2]) == [tokens[2]]
    with pytest.raises(ValueError, match="0 to 2"):
        frames_asked(beliefs, scene, "3")


def test_the_command_prints_the_answer_with_its_grounds(
    tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    run = str(perfect_file(tiny_world, tmp_path / "p.parquet"))
    scene = open_run(None, tiny_world, from_annotations=True).beliefs.frames.scenes[0].name
    arguments = ["ask", run, "how many objects are there?", "--data", str(tiny_world), "--scene", scene, "--frame", "2"]
    assert main([*arguments, "--json", str(tmp_path / "answers.json")]) == 0
    printed = capsys.readouterr().out
    assert "There are" in printed and ", score 0.90" in printed and "oracle" not in printed
    assert main(["ask", "how many cars are there?", "--data", str(tiny_world), "--from-annotations"]) == 0
    assert "[oracle: from annotations]" in capsys.readouterr().out


def test_asking_without_a_run_or_a_question_says_what_is_missing(
    tiny_world: Path, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    assert main(["ask", "--data", str(tiny_world)]) == 1
    assert "ask something" in capsys.readouterr().err
    with pytest.raises(ValueError, match="name a RUN"):
        open_run(None, tiny_world)


def test_a_plan_and_its_speeds_are_read_from_a_file() -> None:
    from bevstack.asking.sources import estimate_of
    from bevstack.evaluation.planning.file import PlanColumns
    from tests.fixtures.scenes import empty_road

    poses = np.zeros((1, 6, 3))
    poses[0, :, 0] = np.arange(1, 7) * 2.0
    plans = PlanColumns(
        sample_tokens=("frame-0",), poses=poses, command_index=np.array([-1], np.int8), uses_ego_status=False
    )
    estimate = estimate_of(Predicted(sample_tokens=("frame-0",), planning=plans), empty_road())
    assert estimate.plan is not None
    assert estimate.plan.trajectory.speeds_mps == pytest.approx(np.full(6, 4.0))
    lidar = replace(plans, frame="lidar")
    assert estimate_of(Predicted(sample_tokens=("frame-0",), planning=lidar), empty_road()).plan is None
