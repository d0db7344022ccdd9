"""Occupancy labels under a world augmentation.

Each voxel takes the label of the voxel from which its centre comes, so that nothing gets holes when the world grows.
When it shrinks, the road, a single layer of voxels, could fall between two centres and be gone from the whole label:
along z a voxel that would be free therefore takes the other voxel whose centre lies in it, if there is one. (Walls may
lose a voxel here and there.)
"""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float

from bevstack.data.class_names import OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.geometry.transforms import inverse
from bevstack.types.bev import VoxelGrid
from bevstack.types.frame import OccupancyGrid


def move_occupancy(occupancy: OccupancyGrid, G_ego: Float[np.ndarray, "4 4"]) -> OccupancyGrid:
    """Occupancy under a map of `ego` that keeps the vertical (`augment_world.world_map`), on the same grid.

    What comes from outside of the grid is `OCCUPANCY_IGNORE` and observed by no sensor.

    Raises:
        ValueError: the map tilts the ground.
    """
    if np.abs(G_ego[:2, 2]).max() > 1e-9 or np.abs(G_ego[2, :2]).max() > 1e-9:
        raise ValueError(f"G_ego={G_ego.tolist()} tilts the ground: occupancy moves about the vertical only")
    cells, (levels, spare_levels) = _plane_cells(occupancy.grid, G_ego), _levels(occupancy.grid, G_ego)
    moved = OccupancyGrid(
        semantics=np.empty_like(occupancy.semantics, order="C"),
        camera_mask=np.empty_like(occupancy.camera_mask, order="C"),
        lidar_mask=np.empty_like(occupancy.lidar_mask, order="C"),
        grid=occupancy.grid,
    )
    before, after = (
        (item.semantics, item.camera_mask.view(np.uint8), item.lidar_mask.view(np.uint8)) for item in (occupancy, moved)
    )
    _move(*before, cells, levels, spare_levels, OCCUPANCY_FREE, OCCUPANCY_IGNORE, *after)
    return moved


def _plane_cells(grid: VoxelGrid, G_ego: np.ndarray) -> np.ndarray:
    """(2, 3): continuous (x, y) indices after the map -> before it; voxel centres are at k + 0.5."""
    G_inverse, low = inverse(G_ego), np.array(grid.low_m)
    offset = (G_inverse[:2, :2] @ low[:2] + G_inverse[:2, 3] - low[:2]) / grid.voxel_m
    return np.column_stack((G_inverse[:2, :2], offset))


def _levels(grid: VoxelGrid, G_ego: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each level after the map the level where its centre comes from, and the other one whose centre lies in it.

    -1 where there is none.
    """
    num_levels, low, scale = grid.shape_xyz[2], grid.z_range_m[0], G_ego[2, 2]
    centers_m = low + (np.arange(num_levels) + 0.5) * grid.voxel_m
    levels = np.floor(((centers_m - G_ego[2, 3]) / scale - low) / grid.voxel_m).astype(np.int64)
    landing = np.floor((centers_m * scale + G_ego[2, 3] - low) / grid.voxel_m).astype(np.int64)
    spare = np.full(num_levels, -1)
    for level, target in enumerate(landing):
        if 0 <= target < num_levels and levels[target] != level:
            spare[target] = level
    return np.where((levels >= 0) & (levels < num_levels), levels, -1), spare


@numba.njit(nogil=True, cache=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _move(
    semantics, camera, lidar, cells, levels, spare_levels, free, ignore, semantics_moved, camera_moved, lidar_moved
):
    size_x, size_y, size_z = semantics.shape
    for i in range(size_x):
        for j in range(size_y):
            x = int(np.floor(cells[0, 0] * (i + 0.5) + cells[0, 1] * (j + 0.5) + cells[0, 2]))
            y = int(np.floor(cells[1, 0] * (i + 0.5) + cells[1, 1] * (j + 0.5) + cells[1, 2]))
            inside = 0 <= x < size_x and 0 <= y < size_y
            for k in range(size_z):
                z = levels[k]
                if not inside or z < 0:
                    semantics_moved[i, j, k] = ignore
                    camera_moved[i, j, k] = 0
                    lidar_moved[i, j, k] = 0
                    continue
                spare = spare_levels[k]
                if spare >= 0 and semantics[x, y, z] == free and semantics[x, y, spare] != free:
                    z = spare
                semantics_moved[i, j, k] = semantics[x, y, z]
                camera_moved[i, j, k] = camera[x, y, z]
                lidar_moved[i, j, k] = lidar[x, y, z]
