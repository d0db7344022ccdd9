"""Hits and mistakes frame by frame, to find the frames that are worth looking at.

The protocol itself has no per-frame score: it ranks the predictions of all frames together. Here its matching rule is
applied at one distance (2 m, where the TP errors are taken) and one score threshold, the one that makes the F1 score of
the whole set largest, and matched, missed and false boxes are counted in every frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nuscenes.eval.detection.data_classes import DetectionBox

from bevstack.evaluation.detection_nuscenes import ScoredBoxes

MATCH_DISTANCE_M = 2.0
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


def count_frames(boxes: ScoredBoxes, distance_m: float = MATCH_DISTANCE_M) -> FrameCounts:
    """Counts at the threshold with the best F1 over all classes and frames."""
    scores, hits, num_truth = [], [], []
    for token in boxes.tokens:
        truth = [box for box in boxes.ground_truth[token] if boxes.is_counted(box)]
        predictions = [box for box in boxes.predictions[token] if boxes.is_counted(box)]
        frame_scores, frame_hits = _match(truth, predictions, distance_m)
        scores.append(frame_scores)
        hits.append(frame_hits)
        num_truth.append(len(truth))
    threshold, f1 = _best_threshold(np.concatenate(scores), np.concatenate(hits), sum(num_truth))
    frames = []
    for token, frame_scores, frame_hits, total in zip(boxes.tokens, scores, hits, num_truth, strict=True):
        kept = frame_hits[frame_scores >= threshold]
        matched = int(kept.sum())
        frames.append(FrameCount(token=token, matched=matched, missed=total - matched, false=len(kept) - matched))
    return FrameCounts(score_threshold=threshold, f1=f1, frames=tuple(frames))


def _match(
    truth: Sequence[DetectionBox], predictions: Sequence[DetectionBox], distance_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rounded scores, best first, and which predictions hit: each takes the closest free box of its class.

    A prediction's fate depends on better ones only, so the hits at any threshold are a prefix of these.
    """
    scores = np.round([box.detection_score for box in predictions], SCORE_DECIMALS).reshape(-1)
    order = np.argsort(-scores, kind="stable")
    hits = np.zeros(len(order), bool)
    centers = np.array([box.translation[:2] for box in truth], np.float64).reshape(-1, 2)
    names = np.array([box.detection_name for box in truth])
    free = np.ones(len(truth), bool)
    for place, index in enumerate(order):
        candidates = np.flatnonzero(free & (names == predictions[index].detection_name)) if len(truth) else ()
        if len(candidates) == 0:
            continue
        offsets = np.hypot(*(centers[candidates] - predictions[index].translation[:2]).T)
        closest = int(np.argmin(offsets))
        if offsets[closest] < distance_m:
            free[candidates[closest]] = False
            hits[place] = True
    return scores[order], hits


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
