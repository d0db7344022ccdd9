"""A plan as each protocol wants to see it: the compared points, the LiDAR's way, and the vehicle's box on the ground.

Plans come as points of the rear axle in `ego` or as points of the LiDAR in its own axes. L2 compares like with like:
the point that the plan speaks of with the expert's same point. The rasters want the LiDAR's way, the polygons the box:
its centre lies half a metre ahead of the LiDAR, 4.084 m long and 1.85 m wide.

Headings come from motion (Sun et al., SparseDrive, 2024), for plans with and without a yaw of their own and for the
expert, so that all are judged alike: at each step the direction from the point before to the point after.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from bevstack.evaluation.planning.ego_future import EgoFuture
from bevstack.evaluation.planning.file import PlanColumns
from bevstack.geometry.transforms import rigid_inverse, wrap_angle
from bevstack.planning.vehicle import NUSCENES_VEHICLE

EGO_LENGTH_M, EGO_WIDTH_M = NUSCENES_VEHICLE.length_m, NUSCENES_VEHICLE.width_m
EGO_CENTER_AHEAD_OF_LIDAR_M = 0.5
MIN_CHORD_M = 0.5
"""A shorter chord says nothing about the heading: the one before stays, 0 at the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPlan:
    """A plan, or the expert's way, of F frames."""

    points: Float64[np.ndarray, "F 6 2"]
    """What L2 compares."""
    expert_points: Float64[np.ndarray, "F 6 2"]
    """The same point of the expert, in the same axes."""
    path_lidar: Float64[np.ndarray, "F 6 2"]
    """Way of the LiDAR's origin along its axes at reference time (x right, y forward)."""
    boxes_ego: Float64[np.ndarray, "F 7 5"]
    """The vehicle now and at each step: x, y of the centre, length, width, heading, in `ego` at reference time."""


def place_plan(plans: PlanColumns, future: EgoFuture) -> PlacedPlan:
    """Plans that are in the order of the frames.

    Raises:
        ValueError: the samples are not those of the frames, in their order.
    """
    if plans.sample_tokens != future.sample_tokens:
        raise ValueError("the plans are not in the order of the frames: use PlanColumns.in_order_of")
    mounting = future.T_ego_lidar
    points = plans.poses[..., :2]
    if plans.frame == "lidar":
        lidar_ego = _moved(mounting, points, 0.0)
        headings = headings_of(lidar_ego, mounting[:, :2, 3])
        return PlacedPlan(
            points=points,
            expert_points=future.path_lidar,
            path_lidar=points,
            boxes_ego=_boxes(lidar_ego, headings, mounting),
        )
    headings = headings_of(points, np.zeros((len(points), 2)))
    yaw = plans.poses[..., 2] if plans.has_yaw else headings
    lidar_ego = points + _turned(mounting[:, None, :2, 3], yaw)
    return PlacedPlan(
        points=points,
        expert_points=future.poses_ego[..., :2],
        path_lidar=_moved(rigid_inverse(mounting), lidar_ego, mounting[:, None, 2, 3]),
        boxes_ego=_boxes(points + _turned(mounting[:, None, :2, 3], headings), headings, mounting),
    )


def place_expert(future: EgoFuture) -> PlacedPlan:
    """The expert as a plan; steps that do not exist repeat the last one, so that nothing depends on them."""
    num_known = future.valid.sum(axis=1)
    last = np.minimum(np.arange(future.valid.shape[1]), np.maximum(num_known[:, None] - 1, 0))
    points = np.take_along_axis(future.poses_ego, last[..., None], axis=1)[..., :2]
    headings = headings_of(points, np.zeros((len(points), 2)))
    mounting = future.T_ego_lidar
    return PlacedPlan(
        points=future.poses_ego[..., :2],
        expert_points=future.poses_ego[..., :2],
        path_lidar=future.path_lidar,
        boxes_ego=_boxes(points + _turned(mounting[:, None, :2, 3], headings), headings, mounting),
    )


def headings_of(
    points_ego: Float64[np.ndarray, "F T 2"], start_ego: Float64[np.ndarray, "F 2"]
) -> Float64[np.ndarray, "F T"]:
    """Heading at each point of a way that starts at `start_ego` with heading 0, in [-pi, pi).

    The direction from the point before to the point after (at the end: from the point before to the point itself). A
    chord against the heading so far is driven backwards.
    """
    way = np.concatenate((start_ego[:, None], points_ego), axis=1)
    after = np.concatenate((way[:, 2:], way[:, -1:]), axis=1)
    chord = after - way[:, :-1]
    heading = np.zeros(len(way))
    out = np.zeros(points_ego.shape[:2])
    for step in range(points_ego.shape[1]):
        direction = np.arctan2(chord[:, step, 1], chord[:, step, 0])
        is_backwards = np.abs(wrap_angle(direction - heading)) > np.pi / 2
        direction = np.where(is_backwards, direction + np.pi, direction)
        moves = np.linalg.norm(chord[:, step], axis=1) >= MIN_CHORD_M
        heading = wrap_angle(np.where(moves, direction, heading))
        out[:, step] = heading
    return out


def _boxes(lidar_ego: np.ndarray, headings: np.ndarray, mounting: np.ndarray) -> np.ndarray:
    now = np.concatenate((mounting[:, None, :2, 3], lidar_ego), axis=1)
    yaw = np.concatenate((np.zeros((len(headings), 1)), headings), axis=1)
    ahead = EGO_CENTER_AHEAD_OF_LIDAR_M * np.stack((np.cos(yaw), np.sin(yaw)), axis=-1)
    size = np.broadcast_to((EGO_LENGTH_M, EGO_WIDTH_M), now.shape)
    return np.concatenate((now + ahead, size, yaw[..., None]), axis=-1)


def _turned(offset: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Offsets (F, 1, 2) of a body turned by yaw (F, T)."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.stack((c * offset[..., 0] - s * offset[..., 1], s * offset[..., 0] + c * offset[..., 1]), axis=-1)


def _moved(T_target_source: np.ndarray, points: np.ndarray, height_m: np.ndarray | float) -> np.ndarray:
    """Points (F, T, 2) at a height in the source, seen from above in the target."""
    z = np.broadcast_to(height_m, points.shape[:2])[..., None]
    spatial = np.concatenate((points, z), axis=-1)
    moved = spatial @ T_target_source[:, :3, :3].swapaxes(-1, -2) + T_target_source[:, None, :3, 3]
    return moved[..., :2]
