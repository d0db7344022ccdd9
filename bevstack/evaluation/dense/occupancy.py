"""Semantic occupancy: intersection over union of each class, counted over all voxels of the whole set.

`occ/occ3d-miou` (Tian et al., Occ3D, NeurIPS 2023): mean over 17 classes, "others" included and "free" not, over voxels
that a camera observed. The same within the LiDAR mask and without a mask have names of their own: numbers differ by
more than methods do. `occ/openoccupancy` (Wang et al., OpenOccupancy, ICCV 2023): mean over 16 classes, without
"others", over the whole volume but for noise, in the frame of the LiDAR; where predictions and labels are compared in
`ego` instead, the name says so. With each mean comes the IoU of occupied against free.

A class that neither the labels nor the predictions have is left out of the mean, as in Occ3D's own code (in that of
OpenOccupancy the mean is then no number). A class that the labels lack but the model predicts counts as zero: on few
frames this decides the mean, so the mean over the classes that the labels have stands beside it.

Masked scores reward thick walls, because what lies behind the first surface is seldom observed: `rayiou` does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Int64

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

_TABLES, _KINDS, _CODES = 4, 4, 32
"""Voxels next to each other go to different tables; their axes are powers of two, so that a bin is a few shifts."""
_EIGHT_BYTES = np.uint64(0x0101010101010101)
_IGNORED_CODE, _WRONG_CODE = _CODES - 1, _CODES - 2
_CODE = np.full(256, _WRONG_CODE, np.uint8)
_CODE[:_NUM_CLASSES], _CODE[OCCUPANCY_IGNORE] = range(_NUM_CLASSES), _IGNORED_CODE

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
    confusion: list[list[int]]
    """Counted voxels by class of the labels (rows) and of the prediction (columns), in the order of
    `OCCUPANCY_CLASSES`: "others" first, "free" last."""


def count_voxels(prediction: Occupancy, truth: OccupancyGrid) -> Int64[np.ndarray, "4 18 18"]:
    """Labelled voxels of one frame by kind (camera observed + 2 * LiDAR observed), true class and predicted class.

    Raises:
        ValueError: the two lie on different grids, or a class is none of `OCCUPANCY_CLASSES`.
    """
    if prediction.grid != truth.grid or prediction.semantics.shape != truth.semantics.shape:
        raise ValueError(
            f"the predicted occupancy {prediction.semantics.shape} on {prediction.grid} does not lie on the grid "
            f"of the true one, {truth.semantics.shape} on {truth.grid}: score it with labels of the model's format"
        )
    arrays = (prediction.semantics, truth.semantics, truth.camera_mask, truth.lidar_mask)
    flat = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
    tables = np.zeros((_TABLES, _KINDS * _CODES * _CODES), np.uint32)
    _count(*flat, _CODE, tables)
    counts = tables.sum(axis=0, dtype=np.int64).reshape(_KINDS, _CODES, _CODES)
    if counts[:, _WRONG_CODE].any() or counts[:, :_NUM_CLASSES, _NUM_CLASSES:].any():
        predicted, true = flat[:2]
        is_wrong = ((true >= _NUM_CLASSES) | (predicted >= _NUM_CLASSES)) & (true != OCCUPANCY_IGNORE)
        at = int(is_wrong.argmax())
        wrong = true[at] if true[at] >= _NUM_CLASSES else predicted[at]
        raise ValueError(f"class {wrong} of a voxel is none of 0 to {OCCUPANCY_FREE}")
    return counts[:, :_NUM_CLASSES, :_NUM_CLASSES]


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
        counts = count_voxels(prediction, truth)
        self._take_grid(truth.grid)
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
    def counts(self) -> dict[str, np.ndarray]:
        """What the numbers follow from. Sums over any choice of frames, weighted or not, go to `of_counts`."""
        return {"voxels": self._counts}

    @property
    def grid(self) -> VoxelGrid | None:
        """Of the frames; None before the first."""
        return self._grid

    @classmethod
    def of_counts(cls, counts: Mapping[str, np.ndarray], num_frames: int, grid: VoxelGrid) -> "OccupancyScorer":
        """A scorer that has counted this."""
        scorer = cls()
        scorer._counts, scorer._num_frames, scorer._grid = counts["voxels"], num_frames, grid
        return scorer

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
            confusion=counts.tolist(),
        )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


@numba.njit(cache=True, nogil=True)
@no_type_check
def _count(predicted, true, in_camera, in_lidar, code, tables):
    """Add every voxel to its bin. Eight equal ones on end, as free space is full of, are one comparison and one sum.

    The sum of a bin has to be stored before it can grow again: four tables in turn keep that from being waited for.
    """
    whole = len(true) // 8
    words = predicted[: 8 * whole].view(np.uint64), true[: 8 * whole].view(np.uint64)
    masks = in_camera[: 8 * whole].view(np.uint64), in_lidar[: 8 * whole].view(np.uint64)
    for block in range(whole):
        first = 8 * block
        is_uniform = (
            words[0][block] == predicted[first] * _EIGHT_BYTES
            and words[1][block] == true[first] * _EIGHT_BYTES
            and masks[0][block] == in_camera[first] * _EIGHT_BYTES
            and masks[1][block] == in_lidar[first] * _EIGHT_BYTES
        )
        if is_uniform:
            tables[block % _TABLES, _bin(predicted, true, in_camera, in_lidar, code, first)] += 8
            continue
        for k in range(first, first + 8):
            tables[k % _TABLES, _bin(predicted, true, in_camera, in_lidar, code, k)] += 1
    for k in range(8 * whole, len(true)):
        tables[0, _bin(predicted, true, in_camera, in_lidar, code, k)] += 1


@numba.njit(cache=True, nogil=True, inline="always")
@no_type_check
def _bin(predicted, true, in_camera, in_lidar, code, k):
    kind = in_camera[k] + 2 * in_lidar[k]
    return ((kind * _CODES + code[true[k]]) * _CODES + code[predicted[k]]) % (_KINDS * _CODES * _CODES)
