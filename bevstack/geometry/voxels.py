"""Voxel labels moved from one grid to another by looking up where each new voxel comes from."""

from collections.abc import Sequence
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float, UInt8

from bevstack.types.bev import VoxelGrid


def resample_nearest(
    values: Sequence[UInt8[np.ndarray, "X Y Z"]],
    source: VoxelGrid,
    target: VoxelGrid,
    T_source_target: Float[np.ndarray, "4 4"],
    outside: Sequence[int],
) -> tuple[UInt8[np.ndarray, "U V W"], ...]:
    """For each voxel of `target` the values of the `source` voxel in which its centre lies.

    Args:
        values: one or more arrays on `source`; one look-up serves them all.
        source: where the values are.
        target: where they are wanted.
        T_source_target: coordinates of `target`'s frame -> `source`'s; any affine map.
        outside: for each array, the value where the centre lies outside of `source`.

    Raises:
        ValueError: an array is not one of `source`, or the numbers of arrays and of outside values differ.
    """
    for array in values:
        if array.shape != source.shape_xyz:
            raise ValueError(f"an array of shape {array.shape} does not lie on a grid of {source.shape_xyz} voxels")
    if len(values) != len(outside):
        raise ValueError(f"{len(values)} arrays need as many outside values, not {len(outside)}")
    linear = T_source_target[:3, :3] * (target.voxel_m / source.voxel_m)
    corner = T_source_target[:3, :3] @ np.array(target.low_m) + T_source_target[:3, 3]
    cells = np.column_stack((linear, (corner - source.low_m) / source.voxel_m)).astype(np.float64)
    moved = tuple(np.empty(target.shape_xyz, np.uint8) for _ in values)
    _look_up(
        tuple(np.ascontiguousarray(array) for array in values),
        cells,
        moved,
        tuple(np.uint8(value) for value in outside),
    )
    return moved


@numba.njit(nogil=True, cache=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _look_up(values: tuple, cells: np.ndarray, moved: tuple, outside: tuple) -> None:
    """`cells` (3, 4) maps continuous indices of `moved` to those of `values`; voxel centres are at k + 0.5."""
    size_x, size_y, size_z = values[0].shape
    columns, rows, levels = moved[0].shape
    for i in range(columns):
        for j in range(rows):
            x0 = cells[0, 0] * (i + 0.5) + cells[0, 1] * (j + 0.5) + cells[0, 3]
            y0 = cells[1, 0] * (i + 0.5) + cells[1, 1] * (j + 0.5) + cells[1, 3]
            z0 = cells[2, 0] * (i + 0.5) + cells[2, 1] * (j + 0.5) + cells[2, 3]
            for k in range(levels):
                x = int(np.floor(x0 + cells[0, 2] * (k + 0.5)))
                y = int(np.floor(y0 + cells[1, 2] * (k + 0.5)))
                z = int(np.floor(z0 + cells[2, 2] * (k + 0.5)))
                if 0 <= x < size_x and 0 <= y < size_y and 0 <= z < size_z:
                    for n in range(len(values)):
                        moved[n][i, j, k] = values[n][x, y, z]
                else:
                    for n in range(len(values)):
                        moved[n][i, j, k] = outside[n]
