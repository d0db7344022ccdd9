"""A run as plain arrays, made once for all metrics: the part of it that is finite, everybody as a rectangle.

Letters: T steps, A actors. A rectangle is centre x, y, length, width, heading, as in `bevstack.geometry.rectangles`.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from bevstack.sim.drive_log import DRIVE_STEP_S, DriveLog

STANDING_MPS = 0.05
"""Slower than this is standing, as in the nuPlan devkit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracks:
    """Everybody's way through one run."""

    log: DriveLog
    """Cut before the first step whose ego state is not finite."""
    ego: Float[np.ndarray, "T 5"]
    ego_velocities: Float[np.ndarray, "T 2"]
    """Of the rear axle, town frame."""
    actors: Float[np.ndarray, "A T 5"]
    """NaN while the actor is not in the world."""
    velocities: Float[np.ndarray, "A T 2"]

    @classmethod
    def of(cls, log: DriveLog) -> "Tracks":
        """The arrays of a run."""
        log = _finite_part(log)
        yaw, steps = log.ego_poses[:, 2], len(log.ego_poses)
        actors, velocities = np.empty((len(log.actors), steps, 5)), np.empty((len(log.actors), steps, 2))
        for row, actor in enumerate(log.actors):
            actors[row, :, :2], actors[row, :, 4] = actor.poses[:, :2], actor.poses[:, 2]
            actors[row, :, 2:4] = actor.size_lwh[:2]
            velocities[row] = actor.velocities
        is_known = np.isfinite(actors).all(axis=-1) & np.isfinite(velocities).all(axis=-1)
        actors[~is_known], velocities[~is_known] = np.nan, np.nan
        return cls(
            log=log,
            ego=log.ego_rectangles,
            ego_velocities=log.ego_speeds_mps[:, None] * np.stack((np.cos(yaw), np.sin(yaw)), axis=1),
            actors=actors,
            velocities=velocities,
        )

    @property
    def speeds_mps(self) -> Float[np.ndarray, " T"]:
        """Of the ego vehicle."""
        return self.log.ego_speeds_mps

    @property
    def duration_s(self) -> float:
        """From the first step to the last."""
        return max(len(self.ego) - 1, 0) * DRIVE_STEP_S

    @property
    def is_object(self) -> Bool[np.ndarray, " A"]:
        """Which actors are things rather than road users."""
        return np.array([actor.is_object for actor in self.log.actors], dtype=bool)

    def bearings_rad(self) -> Float[np.ndarray, "A T"]:
        """Angle between the ego vehicle's heading and the way from its rear axle to the centre of each actor, 0 ahead
        and pi behind: what the nuPlan devkit calls ahead (below 30 degrees) and behind (above 150).
        """
        offset = self.actors[..., :2] - self.log.ego_poses[:, :2]
        yaw = self.log.ego_poses[:, 2]
        ahead = offset[..., 0] * np.cos(yaw) + offset[..., 1] * np.sin(yaw)
        left = offset[..., 1] * np.cos(yaw) - offset[..., 0] * np.sin(yaw)
        return np.abs(np.arctan2(left, ahead))


def corners_of(rectangles: Float[np.ndarray, "*N 5"]) -> Float[np.ndarray, "*N 4 2"]:
    """Corners of rectangles, counter-clockwise: front-left, back-left, back-right, front-right."""
    c, s = np.cos(rectangles[..., 4:]), np.sin(rectangles[..., 4:])
    along = rectangles[..., 2:3] / 2 * np.array((1, -1, -1, 1))
    across = rectangles[..., 3:4] / 2 * np.array((1, 1, -1, -1))
    x = rectangles[..., 0:1] + c * along - s * across
    y = rectangles[..., 1:2] + s * along + c * across
    return np.stack((x, y), axis=-1)


def in_frame_of(rectangle: Float[np.ndarray, "5"], points: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N 2"]:
    """Points of the town as ahead and left of the centre of a rectangle."""
    offset, c, s = points - rectangle[:2], np.cos(rectangle[4]), np.sin(rectangle[4])
    return np.stack((c * offset[..., 0] + s * offset[..., 1], c * offset[..., 1] - s * offset[..., 0]), axis=-1)


def _finite_part(log: DriveLog) -> DriveLog:
    is_finite = np.isfinite(log.ego_poses).all(axis=1) & np.isfinite(log.ego_speeds_mps)
    if is_finite.all():
        return log
    end = int(np.argmin(is_finite))
    return replace(
        log,
        ego_poses=log.ego_poses[:end],
        ego_speeds_mps=log.ego_speeds_mps[:end],
        ego_accelerations_mps2=log.ego_accelerations_mps2[:end],
        ego_steering_rad=log.ego_steering_rad[:end],
        actors=tuple(
            replace(actor, poses=actor.poses[:end], velocities=actor.velocities[:end]) for actor in log.actors
        ),
        plans=log.plans[:end],
        step_seconds=log.step_seconds[:end],
    )
