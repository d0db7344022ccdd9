"""A frame whose world has been turned, scaled, mirrored or moved: everything in `ego` goes along."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float64

from bevstack.data.augment_occupancy import move_occupancy
from bevstack.geometry.transforms import inverse, wrap_angle
from bevstack.types.boxes import BoxIndex
from bevstack.types.cue import Cue
from bevstack.types.frame import Annotations, EgoState, Frame, PointIndex
from bevstack.types.trajectory import Route, RouteCommand

_MIRRORED = {
    RouteCommand.LEFT: RouteCommand.RIGHT,
    RouteCommand.STRAIGHT: RouteCommand.STRAIGHT,
    RouteCommand.RIGHT: RouteCommand.LEFT,
}


def world_map(
    *,
    rotation_rad: float = 0.0,
    scale: float = 1.0,
    translation_m: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
    flip_x: bool = False,
    flip_y: bool = False,
) -> Float64[np.ndarray, "4 4"]:
    """G_ego: first the mirrors (x := -x, y := -y), then rotation about z, then scale, then translation in metres."""
    c, s = np.cos(rotation_rad), np.sin(rotation_rad)
    G_ego = np.eye(4)
    G_ego[:2, :2] = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0])
    G_ego[:3, :3] *= scale
    G_ego[:3, 3] = translation_m
    return G_ego


def move_world(frame: Frame, G_ego: Float[np.ndarray, "4 4"]) -> Frame:
    """The frame with everything that is in `ego` moved by a map from `world_map`.

    Sizes and speeds scale with G_ego. A heading turns as a direction does, so a mirror reverses its sense; a reflected
    yaw rate changes sign. Unknown (NaN) velocities and futures stay unknown. Map masks are dropped: they are to be
    drawn anew, sharply, at the moved pose. A mirror takes the cue's mirrored embedding; a cue without one is dropped.
    """
    cameras = tuple(replace(camera, T_ego_cam=G_ego @ camera.T_ego_cam) for camera in frame.cameras)
    lidar = frame.lidar
    if lidar is not None:
        points = lidar.points_ego.copy()
        xyz = slice(PointIndex.X, PointIndex.Z + 1)
        points[:, xyz] = points[:, xyz] @ G_ego[:3, :3].T.astype(np.float32) + G_ego[:3, 3].astype(np.float32)
        lidar = replace(lidar, points_ego=points)
    return replace(
        frame,
        cameras=cameras,
        lidar=lidar,
        ego=_moved_ego(frame.ego, G_ego),
        route=None if frame.route is None else _moved_route(frame.route, G_ego),
        cue=_mirrored_cue(frame.cue) if frame.cue is not None and _is_mirror(G_ego) else frame.cue,
        annotations=None if frame.annotations is None else _moved_annotations(frame.annotations, G_ego),
    )


def _moved_annotations(annotations: Annotations, G_ego: np.ndarray) -> Annotations:
    occupancy, agents, vehicle = annotations.occupancy, annotations.agent_futures_ego, annotations.ego_future
    return replace(
        annotations,
        boxes=replace(annotations.boxes, rows=move_boxes(annotations.boxes.rows, G_ego)),
        occupancy=None if occupancy is None else move_occupancy(occupancy, G_ego),
        map_masks=None,
        agent_futures_ego=None if agents is None else move_in_plane(agents, G_ego),
        ego_future=None if vehicle is None else move_poses(vehicle, G_ego),
    )


def move_in_plane(xy: Float[np.ndarray, "*n 2"], G_ego: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "*n 2"]:
    """Points on the ground under a similarity of the ground plane."""
    return xy @ G_ego[:2, :2].T + G_ego[:2, 3]


def move_poses(poses: Float[np.ndarray, "*n 3"], G_ego: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "*n 3"]:
    """Rows (x, y, yaw) under a similarity of the ground plane; a heading turns as a direction does."""
    return np.concatenate((move_in_plane(poses[..., :2], G_ego), _moved_yaw(poses[..., 2], G_ego)[..., None]), axis=-1)


def _moved_yaw(yaw: np.ndarray, G_ego: np.ndarray) -> np.ndarray:
    forward = np.stack((np.cos(yaw), np.sin(yaw)), axis=-1) @ G_ego[:2, :2].T
    return wrap_angle(np.arctan2(forward[..., 1], forward[..., 0]))


def _moved_route(route: Route, G_ego: np.ndarray) -> Route:
    return Route(
        command=_MIRRORED[route.command] if _is_mirror(G_ego) else route.command,
        waypoints_ego=move_in_plane(route.waypoints_ego, G_ego),
        speed_limit_mps=route.speed_limit_mps * _scale_of(G_ego),
    )


def _mirrored_cue(cue: Cue) -> Cue | None:
    """The cue with the embedding of left and right exchanged; its text stays what was said of the pictures."""
    if cue.mirrored_embedding is None:
        return None
    return replace(cue, embedding=cue.mirrored_embedding, mirrored_embedding=cue.embedding)


def move_boxes(rows: Float[np.ndarray, "N 9"], G_ego: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "N 9"]:
    """Box rows under a similarity of the ground plane: centre, size, heading and velocity."""
    plane = G_ego[:2, :2]
    out = rows.copy()
    out[:, : BoxIndex.Z + 1] = rows[:, : BoxIndex.Z + 1] @ G_ego[:3, :3].T + G_ego[:3, 3]
    out[:, BoxIndex.LENGTH : BoxIndex.HEIGHT + 1] *= _scale_of(G_ego)
    out[:, BoxIndex.YAW] = wrap_angle(_moved_yaw(rows[:, BoxIndex.YAW].astype(np.float64), G_ego).astype(rows.dtype))
    out[:, BoxIndex.VX : BoxIndex.VY + 1] = rows[:, BoxIndex.VX : BoxIndex.VY + 1] @ plane.T
    return out


def _moved_ego(ego: EgoState, G_ego: np.ndarray) -> EgoState:
    scale = _scale_of(G_ego)
    return EgoState(
        T_global_ego=ego.T_global_ego @ inverse(G_ego),
        speed_mps=ego.speed_mps * scale,
        acceleration_mps2=ego.acceleration_mps2 * scale,
        yaw_rate_radps=ego.yaw_rate_radps * float(np.sign(np.linalg.det(G_ego[:2, :2]))),
    )


def _is_mirror(G_ego: np.ndarray) -> bool:
    return float(np.linalg.det(G_ego[:2, :2])) < 0


def _scale_of(G_ego: np.ndarray) -> float:
    return float(np.sqrt(abs(np.linalg.det(G_ego[:2, :2]))))
