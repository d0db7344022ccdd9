"""Semantic occupancy: intersection over union of each class, counted over all voxels of the whole set.

`occ/occ3d-miou` (Tian et al., Occ3D, NeurIPS 2023): mean over 17 classes, "others" included and "free" not, over voxels
that a camera observed. The same within the LiDAR mask and without a mask have names of their own: numbers differ by
more than methods do. `occ/openoccupancy` (Wang et al., OpenOccupancy, ICCV 2023): mean over 16 classes, without
"others", over the whole volume but for noise, in the frame of the LiDAR; where predictions and labels are compared in
`ego` instead, the name says so. With each mean comes the IoU of occupied against free.

A class that neither the labels nor the predictions have is left out of the mean, as in Occ3D's own code (in that of
OpenOccupancy the mean is then no number). A class that the labels lack but the model predicts counts as zero: on few
frames this decides the mean, so the mean over the classes that the labels have stands beside it.

Not measured here: masked scores reward thick walls, because what lies behind the first surface is seldom observed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np

from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.data.occupancy import OPENOCCUPANCY_LIDAR_GRID
from bevstack.types.bev import OCC3D_GRID, OPENOCCUPANCY_GRID, VoxelGrid
from bevstack.types.frame import OccupancyGrid
from bevstack.types.scene import Occupancy

OCC3D = "occ/occ3d-miou"
OCC3D_LIDAR_MASK = "occ/occ3d-miou-lidar-mask"
OCC3D_NO_MASK = "occ/occ3d-miou-no-mask"
OPENOCCUPANCY = "occ/openoccupancy"
OPENOCCUPANCY_IN_EGO = "occ/openoccupancy-in-ego"
ALL_VOXELS = "occ/all-voxels"
"""On a grid of no benchmark: 17 classes, no mask."""

_NUM_CLASSES = len(OCCUPANCY_CLASSES)
_ALL_CLASSES = range(OCCUPANCY_FREE)
_WITHOUT_OTHERS = range(1, OCCUPANCY_FREE)
_EVERYWHERE, _IN_CAMERA, _IN_LIDAR = (0, 1, 2, 3), (1, 3), (2, 3)
"""Which of the four kinds of voxel (camera observed + 2 * LiDAR observed) count."""

_PROTOCOLS: dict[VoxelGrid, tuple[tuple[str, range, tuple[int, ...]], ...]] = {
    OCC3D_GRID: (
        (OCC3D, _ALL_CLASSES, _IN_CAMERA),
        (OCC3D_LIDAR_MASK, _ALL_CLASSES, _IN_LIDAR),
        (OCC3D_NO_MASK, _ALL_CLASSES, _EVERYWHERE),
    ),
    OPENOCCUPANCY_LIDAR_GRID: ((OPENOCCUPANCY, _WITHOUT_OTHERS, _EVERYWHERE),),
    OPENOCCUPANCY_GRID: ((OPENOCCUPANCY_IN_EGO, _WITHOUT_OTHERS, _EVERYWHERE),),
}
_OTHER_GRID = ((ALL_VOXELS, _ALL_CLASSES, _EVERYWHERE),)


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupancyScores:
    """One protocol's numbers; None where nothing could be counted."""

    protocol: str
    num_frames: int
    mean_iou: float | None
    """The protocol's: over its classes that labels or predictions have."""
    mean_iou_of_labelled: float | None
    """Over its classes that the labels have."""
    iou: float | None
    """Of occupied voxels, whatever their class, against free ones."""
    class_iou: dict[str, float | None]
    class_share: dict[str, float]
    """Share of the counted voxels that the labels give the class; "free" included."""


