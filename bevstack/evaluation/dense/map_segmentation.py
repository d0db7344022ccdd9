"""Map segmentation: how well the cells of each class are found, counted over all cells of the whole set.

`map/bevfusion-iou` (Liu et al., BEVFusion, ICRA 2023): the IoU at the threshold that suits each class best, of seven
between 0.35 and 0.65. The thresholds are chosen on the data that is scored, which flatters; `map/iou-fixed-0.5` is the
IoU of the same counts at 0.5.

`map/ap` needs no threshold: the average precision of the cells of a class, ranked by probability over the whole set.
It is the sum over all probabilities, from the largest down, of precision times the recall gained there (no
interpolation); cells of one probability count as one step. Probabilities are rounded to 65,536 equal levels, so that
the set is counted in a few megabytes. A constant prediction has the share of the class as its average precision. It
judges the order alone: probabilities may all be far too low.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np

from bevstack.data.maps import MAP_CLASSES
from bevstack.types.frame import MapMasks
from bevstack.types.scene import MapSegmentation

BEST_THRESHOLD = "map/bevfusion-iou"
FIXED_THRESHOLD = "map/iou-fixed-0.5"
AVERAGE_PRECISION = "map/ap"
THRESHOLDS = (0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65)
FIXED = 0.50
_LAST_LEVEL = (1 << 16) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MapScores:
    """One protocol's numbers; None for a class that the map nowhere has, and for a mean of no class."""

    protocol: str
    num_frames: int
    mean_iou: float | None
    """Over the classes that the map has."""
    class_iou: dict[str, float | None]
    class_threshold: dict[str, float | None]
    """Where the IoU was taken."""
    class_share: dict[str, float]
    """Share of all cells that the map marks as the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPrecision:
    """Average precision of cells; None for a class that the map nowhere has, and for a mean of no class."""

    protocol: str
    num_frames: int
    mean_ap: float | None
    """Over the classes that the map has."""
    class_ap: dict[str, float | None]
    class_share: dict[str, float]
    """Share of all cells that the map marks as the class: the average precision of a guess."""


class MapScorer:
    """Takes one frame after the other; memory does not grow with their number."""

    def __init__(self) -> None:
        # Cells by class, truth (0, 1) and number of thresholds that their probability reaches.
        self._cells = np.zeros((len(MAP_CLASSES), 2, len(THRESHOLDS) + 1), np.int64)
        self._levels = np.zeros((len(MAP_CLASSES), 2, _LAST_LEVEL + 1), np.int64)  # by class, truth and probability
        self._num_frames = 0

    def add(self, prediction: MapSegmentation, truth: MapMasks) -> None:
        """Count one frame.

        Raises:
            ValueError: the two lie on different grids, or a probability is not within 0 to 1.
        """
        probabilities, masks = prediction.probabilities, truth.masks
        if prediction.grid != truth.grid or probabilities.shape != masks.shape:
            raise ValueError(
                f"the predicted map {probabilities.shape} on {prediction.grid} does not lie on the grid of the true "
                f"one, {masks.shape} on {truth.grid}: score it with labels of the model's own map_grid"
            )
        low, high = float(probabilities.min()), float(probabilities.max())
        if not (low >= 0 and high <= 1):  # NaN compares false
            raise ValueError(f"probabilities of the predicted map run from {low} to {high}: one is not within 0 to 1")
        reached = np.searchsorted(np.array(THRESHOLDS, np.float32), probabilities, side="right")
        class_index = np.arange(len(masks))[:, None, None]
        flat = (class_index * 2 + masks) * self._cells.shape[2] + reached
        self._cells += np.bincount(flat.ravel(), minlength=self._cells.size).reshape(self._cells.shape)
        _count_levels(np.ascontiguousarray(probabilities), np.ascontiguousarray(masks), self._levels)
        self._num_frames += 1

    def merge(self, other: "MapScorer") -> None:
        """Count the frames of another scorer too, for example of another process."""
        self._cells += other._cells
        self._levels += other._levels
        self._num_frames += other._num_frames

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """What the numbers follow from. Sums over any choice of frames, weighted or not, go to `of_counts`."""
        return {"cells": self._cells, "levels": self._levels}

    @classmethod
    def of_counts(cls, counts: Mapping[str, np.ndarray], num_frames: int) -> "MapScorer":
        """A scorer that has counted this."""
        scorer = cls()
        scorer._cells, scorer._levels, scorer._num_frames = counts["cells"], counts["levels"], num_frames
        return scorer

    @property
    def num_frames(self) -> int:
        """Frames counted so far."""
        return self._num_frames

    def result(self) -> dict[str, MapScores | MapPrecision]:
        """Protocol -> its numbers, over all frames so far."""
        iou = self._iou()
        fixed = THRESHOLDS.index(FIXED)
        return {
            BEST_THRESHOLD: self._scores(BEST_THRESHOLD, iou, iou.argmax(axis=1)),
            FIXED_THRESHOLD: self._scores(FIXED_THRESHOLD, iou, np.full(len(iou), fixed)),
            AVERAGE_PRECISION: self._precision(),
        }

    def _iou(self) -> np.ndarray:
        """By class and threshold."""
        at_least = np.cumsum(self._cells[:, :, ::-1], axis=2)[:, :, -2::-1]  # (K, 2, T): cells at or above a threshold
        true_positive, false_positive = at_least[:, 1], at_least[:, 0]
        union = self._cells[:, 1].sum(axis=1, keepdims=True) + false_positive  # TP + FN + FP
        return true_positive / np.maximum(union, 1)

    def _scores(self, protocol: str, iou: np.ndarray, chosen: np.ndarray) -> MapScores:
        true_cells = self._cells[:, 1].sum(axis=1)
        class_iou: dict[str, float | None] = {}
        threshold: dict[str, float | None] = {}
        for k, name in enumerate(MAP_CLASSES):
            is_known = true_cells[k] > 0
            class_iou[name] = float(iou[k, chosen[k]]) if is_known else None
            threshold[name] = THRESHOLDS[chosen[k]] if is_known else None
        return MapScores(
            protocol=protocol,
            num_frames=self._num_frames,
            mean_iou=_mean(class_iou),
            class_iou=class_iou,
            class_threshold=threshold,
            class_share=self._class_share(),
        )

    def _precision(self) -> MapPrecision:
        reached = np.cumsum(self._levels[:, :, ::-1], axis=2)  # (K, 2, L): false and true cells from the top down
        true = reached[:, 1, -1:]
        precision = reached[:, 1] / np.maximum(reached.sum(axis=1), 1)
        average = (precision * self._levels[:, 1, ::-1]).sum(axis=1) / np.maximum(true[:, 0], 1)
        class_ap = {name: float(average[k]) if true[k, 0] else None for k, name in enumerate(MAP_CLASSES)}
        return MapPrecision(
            protocol=AVERAGE_PRECISION,
            num_frames=self._num_frames,
            mean_ap=_mean(class_ap),
            class_ap=class_ap,
            class_share=self._class_share(),
        )

    def _class_share(self) -> dict[str, float]:
        true_cells, all_cells = self._cells[:, 1].sum(axis=1), self._cells[0].sum()
        return {name: float(true_cells[k] / max(all_cells, 1)) for k, name in enumerate(MAP_CLASSES)}


def _mean(of_class: dict[str, float | None]) -> float | None:
    known = [value for value in of_class.values() if value is not None]
    return float(np.mean(known)) if known else None


@numba.njit(cache=True, nogil=True)
@no_type_check
def _count_levels(probabilities, masks, levels):
    """Add every cell to the bin of its class, its truth and its rounded probability."""
    for k in range(len(masks)):
        for y in range(masks.shape[1]):
            for x in range(masks.shape[2]):
                levels[k, int(masks[k, y, x]), int(probabilities[k, y, x] * _LAST_LEVEL + 0.5)] += 1
