"""Average precision of map lines: known values, the published definition step by step, and frames that add up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from shapely.geometry import LineString

from bevstack.data.map_lines import MAP_LINE_CLASSES, MapLines
from bevstack.evaluation.dense.map_vectors import (
    DISTANCES_M,
    NUM_POINTS,
    PROTOCOL,
    LineMatches,
    LineScorer,
    LineScores,
    PredictedLines,
    average_precision,
    chamfer_distances,
    match_lines,
    resample,
    score,
    score_lines,
)

DIVIDER, CROSSING, BOUNDARY = range(3)
STREET = MapLines(
    (
        np.array([[-30.0, 2.0], [30.0, 2.0]]),
        np.array([[5.0, -5.0], [9.0, -5.0], [9.0, 5.0], [5.0, 5.0], [5.0, -5.0]]),
        np.array([[-30.0, 8.0], [0.0, 9.0], [30.0, 8.0]]),
        np.array([[-30.0, -8.0], [30.0, -8.0]]),
    ),
    np.array([DIVIDER, CROSSING, BOUNDARY, BOUNDARY]),
)


def said(lines: MapLines, *, moved: tuple[float, float] = (0.0, 0.0), scores: object = 0.9) -> PredictedLines:
    return PredictedLines(
        lines=tuple(line + moved for line in lines.lines),
        class_index=lines.class_index,
        scores=np.broadcast_to(np.asarray(scores, np.float64), len(lines)).copy(),
    )


def scored(*pairs: tuple[PredictedLines, MapLines]) -> LineScores:
    return score_lines(
        {f"frame{k}": prediction for k, (prediction, _) in enumerate(pairs)},
        {f"frame{k}": truth for k, (_, truth) in enumerate(pairs)},
    )


def random_lines(rng: np.random.Generator, count: int) -> MapLines:
    starts = rng.uniform((-30, -15), (30, 15), (count, 2))
    lines = tuple(start + np.cumsum(rng.normal(0, 3, (rng.integers(2, 6), 2)), axis=0) for start in starts)
    return MapLines(lines, rng.integers(0, 3, count))


def nothing() -> MapLines:
    return MapLines((), np.zeros(0, np.int64))


# -- known values -----------------------------------------------------------------------------------------------------
def test_the_lines_of_the_map_as_prediction_score_one_and_nothing_scores_zero() -> None:
    best = scored((said(STREET), STREET))
    assert best.protocol == PROTOCOL and best.mean_ap == 1.0
    assert set(best.class_ap.values()) == {1.0} and best.num_true == {"divider": 1, "ped_crossing": 1, "boundary": 2}
    worst = scored((PredictedLines.empty(), STREET))
    assert worst.mean_ap == 0.0 and worst.num_predicted == dict.fromkeys(MAP_LINE_CLASSES, 0)


def test_lines_beside_the_true_ones_are_right_at_the_larger_distances_only() -> None:
    walls = MapLines(STREET.lines[2:], STREET.class_index[2:])
    straight = MapLines((STREET.lines[0],), np.array([DIVIDER]))
    assert scored((said(straight, moved=(0.0, 0.7)), straight)).class_ap_at == {
        "0.5 m": {"divider": 0.0, "ped_crossing": None, "boundary": None},
        "1.0 m": {"divider": 1.0, "ped_crossing": None, "boundary": None},
        "1.5 m": {"divider": 1.0, "ped_crossing": None, "boundary": None},
    }
    assert scored((said(straight, moved=(0.0, 0.7)), straight)).mean_ap == pytest.approx(2 / 3)
    assert scored((said(straight, moved=(0.0, 0.5)), straight)).mean_ap == 1.0, "the distance itself is near enough"
    assert scored((said(walls, moved=(0.0, 1.6)), walls)).mean_ap == 0.0


def test_direction_and_corners_on_the_way_do_not_matter() -> None:
    turned = MapLines(tuple(line[::-1] for line in STREET.lines), STREET.class_index)
    dense = MapLines(tuple(resample([line])[0] for line in STREET.lines), STREET.class_index)
    for lines in (turned, dense):
        assert scored((said(lines), STREET)).mean_ap == 1.0


def test_a_second_prediction_of_the_same_line_is_false() -> None:
    straight = MapLines((STREET.lines[0],), np.array([DIVIDER]))
    twice = MapLines((STREET.lines[0],) * 2, np.array([DIVIDER] * 2))
    matches = match_lines(said(twice, scores=(0.3, 0.8)), straight)
    assert matches.is_right.tolist() == [[False] * 3, [True] * 3], "the better score takes it"
    assert scored((said(twice), straight)).mean_ap == 1.0, "a false one after all true ones costs nothing"


def test_a_prediction_takes_the_nearest_line_only() -> None:
    near = MapLines((np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([[0.0, 1.0], [10.0, 1.0]])), np.array([0, 0]))
    both = PredictedLines(
        lines=(np.array([[0.0, 0.1], [10.0, 0.1]]), np.array([[0.0, 0.2], [10.0, 0.2]])),
        class_index=np.array([0, 0]),
        scores=np.array([0.9, 0.8]),
    )
    # The second is 0.8 m from the free line, but its nearest one is taken.
    assert match_lines(both, near).is_right.tolist() == [[True] * 3, [False] * 3]


def test_a_line_of_another_class_is_false() -> None:
    crossing = MapLines((STREET.lines[0],), np.array([CROSSING]))
    found = scored((said(MapLines((STREET.lines[0],), np.array([DIVIDER]))), crossing))
    assert found.mean_ap == 0.0 and found.class_ap == {"divider": None, "ped_crossing": 0.0, "boundary": None}


def test_predictions_of_the_whole_set_are_ranked_together() -> None:
    straight = MapLines((STREET.lines[0],), np.array([DIVIDER]))
    false = said(straight, moved=(0.0, 5.0), scores=0.9)
    right = said(straight, scores=0.5)
    # One false above one right one, two true lines: precision 1/2 at a recall of 1/2.
    assert scored((false, straight), (right, straight)).mean_ap == pytest.approx(0.25)
    assert scored((false, nothing()), (right, straight)).mean_ap == pytest.approx(0.5)


def test_without_any_true_line_there_is_no_number() -> None:
    found = scored((said(STREET), nothing()))
    assert found.mean_ap is None and found.num_predicted["boundary"] == 2
    assert LineScorer().result().mean_ap is None


# -- the definition ---------------------------------------------------------------------------------------------------
@given(st.integers(0, 2**32 - 1))
def test_points_lie_at_equal_distances_along_the_line(seed: int) -> None:
    (line,) = random_lines(np.random.default_rng(seed), 1).lines
    shape = LineString(line)
    expected = [shape.interpolate(at).coords[0] for at in np.linspace(0, shape.length, NUM_POINTS)]
    np.testing.assert_allclose(resample([line])[0], expected, atol=1e-9)


def published_chamfer(first: np.ndarray, second: np.ndarray) -> float:
    distance = cdist(first, second)
    return (distance.min(axis=0).mean() + distance.min(axis=1).mean()) / 2


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_chamfer_distances_are_those_of_all_pairs_of_points_where_they_can_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (resample(random_lines(rng, 6).lines) for _ in range(2))
    found = chamfer_distances(first, second)
    expected = np.array([[published_chamfer(a, b) for b in second] for a in first])
    is_known = np.isfinite(found)
    np.testing.assert_allclose(found[is_known], expected[is_known], atol=1e-9)
    assert (expected[~is_known] > DISTANCES_M[-1]).all()
    np.testing.assert_array_equal(found, chamfer_distances(second, first).T)


def published_ap(pairs: list[tuple[PredictedLines, MapLines]], k: int, limit_m: float) -> float:
    """The rule of the papers, one prediction after the other."""
    ranked, num_true = [], 0
    for prediction, truth in pairs:
        true = [resample([line])[0] for line, c in zip(truth.lines, truth.class_index, strict=True) if c == k]
        num_true += len(true)
        taken: set[int] = set()
        own = np.flatnonzero(prediction.class_index == k)
        for row in own[np.argsort(-prediction.scores[own], kind="stable")]:
            distance = [published_chamfer(resample([prediction.lines[row]])[0], line) for line in true]
            best = int(np.argmin(distance)) if distance else -1
            is_right = best >= 0 and distance[best] <= limit_m and best not in taken
            if is_right:
                taken.add(best)
            ranked.append((prediction.scores[row], is_right))
    hits = np.array([is_right for _, is_right in sorted(ranked, key=lambda pair: -pair[0])])
    recall = np.concatenate(([0.0], np.cumsum(hits) / num_true, [1.0]))
    precision = np.concatenate(([0.0], np.cumsum(hits) / np.arange(1, len(hits) + 1), [0.0]))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * precision[1:]).sum())


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_average_precision_is_that_of_the_published_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(3):
        truth = random_lines(rng, 5)
        guesses = MapLines(
            truth.lines + random_lines(rng, 4).lines, np.append(truth.class_index, rng.integers(0, 3, 4))
        )
        noisy = tuple(line + rng.normal(0, 0.5, 2) for line in guesses.lines)
        pairs.append((said(MapLines(noisy, guesses.class_index), scores=rng.random(9)), truth))
    found = scored(*pairs)
    for k, name in enumerate(MAP_LINE_CLASSES):
        for limit_m in DISTANCES_M:
            value = found.class_ap_at[f"{limit_m:.1f} m"][name]
            assert value is None or value == pytest.approx(published_ap(pairs, k, limit_m), abs=1e-12)


def test_precision_counts_at_the_recall_where_it_is_still_reached() -> None:
    assert average_precision(np.array([True, False, True]), 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([False, True, True]), 2) == pytest.approx(2 / 3)
    assert average_precision(np.zeros(0, bool), 3) == 0.0


# -- sets -------------------------------------------------------------------------------------------------------------
def test_frames_add_up_exactly_however_they_are_shared_out() -> None:
    rng = np.random.default_rng(5)
    whole, parts = LineScorer(), [LineScorer(), LineScorer()]
    for number in range(4):
        truth = random_lines(rng, 6)
        prediction = said(truth, moved=(0.0, 0.3 * number), scores=rng.random(6))
        for scorer in (whole, parts[number % 2]):
            scorer.add(f"frame{number}", prediction, truth)
    merged = LineScorer()
    for part in reversed(parts):
        merged.merge(part)
    assert merged.result() == whole.result() and whole.num_frames == 4
    joined = LineMatches.joined(whole.matches[token] for token in ("frame0", "frame2"))
    assert score(joined, 2) == parts[0].result()
    with pytest.raises(ValueError, match="sample frame0 is counted already"):
        merged.merge(parts[0])


def test_broken_predictions_and_sets_that_do_not_fit_are_refused() -> None:
    line, zero = np.zeros((2, 2)), np.zeros(1, np.int64)
    for changes, message in (
        ({"scores": np.zeros(2)}, "1 lines need as many"),
        ({"lines": (line[:1],)}, "line 0 of shape"),
        ({"lines": (line * np.nan,)}, "line 0 of shape"),
        ({"scores": np.array([np.inf])}, "score 0 is not finite"),
        ({"class_index": zero + 3}, "must be within 0 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            PredictedLines(**{"lines": (line,), "class_index": zero, "scores": np.zeros(1)} | changes)
    with pytest.raises(ValueError, match="sample b has no prediction"):
        score_lines({"a": PredictedLines.empty()}, {"a": STREET, "b": STREET})
    with pytest.raises(ValueError, match="sample b is not among"):
        score_lines({"a": PredictedLines.empty(), "b": PredictedLines.empty()}, {"a": STREET})
