"""Occupancy labels of key frames from the LiDAR points of their whole scene, in the Occ3D-nuScenes format.

For data that has no such labels. A voxel takes the class that most points in it have; points without a label take that
of the nearest labelled voxel. The masks come from rays (Tian et al., Occ3D, NeurIPS 2023, section 3): the LiDAR mask
has the voxels that a beam of the key sweep passes or ends in; the camera mask those that the ray of a pixel reaches
before or at the first occupied voxel *and* that a beam of any key sweep of the scene has touched, since space that no
beam ever went through is not known to be free.
"""

from collections.abc import Iterable
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial import cKDTree

from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE
from bevstack.data.scene_cloud import FLAT_CLASSES, UNLABELLED, SceneCloud, SceneObjects
from bevstack.geometry.boxes import box_pose
from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.geometry.voxel_rays import mark_beams, mark_pixels
from bevstack.types.bev import OCC3D_GRID, VoxelGrid
from bevstack.types.frame import OccupancyGrid

CameraView = tuple[np.ndarray, np.ndarray, int, int]
"""K_cam, T_ego_cam, height and width in pixels."""

_NUM_CLASSES = OCCUPANCY_FREE
_OTHERS = OCCUPANCY_CLASSES.index("others")
_LABEL_REACH_M = 1.2
"""Points without a label take one from labelled voxels up to this far away."""
_STANDING_SHARE = 0.1
"""Points of standing things needed, as a share of those of the ground, for a voxel to count as standing: the foot of a
wall collects far fewer points than the road that touches it."""
_GROUND_PASSES = 2
"""How often holes in the ground are closed: between two rings of the LiDAR there are no points, but there is road."""
_IS_FLAT = np.isin(np.arange(256), FLAT_CLASSES)
_KNOWN_STRIDE = 2
"""Every how many-th beam of the other key sweeps is followed: neighbours go through the same voxels."""
_BEAM_RANGE_M = 120.0


def frame_occupancy(
    cloud: SceneCloud,
    objects: SceneObjects,
    *,
    key_frame: int,
    T_global_ego: Float[np.ndarray, "4 4"],
    cameras: Iterable[CameraView],
    grid: VoxelGrid = OCC3D_GRID,
) -> OccupancyGrid:
    """The labels of one key frame.

    Args:
        cloud: the points of its scene.
        objects: what is annotated in this key frame; objects of the scene that are not here have no place.
        key_frame: its position in the scene.
        T_global_ego: the vehicle at reference time.
        cameras: the views that make the camera mask.
        grid: voxels in `ego`.
    """
    T_ego_scene = rigid_inverse(T_global_ego) @ rigid_inverse(cloud.T_scene_global)
    low_m = np.array(grid.low_m, np.float64)
    votes = np.zeros((*grid.shape_xyz, _NUM_CLASSES + 1), np.uint16)  # the last is for points without a label
    labels = np.where(cloud.static_labels == UNLABELLED, np.uint8(_NUM_CLASSES), cloud.static_labels)
    _vote(cloud.static_points, labels, T_ego_scene, low_m, grid.voxel_m, votes)
    for instance, box in zip(objects.instance.tolist(), objects.boxes_scene, strict=True):
        points = cloud.object_points.get(instance)
        if points is not None:
            own = np.full(len(points), cloud.object_class[instance], np.uint8)
            _vote(points, own, T_ego_scene @ box_pose(box), low_m, grid.voxel_m, votes)
    semantics = _winners(votes, grid)
    for _ in range(_GROUND_PASSES):
        semantics = _ground_closed(semantics, _IS_FLAT, OCCUPANCY_FREE)
    lidar_mask, known = _beam_masks(cloud, key_frame, T_ego_scene, grid)
    known |= semantics != OCCUPANCY_FREE
    camera_mask = np.zeros(grid.shape_xyz, np.uint8)
    for K_cam, T_ego_cam, height_px, width_px in cameras:
        mark_pixels(
            np.ascontiguousarray(T_ego_cam[:3, 3], np.float64),
            np.ascontiguousarray(T_ego_cam[:3, :3] @ np.linalg.inv(K_cam)),
            height_px,
            width_px,
            _pixel_stride(K_cam, grid),
            low_m,
            grid.voxel_m,
            semantics,
            OCCUPANCY_FREE,
            camera_mask,
        )
    return OccupancyGrid(
        semantics=semantics, camera_mask=camera_mask.astype(bool) & known, lidar_mask=lidar_mask, grid=grid
    )


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _vote(
    points: np.ndarray,
    labels: np.ndarray,
    T_ego_points: np.ndarray,
    low_m: np.ndarray,
    voxel_m: float,
    votes: np.ndarray,
) -> None:
    """Count each point in its voxel's column of its label."""
    for i in range(len(points)):
        inside = True
        cell = np.zeros(3, np.int64)
        for axis in range(3):
            place = T_ego_points[axis, 3] - low_m[axis]
            for k in range(3):
                place += T_ego_points[axis, k] * points[i, k]
            cell[axis] = int(np.floor(place / voxel_m))
            inside = inside and 0 <= cell[axis] < votes.shape[axis]
        if inside and votes[cell[0], cell[1], cell[2], labels[i]] < 65535:
            votes[cell[0], cell[1], cell[2], labels[i]] += 1


