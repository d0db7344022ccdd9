"""Per-frame hits and mistakes, and which frames a report shows."""

from typing import Any

import numpy as np
import pytest

from bevstack.evaluation.dense.frame_counts import FrameCount, FrameCounts, count_frames
from bevstack.evaluation.detection.boxes import DetectionTruth, ScoredBoxes
from bevstack.evaluation.predict import spread
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.runner import choose_frames


def box(x: float, name: str = "car", score: float = -1.0) -> dict[str, Any]:
    return {
        "translation": [x, 0.0, 0.0],
        "size": [1.0, 1.0, 1.0],
        "rotation": [1.0, 0.0, 0.0, 0.0],
        "velocity": [0.0, 0.0],
        "detection_name": name,
        "detection_score": score,
        "attribute_name": "",
    }


def columns(samples: dict[str, list[dict[str, Any]]]) -> BoxColumns:
    return BoxColumns.from_records(
        {token: [{"sample_token": token, **one} for one in boxes] for token, boxes in samples.items()}
    )


def scored(truth: dict[str, list[dict]], predictions: dict[str, list[dict]]) -> ScoredBoxes:
    """Seen from a vehicle at the origin: cars farther than 50 m do not count."""
    annotated = columns(truth)
    return ScoredBoxes.of(
        columns(predictions),
        DetectionTruth(
            boxes=annotated,
            num_points=np.ones(len(annotated), np.int64),
            ego_xy=np.zeros((len(truth), 2)),
            racks=BoxColumns.empty(annotated.sample_tokens),
        ),
    )


def test_a_box_within_two_metres_matches_and_others_are_missed_or_false() -> None:
    truth = {"a": [box(0), box(10)], "b": [box(0, "bus")]}
    predictions = {"a": [box(1.9, score=0.9), box(30, score=0.8)], "b": [box(0, "truck", 0.85)]}
    counts = count_frames(scored(truth, predictions))
    # The only hit has the best score, so the best threshold is its own and the false ones below it vanish.
    assert counts.score_threshold == pytest.approx(0.9)
    assert counts.frames == (
        FrameCount(token="a", matched=1, missed=1, false=0),
        FrameCount(token="b", matched=0, missed=1, false=0),
    )
    assert counts.f1 == pytest.approx(2 * 1 / (1 + 3))


def test_false_boxes_above_the_threshold_are_counted_where_they_are() -> None:
    truth = {"a": [box(0)], "b": [box(0)]}
    predictions = {"a": [box(0.1, score=0.5)], "b": [box(0, score=0.4), box(30, score=0.95)]}
    counts = count_frames(scored(truth, predictions))
    assert [(frame.matched, frame.missed, frame.false) for frame in counts.frames] == [(1, 0, 0), (1, 0, 1)]
    assert counts.worst_first()[0].token == "b"


def test_frames_come_in_the_order_of_the_truth_whatever_the_order_of_the_predictions() -> None:
    truth = {"a": [box(0)], "b": [box(0), box(10)]}
    predictions = {"b": [box(0, score=0.5)], "a": [box(0, score=0.5)]}
    counts = count_frames(scored(truth, predictions))
    assert [(frame.token, frame.matched, frame.missed) for frame in counts.frames] == [("a", 1, 0), ("b", 1, 1)]


def test_two_predictions_do_not_share_one_object() -> None:
    counts = count_frames(scored({"a": [box(0), box(40)]}, {"a": [box(0.1, score=0.9), box(0.2, score=0.9)]}))
    assert counts.frames[0] == FrameCount(token="a", matched=1, missed=1, false=1)


def test_boxes_that_do_not_count_are_neither_missed_nor_false() -> None:
    boxes = scored({"a": [box(0), box(80)]}, {"a": [box(0, score=0.9), box(70, score=0.95)]})
    assert count_frames(boxes).frames[0] == FrameCount(token="a", matched=1, missed=0, false=0)


def test_no_hit_at_all_gives_an_f1_of_zero() -> None:
    counts = count_frames(scored({"a": []}, {"a": [box(0, score=0.3)]}))
    assert counts.f1 == 0.0


def test_the_report_shows_the_worst_frames_and_some_ordinary_ones() -> None:
    frames = tuple(FrameCount(token=str(k), matched=5, missed=k, false=0) for k in range(100))
    shown = choose_frames(FrameCounts(score_threshold=0.3, f1=0.5, frames=frames), limit=12)
    ranks = [rank for rank, _ in shown]
    assert ranks[:8] == list(range(1, 9))
    assert ranks[-1] == 100
    assert len(set(ranks)) == 12
    assert shown[0][1].missed == 99


def test_a_limit_spreads_frames_over_the_whole_split() -> None:
    assert spread(5, None) == [0, 1, 2, 3, 4]
    assert spread(101, 3) == [0, 50, 100]
    assert np.all(np.diff(spread(1000, 17)) > 0)
    with pytest.raises(ValueError, match="limit=0"):
        spread(10, 0)
