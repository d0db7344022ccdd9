"""Occupancy of a world: what really fills each voxel, exact instead of accumulated from scans.

Classes 0 to 16 are those of the nuScenes-lidarseg challenge, 17 is free (`OCCUPANCY_CLASSES`). Actors are solid;
buildings are shells, as scans see them. The masks follow the ray casting of Occ3D (Tian et al., NeurIPS 2023): a voxel
counts as observed by LiDAR when a beam ends in it or passes through it, by a camera when a pixel's ray reaches it
before or at the first occupied voxel.
"""

from collections.abc import Iterable, Sequence

import numba
import numpy as np
from jaxtyping import Float, Float32, UInt8

from bevstack.data.class_names import OCCUPANCY_FREE
from bevstack.data.lidarseg import CHALLENGE_CLASS
from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.geometry.voxel_rays import mark_beams, mark_pixels
from bevstack.sim.sensors.scene import ActorPose, SensorScene, nearby
from bevstack.types.bev import OCC3D_GRID, VoxelGrid
from bevstack.types.frame import OccupancyGrid

FREE = OCCUPANCY_FREE
_FLAT_FROM, _FLAT_TO = 11, 14
_SAMPLE_VOXELS = 0.475
"""Spacing of samples on surfaces: no voxel that a face crosses broadly is missed."""
_REACH = 1.5
"""Horizontal distance up to which things are looked at, in half sides of the grid: its corners and a lorry's length."""


def occupancy_grid(
    scene: SensorScene,
    *,
    T_global_grid: Float[np.ndarray, "4 4"],
    actors: Sequence[ActorPose],
    grid: VoxelGrid = OCC3D_GRID,
) -> UInt8[np.ndarray, "X Y Z"]:
    """What fills each voxel at one instant: challenge class 0 to 16, or 17 for nothing.

    Args:
        scene: static world.
        T_global_grid: the frame in which the grid lies: the ego vehicle's, or that of a sensor.
        actors: everything that moves, at that instant.
        grid: the voxels.
    """
    T_grid_global = rigid_inverse(np.asarray(T_global_grid, np.float64))
    filled = np.full(grid.shape_xyz, FREE, np.uint8)
    low_m, voxel_m, sample_m = np.array(grid.low_m), grid.voxel_m, _SAMPLE_VOXELS * grid.voxel_m
    reach = _REACH * max(map(abs, (*grid.x_range_m, *grid.y_range_m)))
    static = scene.static
    centers = transform_points(T_grid_global, static.spheres[:, :3]) if len(static.spheres) else np.zeros((0, 3))
    for chunk in np.flatnonzero(np.hypot(centers[:, 0], centers[:, 1]) - static.spheres[:, 3] < reach):
        part = slice(static.face_start[chunk], static.face_start[chunk + 1])
        classes = CHALLENGE_CLASS[static.semantic[part]]
        _fill_surface(
            static.vertices, static.faces[part], T_grid_global, classes, False, low_m, voxel_m, sample_m, filled
        )
    shell = np.full(grid.shape_xyz, FREE, np.uint8)
    for actor in nearby(actors, T_global_grid[:3, 3], reach):
        model = scene.model_of(actor.mesh)
        T_grid_actor = T_grid_global @ actor.T_global_actor
        window = _columns_of(model.vertices, T_grid_actor, grid)
        classes = CHALLENGE_CLASS[model.semantic]
        _fill_surface(model.vertices, model.faces, T_grid_actor, classes, True, low_m, voxel_m, sample_m, shell)
        _add_solid(shell, *window, filled)
    return filled


def _columns_of(vertices: np.ndarray, T_grid_mesh: np.ndarray, grid: VoxelGrid) -> tuple[int, int, int, int]:
    """Columns that a mesh may touch: from x, to x, from y, to y (exclusive)."""
    places = transform_points(T_grid_mesh, vertices.astype(np.float64))[:, :2]
    cells = (places - grid.low_m[:2]) / grid.voxel_m
    first, last = np.floor(cells.min(axis=0)).astype(int) - 1, np.floor(cells.max(axis=0)).astype(int) + 2
    (x_from, y_from), (x_to, y_to) = (np.clip(value, 0, grid.shape_xyz[:2]).tolist() for value in (first, last))
    return x_from, x_to, y_from, y_to


