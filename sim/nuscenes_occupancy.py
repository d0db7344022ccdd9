"""Occupancy labels of a keyframe, written in the layouts of the two nuScenes benchmarks.

Occ3D (Tian et al., NeurIPS 2023): `gts/SCENE/SAMPLE/labels.npz` with `semantics`, `mask_lidar` and `mask_camera`, each
uint8 (200, 200, 16) over [-40, 40] x [-40, 40] x [-1, 5.4] m of the ego frame at 0.4 m.

OpenOccupancy (Wang et al., ICCV 2023): `nuScenes-Occupancy-v0.1/scene_TOKEN/occupancy/LIDAR_TOKEN.npy`, a row of z, y,
x and class for each occupied voxel of 512 x 512 x 40 over [-51.2, 51.2] x [-51.2, 51.2] x [-5, 3] m of the *LiDAR*
frame at 0.2 m; class 0 is noise. `bevstack.data.occupancy` reads both.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevstack.data.class_names import OCCUPANCY_FREE
from bevstack.data.occupancy import OPENOCCUPANCY_LIDAR_GRID
from bevstack.geometry.transforms import transform_points
from bevstack.sim.sensors.lidar import LidarScan
from bevstack.sim.sensors.occupancy import occupancy_grid, occupancy_labels
from bevstack.sim.sensors.rig import T_EGO_LIDAR
from bevstack.sim.sensors.scene import ActorPose, SensorScene

CameraView = tuple[np.ndarray, np.ndarray, int, int]
"""K_cam, T_ego_cam, height and width in pixels."""


def write_occ3d(
    path: Path,
    scene: SensorScene,
    *,
    T_global_ego: Float[np.ndarray, "4 4"],
    actors: Sequence[ActorPose],
    sweep: LidarScan,
    cameras: Iterable[CameraView],
) -> None:
    """Write the Occ3D labels of one keyframe; folders are made.

    Args:
        path: `.../gts/SCENE/SAMPLE_TOKEN/labels.npz`.
        scene: static world.
        T_global_ego: ego vehicle at the keyframe.
        actors: everything that moves, at the keyframe.
        sweep: the keyframe's LiDAR sweep; its real returns make the LiDAR mask.
        cameras: the views that make the camera mask.
    """
    returns = sweep.points[sweep.is_return, :3].astype(np.float64)
    labels = occupancy_labels(
        scene,
        T_global_ego=T_global_ego,
        actors=actors,
        lidar_origin_ego=T_EGO_LIDAR[:3, 3],
        lidar_points_ego=transform_points(T_EGO_LIDAR, returns),
        cameras=cameras,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            semantics=labels.semantics,
            mask_lidar=labels.lidar_mask.astype(np.uint8),
            mask_camera=labels.camera_mask.astype(np.uint8),
        )


def write_openoccupancy(
    path: Path, scene: SensorScene, *, T_global_ego: Float[np.ndarray, "4 4"], actors: Sequence[ActorPose]
) -> None:
    """Write the OpenOccupancy labels of one keyframe; folders are made.

    Args:
        path: `.../nuScenes-Occupancy-v0.1/scene_TOKEN/occupancy/LIDAR_TOKEN.npy`.
        scene: static world.
        T_global_ego: ego vehicle at the keyframe.
        actors: everything that moves, at the keyframe.
    """
    filled = occupancy_grid(
        scene, T_global_grid=T_global_ego @ T_EGO_LIDAR, actors=actors, grid=OPENOCCUPANCY_LIDAR_GRID
    )
    z, y, x = np.nonzero((filled != OCCUPANCY_FREE).transpose(2, 1, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.column_stack((z, y, x, filled[x, y, z])).astype(np.int16))
