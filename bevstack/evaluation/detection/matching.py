"""Predictions matched with annotated boxes, and the record of it from which every detection figure follows.

The protocol ranks the predictions of a class by score, over all samples, and lets each take the closest free object of
its class in its own sample if that is closer than the matching distance; each of the four distances is a matching of
its own. One pass over the ranking does all four. Equal scores rank the later prediction first, as the devkit does.

Whether a prediction matches depends on its own sample only. So records of a part of the samples, made elsewhere, can be
put together (`ClassRecords.merge`), and samples can be drawn again or weighted without matching anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from bevstack.data.class_names import DETECTION_CLASSES, NO_ATTRIBUTE
from bevstack.evaluation.detection.boxes import ScoredBoxes
from bevstack.evaluation.detection.devkit_arithmetic import blas_rounding, headings, planar_norm, planar_norms
from bevstack.evaluation.detection.rules import HALF_TURN_CLASS, MATCH_DISTANCES_M, TP_DISTANCE_M
from bevstack.evaluation.predictions.box_columns import BoxColumns

_TP_PLACE = MATCH_DISTANCES_M.index(TP_DISTANCE_M)
_NONE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRecords:
    """What became of the N predictions of one class, best first."""

    score: Float64[np.ndarray, " N"]
    sample_index: Int32[np.ndarray, " N"]
    is_tp: Bool[np.ndarray, "4 N"]
    """Whether the prediction matched, for each of `MATCH_DISTANCES_M`."""
    errors: tuple[Float64[np.ndarray, "_ 5"], ...]
    """For each matching distance, a row for each match, best first: the errors of `TP_FIELDS`; NaN where undefined."""

    @property
    def tp_errors(self) -> Float64[np.ndarray, "T 5"]:
        """Errors of the matches at 2 m, where the protocol takes them."""
        return self.errors[_TP_PLACE]

    @classmethod
    def merge(cls, parts: Sequence["ClassRecords"]) -> "ClassRecords":
        """Records of different samples, with `sample_index` in one numbering, as one ranking.

        Equal scores rank the later sample first, so the result is that of matching all samples in this order.
        """
        score = np.concatenate([part.score for part in parts])
        sample = np.concatenate([part.sample_index for part in parts])
        is_tp = np.concatenate([part.is_tp for part in parts], axis=1)
        order = np.lexsort((-sample, -score))
        errors = []
        for place, hits in enumerate(is_tp):
            number = np.cumsum(hits) - 1
            rows = number[order][hits[order]]
            errors.append(np.concatenate([part.errors[place] for part in parts])[rows])
        return cls(score=score[order], sample_index=sample[order], is_tp=is_tp[:, order], errors=tuple(errors))


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRecords:
    """The records of all classes on S samples."""

    sample_tokens: tuple[str, ...]
    classes: dict[str, ClassRecords]
    """In the order of `DETECTION_CLASSES`."""
    num_truth: Int64[np.ndarray, "10 S"]
    """Annotated boxes that count, by class and sample."""


def match_records(boxes: ScoredBoxes) -> MatchRecords:
    """Match the boxes that count, class by class."""
    truth, num_samples = boxes.truth.boxes, len(boxes.sample_tokens)
    rows_of_class = [
        np.flatnonzero(boxes.truth_counts & (truth.class_index == k)) for k in range(len(DETECTION_CLASSES))
    ]
    classes = {}
    for k, name in enumerate(DETECTION_CLASSES):
        predicted = np.flatnonzero(boxes.prediction_counts & (boxes.predictions.class_index == k))
        order = np.argsort(boxes.predictions.score[predicted], kind="stable")[::-1]
        classes[name] = _records(name, boxes, predicted[order], rows_of_class[k])
    counts = [np.bincount(truth.sample_index[rows], minlength=num_samples) for rows in rows_of_class]
    return MatchRecords(sample_tokens=boxes.sample_tokens, classes=classes, num_truth=np.stack(counts))


def _records(name: str, boxes: ScoredBoxes, ranked: np.ndarray, annotated: np.ndarray) -> ClassRecords:
    """Records of one class: rows of its predictions, best first, and of its annotated boxes in order of sample."""
    truth, predictions = boxes.truth.boxes, boxes.predictions
    samples = boxes.prediction_sample[ranked]
    matched = match(
        samples, predictions.translation[ranked, :2], truth.sample_index[annotated], truth.translation[annotated, :2]
    )
    is_tp = matched != _NONE
    seen, yaws = np.flatnonzero(is_tp.any(axis=0)), np.full(len(ranked), np.nan)
    yaws[seen] = headings(predictions.rotation_wxyz[ranked[seen]])
    yaws_of_truth = headings(truth.rotation_wxyz[annotated])
    period = np.pi if name == HALF_TURN_CLASS else 2 * np.pi
    errors = []
    for hits, partner in zip(is_tp, matched, strict=True):
        ranks, partners = np.flatnonzero(hits), partner[hits]
        turns = _turns(yaws_of_truth[partners], yaws[ranks], period)
        errors.append(_errors(predictions, ranked[ranks], truth, annotated[partners], turns))
    return ClassRecords(score=predictions.score[ranked], sample_index=samples, is_tp=is_tp, errors=tuple(errors))


def match(
    samples: Int32[np.ndarray, " N"],
    xy: Float64[np.ndarray, "N 2"],
    truth_samples: Int32[np.ndarray, " M"],
    truth_xy: Float64[np.ndarray, "M 2"],
    distances_m: Sequence[float] = MATCH_DISTANCES_M,
) -> Int32[np.ndarray, "D N"]:
    """The object that each prediction of a class takes, -1 for none, for each matching distance.

    Args:
        samples: Sample of each prediction, best prediction first.
        xy: Their centres on the ground.
        truth_samples: Sample of each object of the class, ascending.
        truth_xy: Their centres.
        distances_m: Matching distances, ascending.
    """
    num_samples = max(samples.max(initial=-1), truth_samples.max(initial=-1)) + 1
    first = np.searchsorted(truth_samples, np.arange(num_samples + 1))
    limits = np.asarray(distances_m, np.float64)
    return _match(samples, np.ascontiguousarray(xy), first, np.ascontiguousarray(truth_xy), limits, blas_rounding())


@numba.njit(cache=True, nogil=True)
def _match(  # type: ignore[no-untyped-def]
    samples, xy, first, truth_xy, limits, rounding
):
    num_limits = len(limits)
    farthest = limits[-1]
    is_taken = np.zeros((len(truth_xy), num_limits), np.bool_)
    matched = np.full((num_limits, len(samples)), -1, np.int32)
    best = np.empty(num_limits)
    for rank in range(len(samples)):
        sample, x, y = samples[rank], xy[rank, 0], xy[rank, 1]
        best[:] = limits
        for t in range(first[sample], first[sample + 1]):
            dx, dy = x - truth_xy[t, 0], y - truth_xy[t, 1]
            if abs(dx) >= farthest or abs(dy) >= farthest:
                continue
            distance = planar_norm(dx, dy, rounding)
            for k in range(num_limits):
                # Strictly closer: among equally close objects the first one, and none exactly at the limit.
                if distance < best[k] and not is_taken[t, k]:
                    best[k] = distance
                    matched[k, rank] = t
        for k in range(num_limits):
            if matched[k, rank] >= 0:
                is_taken[matched[k, rank], k] = True
    return matched


def _errors(
    predictions: BoxColumns, rows: np.ndarray, truth: BoxColumns, partners: np.ndarray, turns: np.ndarray
) -> np.ndarray:
    """(T, 5): the errors of `TP_FIELDS` of matched pairs."""
    errors = np.empty((len(rows), 5))
    errors[:, 0] = planar_norms(predictions.translation[rows, :2] - truth.translation[partners, :2])
    errors[:, 1] = 1 - _aligned_iou(truth.size_wlh[partners], predictions.size_wlh[rows])
    errors[:, 2] = turns
    errors[:, 3] = planar_norms(predictions.velocity[rows] - truth.velocity[partners])
    attribute = truth.attribute_index[partners]
    is_right = attribute == predictions.attribute_index[rows]
    errors[:, 4] = np.where(attribute == NO_ATTRIBUTE, np.nan, 1 - is_right.astype(np.float64))
    return errors


def _aligned_iou(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Overlap (IoU) of boxes with one centre and heading."""
    volume, other, shared = (np.prod(size, axis=1) for size in (sizes, others, np.minimum(sizes, others)))
    return shared / (volume + other - shared)


def _turns(yaw: np.ndarray, other: np.ndarray, period: float) -> np.ndarray:
    """Angle between two headings in [0, period / 2]."""
    difference = (yaw - other + period / 2) % period - period / 2
    return np.abs(np.where(difference > np.pi, difference - 2 * np.pi, difference))
