"""Detections in `ego` as boxes of the benchmark and back, the submission file, and the choice of a split."""

from pathlib import Path

import numpy as np
import pytest
from fixtures.ten_classes import ten_classes_frames, ten_classes_root

from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.detection.nuscenes import to_columns, to_detections, to_records
from bevstack.evaluation.predictions.submission import SubmissionMeta, write_submission
from bevstack.evaluation.splits import choose_split, split_tokens
from bevstack.geometry.transforms import from_quaternion
from bevstack.types import Boxes3D, BoxIndex, Detections
from bevstack.types.errors import DatasetError


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> NuScenesFrames:
    return ten_classes_frames(ten_classes_root(tmp_path_factory.mktemp("ten") / "root"))


def one_car(**values: float) -> Detections:
    row = np.array([[5, 0, 1, 4, 2, 1.5, 0, 0, 0]], np.float32)
    for name, value in values.items():
        row[0, BoxIndex[name]] = value
    return Detections(
        boxes=Boxes3D(rows=row, class_index=np.array([0])),
        scores=np.array([0.5], np.float32),
        attribute_index=np.array([-1]),
    )


def test_only_the_500_best_boxes_are_kept() -> None:
    rows = np.tile(np.array([[5, 0, 1, 4, 2, 1.5, 0, 0, 0]], np.float32), (600, 1))
    scores = np.linspace(0, 1, 600).astype(np.float32)
    many = Detections(
        boxes=Boxes3D(rows=rows, class_index=np.zeros(600, np.int64)),
        scores=scores,
        attribute_index=np.full(600, -1),
    )
    assert to_columns("t", many, np.eye(4)).score == pytest.approx(np.sort(scores)[:-501:-1])


def test_ego_to_global_and_back_returns_the_boxes_of_a_tilted_vehicle() -> None:
    rng = np.random.default_rng(1)
    T_global_ego = from_quaternion(np.array([0.8, 0.03, -0.05, 0.59]), np.array([600.0, 1500.0, 0.4]))
    count = 40
    rows = rng.uniform(-50, 50, (count, 9))
    rows[:, 3:6] = rng.uniform(0.4, 9, (count, 3))
    rows[:, BoxIndex.YAW] = rng.uniform(-np.pi, np.pi, count)
    detections = Detections(
        boxes=Boxes3D(rows=rows.astype(np.float32), class_index=rng.integers(0, 10, count)),
        scores=np.sort(rng.random(count).astype(np.float32))[::-1].copy(),
        attribute_index=rng.integers(-1, 8, count),
    )
    back = to_detections(to_columns("t", detections, T_global_ego), T_global_ego)
    geometry = slice(0, BoxIndex.VX)
    np.testing.assert_allclose(back.boxes.rows[:, geometry], rows[:, geometry], atol=1e-4)
    np.testing.assert_array_equal(back.boxes.class_index, detections.boxes.class_index)
    np.testing.assert_array_equal(back.attribute_index, detections.attribute_index)
    np.testing.assert_allclose(back.scores, detections.scores)
    # The format keeps the horizontal velocity only: on a slope of 7 degrees the vertical part is lost.
    np.testing.assert_allclose(back.boxes.velocities, rows[:, BoxIndex.VX :], atol=1.5)


def test_no_boxes_stay_no_boxes() -> None:
    assert len(to_detections(to_columns("t", Detections.empty(), np.eye(4)), np.eye(4))) == 0
    assert to_records("t", Detections.empty(), np.eye(4)) == []


def test_sizes_are_written_width_first_and_unknown_velocity_as_standing() -> None:
    rows = np.array([[10, 2, 1, 4.5, 1.9, 1.6, np.pi / 2, np.nan, np.nan]], np.float32)
    car = Detections(
        boxes=Boxes3D(rows=rows, class_index=np.array([0])),
        scores=np.array([0.5], np.float32),
        attribute_index=np.array([-1]),
    )
    (record,) = to_records("t", car, np.eye(4))
    assert record["size"] == pytest.approx([1.9, 4.5, 1.6])
    assert record["rotation"] == pytest.approx([np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
    assert record["velocity"] == [0.0, 0.0]
    assert record["attribute_name"] == ""


@pytest.mark.parametrize(
    ("values", "message"),
    [({"X": np.nan}, "not finite"), ({"WIDTH": 0.0}, "not positive"), ({"YAW": np.inf}, "finite")],
)
def test_a_detection_that_is_no_box_is_refused_with_its_sample(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"sample t: .*{message}"):
        to_columns("t", one_car(**values), np.eye(4))


def test_a_failed_write_leaves_the_old_submission(tmp_path: Path) -> None:
    path = write_submission(tmp_path / "s.json", SubmissionMeta.of_modality("fusion"), {"a": []})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_submission(path, SubmissionMeta.of_modality("fusion"), {"a": [{"translation": object()}]})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["s.json"]


def test_the_only_split_is_chosen_and_an_unknown_one_refused(frames: NuScenesFrames) -> None:
    assert choose_split(frames.index, None) == "tiny"
    with pytest.raises(DatasetError, match="there is no split 'tidy'"):
        split_tokens(frames.index, "tidy")
