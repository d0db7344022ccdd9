"""Hits and mistakes frame by frame, to find the frames that are worth looking at.

The protocol itself has no per-frame score: it ranks the predictions of all frames together. Here its matching rule is
applied at one distance (2 m, where the TP errors are taken) and one score threshold, the one that makes the F1 score of
the whole set largest, and matched, missed and false boxes are counted in every frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.evaluation.detection.boxes import ScoredBoxes
from bevstack.evaluation.detection.matching import match
from bevstack.evaluation.detection.rules import TP_DISTANCE_M

MATCH_DISTANCE_M = TP_DISTANCE_M
SCORE_DECIMALS = 4
"""Scores are compared after rounding, so that a viewer that stores rounded scores counts the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCount:
    """What happened in one frame at the operating point."""

    token: str
    matched: int
    missed: int
    false: int

    @property
    def mistakes(self) -> int:
        """Missed plus false boxes."""
        return self.missed + self.false


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCounts:
    """Counts of all frames at one score threshold."""

    score_threshold: float
    f1: float
    """Of the whole set at the threshold; 0 where there is nothing to find or nothing was found."""
    frames: tuple[FrameCount, ...]
    """In the order of the samples."""

    def worst_first(self) -> tuple[FrameCount, ...]:
        """Most mistakes first; among equals the one with fewer matches, then the order of the samples."""
        return tuple(sorted(self.frames, key=lambda frame: (-frame.mistakes, frame.matched)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHits:
    """Which counted predictions of S frames hit: what the counts of frames on several processes are made from."""

    sample_tokens: tuple[str, ...]
    sample_index: Int64[np.ndarray, " N"]
    scores: Float64[np.ndarray, " N"]
    """Rounded to `SCORE_DECIMALS`."""
    is_hit: Bool[np.ndarray, " N"]
    num_truth: Int64[np.ndarray, " S"]

    @classmethod
    def of(cls, boxes: ScoredBoxes, distance_m: float = MATCH_DISTANCE_M) -> "FrameHits":
        """Match the boxes of each frame."""
        counted = boxes.prediction_counts
        scores = np.round(boxes.predictions.score, SCORE_DECIMALS)
        truth = boxes.truth.boxes.sample_index[boxes.truth_counts]
        return cls(
            sample_tokens=boxes.sample_tokens,
            sample_index=boxes.prediction_sample[counted].astype(np.int64),
            scores=scores[counted],
            is_hit=_hits(boxes, scores, distance_m)[counted],
            num_truth=np.bincount(truth, minlength=len(boxes.sample_tokens)),
        )

    @classmethod
    def merge(cls, parts: Sequence["FrameHits"]) -> "FrameHits":
        """Frames of several processes, one after the other; at least one part."""
        firsts = accumulate((len(part.sample_tokens) for part in parts), initial=0)
        return cls(
            sample_tokens=tuple(token for part in parts for token in part.sample_tokens),
            sample_index=np.concatenate(
                [part.sample_index + first for part, first in zip(parts, firsts, strict=False)]
            ),
            scores=np.concatenate([part.scores for part in parts]),
            is_hit=np.concatenate([part.is_hit for part in parts]),
            num_truth=np.concatenate([part.num_truth for part in parts]),
        )

    def counts(self) -> FrameCounts:
        """Counts at the threshold with the best F1 over all classes and frames."""
        num_frames = len(self.sample_tokens)
        threshold, f1 = _best_threshold(self.scores, self.is_hit, int(self.num_truth.sum()))
        kept = self.scores >= threshold
        matched = np.bincount(self.sample_index[kept & self.is_hit], minlength=num_frames)
        false = np.bincount(self.sample_index[kept], minlength=num_frames) - matched
        missed = self.num_truth - matched
        rows = zip(self.sample_tokens, matched.tolist(), missed.tolist(), false.tolist(), strict=True)
        frames = tuple(FrameCount(token=token, matched=hit, missed=lost, false=odd) for token, hit, lost, odd in rows)
        return FrameCounts(score_threshold=threshold, f1=f1, frames=frames)


def count_frames(boxes: ScoredBoxes, distance_m: float = MATCH_DISTANCE_M) -> FrameCounts:
    """Counts at the threshold with the best F1 over all classes and frames."""
    return FrameHits.of(boxes, distance_m).counts()


def _hits(boxes: ScoredBoxes, scores: np.ndarray, distance_m: float) -> np.ndarray:
    """Which predictions hit: best first, each takes the closest free box of its class.

    A prediction's fate depends on better ones only, so the hits at any threshold are a prefix of these.
    """
    truth, predictions = boxes.truth.boxes, boxes.predictions
    hits = np.zeros(len(predictions), bool)
    for k in range(len(DETECTION_CLASSES)):
        annotated = np.flatnonzero(boxes.truth_counts & (truth.class_index == k))
        ranked = np.flatnonzero(boxes.prediction_counts & (predictions.class_index == k))
        ranked = ranked[np.argsort(-scores[ranked], kind="stable")]
        centers, places = predictions.translation[ranked, :2], truth.translation[annotated, :2]
        taken = match(boxes.prediction_sample[ranked], centers, truth.sample_index[annotated], places, (distance_m,))
        hits[ranked] = taken[0] >= 0
    return hits


def _best_threshold(scores: np.ndarray, hits: np.ndarray, num_truth: int) -> tuple[float, float]:
    """(score threshold, F1) with the largest F1 = 2 TP / (predictions + ground truth); (0.5, 0) without a hit."""
    if not hits.any():
        return 0.5, 0.0
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    f1 = 2.0 * np.cumsum(hits[order]) / (np.arange(1, len(order) + 1) + num_truth)
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    best = int(np.argmax(np.where(last_of_tie, f1, -1.0)))
    return float(ranked[best]), float(f1[best])
