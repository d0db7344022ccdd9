"""Every task by scene: whole, in shares, drawn again, from the file - always the numbers of the evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.drives import SPLIT, Track, drive, straight
from fixtures.scored_drives import SCENES, ego_path, evaluate_drives, predictions_of, write_drives

from bevstack.data.index import DatasetIndex
from bevstack.data.map_lines import MAP_LINE_CLASSES
from bevstack.evaluation.comparison.figure_names import figures_of
from bevstack.evaluation.comparison.scene_statistics import read_statistics
from bevstack.evaluation.comparison.statistics_file import read_arrays, write_arrays
from bevstack.evaluation.dense.lidarseg import LidarsegScorer
from bevstack.evaluation.dense.lidarseg_statistics import LidarsegStatistics
from bevstack.evaluation.dense.map_line_statistics import MapLineStatistics
from bevstack.evaluation.dense.map_vectors import LineMatches, LineScorer
from bevstack.evaluation.motion.statistics import ChallengeStatistics, FoundMotionStatistics
from bevstack.evaluation.planning.statistics import PlanningStatistics
from bevstack.evaluation.predictions.predicted import Predicted
from bevstack.evaluation.task_statistics import TaskStatistics, joined_scene_names, whole_weights
from bevstack.evaluation.tracking.statistics import TrackingStatistics

KINDS = ("tracking", "motion", "found_motion", "planning", "lidarseg", "map_lines")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DatasetIndex:
    return write_drives(tmp_path_factory.mktemp("drives") / "data")


@pytest.fixture(scope="module")
def predicted(index: DatasetIndex) -> Predicted:
    return predictions_of(index, off_m=0.6)


def statistics_of(kind: str, index: DatasetIndex, predicted: Predicted, scenes: tuple[str, ...]) -> TaskStatistics:
    tokens = [token for token in predicted.sample_tokens if scene_of(index, token) in scenes]
    own = predicted.select(tokens)
    match kind:
        case "tracking":
            return TrackingStatistics.of(own.tracking, index, tokens)
        case "motion":
            return ChallengeStatistics.of(own.motion, "fusion", index, SPLIT, tokens)
        case "found_motion":
            return FoundMotionStatistics.of(own.found_motion, "fusion", index, tokens)
        case "planning":
            return PlanningStatistics.of(own.planning, "fusion", index, SPLIT, tokens)
        case "lidarseg":
            points = LidarsegScorer()
            for token in tokens:
                truth = np.random.default_rng(int(token[:8], 16)).integers(0, 17, 200).astype(np.uint8)
                points.add(token, np.where(truth > 9, truth, 3).astype(np.uint8), truth)
            return LidarsegStatistics.of(points, index)
        case _:
            lines = LineScorer()
            for token in tokens:
                lines.matches[token] = lines_of(token)
            return MapLineStatistics.of(lines, index)


def lines_of(token: str) -> LineMatches:
    """Five lines with coarse scores, so that many are equal."""
    rng = np.random.default_rng(int(token[:8], 16))
    return LineMatches(
        class_index=rng.integers(0, len(MAP_LINE_CLASSES), 5),
        scores=rng.integers(1, 5, 5) / 5,
        is_right=np.sort(rng.random((5, 3)) < 0.6, axis=1),
        num_true=rng.integers(2, 5, 3),
    )


def scene_of(index: DatasetIndex, token: str) -> str:
    return index.scene_of_sample(index.sample_row(token)).name


@pytest.mark.parametrize("kind", KINDS)
def test_shares_merge_to_the_numbers_of_the_whole_to_the_last_bit(kind, index, predicted) -> None:
    whole = statistics_of(kind, index, predicted, SCENES)
    parts = [statistics_of(kind, index, predicted, each) for each in (SCENES[:1], SCENES[1:6], SCENES[6:])]
    merged = type(whole).merge(parts)
    assert whole.scene_names == merged.scene_names == SCENES
    assert merged.numbers() == whole.numbers()
    assert next(iter(whole.numbers().values()))
    weights = np.array([0, 2, 1, 0, 1, 3, 0, 1])
    assert merged.numbers(weights) == whole.numbers(weights)
    with pytest.raises(ValueError, match=f"scene {SCENES[0]} is in two"):
        type(whole).merge([parts[0], parts[0]])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_zero_and_one_are_the_scenes_alone(kind, index, predicted) -> None:
    whole = statistics_of(kind, index, predicted, SCENES)
    chosen = whole.numbers(np.array([0, 1, 0, 0, 1, 1, 0, 0.0]))
    alone = statistics_of(kind, index, predicted, (SCENES[1], SCENES[4], SCENES[5])).numbers(np.ones(3))
    figures = figures_of({whole.task: alone})
    assert figures_of({whole.task: chosen}) == pytest.approx(figures)
    assert figures != figures_of({whole.task: whole.numbers(np.ones(8))})


def test_the_whole_row_follows_from_the_file_of_an_evaluation(index, predicted, tmp_path: Path) -> None:
    out = evaluate_drives(index.root, predicted, tmp_path / "run")
    row = json.loads((out / "metrics.json").read_text())["results"]["fusion"]
    kept = read_statistics(out / "scene_statistics.npz")
    tasks = kept.tasks["fusion"]
    assert set(tasks) == {"tracking", "motion", "named_motion", "found_motion", "planning"}
    for of_task in tasks.values():
        for protocol, numbers in of_task.numbers().items():
            assert json.loads(json.dumps(numbers)) == row[of_task.task][protocol]
    assert row["planning"]["plan/uniad"]["baselines"].keys() == {
        "expert",
        "constant_velocity",
        "constant_turn",
        "copy_last",
    }
    assert row["planning"]["plan/vad"]["turning"]["num_frames"] > 0


def test_a_file_holds_what_it_knows_and_nothing_else(tmp_path: Path) -> None:
    matches = lines_of("00000000")
    again = read_arrays(write_arrays(tmp_path / "a.npz", matches, "form-1"), "form-1", [LineMatches])
    assert all(np.array_equal(getattr(again, name), getattr(matches, name)) for name in ("scores", "is_right"))
    with pytest.raises(ValueError, match="damaged or of another version"):
        read_arrays(tmp_path / "a.npz", "form-1", [])
    with pytest.raises(ValueError, match="format form-1, not form-2"):
        read_arrays(tmp_path / "a.npz", "form-2", [LineMatches])
    with pytest.raises(TypeError, match="is a set"):
        write_arrays(tmp_path / "b.npz", {"odd": {1}}, "form-1")
    assert not (tmp_path / "b.npz").exists()


def test_weights_must_say_how_often(index) -> None:
    assert whole_weights(np.array([2.0, 0.0])).tolist() == [2, 0]
    for wrong in ([0.5], [-1.0]):
        with pytest.raises(ValueError, match="whole numbers of 0 or more"):
            whole_weights(np.array(wrong))
    with pytest.raises(ValueError, match="at least one part"):
        joined_scene_names([])


def test_another_data_set_teaches_the_baseline_that_learns(
    index: DatasetIndex, predicted: Predicted, tmp_path: Path
) -> None:
    scenes = {"scene-7777": {"parked": Track(path=straight(215.0, 195.0))}}
    other = drive(tmp_path / "other", scenes, num_keyframes=16, ego=ego_path)
    tokens = predicted.sample_tokens

    def entries(baseline_data: tuple[DatasetIndex, str] | None) -> set[str]:
        return set(
            PlanningStatistics.of(
                predicted.planning, "fusion", index, SPLIT, tokens, baseline_data=baseline_data
            ).entries
        )

    assert entries((other, SPLIT)) - entries(None) == {"ego_status_mlp"}
    with pytest.raises(ValueError, match="holds frames that are scored"):
        entries((index, SPLIT))