def occupancy_labels(
    scene: SensorScene,
    *,
    T_global_ego: Float[np.ndarray, "4 4"],
    actors: Sequence[ActorPose],
    lidar_origin_ego: Float[np.ndarray, "3"],
    lidar_points_ego: Float[np.ndarray, "M 3"],
    cameras: Iterable[tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"], int, int]],
    camera_stride_px: int = 4,
    grid: VoxelGrid = OCC3D_GRID,
) -> OccupancyGrid:
    """Classes and both masks of a key frame, in `ego`.

    Args:
        scene: static world.
        T_global_ego: ego vehicle at the key frame.
        actors: everything that moves, at the key frame.
        lidar_origin_ego: sensor position, metres.
        lidar_points_ego: real returns only (`LidarScan.is_return`), metres.
        cameras: K_cam, T_ego_cam, height and width in pixels of each picture.
        camera_stride_px: one ray per so many pixels in both directions.
        grid: the voxels.
    """
    semantics = occupancy_grid(scene, T_global_grid=T_global_ego, actors=actors, grid=grid)
    lidar_mask = np.zeros(grid.shape_xyz, np.uint8)
    ends = np.ascontiguousarray(lidar_points_ego, np.float64)
    low_m, voxel_m = np.array(grid.low_m), grid.voxel_m
    mark_beams(np.asarray(lidar_origin_ego, np.float64), ends, low_m, voxel_m, lidar_mask)
    camera_mask = np.zeros(grid.shape_xyz, np.uint8)
    for K_cam, T_ego_cam, height_px, width_px in cameras:
        ray_matrix = np.ascontiguousarray(T_ego_cam[:3, :3] @ np.linalg.inv(K_cam))
        origin = np.ascontiguousarray(T_ego_cam[:3, 3], dtype=np.float64)
        mark_pixels(
            origin, ray_matrix, height_px, width_px, camera_stride_px, low_m, voxel_m, semantics, FREE, camera_mask
        )
    return OccupancyGrid(
        semantics=semantics, camera_mask=camera_mask.view(bool), lidar_mask=lidar_mask.view(bool), grid=grid
    )


@numba.njit(cache=True, nogil=True)
def _fill_surface(
    vertices: Float32[np.ndarray, "V 3"],
    faces: np.ndarray,
    T_grid_mesh: Float[np.ndarray, "4 4"],
    face_class: np.ndarray,
    overwrite: bool,
    low_m: Float[np.ndarray, "3"],
    voxel_m: float,
    sample_m: float,
    grid: UInt8[np.ndarray, "X Y Z"],
) -> None:
    """Mark the voxels that triangles pass through, by sampling them densely.

    Where several classes meet, things standing on the ground win over the flat ground.
    """
    size_x, size_y, size_z = grid.shape
    corner = np.empty((3, 3))
    for f in range(len(faces)):
        for k in range(3):
            v = faces[f, k]
            for axis in range(3):
                corner[k, axis] = (
                    T_grid_mesh[axis, 0] * vertices[v, 0]
                    + T_grid_mesh[axis, 1] * vertices[v, 1]
                    + T_grid_mesh[axis, 2] * vertices[v, 2]
                    + T_grid_mesh[axis, 3]
                    - low_m[axis]
                ) / voxel_m
        outside = False
        for axis in range(3):
            low = min(corner[0, axis], corner[1, axis], corner[2, axis])
            high = max(corner[0, axis], corner[1, axis], corner[2, axis])
            outside = outside or high < 0.0 or low >= grid.shape[axis]
        if outside:
            continue
        longest = 0.0
        for k in range(3):
            m = (k + 1) % 3
            edge = (
                (corner[k, 0] - corner[m, 0]) ** 2
                + (corner[k, 1] - corner[m, 1]) ** 2
                + (corner[k, 2] - corner[m, 2]) ** 2
            )
            longest = max(longest, edge)
        steps = int(np.ceil(np.sqrt(longest) * voxel_m / sample_m)) + 1
        label = face_class[f]
        is_flat = _FLAT_FROM <= label <= _FLAT_TO
        for i in range(steps + 1):
            a = i / steps
            for j in range(steps + 1 - i):
                b = j / steps
                c = 1.0 - a - b
                # A hair below the surface belongs to the solid, not to the air that touches it.
                x = int(np.floor(a * corner[0, 0] + b * corner[1, 0] + c * corner[2, 0]))
                y = int(np.floor(a * corner[0, 1] + b * corner[1, 1] + c * corner[2, 1]))
                z = int(np.floor(a * corner[0, 2] + b * corner[1, 2] + c * corner[2, 2]))
                if x < 0 or y < 0 or z < 0 or x >= size_x or y >= size_y or z >= size_z:
                    continue
                before = grid[x, y, z]
                if overwrite or before == FREE or not is_flat:
                    grid[x, y, z] = label


@numba.njit(cache=True, nogil=True)
def _add_solid(
    shell: UInt8[np.ndarray, "X Y Z"], x_from: int, x_to: int, y_from: int, y_to: int, grid: UInt8[np.ndarray, "X Y Z"]
) -> None:
    """Move an actor's shell into the grid with everything between its lowest and highest voxel per column.

    Only the given columns are looked at; the shell is all free afterwards.
    """
    size_z = grid.shape[2]
    for x in range(x_from, x_to):
        for y in range(y_from, y_to):
            low, high = size_z, -1
            for z in range(size_z):
                if shell[x, y, z] != FREE:
                    low, high = min(low, z), z
            label = shell[x, y, high] if high >= 0 else FREE
            for z in range(low, high + 1):
                grid[x, y, z] = shell[x, y, z] if shell[x, y, z] != FREE else label
                shell[x, y, z] = FREE