def _winners(votes: np.ndarray, grid: VoxelGrid) -> UInt8[np.ndarray, "X Y Z"]:
    semantics = np.full(grid.shape_xyz, OCCUPANCY_FREE, np.uint8)
    occupied = np.argwhere(votes.any(axis=-1))
    counts = votes[tuple(occupied.T)].astype(np.int64)
    has_label = counts[:, :_NUM_CLASSES].any(axis=1)
    classes = np.full(len(occupied), _OTHERS, np.uint8)
    classes[has_label] = _majority(counts[has_label, :_NUM_CLASSES])
    if has_label.any() and not has_label.all():
        distance, nearest = cKDTree(occupied[has_label]).query(
            occupied[~has_label], distance_upper_bound=_LABEL_REACH_M / grid.voxel_m
        )
        found = np.append(classes[has_label], np.uint8(_OTHERS))
        classes[~has_label] = found[np.where(np.isfinite(distance), nearest, len(found) - 1)]
    semantics[tuple(occupied.T)] = classes
    return semantics


def _majority(counts: np.ndarray) -> np.ndarray:
    """Class of most points (N,), where the ground does not outvote what stands on it too easily."""
    is_flat = np.isin(np.arange(counts.shape[1]), FLAT_CLASSES)
    standing = np.where(is_flat, 0, counts)
    stands = standing.sum(axis=1) > _STANDING_SHARE * np.where(is_flat, counts, 0).sum(axis=1)
    return np.where(stands, standing.argmax(axis=1), counts.argmax(axis=1)).astype(np.uint8)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _ground_closed(semantics: np.ndarray, is_flat: np.ndarray, free: int) -> np.ndarray:
    """Free voxels that have ground on opposite sides, two voxels away at most and at their own level, become ground.

    Columns that have ground somewhere are left alone.
    """
    out = semantics.copy()
    size_x, size_y, size_z = semantics.shape
    for x in range(2, size_x - 2):
        for y in range(2, size_y - 2):
            has_ground = False
            for z in range(size_z):
                has_ground = has_ground or is_flat[semantics[x, y, z]]
            if has_ground:
                continue
            for z in range(size_z):
                if semantics[x, y, z] != free:
                    continue
                found = free
                for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
                    near, far = free, free
                    for reach in (2, 1):
                        one = semantics[x - reach * dx, y - reach * dy, z]
                        other = semantics[x + reach * dx, y + reach * dy, z]
                        near = one if is_flat[one] else near
                        far = other if is_flat[other] else far
                    if near != free and far != free:
                        found = near
                        break
                if found != free:
                    out[x, y, z] = found
                    break
    return out


def _beam_masks(
    cloud: SceneCloud, key_frame: int, T_ego_scene: np.ndarray, grid: VoxelGrid
) -> tuple[np.ndarray, np.ndarray]:
    """Voxels touched by the beams of the key sweep, and by those of all key sweeps of the scene, both bool."""
    low_m = np.array(grid.low_m, np.float64)
    lidar_mask, known = np.zeros(grid.shape_xyz, np.uint8), np.zeros(grid.shape_xyz, np.uint8)
    for number, (origin_scene, ends_scene) in enumerate(cloud.beams):
        origin = transform_points(T_ego_scene, origin_scene[None])[0]
        if np.hypot(origin[0], origin[1]) > _BEAM_RANGE_M:
            continue
        is_own = number == key_frame
        ends = transform_points(T_ego_scene, ends_scene[:: 1 if is_own else _KNOWN_STRIDE].astype(np.float64))
        mark_beams(origin, ends, low_m, grid.voxel_m, lidar_mask if is_own else known)
    return lidar_mask.astype(bool), (lidar_mask | known).astype(bool)


def _pixel_stride(K_cam: np.ndarray, grid: VoxelGrid) -> int:
    """Pixels between rays, so that two rays are no more than a voxel apart where the raster ends."""
    reach_m = float(np.hypot(np.abs(grid.x_range_m).max(), np.abs(grid.y_range_m).max()))
    focal_px = float(np.sqrt(abs(np.linalg.det(K_cam[:2, :2]))))
    return max(1, int(grid.voxel_m / reach_m * focal_px))
