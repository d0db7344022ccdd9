"""Classes of LiDAR points: parity with nuscenes-devkit, submissions in the official layout, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.nuscenes_tiny import SPLIT, VERSION, token, write_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes.eval.lidarseg.utils import ConfusionMatrix, LidarsegClassMapper

from bevstack.data.index import DatasetIndex, open_index
from bevstack.data.lidarseg import CHALLENGE_CLASS, labels_path
from bevstack.evaluation.dense.lidarseg import (
    LIDARSEG_CLASSES,
    PROTOCOL,
    LidarsegScorer,
    count_points,
    is_submission,
    score,
    score_submission,
    submission_path,
    write_submission,
)
from bevstack.sim.nuscenes_tables import LIDARSEG_CATEGORIES
from bevstack.types.errors import DatasetError

CAR, ROAD = (LIDARSEG_CLASSES.index(name) + 1 for name in ("car", "driveable_surface"))
SENSORS = {"use_camera": False, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": False}
SWEEPS = {"LIDAR_TOP0": np.array([24, 24, 17, 0, 31, 30]), "LIDAR_TOP10": np.array([24, 17, 17])}
"""Categories of the points of both key sweeps: drivable, drivable, car, noise, ego, vegetation; drivable, car, car."""


def classes(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    root = write_tiny(tmp_path / "tiny")
    for name, categories in SWEEPS.items():
        path = labels_path(root, VERSION, token(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        categories.astype(np.uint8).tofile(path)
    return open_index(root)


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    """The labels as a submission; points that do not count have some class."""
    found = {token(name): np.maximum(CHALLENGE_CLASS[categories], 1) for name, categories in SWEEPS.items()}
    write_submission(tmp_path / "mine", SPLIT, found, SENSORS)
    return tmp_path / "mine"


# -- numbers ----------------------------------------------------------------------------------------------------------
def test_the_numbers_of_six_points_are_those_counted_by_hand() -> None:
    found = score([count_points(classes(CAR, ROAD, ROAD, ROAD, 9, CAR), classes(CAR, CAR, ROAD, ROAD, 0, ROAD))])
    assert found.protocol == PROTOCOL and found.num_points == 5 and found.num_frames == 1
    assert found.class_iou["car"] == pytest.approx(1 / 3) and found.class_iou["driveable_surface"] == pytest.approx(
        2 / 4
    )
    assert found.mean_iou == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found.frequency_weighted_iou == pytest.approx((2 * 1 / 3 + 3 * 1 / 2) / 5)
    assert found.class_iou["trailer"] is None, "nothing is said of points that do not count"
    assert np.sum(found.confusion) == 5 and found.confusion[CAR - 1][ROAD - 1] == 1


def test_a_class_that_is_only_predicted_counts_as_zero_and_the_mean_of_labelled_classes_stands_beside() -> None:
    found = score([count_points(classes(CAR, CAR, ROAD), classes(CAR, CAR, CAR))])
    assert found.mean_iou == pytest.approx(1 / 3) and found.mean_iou_of_labelled == pytest.approx(2 / 3)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 17))
def test_every_number_is_that_of_nuscenes_devkit(seed: int, num_classes: int) -> None:
    rng = np.random.default_rng(seed)
    devkit, scorer = ConfusionMatrix(17, 0), LidarsegScorer()
    for number in range(3):
        truth = rng.integers(0, num_classes, 200).astype(np.uint8)
        prediction = rng.integers(1, num_classes, 200).astype(np.uint8)
        devkit.update(truth, prediction)
        scorer.add(f"frame{number}", prediction, truth)
    found = scorer.result()
    np.testing.assert_array_equal(found.confusion, devkit.global_cm[1:, 1:])
    # The devkit divides in single precision at places: its unions are cast to float32.
    iou = [np.nan if value is None else value for value in found.class_iou.values()]
    np.testing.assert_allclose(iou, devkit.get_per_class_iou()[1:], rtol=1e-6)
    assert found.mean_iou == pytest.approx(devkit.get_mean_iou(), rel=1e-6)
    assert found.frequency_weighted_iou == pytest.approx(devkit.get_freqweighted_iou(), rel=1e-6)


def test_categories_are_gathered_in_classes_as_in_nuscenes_devkit() -> None:
    mapper = object.__new__(LidarsegClassMapper)  # its tables need no data set
    mapper.ignore_class = mapper.get_ignore_class()
    class_of_name, number_of_class = mapper.get_fine2coarse(), mapper.get_coarse2idx()
    assert [number_of_class[class_of_name[name]] for name in LIDARSEG_CATEGORIES] == CHALLENGE_CLASS.tolist()
    assert tuple(number_of_class)[1:] == LIDARSEG_CLASSES


def test_frames_add_up_exactly_however_they_are_shared_out() -> None:
    rng = np.random.default_rng(2)
    whole, parts = LidarsegScorer(), [LidarsegScorer(), LidarsegScorer()]
    for number in range(4):
        truth, prediction = (rng.integers(1, 17, 50).astype(np.uint8) for _ in range(2))
        for scorer in (whole, parts[number % 2]):
            scorer.add(f"frame{number}", prediction, truth)
    merged = LidarsegScorer()
    for part in parts:
        merged.merge(part)
    assert merged.result() == whole.result() and merged.num_frames == 4
    assert score(whole.counts[name] for name in ("frame1", "frame3")) == parts[1].result()
    with pytest.raises(ValueError, match="sample frame0 is counted already"):
        merged.merge(parts[0])
    with pytest.raises(ValueError, match="sample frame0 is counted already"):
        whole.add("frame0", truth, truth)


def test_no_frame_and_an_empty_sweep_give_no_number() -> None:
    assert LidarsegScorer().result().mean_iou is None
    empty = score([count_points(classes(), classes())])
    assert empty.mean_iou is None and empty.frequency_weighted_iou is None and empty.num_points == 0


# -- submissions ------------------------------------------------------------------------------------------------------
def test_the_labels_as_submission_score_one(index: DatasetIndex, submission: Path) -> None:
    found, sensors = score_submission(submission, index, SPLIT)
    assert found.mean_iou == 1.0 and sensors == SENSORS
    assert found.num_frames == 2 and found.num_points == 7, "noise and the vehicle itself do not count"
    assert found.class_share["car"] == pytest.approx(3 / 7)
    names = sorted(path.name for path in (submission / "lidarseg" / SPLIT).iterdir())
    assert names == sorted(f"{token(name)}_lidarseg.bin" for name in SWEEPS)
    assert is_submission(submission) and not is_submission(submission / "lidarseg")
    found, _ = score_submission(submission, index, SPLIT, [token("sample1")])
    assert found.num_frames == 1 and found.num_points == 3


def test_the_set_is_counted_as_one_and_not_frame_by_frame(index: DatasetIndex, submission: Path) -> None:
    classes(CAR, CAR, CAR).tofile(submission_path(submission, SPLIT, token("LIDAR_TOP10")))
    found, _ = score_submission(submission, index, SPLIT)
    assert found.class_iou["car"] == pytest.approx(3 / 4)
    assert found.class_iou["driveable_surface"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (classes(CAR, CAR), "has 2 classes for a sweep of 3 points"),
        (classes(CAR, 0, CAR), "class 0 of point 1 is none of 1 to 16"),
        (classes(CAR, CAR, 17), "class 17 of point 2 is none of 1 to 16"),
        (None, "is missing: a submission has every key sweep"),
    ],
)
def test_a_broken_file_is_named_with_its_sample(
    index: DatasetIndex, submission: Path, content: np.ndarray | None, message: str
) -> None:
    path = submission_path(submission, SPLIT, token("LIDAR_TOP10"))
    path.unlink()
    if content is not None:
        content.tofile(path)
    with pytest.raises(ValueError, match=f"{path.name} of sample {token('sample1')}.*{message}"):
        score_submission(submission, index, SPLIT)


def test_the_declaration_of_sensors_is_checked(index: DatasetIndex, submission: Path, tmp_path: Path) -> None:
    path = submission / SPLIT / "submission.json"
    for content, message in (
        ('{"meta": {', "no complete JSON"),
        ("{}", 'must have the field "meta"'),
        (json.dumps({"meta": SENSORS | {"use_lidar": 1}}), "must say true or false for use_camera"),
        (json.dumps({"meta": {"use_lidar": True}}), "must say true or false for use_camera"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=f"submission.json.*{message}"):
            score_submission(submission, index, SPLIT)
    path.unlink()
    with pytest.raises(ValueError, match="submission.json: No such file"):
        score_submission(submission, index, SPLIT)
    with pytest.raises(ValueError, match="sensors must say"):
        write_submission(tmp_path / "new", SPLIT, {}, {})
    with pytest.raises(ValueError, match="class 0 of point 0"):
        write_submission(tmp_path / "new", SPLIT, {"a": classes(0)}, SENSORS)


def test_data_without_point_labels_is_named(submission: Path, tmp_path: Path) -> None:
    bare = open_index(write_tiny(tmp_path / "bare"))
    with pytest.raises(DatasetError, match="unpack the lidarseg archive"):
        score_submission(submission, bare, SPLIT)


def test_points_and_classes_must_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        count_points(classes(1, 2), classes(1))
    with pytest.raises(ValueError, match="class 17 of the labels"):
        count_points(classes(1), classes(17))
