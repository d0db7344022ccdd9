"""Occupancy of single objects: cut out of one frame's labels, put into another's."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from bevstack.data.class_names import DETECTION_CLASSES, OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.data.object_database import DatabaseObject
from bevstack.data.scene_cloud import FLAT_CLASSES
from bevstack.geometry.boxes import box_pose, points_in_boxes
from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.types.bev import VoxelGrid
from bevstack.types.boxes import BoxIndex
from bevstack.types.frame import OccupancyGrid


def voxels_of_object(
    occupancy: OccupancyGrid, box: Float32[np.ndarray, "9"], class_index: int
) -> Float32[np.ndarray, "V 3"]:
    """Centres, in the frame of the box, of the voxels of its class that the box touches."""
    grid = occupancy.grid
    window, centers = _around(grid, box)
    of_class = occupancy.semantics[window] == _occupancy_class(class_index)
    inside = points_in_boxes(centers.reshape(-1, 3), box[None], margin_m=0.5 * grid.voxel_m)[0].reshape(of_class.shape)
    chosen = centers[of_class & inside]
    return transform_points(rigid_inverse(box_pose(box)), chosen.astype(np.float64)).astype(np.float32)


def paste_voxels(occupancy: OccupancyGrid, pasted: Sequence[DatabaseObject]) -> OccupancyGrid:
    """The labels with some objects put in, each at its own place.

    What was in their boxes goes, but for the ground that they stand on; their own voxels come in with their class and
    count as observed by both sensors. An object without voxels gets those that its points lie in.
    """
    semantics = occupancy.semantics.copy()
    camera_mask, lidar_mask = occupancy.camera_mask.copy(), occupancy.lidar_mask.copy()
    for item in pasted:
        window, centers = _around(occupancy.grid, item.box)
        part = semantics[window]
        inside = points_in_boxes(centers.reshape(-1, 3), item.box[None])[0].reshape(part.shape)
        bottom = item.box[BoxIndex.Z] - 0.5 * item.box[BoxIndex.HEIGHT]
        is_ground = np.isin(part, FLAT_CLASSES) & (centers[..., 2] < bottom + occupancy.grid.voxel_m)
        part[inside & ~is_ground & (part != OCCUPANCY_IGNORE)] = OCCUPANCY_FREE
        cells = _cells_of(item, occupancy.grid)
        semantics[cells] = _occupancy_class(item.class_index)
        camera_mask[cells] = lidar_mask[cells] = True
    return OccupancyGrid(semantics=semantics, camera_mask=camera_mask, lidar_mask=lidar_mask, grid=occupancy.grid)


def _occupancy_class(class_index: int) -> int:
    return OCCUPANCY_CLASSES.index(DETECTION_CLASSES[class_index])


def _around(grid: VoxelGrid, box: np.ndarray) -> tuple[tuple[slice, slice, slice], Float32[np.ndarray, "a b c 3"]]:
    """The part of the grid around a box, and the centres of its voxels in `ego`."""
    low, shape = np.array(grid.low_m), np.array(grid.shape_xyz)
    flat = 0.5 * float(np.hypot(box[BoxIndex.LENGTH], box[BoxIndex.WIDTH]))
    reach = np.array((flat, flat, 0.5 * box[BoxIndex.HEIGHT])) + grid.voxel_m
    first = np.clip(np.floor((box[:3] - reach - low) / grid.voxel_m), 0, shape).astype(int)
    last = np.clip(np.ceil((box[:3] + reach - low) / grid.voxel_m), first, shape).astype(int)
    axes = [low[k] + (np.arange(first[k], last[k]) + 0.5) * grid.voxel_m for k in range(3)]
    centers = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)
    return (slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])), centers


def _cells_of(item: DatabaseObject, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the voxels that an object fills; those outside of the grid are left out."""
    local = item.voxels_box.astype(np.float64)
    if len(local):
        # A voxel larger than those of the grid fills all of them that lie in it.
        count = max(1, int(np.ceil(item.voxel_m / grid.voxel_m - 1e-6)))
        steps = ((np.arange(count) + 0.5) / count - 0.5) * item.voxel_m
        offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 3)
        local = (local[:, None] + offsets).reshape(-1, 3)
    else:
        local = item.points_box[:, :3].astype(np.float64)
    places = (transform_points(box_pose(item.box), local) - grid.low_m) / grid.voxel_m
    cells = np.floor(places).astype(int)
    inside = ((cells >= 0) & (cells < grid.shape_xyz)).all(axis=1)
    x, y, z = cells[inside].T
    return x, y, z
