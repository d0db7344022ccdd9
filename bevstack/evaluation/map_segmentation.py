"""Map segmentation: intersection over union of each class, counted over all cells of the whole set.

`map/bevfusion-iou` (Liu et al., BEVFusion, ICRA 2023): the IoU at the threshold that suits each class best, of seven
between 0.35 and 0.65. The thresholds are chosen on the data that is scored, which flatters; `map/iou-fixed-0.5` is the
IoU of the same counts at 0.5.
"""

from dataclasses import dataclass

import numpy as np

from bevstack.data.maps import MAP_CLASSES
from bevstack.types.frame import MapMasks
from bevstack.types.scene import MapSegmentation

BEST_THRESHOLD = "map/bevfusion-iou"
FIXED_THRESHOLD = "map/iou-fixed-0.5"
THRESHOLDS = (0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65)
FIXED = 0.50


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


class MapScorer:
    """Takes one frame after the other; memory does not grow with their number."""

    def __init__(self) -> None:
        # Cells by class, truth (0, 1) and number of thresholds that their probability reaches.
        self._cells = np.zeros((len(MAP_CLASSES), 2, len(THRESHOLDS) + 1), np.int64)
        self._num_frames = 0

    def add(self, prediction: MapSegmentation, truth: MapMasks) -> None:
        """Count one frame.

        Raises:
            ValueError: the two lie on different grids, or a probability is no number.
        """
        probabilities, masks = prediction.probabilities, truth.masks
        if prediction.grid != truth.grid or probabilities.shape != masks.shape:
            raise ValueError(
                f"the predicted map {probabilities.shape} on {prediction.grid} does not lie on the grid of the true "
                f"one, {masks.shape} on {truth.grid}: score it with labels of the model's own map_grid"
            )
        if np.isnan(probabilities).any():
            raise ValueError("a probability of the predicted map is no number")
        reached = np.searchsorted(np.array(THRESHOLDS, np.float32), probabilities, side="right")
        class_index = np.arange(len(masks))[:, None, None]
        flat = (class_index * 2 + masks) * self._cells.shape[2] + reached
        self._cells += np.bincount(flat.ravel(), minlength=self._cells.size).reshape(self._cells.shape)
        self._num_frames += 1

    @property
    def num_frames(self) -> int:
        """Frames counted so far."""
        return self._num_frames

    def result(self) -> dict[str, MapScores]:
        """Protocol -> its numbers, over all frames so far."""
        iou = self._iou()
        fixed = THRESHOLDS.index(FIXED)
        return {
            BEST_THRESHOLD: self._scores(BEST_THRESHOLD, iou, iou.argmax(axis=1)),
            FIXED_THRESHOLD: self._scores(FIXED_THRESHOLD, iou, np.full(len(iou), fixed)),
        }

    def _iou(self) -> np.ndarray:
        """By class and threshold."""
        at_least = np.cumsum(self._cells[:, :, ::-1], axis=2)[:, :, -2::-1]  # (K, 2, T): cells at or above a threshold
        true_positive, false_positive = at_least[:, 1], at_least[:, 0]
        union = self._cells[:, 1].sum(axis=1, keepdims=True) + false_positive  # TP + FN + FP
        return true_positive / np.maximum(union, 1)

    def _scores(self, protocol: str, iou: np.ndarray, chosen: np.ndarray) -> MapScores:
        true_cells, all_cells = self._cells[:, 1].sum(axis=1), self._cells[0].sum()
        class_iou: dict[str, float | None] = {}
        threshold: dict[str, float | None] = {}
        for k, name in enumerate(MAP_CLASSES):
            is_known = true_cells[k] > 0
            class_iou[name] = float(iou[k, chosen[k]]) if is_known else None
            threshold[name] = THRESHOLDS[chosen[k]] if is_known else None
        known = [value for value in class_iou.values() if value is not None]
        return MapScores(
            protocol=protocol,
            num_frames=self._num_frames,
            mean_iou=float(np.mean(known)) if known else None,
            class_iou=class_iou,
            class_threshold=threshold,
            class_share={name: float(true_cells[k] / max(all_cells, 1)) for k, name in enumerate(MAP_CLASSES)},
        )
