"""Points into pillars: which pillars hold points, where each point lies in its pillar, and the mean of each pillar.

Letters: M points of all frames, K points inside the grid, P occupied pillars of all frames.
"""

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bevstack.types.bev import BevGrid
from bevstack.types.frame import PointIndex

POINT_FEATURES = 5
_HEIGHT_SCALE = 0.5
_INTENSITY_SCALE = 1 / 255
_AGE_SCALE = 2.0  # ten sweeps reach back half a second
_SCALES = np.array((2.0, 2.0, _HEIGHT_SCALE, _INTENSITY_SCALE, _AGE_SCALE), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pillars:
    """Points sorted into the pillars of a grid. Point features are of order one: offset from the centre of the pillar
    in half pillars (x, y), then height, intensity and age.
    """

    points: Float[Tensor, "K 5"]
    pillar_of_point: Int[Tensor, " K"]
    """Row of `cell_index` for each point."""
    cell_index: Int[Tensor, " P"]
    """Flat pillar (frame, row, column) on the grid, ascending."""
    means: Float[Tensor, "P 5"]
    counts: Float[Tensor, " P"]


def pillarise(
    points_ego: Float[Tensor, "M 5"], point_frame_index: Int[Tensor, " M"], grid: BevGrid, num_frames: int
) -> Pillars:
    """Sort points into pillars; points outside the x, y or z range are left out.

    On the CPU in two passes over the points, elsewhere (and while a graph is captured for export) by standard
    operations; the results are equal up to rounding of the means.
    """
    if points_ego.device.type == "cpu" and not torch.compiler.is_exporting():
        return _pillarise_numba(points_ego, point_frame_index, grid, num_frames)
    return _pillarise_torch(points_ego, point_frame_index, grid)


def _pillarise_torch(points_ego: Tensor, point_frame_index: Tensor, grid: BevGrid) -> Pillars:
    rows, columns = grid.shape_yx
    cells = grid.to_cells(points_ego[:, : PointIndex.Z])
    whole = cells.floor()
    x, y, z = whole[:, 0].long(), whole[:, 1].long(), points_ego[:, PointIndex.Z]
    z_low, z_high = grid.z_range_m
    keep = (x >= 0) & (x < columns) & (y >= 0) & (y < rows) & (z >= z_low) & (z < z_high)
    flat = ((point_frame_index.long() * rows + y) * columns + x)[keep]
    points = torch.cat((cells - whole - 0.5, points_ego[:, PointIndex.Z :]), dim=1)[keep]
    points = points * torch.from_numpy(_SCALES).to(points)
    cell_index, pillar_of_point, counts = torch.unique(flat, return_inverse=True, return_counts=True)
    sums = points.new_zeros((len(cell_index), POINT_FEATURES)).index_add_(0, pillar_of_point, points)
    counts = counts.to(points.dtype)
    return Pillars(
        points=points,
        pillar_of_point=pillar_of_point,
        cell_index=cell_index,
        means=sums / counts.clamp_min(1)[:, None],
        counts=counts,
    )


def _pillarise_numba(points_ego: Tensor, point_frame_index: Tensor, grid: BevGrid, num_frames: int) -> Pillars:
    rows, columns = grid.shape_yx
    low = np.array((grid.x_range_m[0], grid.y_range_m[0]), np.float32)
    points, pillar_of_point, cell_index, means, counts = _sort_points(
        points_ego.detach().contiguous().numpy(),
        point_frame_index.contiguous().numpy(),
        low,
        np.float32(grid.cell_m),
        np.array(grid.z_range_m, np.float32),
        (num_frames, rows, columns),
        _SCALES,
    )
    return Pillars(
        points=torch.from_numpy(points),
        pillar_of_point=torch.from_numpy(pillar_of_point),
        cell_index=torch.from_numpy(cell_index),
        means=torch.from_numpy(means),
        counts=torch.from_numpy(counts),
    )


@numba.njit(cache=True, nogil=True)
@no_type_check
def _sort_points(
    points: np.ndarray,
    frame_index: np.ndarray,
    low: np.ndarray,
    cell_m: np.float32,
    z_range: np.ndarray,
    shape: tuple[int, int, int],
    scales: np.ndarray,
):
    num_frames, rows, columns = shape
    flat = np.empty(len(points), np.int64)
    dense = np.zeros(num_frames * rows * columns, np.int32)
    num_kept = 0
    for k in range(len(points)):
        x, y = np.floor((points[k, 0] - low[0]) / cell_m), np.floor((points[k, 1] - low[1]) / cell_m)
        flat[k] = -1
        if 0 <= x < columns and 0 <= y < rows and z_range[0] <= points[k, 2] < z_range[1]:
            flat[k] = (frame_index[k] * rows + np.int64(y)) * columns + np.int64(x)
            dense[flat[k]] += 1
            num_kept += 1
    cell_index = np.nonzero(dense)[0]
    counts = np.empty(len(cell_index), np.float32)
    for p in range(len(cell_index)):
        counts[p] = dense[cell_index[p]]
        dense[cell_index[p]] = p  # from here on: cell -> pillar
    kept = np.empty((num_kept, 5), np.float32)
    pillar_of_point = np.empty(num_kept, np.int64)
    means = np.zeros((len(cell_index), 5), np.float32)
    row = 0
    for k in range(len(points)):
        if flat[k] < 0:
            continue
        pillar = dense[flat[k]]
        pillar_of_point[row] = pillar
        for axis in range(2):
            cell = (points[k, axis] - low[axis]) / cell_m
            kept[row, axis] = (cell - np.floor(cell) - np.float32(0.5)) * scales[axis]
        for feature in range(2, 5):
            kept[row, feature] = points[k, feature] * scales[feature]
        for feature in range(5):
            means[pillar, feature] += kept[row, feature]
        row += 1
    for p in range(len(means)):
        means[p] /= counts[p]
    return kept, pillar_of_point, cell_index, means, counts
