"""Occupancy labels in the Occ3D-nuScenes format (Tian et al., NeurIPS 2023), exact instead of accumulated from scans.

A grid of 200 x 200 x 16 voxels of 0.4 m around the ego vehicle, indexed [x, y, z], x from -40 m (behind) to 40 m
(ahead), y from -40 m (right) to 40 m (left), z from -1 m to 5.4 m. Classes 0 to 16 are those of the nuScenes-lidarseg
challenge, 17 is free. Actors are solid; buildings are shells, as scans see them. The masks follow Occ3D's ray casting:
a voxel counts as observed by LiDAR when a beam ends in it or passes through it, by a camera when a pixel's ray reaches
it before or at the first occupied voxel.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float, Float32, UInt8

from bevstack.data.class_names import OCCUPANCY_FREE
from bevstack.data.lidarseg import CHALLENGE_CLASS
from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.geometry.voxel_rays import mark_beams, mark_pixels
from bevstack.sim.sensors.scene import ActorPose, SensorScene, nearby

GRID_SHAPE = (200, 200, 16)
VOXEL_M = 0.4
GRID_LOW_M = (-40.0, -40.0, -1.0)
FREE = OCCUPANCY_FREE

_FLAT_FROM, _FLAT_TO = 11, 14
_SAMPLE_M = 0.19
"""Spacing of samples on surfaces: no voxel that a face crosses broadly is missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupancyLabels:
    """The three arrays of an Occ3D `labels.npz`."""

    semantics: UInt8[np.ndarray, "200 200 16"]
    mask_lidar: UInt8[np.ndarray, "200 200 16"]
    """1 where the LiDAR observed the voxel."""
    mask_camera: UInt8[np.ndarray, "200 200 16"]
    """1 where any camera observed the voxel."""


def occupancy_grid(
    scene: SensorScene, *, T_global_ego: Float[np.ndarray, "4 4"], actors: Sequence[ActorPose]
) -> UInt8[np.ndarray, "200 200 16"]:
    """What fills each voxel around the ego vehicle at one instant: challenge class 0 to 16, or 17 for nothing."""
    T_ego_global = rigid_inverse(np.asarray(T_global_ego, np.float64))
    grid = np.full(GRID_SHAPE, FREE, np.uint8)
    reach = 60.0
    static = scene.static
    centers = transform_points(T_ego_global, static.spheres[:, :3]) if len(static.spheres) else np.zeros((0, 3))
    for chunk in np.flatnonzero(np.hypot(centers[:, 0], centers[:, 1]) - static.spheres[:, 3] < reach):
        part = slice(static.face_start[chunk], static.face_start[chunk + 1])
        _fill_surface(
            static.vertices, static.faces[part], T_ego_global, CHALLENGE_CLASS[static.semantic[part]], False, grid
        )
    for actor in nearby(actors, T_global_ego[:3, 3], reach):
        model = scene.model_of(actor.mesh)
        own = np.full(GRID_SHAPE, FREE, np.uint8)
        T_ego_actor = T_ego_global @ actor.T_global_actor
        _fill_surface(model.vertices, model.faces, T_ego_actor, CHALLENGE_CLASS[model.semantic], True, own)
        _add_solid(own, grid)
    return grid


def occupancy_labels(
    scene: SensorScene,
    *,
    T_global_ego: Float[np.ndarray, "4 4"],
    actors: Sequence[ActorPose],
    lidar_origin_ego: Float[np.ndarray, "3"],
    lidar_points_ego: Float[np.ndarray, "M 3"],
    cameras: Iterable[tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"], int, int]],
    camera_stride_px: int = 4,
) -> OccupancyLabels:
    """Grid and both masks of a key frame.

    Args:
        scene: static world.
        T_global_ego: ego vehicle at the key frame.
        actors: everything that moves, at the key frame.
        lidar_origin_ego: sensor position, metres.
        lidar_points_ego: real returns only (`LidarScan.is_return`), metres.
        cameras: K_cam, T_ego_cam, height and width in pixels of each picture.
        camera_stride_px: one ray per so many pixels in both directions.
    """
    semantics = occupancy_grid(scene, T_global_ego=T_global_ego, actors=actors)
    mask_lidar = np.zeros(GRID_SHAPE, np.uint8)
    ends = np.ascontiguousarray(lidar_points_ego, np.float64)
    low_m = np.array(GRID_LOW_M)
    mark_beams(np.asarray(lidar_origin_ego, np.float64), ends, low_m, VOXEL_M, mask_lidar)
    mask_camera = np.zeros(GRID_SHAPE, np.uint8)
    for K_cam, T_ego_cam, height_px, width_px in cameras:
        ray_matrix = np.ascontiguousarray(T_ego_cam[:3, :3] @ np.linalg.inv(K_cam))
        origin = np.ascontiguousarray(T_ego_cam[:3, 3], dtype=np.float64)
        mark_pixels(
            origin, ray_matrix, height_px, width_px, camera_stride_px, low_m, VOXEL_M, semantics, FREE, mask_camera
        )
    return OccupancyLabels(semantics=semantics, mask_lidar=mask_lidar, mask_camera=mask_camera)


@numba.njit(cache=True, nogil=True)
def _fill_surface(
    vertices: Float32[np.ndarray, "V 3"],
    faces: np.ndarray,
    T_ego_mesh: Float[np.ndarray, "4 4"],
    face_class: np.ndarray,
    overwrite: bool,
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
                    T_ego_mesh[axis, 0] * vertices[v, 0]
                    + T_ego_mesh[axis, 1] * vertices[v, 1]
                    + T_ego_mesh[axis, 2] * vertices[v, 2]
                    + T_ego_mesh[axis, 3]
                    - GRID_LOW_M[axis]
                ) / VOXEL_M
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
        steps = int(np.ceil(np.sqrt(longest) * VOXEL_M / _SAMPLE_M)) + 1
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
def _add_solid(own: UInt8[np.ndarray, "X Y Z"], grid: UInt8[np.ndarray, "X Y Z"]) -> None:
    """Copy an actor's shell into the grid with everything between its lowest and highest voxel per column."""
    size_x, size_y, size_z = grid.shape
    for x in range(size_x):
        for y in range(size_y):
            low, high = size_z, -1
            for z in range(size_z):
                if own[x, y, z] != FREE:
                    low, high = min(low, z), z
            label = own[x, y, high] if high >= 0 else FREE
            for z in range(low, high + 1):
                grid[x, y, z] = own[x, y, z] if own[x, y, z] != FREE else label
