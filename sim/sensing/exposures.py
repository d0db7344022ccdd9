"""One exposure of a camera: at an instant, or over the time that the shutter is open."""

import numpy as np
from jaxtyping import Float, UInt8

from bevstack.data.images import ImageSize
from bevstack.sim.sensing.scene_history import SceneHistory
from bevstack.sim.sensors.cameras import render_camera
from bevstack.sim.sensors.scene import SensorScene

_SUB_FRAMES = 3
_GAMMA = 2.2


def exposed(
    scene: SensorScene,
    history: SceneHistory,
    *,
    time_s: float,
    shutter_s: float,
    K_cam: Float[np.ndarray, "3 3"],
    T_ego_cam: Float[np.ndarray, "4 4"],
    size: ImageSize,
    seed: int,
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture, RGB.

    Args:
        scene: What stands still, and the weather.
        history: What moves.
        time_s: Middle of the exposure; what came after the newest state is not known, and stands still.
        shutter_s: How long the shutter is open: what moves meanwhile is smeared, as the mean light of three instants.
        K_cam: Camera coordinates to pixels of the picture.
        T_ego_cam: Mounting.
        size: Of the picture.
        seed: Of noise and rain; all instants of an exposure share it.
    """
    if shutter_s == 0.0:
        return _at(scene, history, time_s, K_cam, T_ego_cam, size, seed)
    light = np.zeros((size.height, size.width, 3))
    for share in np.linspace(-0.5, 0.5, _SUB_FRAMES):
        light += _at(scene, history, time_s + share * shutter_s, K_cam, T_ego_cam, size, seed) ** _GAMMA
    return np.asarray(np.round((light / _SUB_FRAMES) ** (1.0 / _GAMMA)), np.uint8)


def _at(
    scene: SensorScene,
    history: SceneHistory,
    time_s: float,
    K_cam: np.ndarray,
    T_ego_cam: np.ndarray,
    size: ImageSize,
    seed: int,
) -> UInt8[np.ndarray, "H W 3"]:
    T_global_ego = history.ego_pose(time_s)
    return render_camera(
        scene,
        K_cam=K_cam,
        T_global_cam=T_global_ego @ T_ego_cam,
        height_px=size.height,
        width_px=size.width,
        actors=history.actor_poses(time_s),
        seed=seed,
        T_global_ego=T_global_ego,
    ).rgb