class OccupancyScorer:
    """Takes one frame after the other; memory does not grow with their number."""

    def __init__(self) -> None:
        self._counts = np.zeros((4, _NUM_CLASSES, _NUM_CLASSES), np.int64)  # kind of voxel, truth, prediction
        self._grid: VoxelGrid | None = None
        self._num_frames = 0

    def add(self, prediction: Occupancy, truth: OccupancyGrid) -> None:
        """Count one frame; voxels of unknown label do not count.

        Raises:
            ValueError: the two lie on different grids, or a class is none of `OCCUPANCY_CLASSES`.
        """
        if prediction.grid != truth.grid or prediction.semantics.shape != truth.semantics.shape:
            raise ValueError(
                f"the predicted occupancy {prediction.semantics.shape} on {prediction.grid} does not lie on the grid "
                f"of the true one, {truth.semantics.shape} on {truth.grid}: score it with labels of the model's format"
            )
        self._take_grid(truth.grid)
        counts = np.zeros_like(self._counts)
        arrays = (prediction.semantics, truth.semantics, truth.camera_mask, truth.lidar_mask)
        wrong = _count(*(np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays), counts)
        if wrong >= 0:
            raise ValueError(f"class {wrong} of a voxel is none of 0 to {OCCUPANCY_FREE}")
        self._counts += counts
        self._num_frames += 1

    def merge(self, other: "OccupancyScorer") -> None:
        """Count the frames of another scorer too, for example of another process.

        Raises:
            ValueError: it has counted on another grid.
        """
        if other._grid is not None:
            self._take_grid(other._grid)
        self._counts += other._counts
        self._num_frames += other._num_frames

    def _take_grid(self, grid: VoxelGrid) -> None:
        if self._grid is not None and self._grid != grid:
            raise ValueError(f"frames on {self._grid} and on {grid} have no common score: use one scorer for each")
        self._grid = grid

    @property
    def num_frames(self) -> int:
        """Frames counted so far."""
        return self._num_frames

    def result(self) -> dict[str, OccupancyScores]:
        """Protocol -> its numbers, over all frames so far; those that are defined on the grid of the frames."""
        if self._grid is None:
            return {}
        return {
            protocol: self._scores(protocol, classes, self._counts[list(kinds)].sum(axis=0))
            for protocol, classes, kinds in _PROTOCOLS.get(self._grid, _OTHER_GRID)
        }

    def _scores(self, protocol: str, classes: Sequence[int], counts: np.ndarray) -> OccupancyScores:
        true, predicted, right = counts.sum(axis=1), counts.sum(axis=0), np.diagonal(counts)
        union = true + predicted - right
        class_iou = {k: float(right[k] / union[k]) if union[k] else None for k in classes}
        both = int(counts[:OCCUPANCY_FREE, :OCCUPANCY_FREE].sum())
        either = int(counts.sum() - counts[OCCUPANCY_FREE, OCCUPANCY_FREE])
        return OccupancyScores(
            protocol=protocol,
            num_frames=self._num_frames,
            mean_iou=_mean([value for value in class_iou.values() if value is not None]),
            mean_iou_of_labelled=_mean([value for k, value in class_iou.items() if value is not None and true[k]]),
            iou=both / either if either else None,
            class_iou={OCCUPANCY_CLASSES[k]: value for k, value in class_iou.items()},
            class_share={name: float(true[k] / max(true.sum(), 1)) for k, name in enumerate(OCCUPANCY_CLASSES)},
        )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


@numba.njit(cache=True, nogil=True)
@no_type_check
def _count(
    predicted: np.ndarray, true: np.ndarray, in_camera: np.ndarray, in_lidar: np.ndarray, counts: np.ndarray
) -> int:
    """Add every voxel to its bin; returns the first impossible class, or -1."""
    for k in range(len(true)):
        if true[k] == OCCUPANCY_IGNORE:
            continue
        if true[k] >= _NUM_CLASSES:
            return true[k]
        if predicted[k] >= _NUM_CLASSES:
            return predicted[k]
        counts[in_camera[k] + 2 * in_lidar[k], true[k], predicted[k]] += 1
    return -1
