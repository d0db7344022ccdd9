"""What every detection and map protocol must answer to inputs whose score is known beforehand, whatever the data."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.ten_classes import ten_classes_frames, ten_classes_root
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.index import open_index
from bevstack.data.maps import MAP_CLASSES
from bevstack.evaluation.dense.map_segmentation import BEST_THRESHOLD, FIXED_THRESHOLD, THRESHOLDS, MapScorer
from bevstack.evaluation.detection.boxes import DetectionTruth, read_truth
from bevstack.evaluation.detection.protocol import DetectionScores, score
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.types import BevGrid, MapMasks, MapSegmentation

GRID = BevGrid(x_range_m=(-4.0, 4.0), y_range_m=(-3.0, 3.0), z_range_m=(-5.0, 3.0), cell_m=1.0)
SHAPE = (len(MAP_CLASSES), *GRID.shape_yx)
MASKS = arrays(bool, SHAPE)


# -- detection --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def ten_classes(tmp_path_factory: pytest.TempPathFactory) -> DetectionTruth:
    """Every class in both samples, boxes nine metres apart."""
    frames = ten_classes_frames(ten_classes_root(tmp_path_factory.mktemp("ten") / "root"))
    return read_truth(frames.index, [frames.token(k) for k in range(len(frames))])


@pytest.fixture(scope="module")
def mini_val(nuscenes_real: Path, tmp_path_factory: pytest.TempPathFactory) -> DetectionTruth:
    """The 81 samples of the real split."""
    root = nuscenes_real / "mini_val" / "derived_tables"
    index = open_index(root, "v1.0-mini", out=tmp_path_factory.mktemp("index") / "mini")
    return read_truth(index, [index.sample_tokens[int(row)] for row in index.samples_of_split("mini_val")])


def perfect(truth: DetectionTruth) -> BoxColumns:
    """The annotated boxes as predictions, all of different scores."""
    return replace(truth.boxes, score=np.linspace(0.9, 0.1, len(truth.boxes.score)))


def seen_boxes(truth: DetectionTruth) -> BoxColumns:
    """Those with a LiDAR or radar point in them: the others do not count as annotated."""
    return perfect(truth).take(np.flatnonzero(truth.num_points > 0))


def scored(predictions: BoxColumns, truth: DetectionTruth) -> DetectionScores:
    return score(predictions, truth)[0]


def shifted(boxes: BoxColumns, distance_m: float, bearing_rad: float) -> BoxColumns:
    step = distance_m * np.array([np.cos(bearing_rad), np.sin(bearing_rad), 0.0])
    return replace(boxes, translation=boxes.translation + step)


def test_the_ground_truth_as_prediction_scores_one(ten_classes: DetectionTruth) -> None:
    scores = scored(perfect(ten_classes), ten_classes)
    assert (scores.nds, scores.mean_ap) == pytest.approx((1.0, 1.0), abs=1e-9)
    assert all(value == pytest.approx(0.0, abs=1e-9) for value in scores.errors.values())


def test_the_ground_truth_of_mini_val_scores_one_in_every_class_that_it_has(mini_val: DetectionTruth) -> None:
    scores = scored(seen_boxes(mini_val), mini_val)
    present = [name for name in DETECTION_CLASSES if scores.num_ground_truth[name]]
    assert 5 <= len(present) < len(DETECTION_CLASSES), "mini_val lacks some classes, which count as AP 0"
    for name in present:
        assert scores.class_ap[name] == pytest.approx(1.0, abs=1e-9)
        assert scores.class_errors[name]["ATE"] == pytest.approx(0.0, abs=1e-9)
        assert scores.class_errors[name]["ASE"] == pytest.approx(0.0, abs=1e-9)
    assert scores.mean_ap == pytest.approx(len(present) / len(DETECTION_CLASSES))


def test_objects_that_no_sensor_hit_are_false_even_where_they_are_annotated(mini_val: DetectionTruth) -> None:
    every, seen = scored(perfect(mini_val), mini_val), scored(seen_boxes(mini_val), mini_val)
    assert every.num_predictions > seen.num_predictions and every.mean_ap < seen.mean_ap


@pytest.mark.parametrize("data", ["ten_classes", "mini_val"])
def test_an_empty_prediction_scores_zero_with_every_error_one(data: str, request: pytest.FixtureRequest) -> None:
    truth = request.getfixturevalue(data)
    scores = scored(BoxColumns.empty(truth.sample_tokens), truth)
    assert (scores.nds, scores.mean_ap, scores.num_predictions) == (0.0, 0.0, 0)
    assert set(scores.class_ap.values()) == {0.0} and set(scores.errors.values()) == {1.0}


@settings(max_examples=12)
@given(bearing_rad=st.floats(-np.pi, np.pi))
def test_a_shift_of_a_metre_and_a_half_in_any_direction_halves_the_precision(
    ten_classes: DetectionTruth, bearing_rad: float
) -> None:
    scores = scored(shifted(perfect(ten_classes), 1.5, bearing_rad), ten_classes)
    for name in DETECTION_CLASSES:
        assert scores.class_ap_at[name] == pytest.approx({"0.5": 0.0, "1.0": 0.0, "2.0": 1.0, "4.0": 1.0})
        assert scores.class_errors[name]["ATE"] == pytest.approx(1.5)
    assert scores.mean_ap == pytest.approx(0.5)
    assert scores.errors["mATE"] == pytest.approx(1.5)


@pytest.mark.parametrize(("distance_m", "mean_ap"), [(0.3, 1.0), (0.7, 0.75), (1.5, 0.5), (3.0, 0.25), (4.2, 0.0)])
def test_the_precision_falls_by_a_quarter_at_each_matching_distance(
    ten_classes: DetectionTruth, distance_m: float, mean_ap: float
) -> None:
    assert scored(shifted(perfect(ten_classes), distance_m, 0.7), ten_classes).mean_ap == pytest.approx(mean_ap)


# -- map --------------------------------------------------------------------------------------------------------------
def map_scores(probabilities: np.ndarray, masks: np.ndarray):
    scorer = MapScorer()
    values = np.broadcast_to(np.asarray(probabilities, np.float32), SHAPE).copy()
    scorer.add(MapSegmentation(probabilities=values, grid=GRID), MapMasks(masks=masks, grid=GRID))
    return scorer.result()


def shares(masks: np.ndarray) -> dict[str, float | None]:
    """Share of the cells of each class; None where it has none."""
    return {name: float(mask.mean()) if mask.any() else None for name, mask in zip(MAP_CLASSES, masks, strict=True)}


@given(masks=MASKS)
def test_the_true_map_as_prediction_scores_one_in_every_class_that_is_there(masks: np.ndarray) -> None:
    for protocol in (BEST_THRESHOLD, FIXED_THRESHOLD):
        expected = {name: None if share is None else 1.0 for name, share in shares(masks).items()}
        assert map_scores(masks.astype(float), masks)[protocol].class_iou == expected


@given(masks=MASKS)
def test_an_empty_map_scores_zero(masks: np.ndarray) -> None:
    for protocol in (BEST_THRESHOLD, FIXED_THRESHOLD):
        scores = map_scores(np.array(0.0), masks)[protocol]
        assert set(scores.class_iou.values()) <= {0.0, None}
        assert scores.mean_iou == (0.0 if masks.any() else None)


@given(masks=MASKS)
def test_the_threshold_search_on_a_constant_half_gives_the_share_of_the_class(masks: np.ndarray) -> None:
    result = map_scores(np.array(0.5), masks)
    for protocol in (BEST_THRESHOLD, FIXED_THRESHOLD):
        scores = result[protocol]
        for name, share in shares(masks).items():
            assert scores.class_iou[name] == (None if share is None else pytest.approx(share))
    best = result[BEST_THRESHOLD].class_threshold
    assert {value for value in best.values() if value is not None} <= {t for t in THRESHOLDS if t <= 0.5}


@given(masks=MASKS, value=st.sampled_from(THRESHOLDS))
def test_no_constant_map_scores_more_than_the_share_of_the_class(masks: np.ndarray, value: float) -> None:
    scores = map_scores(np.array(value), masks)[BEST_THRESHOLD]
    for name, share in shares(masks).items():
        assert scores.class_iou[name] == (None if share is None else pytest.approx(share))


def test_the_search_over_thresholds_flatters_what_a_fixed_threshold_does_not() -> None:
    masks = np.zeros(SHAPE, bool)
    masks[:, :3] = True
    result = map_scores(np.where(masks, 0.45, 0.1), masks)
    assert result[BEST_THRESHOLD].mean_iou == 1.0 and result[FIXED_THRESHOLD].mean_iou == 0.0
