"""Occupancy labels of a keyframe in the layout of Occ3D-nuScenes: gts/SCENE/SAMPLE/labels.npz.

Layout: Tian et al., Occ3D (NeurIPS 2023): `semantics`, `mask_lidar` and `mask_camera`, each uint8 (200, 200, 16) over
[-40, 40] x [-40, 40] x [-1, 5.4] m of the ego frame at 0.4 m.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevstack.geometry.transforms import transform_points
from bevstack.sim.sensors.lidar import LidarScan
from bevstack.sim.sensors.occupancy import occupancy_labels
from bevstack.sim.sensors.rig import T_EGO_LIDAR
from bevstack.sim.sensors.scene import ActorPose, SensorScene

CameraView = tuple[np.ndarray, np.ndarray, int, int]
"""K_cam, T_ego_cam, height and width in pixels."""


def write_occupancy_labels(
    path: Path,
    scene: SensorScene,
    *,
    T_global_ego: Float[np.ndarray, "4 4"],
    actors: Sequence[ActorPose],
    sweep: LidarScan,
    cameras: Iterable[CameraView],
) -> None:
    """Write the labels of one keyframe; folders are made.

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
            file, semantics=labels.semantics, mask_lidar=labels.mask_lidar, mask_camera=labels.mask_camera
        )
