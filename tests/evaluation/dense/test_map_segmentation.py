"""The map protocols: known values, thresholds, accumulation over the set, and classes that are not there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.data.maps import MAP_CLASSES
from bevstack.evaluation.dense.map_segmentation import (
    AVERAGE_PRECISION,
    BEST_THRESHOLD,
    FIXED_THRESHOLD,
    THRESHOLDS,
    MapScorer,
)
from bevstack.types import BevGrid, MapMasks, MapSegmentation

GRID = BevGrid(x_range_m=(-4.0, 4.0), y_range_m=(-3.0, 3.0), z_range_m=(-5.0, 3.0), cell_m=0.5)
SHAPE = (len(MAP_CLASSES), *GRID.shape_yx)
NAMES = tuple(MAP_CLASSES)


def predicted(probabilities: np.ndarray) -> MapSegmentation:
    return MapSegmentation(probabilities=np.broadcast_to(probabilities, SHAPE).astype(np.float32), grid=GRID)


def true(masks: np.ndarray) -> MapMasks:
    return MapMasks(masks=np.broadcast_to(masks, SHAPE).copy(), grid=GRID)


def scored(*pairs: tuple[MapSegmentation, MapMasks]):
    scorer = MapScorer()
    for prediction, truth in pairs:
        scorer.add(prediction, truth)
    return scorer.result()


def left_half() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[:, 6:] = True
    return mask


def test_the_truth_as_prediction_scores_one() -> None:
    masks = np.random.default_rng(0).random(SHAPE) > 0.7
    result = scored((predicted(masks.astype(float)), true(masks)))
    for protocol in (BEST_THRESHOLD, FIXED_THRESHOLD):
        assert result[protocol].protocol == protocol
        assert result[protocol].mean_iou == 1.0 and set(result[protocol].class_iou.values()) == {1.0}
        assert result[protocol].num_frames == 1


def test_everything_marked_where_half_is_true_scores_a_half() -> None:
    result = scored((predicted(np.array(0.9)), true(left_half())))
    assert result[FIXED_THRESHOLD].mean_iou == result[BEST_THRESHOLD].mean_iou == 0.5
    assert result[FIXED_THRESHOLD].class_share == dict.fromkeys(NAMES, 0.5)


def test_the_best_threshold_is_chosen_class_by_class() -> None:
    masks = left_half()
    probabilities = np.where(masks, 0.42, 0.36)
    probabilities[1] = np.where(masks[1], 0.9, 0.57)
    result = scored((predicted(probabilities), true(masks)))
    best, fixed = result[BEST_THRESHOLD], result[FIXED_THRESHOLD]
    assert best.mean_iou == 1.0
    assert best.class_threshold[NAMES[0]] == 0.40 and best.class_threshold[NAMES[1]] == 0.60
    assert fixed.class_iou[NAMES[0]] == 0.0 and fixed.class_iou[NAMES[1]] == 0.5
    assert set(fixed.class_threshold.values()) == {0.5}


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_probability_at_a_threshold_counts_as_marked(threshold: float) -> None:
    result = scored((predicted(np.array(threshold)), true(left_half())))
    assert result[BEST_THRESHOLD].mean_iou == 0.5
    assert result[FIXED_THRESHOLD].mean_iou == (0.5 if threshold >= 0.5 else 0.0)


def test_counts_are_accumulated_over_the_set_and_not_averaged_frame_by_frame() -> None:
    few, many = np.zeros(SHAPE, bool), left_half()
    few[:, 0, 0] = True
    result = scored((predicted(np.array(0.0)), true(few)), (predicted(many.astype(float)), true(many)))
    size = int(many[0].sum())
    assert result[FIXED_THRESHOLD].mean_iou == pytest.approx(size / (size + 1))  # the mean of frames would be 0.5
    assert result[FIXED_THRESHOLD].num_frames == 2


def test_a_class_that_the_map_nowhere_has_is_unknown_and_not_zero() -> None:
    masks = left_half()
    masks[2] = False
    for value in (0.0, 0.9):
        scores = scored((predicted(np.where(masks, 0.9, value * (np.arange(6) == 2)[:, None, None])), true(masks)))
        for protocol in (BEST_THRESHOLD, FIXED_THRESHOLD):
            assert scores[protocol].class_iou[NAMES[2]] is None
            assert scores[protocol].class_threshold[NAMES[2]] is None
            assert scores[protocol].mean_iou == 1.0


def test_no_frame_gives_no_number() -> None:
    result = MapScorer().result()[BEST_THRESHOLD]
    assert result.mean_iou is None and result.num_frames == 0 and set(result.class_iou.values()) == {None}


@given(st.integers(0, 2**32 - 1))
def test_counting_agrees_with_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = [(rng.random(SHAPE).astype(np.float32), rng.random(SHAPE) > 0.6) for _ in range(2)]
    result = scored(*((predicted(p), true(m)) for p, m in frames))
    for k, name in enumerate(NAMES):
        iou = []
        for threshold in np.float32(THRESHOLDS):
            tp = sum((p[k] >= threshold)[m[k]].sum() for p, m in frames)
            fp = sum((p[k] >= threshold)[~m[k]].sum() for p, m in frames)
            fn = sum((p[k] < threshold)[m[k]].sum() for p, m in frames)
            iou.append(tp / (tp + fp + fn + 1e-7))
        assert result[BEST_THRESHOLD].class_iou[name] == pytest.approx(max(iou), abs=1e-6)
        assert result[FIXED_THRESHOLD].class_iou[name] == pytest.approx(iou[3], abs=1e-6)


def test_another_grid_and_a_probability_that_is_no_number_are_refused() -> None:
    other = BevGrid(x_range_m=(-4.0, 4.0), y_range_m=(-3.5, 2.5), z_range_m=(-5.0, 3.0), cell_m=0.5)
    shifted = MapSegmentation(probabilities=np.zeros(SHAPE, np.float32), grid=other)
    with pytest.raises(ValueError, match="does not lie on the grid of the true one"):
        MapScorer().add(shifted, true(left_half()))
    for value in (np.nan, -0.1, 1.5):
        with pytest.raises(ValueError, match="not within 0 to 1"):
            MapScorer().add(predicted(np.array(value)), true(left_half()))


# -- average precision ------------------------------------------------------------------------------------------------
def test_average_precision_is_one_for_the_right_order_whatever_the_probabilities() -> None:
    precision = scored((predicted(np.where(left_half(), 0.02, 0.01)), true(left_half())))[AVERAGE_PRECISION]
    assert precision.mean_ap == 1.0 and set(precision.class_ap.values()) == {1.0}
    turned = scored((predicted(np.where(left_half(), 0.01, 0.02)), true(left_half())))[AVERAGE_PRECISION]
    assert turned.mean_ap == pytest.approx(0.5), "all true cells come last, in one step"


def test_a_constant_probability_has_the_share_of_the_class_as_precision_and_as_iou() -> None:
    masks = np.zeros(SHAPE, bool)
    masks[:, :3] = True
    result = scored((predicted(np.array(0.5)), true(masks)))
    assert result[AVERAGE_PRECISION].mean_ap == pytest.approx(0.25)
    assert result[BEST_THRESHOLD].mean_iou == result[FIXED_THRESHOLD].mean_iou == pytest.approx(0.25)


def average_precision(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Precision at each probability, from the largest down, times the recall that it adds."""
    area, found_before = 0.0, 0
    for value in np.unique(probabilities)[::-1]:
        marked = probabilities >= value
        found = int((truth & marked).sum())
        area += (found - found_before) / truth.sum() * found / marked.sum()
        found_before = found
    return area


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_average_precision_agrees_with_its_definition_over_the_set(seed: int, num_values: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 65536, num_values) / 65535  # few values: many ties
    frames = [(rng.choice(values, SHAPE), rng.random(SHAPE) > 0.8) for _ in range(2)]
    found = scored(*((predicted(p), true(m)) for p, m in frames))[AVERAGE_PRECISION]
    for k, name in enumerate(NAMES):
        truth = np.concatenate([m[k].ravel() for _, m in frames])
        expected = average_precision(truth, np.concatenate([p[k].ravel() for p, _ in frames]))
        assert found.class_ap[name] == pytest.approx(expected, abs=1e-9)


def test_a_class_that_the_map_nowhere_has_has_no_average_precision() -> None:
    masks = left_half()
    masks[2] = False
    precision = scored((predicted(masks.astype(float)), true(masks)))[AVERAGE_PRECISION]
    assert precision.class_ap[NAMES[2]] is None and precision.mean_ap == 1.0
    assert MapScorer().result()[AVERAGE_PRECISION].mean_ap is None


def test_merged_scorers_equal_one_that_saw_all_frames() -> None:
    rng = np.random.default_rng(7)
    whole, merged = MapScorer(), MapScorer()
    for _ in range(3):
        pair = predicted(rng.random(SHAPE)), true(rng.random(SHAPE) > 0.6)
        part = MapScorer()
        for scorer in (whole, part):
            scorer.add(*pair)
        merged.merge(part)
    assert merged.result() == whole.result() and merged.num_frames == 3
