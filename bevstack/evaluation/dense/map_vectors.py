"""The map as lines: average precision by Chamfer distance.

`map/chamfer-ap` (Li et al., HDMapNet, ICRA 2022; Liu et al., VectorMapNet, ICML 2023; Liao et al., MapTR, ICLR 2023).
Lines are resampled to 100 points at equal distances. The Chamfer distance of two lines is the mean of the two mean
distances from the points of one to the nearest points of the other; direction and start do not matter. In each frame
predictions of a class take, best score first, the *nearest* true line, if it is no further than 0.5, 1.0 or 1.5 m and
still free; otherwise they are false, even if another true line is near enough too. All predictions of the set are then
ranked by score; AP is the area under the precision that is reached at that recall or beyond. The AP of a class is the
mean over the three distances, mAP the mean over divider, pedestrian crossing and boundary.

Traps: where the patch lies. Ours is 60 x 30 m around the vehicle's origin (VectorMapNet, StreamMapNet); MapTR's lies
around the LiDAR, a metre ahead: `map_vectors_file` scores each file in the patch that it was made for. The number of
points differs between code bases (100 here and in MapTR, which by default compares its 20 predicted points with them;
200 in StreamMapNet). A class that the map nowhere has is not in the mean, as in MapTR. Of equal scores the earlier
frame comes first; published code leaves their order open.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from bevstack.data.map_lines import MAP_LINE_CLASSES, MapLines
from bevstack.evaluation.dense.counted_once import CountedOnce

PROTOCOL = "map/chamfer-ap"
DISTANCES_M = (0.5, 1.0, 1.5)
NUM_POINTS = 100

_NUM_CLASSES = len(MAP_LINE_CLASSES)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictedLines:
    """What a model says of the lines in a patch, in metres: x forward, y left.

    Raises:
        ValueError: the lists differ in length, a line has no two points, a number is not finite, or a class is unknown.
    """

    lines: tuple[Float[np.ndarray, "_ 2"], ...]
    class_index: Int64[np.ndarray, " N"]
    """Into `MAP_LINE_CLASSES`."""
    scores: Float64[np.ndarray, " N"]

    def __post_init__(self) -> None:
        lengths = len(self.lines), len(self.class_index), len(self.scores)
        if len(set(lengths)) > 1:
            raise ValueError(f"{lengths[0]} lines need as many classes and scores, not {lengths[1]} and {lengths[2]}")
        for number, line in enumerate(self.lines):
            if line.ndim != 2 or line.shape[1] != 2 or len(line) < 2 or not np.isfinite(line).all():
                raise ValueError(f"line {number} of shape {line.shape} must have two points or more, all finite (x, y)")
        if not np.isfinite(self.scores).all():
            raise ValueError(f"score {int(np.argmin(np.isfinite(self.scores)))} is not finite")
        if len(self.class_index) and not 0 <= self.class_index.min() <= self.class_index.max() < _NUM_CLASSES:
            raise ValueError(f"classes {np.unique(self.class_index)} must be within 0 to {_NUM_CLASSES - 1}")

    @classmethod
    def empty(cls) -> "PredictedLines":
        """Nothing found."""
        return cls(lines=(), class_index=np.zeros(0, np.int64), scores=np.zeros(0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LineMatches:
    """One frame, or several: which predictions are right. Any choice of frames can be put together and scored."""

    class_index: Int64[np.ndarray, " N"]
    scores: Float64[np.ndarray, " N"]
    is_right: Bool[np.ndarray, "N 3"]
    """At each of `DISTANCES_M`."""
    num_true: Int64[np.ndarray, "3"]
    """True lines of each class."""

    @classmethod
    def joined(cls, matches: Iterable["LineMatches"]) -> "LineMatches":
        """All together, in this order; empty of none."""
        nothing = cls(
            class_index=np.zeros(0, np.int64),
            scores=np.zeros(0),
            is_right=np.zeros((0, len(DISTANCES_M)), bool),
            num_true=np.zeros(_NUM_CLASSES, np.int64),
        )
        parts = [nothing, *matches]
        return cls(
            class_index=np.concatenate([part.class_index for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            is_right=np.concatenate([part.is_right for part in parts]),
            num_true=np.sum([part.num_true for part in parts], axis=0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineScores:
    """The numbers of the protocol; None for a class that the map nowhere has, and for a mean of no class."""

    protocol: str
    num_frames: int
    mean_ap: float | None
    mean_ap_at: dict[str, float | None]
    """Distance ("0.5 m") -> mean over the classes."""
    class_ap: dict[str, float | None]
    """Mean over the distances."""
    class_ap_at: dict[str, dict[str, float | None]]
    num_true: dict[str, int]
    num_predicted: dict[str, int]


class LineScorer:
    """Takes one frame after the other; keeps a few numbers for each predicted line."""

    def __init__(self) -> None:
        self.matches = CountedOnce[LineMatches]()
        """By sample token."""

    def add(self, token: str, prediction: PredictedLines, truth: MapLines) -> None:
        """Count one frame.

        Raises:
            ValueError: it was counted already.
        """
        self.matches[token] = match_lines(prediction, truth)

    def merge(self, other: "LineScorer") -> None:
        """Count the frames of another scorer too, for example of another process.

        Raises:
            ValueError: it has counted one of the same frames.
        """
        self.matches.merge(other.matches)

    @property
    def num_frames(self) -> int:
        """Frames counted so far."""
        return len(self.matches)

    def result(self) -> LineScores:
        """The numbers over all frames so far, in the order of their tokens whoever counted them."""
        return score(LineMatches.joined(self.matches[token] for token in sorted(self.matches)), self.num_frames)


def score_lines(predictions: Mapping[str, PredictedLines], truth: Mapping[str, MapLines]) -> LineScores:
    """Score the lines of all frames, by sample token; as `count_lines`."""
    return count_lines(predictions, truth).result()


def count_lines(predictions: Mapping[str, PredictedLines], truth: Mapping[str, MapLines]) -> LineScorer:
    """Count the lines of all frames, by sample token.

    Raises:
        ValueError: a frame has no prediction (an empty one counts), or a prediction belongs to none of the frames.
    """
    if odd := sorted(predictions.keys() ^ truth.keys()):
        where = "has no prediction" if odd[0] in truth else "is not among the samples to score"
        raise ValueError(f"sample {odd[0]} {where} ({len(odd)} such samples): the sets must be the same")
    scorer = LineScorer()
    for token, lines in truth.items():
        scorer.add(token, predictions[token], lines)
    return scorer


def match_lines(prediction: PredictedLines, truth: MapLines) -> LineMatches:
    """Give the predicted lines of a frame to true ones, class by class and at each distance."""
    is_right = np.zeros((len(prediction.lines), len(DISTANCES_M)), bool)
    for k in range(_NUM_CLASSES):
        rows, columns = np.flatnonzero(prediction.class_index == k), np.flatnonzero(truth.class_index == k)
        if not len(rows) or not len(columns):
            continue
        rows = rows[np.argsort(-prediction.scores[rows], kind="stable")]
        distance_m = chamfer_distances(
            resample([prediction.lines[row] for row in rows]), resample([truth.lines[column] for column in columns])
        )
        nearest = distance_m.argmin(axis=1)
        for j, limit_m in enumerate(DISTANCES_M):
            near = np.flatnonzero(distance_m.min(axis=1) <= limit_m)
            _, first = np.unique(nearest[near], return_index=True)  # the best score of those that share a true line
            is_right[rows[near[first]], j] = True
    return LineMatches(
        class_index=prediction.class_index,
        scores=prediction.scores,
        is_right=is_right,
        num_true=np.bincount(truth.class_index, minlength=_NUM_CLASSES),
    )


def score(matches: LineMatches, num_frames: int, weight: Int64[np.ndarray, " N"] | None = None) -> LineScores:
    """The numbers of some frames whose matches were joined; `weight` is how often each predicted line counts."""
    weight = np.ones(len(matches.scores), np.int64) if weight is None else weight
    ap = np.full((len(DISTANCES_M), _NUM_CLASSES), np.nan)
    for k in np.flatnonzero(matches.num_true):
        rows = np.flatnonzero(matches.class_index == k)
        rows = rows[np.argsort(-matches.scores[rows], kind="stable")]
        for j in range(len(DISTANCES_M)):
            ap[j, k] = average_precision(matches.is_right[rows, j], int(matches.num_true[k]), weight[rows])
    distances = [f"{distance:.1f} m" for distance in DISTANCES_M]
    predicted = np.bincount(matches.class_index, weight, minlength=_NUM_CLASSES).astype(np.int64)
    return LineScores(
        protocol=PROTOCOL,
        num_frames=num_frames,
        mean_ap=_mean(ap),
        mean_ap_at={name: _mean(row) for name, row in zip(distances, ap, strict=True)},
        class_ap={name: _mean(column) for name, column in zip(MAP_LINE_CLASSES, ap.T, strict=True)},
        class_ap_at={
            name: {of_class: _mean(value) for of_class, value in zip(MAP_LINE_CLASSES, row, strict=True)}
            for name, row in zip(distances, ap, strict=True)
        },
        num_true=dict(zip(MAP_LINE_CLASSES, matches.num_true.tolist(), strict=True)),
        num_predicted=dict(zip(MAP_LINE_CLASSES, predicted.tolist(), strict=True)),
    )


def average_precision(
    is_right: Bool[np.ndarray, " N"], num_true: int, weight: Int64[np.ndarray, " N"] | None = None
) -> float:
    """Area under the best precision at each recall or beyond, of predictions ranked by score, best first."""
    weight = np.ones(len(is_right), np.int64) if weight is None else weight
    found, said = np.cumsum(is_right * weight), np.cumsum(weight)
    precision = np.divide(found, said, out=np.zeros(len(found)), where=said > 0)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best * weight)[is_right].sum() / num_true)


def resample(lines: Iterable[Float[np.ndarray, "_ 2"]]) -> Float64[np.ndarray, "N 100 2"]:
    """100 points at equal distances along each line, its ends included."""
    points = []
    for line in lines:
        line = np.asarray(line, np.float64)
        way = np.concatenate((np.zeros(1), np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))))
        at = np.linspace(0, way[-1], NUM_POINTS)
        points.append(np.stack([np.interp(at, way, line[:, axis]) for axis in range(2)], axis=-1))
    return np.stack(points) if points else np.zeros((0, NUM_POINTS, 2))


def chamfer_distances(
    first: Float64[np.ndarray, "N P 2"], second: Float64[np.ndarray, "M P 2"]
) -> Float64[np.ndarray, "N M"]:
    """Chamfer distance of every pair; infinite where it is certainly above the largest of `DISTANCES_M`."""
    distances = np.full((len(first), len(second)), np.inf)
    _chamfer(np.ascontiguousarray(first), np.ascontiguousarray(second), DISTANCES_M[-1], distances)
    return distances


def _mean(values: np.ndarray | float) -> float | None:
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.mean()) if known.size else None


@numba.njit(cache=True, nogil=True)
@no_type_check
def _chamfer(first, second, limit, distances):
    nearest_of_second = np.empty(second.shape[1])
    for i in range(len(first)):
        low_x, high_x = first[i, :, 0].min() - limit, first[i, :, 0].max() + limit
        low_y, high_y = first[i, :, 1].min() - limit, first[i, :, 1].max() + limit
        for j in range(len(second)):
            if second[j, :, 0].min() > high_x or second[j, :, 0].max() < low_x:
                continue
            if second[j, :, 1].min() > high_y or second[j, :, 1].max() < low_y:
                continue
            nearest_of_second[:] = np.inf
            sum_first = 0.0
            for p in range(first.shape[1]):
                nearest = np.inf
                for q in range(second.shape[1]):
                    x, y = first[i, p, 0] - second[j, q, 0], first[i, p, 1] - second[j, q, 1]
                    square = x * x + y * y
                    nearest = min(nearest, square)
                    nearest_of_second[q] = min(nearest_of_second[q], square)
                sum_first += np.sqrt(nearest)
            sum_second = 0.0
            for q in range(second.shape[1]):
                sum_second += np.sqrt(nearest_of_second[q])
            distances[i, j] = (sum_first / first.shape[1] + sum_second / second.shape[1]) / 2
