"""`det/nusc-cvpr19`: known values, bit equality with the devkit, what counts, and resampling from match records."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.detection_splits import Recipe, write_split
from fixtures.devkit_detection import devkit_detection, differing_arrays, differing_figures
from fixtures.nuscenes_tiny import write_tiny
from fixtures.ten_classes import ten_classes_frames, ten_classes_root, truth_as_detections
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.index import open_index
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.detection.boxes import DetectionTruth, ScoredBoxes, read_truth
from bevstack.evaluation.detection.devkit_arithmetic import headings, planar_norms
from bevstack.evaluation.detection.matching import ClassRecords, MatchRecords, match, match_records
from bevstack.evaluation.detection.nuscenes import to_columns
from bevstack.evaluation.detection.protocol import (
    PROTOCOL,
    ClassScores,
    DetectionScores,
    class_scores,
    nds_from_records,
    score,
    scores_from_records,
    summary_from_records,
)
from bevstack.evaluation.predictions.box_columns import BoxColumns, read_submission_columns
from bevstack.evaluation.splits import split_tokens
from bevstack.types import BoxIndex, Detections
from bevstack.types.errors import DatasetError

# ---------------------------------------------------------------- known values


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> NuScenesFrames:
    return ten_classes_frames(ten_classes_root(tmp_path_factory.mktemp("ten") / "root"))


@pytest.fixture(scope="module")
def truth(frames: NuScenesFrames) -> DetectionTruth:
    return read_truth(frames.index, [frames.token(k) for k in range(len(frames))])


def found(frames: NuScenesFrames, change=lambda detections: detections) -> BoxColumns:
    """The annotations as predictions, changed."""
    return BoxColumns.concatenate(
        to_columns(frames.token(k), change(truth_as_detections(frames, k)), frames.ego(k).T_global_ego)
        for k in range(len(frames))
    )


def moved(**shift: float):
    def change(detections: Detections) -> Detections:
        rows = detections.boxes.rows.copy()
        for name, value in shift.items():
            rows[:, BoxIndex[name]] += value
        return replace(detections, boxes=replace(detections.boxes, rows=rows))

    return change


def test_ground_truth_as_predictions_scores_one_when_all_ten_classes_are_there(frames, truth) -> None:
    scores, _ = score(found(frames), truth)
    assert scores.protocol == PROTOCOL == "det/nusc-cvpr19"
    assert scores.mean_ap == pytest.approx(1.0)
    assert scores.nds == pytest.approx(1.0, abs=1e-4)
    assert scores.num_ground_truth == dict.fromkeys(DETECTION_CLASSES, 2)
    assert scores.num_predictions == 20


def test_no_predictions_score_zero_with_errors_of_one(frames, truth) -> None:
    scores, _ = score(BoxColumns.empty(truth.sample_tokens), truth)
    assert scores.nds == 0.0
    assert scores.mean_ap == 0.0
    assert set(scores.errors.values()) == {1.0}


def test_predictions_without_any_ground_truth_score_zero(tmp_path: Path) -> None:
    def without_boxes(tables) -> None:
        tables["sample_annotation"], tables["instance"] = [], []

    nothing = ten_classes_frames(write_tiny(tmp_path / "root", edit=without_boxes))
    annotated = read_truth(nothing.index, [nothing.token(k) for k in range(len(nothing))])
    box = truth_like_car()
    predictions = BoxColumns.concatenate(to_columns(token, box, np.eye(4)) for token in annotated.sample_tokens)
    assert score(predictions, annotated)[0].nds == 0.0


def truth_like_car() -> Detections:
    from bevstack.types import Boxes3D

    return Detections(
        boxes=Boxes3D(rows=np.array([[5, 0, 1, 4, 2, 1.5, 0, 0, 0]], np.float32), class_index=np.array([0])),
        scores=np.array([0.5], np.float32),
        attribute_index=np.array([-1]),
    )


def test_a_shift_of_a_metre_and_a_half_matches_at_two_and_four_metres_only(frames, truth) -> None:
    scores, _ = score(found(frames, moved(X=1.5)), truth)
    for name in DETECTION_CLASSES:
        assert scores.class_ap_at[name] == pytest.approx({"0.5": 0, "1.0": 0, "2.0": 1, "4.0": 1})
        assert scores.class_ap[name] == pytest.approx(0.5)
        assert scores.class_errors[name]["ATE"] == pytest.approx(1.5, abs=1e-4)
    assert scores.errors["mATE"] == pytest.approx(1.5, abs=1e-4)


def test_errors_that_the_protocol_does_not_define_are_none(frames, truth) -> None:
    errors = score(found(frames), truth)[0].class_errors
    assert [name for name, value in errors["traffic_cone"].items() if value is None] == ["AOE", "AVE", "AAE"]
    assert [name for name, value in errors["barrier"].items() if value is None] == ["AVE", "AAE"]
    assert None not in errors["car"].values()


def test_turned_and_faster_predictions_have_the_error_that_was_put_in(frames, truth) -> None:
    scores, _ = score(found(frames, moved(YAW=0.3, VX=2.0)), truth)
    assert scores.errors["mAOE"] == pytest.approx(0.3, abs=1e-4)
    assert scores.errors["mAVE"] == pytest.approx(2.0, abs=1e-4)


def test_a_barrier_turned_by_half_a_turn_is_right_and_a_car_is_not(frames, truth) -> None:
    errors = score(found(frames, moved(YAW=np.pi)), truth)[0].class_errors
    assert errors["barrier"]["AOE"] == pytest.approx(0, abs=1e-4)
    assert errors["car"]["AOE"] == pytest.approx(np.pi, abs=1e-4)


def test_a_missing_sample_is_named_and_foreign_samples_are_left_out(frames, truth) -> None:
    predictions = found(frames)
    lost = frames.token(1)
    with pytest.raises(ValueError, match=f"lack 1 of 2 samples, the first is {lost}"):
        score(predictions.select([frames.token(0)]), truth)
    foreign = BoxColumns.concatenate([to_columns("foreign", truth_like_car(), np.eye(4)), predictions])
    assert asdict(score(foreign, truth)[0]) == asdict(score(predictions, truth)[0])


def test_an_unknown_sample_is_named(frames) -> None:
    with pytest.raises(DatasetError, match="there is no sample nowhere"):
        read_truth(frames.index, [frames.token(0), "nowhere"])


# ---------------------------------------------------------------- the devkit beside it


def read(path: Path) -> tuple[BoxColumns, DetectionTruth]:
    index = open_index(path.parent, "v1.0-mini", out=path.parent / "index")
    truth = read_truth(index, split_tokens(index, "mini_val"))
    return read_submission_columns(path)[0], truth


def of_all_classes(records: MatchRecords) -> dict[str, ClassScores]:
    totals = records.num_truth.sum(axis=1)
    return {name: class_scores(name, of, int(total)) for (name, of), total in zip(records.classes.items(), totals)}


def check_against_devkit(path: Path) -> DetectionScores:
    metrics, curves = devkit_detection(path.parent, "v1.0-mini", "mini_val", path)
    records = match_records(ScoredBoxes.of(*read(path)))
    scores = scores_from_records(records)
    assert differing_arrays(of_all_classes(records), curves) == []
    assert differing_figures(scores, metrics) == []
    return scores


RECIPES = {
    "on a grid, scores repeat": Recipe(),
    "anywhere": Recipe(is_gridded=False, score_decimals=None, quaternion_kind="tilted"),
    "500 boxes in a sample": Recipe(full_samples=2, samples_per_scene=2, truth_per_sample=40),
    "crowded": Recipe(truth_per_sample=60, predictions_per_sample=200, score_decimals=2, empty_share=0.0),
    "hardly any predictions": Recipe(predictions_per_sample=2, empty_share=0.5),
    "all scores equal": Recipe(score_decimals=0, nan_velocities=False, racks=False),
}


@pytest.mark.parametrize("name", RECIPES)
def test_random_splits_are_equal_to_the_devkit_in_every_array(tmp_path: Path, name: str) -> None:
    assert check_against_devkit(write_split(tmp_path / "data", 7, RECIPES[name])).num_predictions > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_a_hundred_random_splits_are_equal_to_the_devkit_in_every_array(tmp_path: Path, seed: int) -> None:
    recipe = list(RECIPES.values())[seed % len(RECIPES)]
    check_against_devkit(write_split(tmp_path / "data", 1000 + seed, recipe))


@pytest.mark.parametrize("name", ["trelpy_lidar_results_nusc.json", "fastbev_camera_mini_val_results.json"])
def test_published_predictions_score_what_the_devkit_says(nuscenes_real: Path, tmp_path: Path, name: str) -> None:
    results = nuscenes_real / "results"
    expected = json.loads((results / "expected_devkit_detection_metrics.json").read_text())[name]
    index = open_index(nuscenes_real / "mini_val" / "derived_tables", "v1.0-mini", out=tmp_path / "index")
    truth = read_truth(index, split_tokens(index, "mini_val"))
    scores, _ = score(read_submission_columns(results / name)[0], truth)
    assert scores.nds == expected["nd_score"]
    assert scores.mean_ap == expected["mean_ap"]
    assert scores.class_ap_at == expected["label_aps"]
    assert list(scores.errors.values()) == list(expected["tp_errors"].values())


@pytest.mark.parametrize("name", ["trelpy_lidar_results_nusc.json", "fastbev_camera_mini_val_results.json"])
def test_published_predictions_have_the_devkits_curves_to_the_last_bit(
    nuscenes_real: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes((nuscenes_real / "results" / name).read_bytes())
    root = tmp_path / "root"
    root.mkdir()
    (root / "v1.0-mini").symlink_to(nuscenes_real / "mini_val" / "derived_tables" / "v1.0-mini")
    (root / "maps").symlink_to(nuscenes_real / "maps")
    metrics, curves = devkit_detection(root, "v1.0-mini", "mini_val", path)
    index = open_index(root, "v1.0-mini", out=tmp_path / "index")
    truth = read_truth(index, split_tokens(index, "mini_val"))
    records = match_records(ScoredBoxes.of(read_submission_columns(path)[0], truth))
    assert differing_arrays(of_all_classes(records), curves) == []
    assert differing_figures(scores_from_records(records), metrics) == []


# ---------------------------------------------------------------- what counts


def scene(**columns: np.ndarray | list) -> BoxColumns:
    """Boxes of one sample."""
    count = len(columns["translation"])
    filled = {
        "sample_tokens": ("a",),
        "sample_index": np.zeros(count, np.int32),
        "size_wlh": np.ones((count, 3)),
        "rotation_wxyz": np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)),
        "velocity": np.zeros((count, 2)),
        "class_index": np.zeros(count, np.int8),
        "score": np.linspace(1, 0.5, count),
        "attribute_index": np.full(count, -1, np.int8),
    }
    return BoxColumns(
        **{name: np.asarray(value) for name, value in columns.items() if name != "sample_tokens"}
        | {name: value for name, value in filled.items() if name not in columns}
    )


def around_origin(boxes: BoxColumns, racks: BoxColumns | None = None, points: list[int] | None = None):
    return DetectionTruth(
        boxes=boxes,
        num_points=np.ones(len(boxes), np.int64) if points is None else np.array(points),
        ego_xy=np.zeros((1, 2)),
        racks=BoxColumns.empty(("a",)) if racks is None else racks,
    )


@pytest.mark.parametrize(("name", "limit"), [("car", 50.0), ("pedestrian", 40.0), ("barrier", 30.0)])
def test_a_box_exactly_at_the_limit_of_range_does_not_count(name: str, limit: float) -> None:
    places = [[limit, 0.0, 0.0], [np.nextafter(limit, 0), 0.0, 9.0], [0.6 * limit, 0.8 * limit, 0.0]]
    classes = np.full(3, DETECTION_CLASSES.index(name), np.int8)
    boxes = scene(translation=places, class_index=classes)
    counted = ScoredBoxes.of(boxes, around_origin(boxes))
    assert counted.truth_counts.tolist() == counted.prediction_counts.tolist() == [False, True, False]


def test_annotated_boxes_without_points_do_not_count_and_predictions_need_none() -> None:
    boxes = scene(translation=[[1.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    counted = ScoredBoxes.of(boxes, around_origin(boxes, points=[0, 2]))
    assert counted.truth_counts.tolist() == [False, True]
    assert counted.prediction_counts.tolist() == [True, True]


def test_cycles_in_a_rack_do_not_count_on_both_sides_and_others_do() -> None:
    # A rack of 2 x 6 x 2 m at (10, 0, 1), turned by a quarter: it reaches from x = 9 to 11 and y = -3 to 3 unturned.
    turned = np.array([[np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)]])
    rack = scene(translation=[[10.0, 0.0, 1.0]], size_wlh=[[2.0, 6.0, 2.0]], rotation_wxyz=turned)
    places = [[10, 2, 1], [11.5, 0, 1], [10, 2, 2.5], [10.9, 2.9, 0.1], [10, 3.1, 1], [10, 2, 1]]
    classes = [DETECTION_CLASSES.index(name) for name in (*["bicycle"] * 3, "motorcycle", "motorcycle", "car")]
    boxes = scene(translation=np.array(places, float), class_index=np.array(classes, np.int8))
    counted = ScoredBoxes.of(boxes, around_origin(boxes, rack))
    assert counted.truth_counts.tolist() == counted.prediction_counts.tolist() == [False, True, True, False, True, True]


def test_among_equal_scores_the_later_prediction_is_matched_first() -> None:
    annotated = scene(translation=[[5.0, 0.0, 0.0]])
    predictions = scene(translation=[[5.3, 0.0, 0.0], [5.1, 0.0, 0.0]], score=[0.5, 0.5])
    records = match_records(ScoredBoxes.of(predictions, around_origin(annotated))).classes["car"]
    assert records.is_tp[0].tolist() == [True, False]
    assert records.tp_errors[0, 0] == pytest.approx(0.1)


def test_a_match_is_strictly_closer_than_the_distance_and_takes_the_first_of_equally_close_objects() -> None:
    zero, one = np.zeros(1, np.int32), np.zeros(2, np.int32)
    assert match(zero, np.array([[2.0, 0.0]]), zero, np.array([[0.0, 0.0]])).tolist() == [[-1], [-1], [-1], [0]]
    assert match(zero, np.array([[0.0, 0.0]]), one, np.array([[0.3, 0.0], [0.0, -0.3]])).tolist() == [[0]] * 4


# ---------------------------------------------------------------- arithmetic


def test_lengths_and_headings_are_the_devkits_to_the_last_bit() -> None:
    from nuscenes.eval.common.utils import quaternion_yaw
    from pyquaternion import Quaternion

    rng = np.random.default_rng(3)
    offsets = rng.normal(0, 3, (2000, 2))
    assert planar_norms(offsets).tolist() == [float(np.linalg.norm(offset)) for offset in offsets]
    quaternions = rng.normal(size=(600, 4))
    quaternions[:200] /= np.linalg.norm(quaternions[:200], axis=1, keepdims=True)
    quaternions[200:300, 1:3] = 0.0
    quaternions[300] = 0.0
    quaternions[301] = (0.0, 0.0, 0.0, 1.0)
    expected = [float(quaternion_yaw(Quaternion(list(quaternion)))) for quaternion in quaternions]
    assert headings(quaternions).tolist() == expected


# ---------------------------------------------------------------- match records


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> MatchRecords:
    recipe = Recipe(truth_per_sample=60, predictions_per_sample=150, samples_per_scene=4, empty_share=0.0)
    return match_records(ScoredBoxes.of(*read(write_split(tmp_path_factory.mktemp("split") / "data", 5, recipe))))


def subset(records: MatchRecords, samples: np.ndarray) -> MatchRecords:
    """Records as if only these samples had been matched."""
    place = np.full(len(records.sample_tokens), -1, np.int32)
    place[samples] = np.arange(len(samples))
    classes = {}
    for name, of in records.classes.items():
        kept = place[of.sample_index] >= 0
        errors = tuple(rows[kept[hits]] for rows, hits in zip(of.errors, of.is_tp))
        classes[name] = ClassRecords(
            score=of.score[kept], sample_index=place[of.sample_index[kept]], is_tp=of.is_tp[:, kept], errors=errors
        )
    tokens = tuple(records.sample_tokens[sample] for sample in samples)
    return MatchRecords(sample_tokens=tokens, classes=classes, num_truth=records.num_truth[:, samples])


def test_weights_of_one_give_the_official_figures(records: MatchRecords) -> None:
    official = scores_from_records(records)
    ones = np.ones(len(records.sample_tokens))
    for summary in (summary_from_records(records), summary_from_records(records, ones)):
        assert asdict(summary) == {name: getattr(official, name) for name in asdict(summary)}
    assert nds_from_records(records) == official.nds > 0


@settings(max_examples=15)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=7, unique=True))
def test_a_weight_of_zero_leaves_a_sample_out(records: MatchRecords, kept: list[int]) -> None:
    weight = np.zeros(len(records.sample_tokens))
    weight[kept] = 1.0
    expected = summary_from_records(subset(records, np.array(sorted(kept))))
    assert asdict(summary_from_records(records, weight)) == asdict(expected)


def test_equal_weights_change_nothing(records: MatchRecords) -> None:
    thrice = summary_from_records(records, np.full(len(records.sample_tokens), 3.0))
    assert thrice.nds == pytest.approx(nds_from_records(records), abs=1e-12)


@pytest.mark.parametrize("weight", [np.ones(3), -np.ones(8), np.full(8, np.nan)])
def test_weights_that_are_none_are_refused(records: MatchRecords, weight: np.ndarray) -> None:
    with pytest.raises(ValueError, match="sample_weight"):
        summary_from_records(records, weight)


def test_records_of_parts_merge_to_those_of_the_whole(records: MatchRecords) -> None:
    for name, whole in records.classes.items():
        parts = []
        for samples in (np.array([0, 3, 4]), np.array([1, 2, 5, 6, 7])):
            part = subset(records, samples).classes[name]
            parts.append(replace(part, sample_index=samples.astype(np.int32)[part.sample_index]))
        merged = ClassRecords.merge(parts)
        in_order = ClassRecords.merge([whole])  # equal scores of the file's order, put into the order of samples
        assert merged.score.tolist() == in_order.score.tolist()
        assert merged.sample_index.tolist() == in_order.sample_index.tolist()
        assert merged.is_tp.tolist() == in_order.is_tp.tolist()
        for rows, expected in zip(merged.errors, in_order.errors, strict=True):
            np.testing.assert_array_equal(rows, expected)
