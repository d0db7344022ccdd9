"""Which detection continues which track.

Costs are infinite where a pair is out of the question: another class, or beyond the gate. Two ways to choose among the
rest: `greedy` (best detections first, as in CenterPoint, Yin et al., CVPR 2021, section 4.3) and `optimal` (least total
cost, the global nearest neighbour; Kuhn 1955). Letters: T tracks, D detections, P pairs.
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.geometry.boxes import box_iou
from bevstack.perception.tracking.motion_filter import MotionNoise, MotionStates
from bevstack.types.boxes import BoxIndex

Pairs = tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]
"""Rows of tracks and rows of detections."""

GATES_M: dict[str, float] = {
    "car": 4.0,
    "truck": 4.0,
    "bus": 5.5,
    "trailer": 3.0,
    "construction_vehicle": 3.0,
    "pedestrian": 1.0,
    "motorcycle": 13.0,
    "bicycle": 3.0,
    "traffic_cone": 1.0,
    "barrier": 1.0,
}
"""How far an object may be from where its velocity says, at 2 frames a second (CenterPoint's published settings; cones,
barriers and construction vehicles, which it does not track, like the smallest and the slowest)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Tracks as predicted for now, and detections of now, both in a frame that stands still."""

    track_rows: Float[np.ndarray, "T 9"]
    """Where the boxes should be by now."""
    last_place_m: Float[np.ndarray, "T 2"]
    """Where they were seen last."""
    unseen_s: Float[np.ndarray, " T"]
    """How long ago that was."""
    states: MotionStates
    track_class: Int[np.ndarray, " T"]
    rows: Float[np.ndarray, "D 9"]
    class_index: Int[np.ndarray, " D"]

    @property
    def same_class(self) -> Bool[np.ndarray, "T D"]:
        """Pairs of one class."""
        return self.track_class[:, None] == self.class_index


@runtime_checkable
class Association(Protocol):
    """A way to pair tracks with detections."""

    def __call__(self, candidates: Candidates) -> Pairs:
        """Pairs, each track and each detection at most once. Detections come best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VelocityGreedy:
    """Each detection, best first, is moved back by its own velocity and takes the nearest free track in reach."""

    gates_m: dict[str, float] = field(default_factory=lambda: dict(GATES_M))

    def __call__(self, candidates: Candidates) -> Pairs:
        """See `Association`."""
        velocity = np.nan_to_num(candidates.rows[:, BoxIndex.VX :])
        before = candidates.rows[None, :, :2] - velocity[None] * candidates.unseen_s[:, None, None]
        apart = np.linalg.norm(before - candidates.last_place_m[:, None], axis=2)
        gate = np.array([self.gates_m[name] for name in DETECTION_CLASSES])[candidates.class_index]
        return greedy(np.where(candidates.same_class & (apart < gate), apart, np.inf))


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestInSum:
    """The pairs of least total Mahalanobis distance between predicted and measured places (GNN).

    Args:
        gate: Largest squared distance in standard deviations; 9.2 holds 99 of 100 true pairs (chi-squared, two axes).
        noise: That of the filter.
    """

    gate: float = 9.21
    noise: MotionNoise = field(default_factory=MotionNoise)

    def __call__(self, candidates: Candidates) -> Pairs:
        """See `Association`."""
        apart = candidates.rows[None, :, :2] - candidates.states.place_m[:, None]
        spread = candidates.states.covariance[:, 0, 0] + self.noise.place_m**2
        squared = (apart**2).sum(axis=2) / spread[:, None]
        return optimal(np.where(candidates.same_class & (squared < self.gate), squared, np.inf))


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapInSum:
    """The pairs of largest total overlap (IoU) of predicted and measured boxes.

    Args:
        min_iou: Pairs that overlap less are out of the question.
    """

    min_iou: float = 0.05

    def __call__(self, candidates: Candidates) -> Pairs:
        """See `Association`."""
        overlap = box_iou(candidates.track_rows, candidates.rows)
        return optimal(np.where(candidates.same_class & (overlap >= self.min_iou), 1 - overlap, np.inf))


def greedy(cost: Float[np.ndarray, "T D"]) -> Pairs:
    """Detections in their order, each with the cheapest track that is left."""
    left = cost.copy()
    tracks, detections = [], []
    for detection in range(cost.shape[1]):
        if not len(left):
            break
        track = int(left[:, detection].argmin())
        if np.isfinite(left[track, detection]):
            tracks.append(track)
            detections.append(detection)
            left[track] = np.inf
    return np.array(tracks, np.int64), np.array(detections, np.int64)


def optimal(cost: Float[np.ndarray, "T D"]) -> Pairs:
    """As many pairs as possible, and among those choices the cheapest."""
    finite = np.isfinite(cost)
    # Dearer than any way to pair all others, so that no allowed pair is given up for cheaper ones.
    forbidden = 1.0 + (np.abs(cost[finite]).sum() if finite.any() else 0.0)
    tracks, detections = linear_sum_assignment(np.where(finite, cost, forbidden))
    kept = finite[tracks, detections]
    return tracks[kept].astype(np.int64), detections[kept].astype(np.int64)
