"""Precision, confidence and running errors over recall, and the two figures that are taken from them: AP and TP error.

Written so that every array is equal to the devkit's bit for bit. Between two matches recall does not change, so of all
predictions only those that match, the ones just before them and the last one shape a curve; the others are left out
before the interpolation, which changes nothing.

Predictions and objects can carry the weight of their sample: the curves are then those of a set in which each sample
is there that many times, except that copies of one prediction rank as one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from bevstack.evaluation.detection.matching import ClassRecords
from bevstack.evaluation.detection.rules import MIN_PRECISION, MIN_RECALL, RECALL_POINTS, TP_FIELDS

_FIRST_POINT = round(100 * MIN_RECALL) + 1
"""The first recall that counts; the minimum itself does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionCurve:
    """One class at one matching distance, at 101 recalls from 0 to 1."""

    recall: Float64[np.ndarray, " 101"]
    precision: Float64[np.ndarray, " 101"]
    confidence: Float64[np.ndarray, " 101"]
    """Score at which the recall is reached; 0 where it is not."""
    errors: dict[str, Float64[np.ndarray, " 101"]]
    """Field of `TP_FIELDS` -> mean error of the matches with at least this confidence."""

    @property
    def last_point(self) -> int:
        """The largest recall that is reached, as an index; 0 without a match."""
        reached = np.flatnonzero(self.confidence)
        return int(reached[-1]) if len(reached) else 0


def no_curve() -> DetectionCurve:
    """The curve without any match: no precision, and every error 1."""
    recall = np.linspace(0, 1, RECALL_POINTS)
    zeros, ones = np.zeros(RECALL_POINTS), np.ones(RECALL_POINTS)
    return DetectionCurve(recall=recall, precision=zeros, confidence=zeros, errors=dict.fromkeys(TP_FIELDS, ones))


def curve(
    records: ClassRecords,
    place: int,
    num_truth: float,
    sample_weight: Float64[np.ndarray, " S"] | None = None,
    *,
    with_errors: bool = True,
) -> DetectionCurve:
    """The curve of a class.

    Args:
        records: The matches.
        place: Which of the matching distances.
        num_truth: Annotated boxes that count, weighted as the samples are.
        sample_weight: Weight of each sample, 0 or more; None counts each once.
        with_errors: Without them only precision and confidence are made, which is much faster.
    """
    score, is_tp, errors, weight = records.score, records.is_tp[place], records.errors[place], None
    if sample_weight is not None:
        weight = sample_weight[records.sample_index]
        kept = weight > 0
        errors = errors[kept[is_tp]]
        score, is_tp, weight = score[kept], is_tp[kept], weight[kept]
    if num_truth == 0 or not is_tp.any():
        return no_curve()
    shaping = is_tp.copy()
    shaping[:-1] |= is_tp[1:]
    shaping[-1] = True
    ranks = np.flatnonzero(shaping)
    hits = is_tp[ranks]
    if weight is None:
        tp, total = np.cumsum(hits).astype(np.float64), ranks + 1.0
    else:
        tp, total = np.cumsum(np.where(hits, weight[ranks], 0.0)), np.cumsum(weight)[ranks]
    precision, reached = tp / total, tp / float(num_truth)
    recall = np.linspace(0, 1, RECALL_POINTS)
    confidence = np.interp(recall, reached, score[ranks], right=0)
    tp_weight = None if weight is None else weight[is_tp]
    running = _running_errors(errors, score[is_tp], tp_weight, confidence) if with_errors else {}
    return DetectionCurve(
        recall=recall,
        precision=np.interp(recall, reached, precision, right=0),
        confidence=confidence,
        errors=running,
    )


def _running_errors(
    errors: np.ndarray, scores: np.ndarray, weight: np.ndarray | None, confidence: np.ndarray
) -> dict[str, np.ndarray]:
    """Mean error down to each confidence. Views run backwards, since a mean over them adds up in their order."""
    return {
        field: np.interp(confidence[::-1], scores[::-1], _running_mean(errors[:, column], weight)[::-1])[::-1]
        for column, field in enumerate(TP_FIELDS)
    }


def _running_mean(values: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Mean of the values so far that are known; 0 before the first one, and 1 everywhere if none is."""
    is_unknown = np.isnan(values)
    if is_unknown.all():
        return np.ones(len(values))
    known = ~is_unknown
    values = np.where(is_unknown, 0.0, values)
    if weight is None:
        sums, counts = np.cumsum(values), np.cumsum(known)
    else:
        sums, counts = np.cumsum(values * weight), np.cumsum(known * weight)
    return np.divide(sums, counts, out=np.zeros(len(values)), where=counts != 0)


def average_precision(of: DetectionCurve) -> float:
    """Mean precision above recall 0.1, less the minimum precision, scaled back to [0, 1]."""
    precision = np.copy(of.precision)[_FIRST_POINT:]
    precision -= MIN_PRECISION
    precision[precision < 0] = 0
    return float(np.mean(precision)) / (1.0 - MIN_PRECISION)


def tp_error(of: DetectionCurve, field: str) -> float:
    """Mean running error over the recalls above 0.1 that are reached; 1 where none is."""
    last = of.last_point
    return 1.0 if last < _FIRST_POINT else float(np.mean(of.errors[field][_FIRST_POINT : last + 1]))
