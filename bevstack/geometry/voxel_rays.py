"""Rays through a raster of cubes: which voxels a LiDAR beam or the ray of a pixel goes through.

Everything here is compiled and takes plain arrays: `low_m` (3,) is the corner of the raster with the least
coordinates, `voxel_m` the side of a cube, and a mask (X, Y, Z) uint8 says by its shape how many there are
(`VoxelGrid.low_m`, `.voxel_m`, `.shape_xyz`). Origins and ends are metres in the frame of the raster.
"""

from typing import no_type_check

import numba
import numpy as np

_REACH_M = 200.0
"""Length of a pixel's ray: longer than any raster."""


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _walk(
    origin: np.ndarray,
    direction: np.ndarray,
    length: float,
    low_m: np.ndarray,
    voxel_m: float,
    semantics: np.ndarray,
    stop_at_occupied: bool,
    free: int,
    mask: np.ndarray,
) -> None:
    """Mark the voxels along a ray of some length in metres (Amanatides and Woo, Eurographics 1987).

    `direction` is a unit vector.
    """
    shape = mask.shape
    # Enter the grid's box first.
    enter, leave = 0.0, length
    for axis in range(3):
        low, high = low_m[axis], low_m[axis] + shape[axis] * voxel_m
        if abs(direction[axis]) < 1e-12:
            if origin[axis] < low or origin[axis] >= high:
                return
            continue
        near, far = (low - origin[axis]) / direction[axis], (high - origin[axis]) / direction[axis]
        enter, leave = max(enter, min(near, far)), min(leave, max(near, far))
    if enter > leave:
        return
    cell = np.empty(3, np.int64)
    step = np.empty(3, np.int64)
    following, spacing = np.empty(3), np.empty(3)
    for axis in range(3):
        place = (origin[axis] + (enter + 1e-9) * direction[axis] - low_m[axis]) / voxel_m
        cell[axis] = min(max(int(np.floor(place)), 0), shape[axis] - 1)
        step[axis] = 1 if direction[axis] > 0 else -1
        if abs(direction[axis]) < 1e-12:
            following[axis] = spacing[axis] = np.inf
            continue
        border = low_m[axis] + (cell[axis] + (1 if step[axis] > 0 else 0)) * voxel_m
        following[axis] = (border - origin[axis]) / direction[axis]
        spacing[axis] = voxel_m / abs(direction[axis])
    while True:
        mask[cell[0], cell[1], cell[2]] = 1
        if stop_at_occupied and semantics[cell[0], cell[1], cell[2]] != free:
            return
        axis = 0
        if following[1] < following[axis]:
            axis = 1
        if following[2] < following[axis]:
            axis = 2
        if following[axis] > leave:
            return
        cell[axis] += step[axis]
        if cell[axis] < 0 or cell[axis] >= shape[axis]:
            return
        following[axis] += spacing[axis]


@numba.njit(cache=True, nogil=True)
@no_type_check
def mark_beams(origin: np.ndarray, ends: np.ndarray, low_m: np.ndarray, voxel_m: float, mask: np.ndarray) -> None:
    """Set the voxels of the mask (X, Y, Z) uint8 to 1 that the beams from `origin` (3,) to `ends` (M, 3) touch."""
    direction = np.empty(3)
    for k in range(len(ends)):
        length = np.sqrt((ends[k, 0] - origin[0]) ** 2 + (ends[k, 1] - origin[1]) ** 2 + (ends[k, 2] - origin[2]) ** 2)
        if length < 1e-6:
            continue
        for axis in range(3):
            direction[axis] = (ends[k, axis] - origin[axis]) / length
        _walk(origin, direction, length, low_m, voxel_m, mask, False, 0, mask)


@numba.njit(cache=True, nogil=True)
@no_type_check
def mark_pixels(
    origin: np.ndarray,
    ray_matrix: np.ndarray,
    height_px: int,
    width_px: int,
    stride_px: int,
    low_m: np.ndarray,
    voxel_m: float,
    semantics: np.ndarray,
    free: int,
    mask: np.ndarray,
) -> None:
    """Set the voxels of the mask to 1 that the rays of a camera's pixels reach, the first occupied one included.

    `origin` (3,) is the camera, `ray_matrix` (3, 3) maps homogeneous pixels to directions, one ray is cast per
    `stride_px` pixels in both directions, and whatever is not `free` in `semantics` (X, Y, Z) stops it.
    """
    direction = np.empty(3)
    for v in range(stride_px // 2, height_px, stride_px):
        for u in range(stride_px // 2, width_px, stride_px):
            norm = 0.0
            for axis in range(3):
                direction[axis] = ray_matrix[axis, 0] * u + ray_matrix[axis, 1] * v + ray_matrix[axis, 2]
                norm += direction[axis] ** 2
            norm = np.sqrt(norm)
            for axis in range(3):
                direction[axis] /= norm
            _walk(origin, direction, _REACH_M, low_m, voxel_m, semantics, True, free, mask)
