"""The official metrics: known values, the corner cases, parity with published numbers, conversion there and back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.ten_classes import ten_classes_frames, ten_classes_root, truth_as_detections

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.index import open_index
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.detection_nuscenes import PROTOCOL, score, to_boxes_ego, to_records
from bevstack.evaluation.nuscenes_tables import ScoringTables, choose_split
from bevstack.evaluation.submission import SubmissionMeta, read_submission, write_submission
from bevstack.geometry.transforms import from_quaternion
from bevstack.types import Boxes3D, BoxIndex, Detections
from bevstack.types.errors import DatasetError


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> NuScenesFrames:
    return ten_classes_frames(ten_classes_root(tmp_path_factory.mktemp("ten") / "root"))


def records_of(frames: NuScenesFrames, change=lambda detections: detections) -> dict[str, list[dict]]:
    return {
        frames.token(k): to_records(frames.token(k), change(truth_as_detections(frames, k)), frames.ego(k).T_global_ego)
        for k in range(len(frames))
    }


def scores_of(frames: NuScenesFrames, records: dict[str, list[dict]]):
    tokens = [frames.token(k) for k in range(len(frames))]
    return score(records, ScoringTables(frames.index), tokens)[0]


def moved(distance_m: float):
    def change(detections: Detections) -> Detections:
        rows = detections.boxes.rows.copy()
        rows[:, BoxIndex.X] += distance_m
        return replace(detections, boxes=replace(detections.boxes, rows=rows))

    return change


def test_ground_truth_as_predictions_scores_one_when_all_ten_classes_are_there(frames: NuScenesFrames) -> None:
    scores = scores_of(frames, records_of(frames))
    assert scores.protocol == PROTOCOL
    assert scores.mean_ap == pytest.approx(1.0)
    assert scores.nds == pytest.approx(1.0, abs=1e-4)
    assert scores.num_ground_truth == dict.fromkeys(DETECTION_CLASSES, 2)


def test_no_predictions_score_zero(frames: NuScenesFrames) -> None:
    scores = scores_of(frames, records_of(frames, lambda detections: Detections.empty()))
    assert scores.nds == 0.0
    assert scores.mean_ap == 0.0
    assert set(scores.errors.values()) == {1.0}


def test_predictions_without_any_ground_truth_score_zero(tmp_path: Path) -> None:
    from fixtures.nuscenes_tiny import write_tiny

    def without_boxes(tables) -> None:
        tables["sample_annotation"], tables["instance"] = [], []

    nothing = ten_classes_frames(write_tiny(tmp_path / "root", edit=without_boxes))
    box = Detections(
        boxes=Boxes3D(rows=np.array([[5, 0, 1, 4, 2, 1.5, 0, 0, 0]], np.float32), class_index=np.array([0])),
        scores=np.array([0.5], np.float32),
        attribute_index=np.array([-1]),
    )
    records = {nothing.token(k): to_records(nothing.token(k), box, np.eye(4)) for k in range(len(nothing))}
    assert scores_of(nothing, records).nds == 0.0


def test_a_shift_of_a_metre_and_a_half_matches_at_two_and_four_metres_only(frames: NuScenesFrames) -> None:
    scores = scores_of(frames, records_of(frames, moved(1.5)))
    for name in DETECTION_CLASSES:
        assert scores.class_ap_at[name] == pytest.approx({"0.5": 0, "1.0": 0, "2.0": 1, "4.0": 1})
        assert scores.class_ap[name] == pytest.approx(0.5)
        assert scores.class_errors[name]["ATE"] == pytest.approx(1.5, abs=1e-4)
    assert scores.errors["mATE"] == pytest.approx(1.5, abs=1e-4)


def test_errors_that_the_protocol_does_not_define_are_none(frames: NuScenesFrames) -> None:
    errors = scores_of(frames, records_of(frames)).class_errors
    assert [name for name, value in errors["traffic_cone"].items() if value is None] == ["AOE", "AVE", "AAE"]
    assert [name for name, value in errors["barrier"].items() if value is None] == ["AVE", "AAE"]
    assert None not in errors["car"].values()


def test_turned_and_faster_predictions_have_the_error_that_was_put_in(frames: NuScenesFrames) -> None:
    def change(detections: Detections) -> Detections:
        rows = detections.boxes.rows.copy()
        rows[:, BoxIndex.YAW] += 0.3
        rows[:, BoxIndex.VX] += 2.0
        return replace(detections, boxes=replace(detections.boxes, rows=rows))

    scores = scores_of(frames, records_of(frames, change))
    assert scores.errors["mAOE"] == pytest.approx(0.3, abs=1e-4)
    assert scores.errors["mAVE"] == pytest.approx(2.0, abs=1e-4)


def test_a_missing_sample_is_named(frames: NuScenesFrames) -> None:
    records = records_of(frames)
    lost = frames.token(1)
    del records[lost]
    with pytest.raises(ValueError, match=f"lack 1 of 2 samples, the first is {lost}"):
        scores_of(frames, records)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detection_name": "tram"}, "box 0: Unknown detection_name tram"),
        ({"translation": [0.0, float("nan"), 0.0]}, "box 0: Translation may not be NaN"),
        ({"size": [1.0, 0.0, 1.0]}, "not positive"),
        ({"sample_token": "other"}, "its sample_token is other"),
    ],
)
def test_a_malformed_box_is_named_with_its_sample(frames: NuScenesFrames, change: dict, message: str) -> None:
    records = records_of(frames)
    records[frames.token(0)][0] |= change
    with pytest.raises(ValueError, match=message) as caught:
        scores_of(frames, records)
    assert frames.token(0) in str(caught.value)


def test_more_than_500_boxes_are_refused(frames: NuScenesFrames) -> None:
    records = records_of(frames)
    records[frames.token(0)] = records[frames.token(0)] * 51
    with pytest.raises(ValueError, match="510 boxes; the protocol allows 500"):
        scores_of(frames, records)


def test_only_the_500_best_boxes_are_written() -> None:
    rows = np.tile(np.array([[5, 0, 1, 4, 2, 1.5, 0, 0, 0]], np.float32), (600, 1))
    scores = np.linspace(0, 1, 600).astype(np.float32)
    many = Detections(
        boxes=Boxes3D(rows=rows, class_index=np.zeros(600, np.int64)),
        scores=scores,
        attribute_index=np.full(600, -1),
    )
    written = [record["detection_score"] for record in to_records("t", many, np.eye(4))]
    assert written == pytest.approx(np.sort(scores)[:-501:-1].tolist())


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
    from nuscenes.eval.detection.data_classes import DetectionBox

    boxes = [DetectionBox.deserialize(record) for record in to_records("t", detections, T_global_ego)]
    back = to_boxes_ego(boxes, T_global_ego)
    geometry = slice(0, BoxIndex.VX)
    np.testing.assert_allclose(back.boxes.rows[:, geometry], rows[:, geometry], atol=1e-4)
    np.testing.assert_array_equal(back.boxes.class_index, detections.boxes.class_index)
    np.testing.assert_array_equal(back.attribute_index, detections.attribute_index)
    np.testing.assert_allclose(back.scores, detections.scores)
    # The format keeps the horizontal velocity only: on a slope of 7 degrees the vertical part is lost.
    np.testing.assert_allclose(back.boxes.velocities, rows[:, BoxIndex.VX :], atol=1.5)


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


def test_a_submission_file_scores_as_the_predictions_that_it_holds(frames: NuScenesFrames, tmp_path: Path) -> None:
    records = records_of(frames, moved(0.7))
    path = write_submission(tmp_path / "s.json", SubmissionMeta.of_modality("lidar"), records)
    submission = read_submission(path)
    assert submission.meta == {
        "use_camera": False,
        "use_lidar": True,
        "use_radar": False,
        "use_map": False,
        "use_external": False,
    }
    assert scores_of(frames, dict(submission.results)) == scores_of(frames, records)


@pytest.mark.parametrize("text", ["{", "[]", '{"results": {}}', '{"meta": {}, "results": []}'])
def test_a_file_that_is_no_submission_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="wrong.json"):
        read_submission(path)


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
        ScoringTables(frames.index).split_tokens("tidy")


@pytest.mark.parametrize("name", ["trelpy_lidar_results_nusc.json", "fastbev_camera_mini_val_results.json"])
def test_published_predictions_score_what_the_devkit_says(nuscenes_real: Path, tmp_path: Path, name: str) -> None:
    results = nuscenes_real / "results"
    expected = json.loads((results / "expected_devkit_detection_metrics.json").read_text())[name]
    index = open_index(nuscenes_real / "mini_val" / "derived_tables", "v1.0-mini", out=tmp_path / "index")
    tables = ScoringTables(index)
    scores, _ = score(read_submission(results / name).results, tables, tables.split_tokens("mini_val"))
    assert scores.nds == expected["nd_score"]
    assert scores.mean_ap == expected["mean_ap"]
    assert scores.class_ap_at == expected["label_aps"]
    assert list(scores.errors.values()) == pytest.approx(list(expected["tp_errors"].values()), abs=1e-15)
