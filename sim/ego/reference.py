"""A plan set down in the world, to be asked where the vehicle should be at any time."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevstack.sim.ego.motion import VehicleState
from bevstack.types.trajectory import Trajectory

_LEAST_WAY_M = 0.05
"""A shorter piece of a plan says nothing of its curvature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where to be, and how fast, at times after the plan was made; the world's frame."""

    times_s: Float[np.ndarray, " T"]
    """From 0 on."""
    poses: Float[np.ndarray, "T 3"]
    """x, y and yaw, unwrapped."""
    speeds_mps: Float[np.ndarray, " T"]

    @classmethod
    def of(cls, trajectory: Trajectory, state: VehicleState) -> "Reference":
        """A plan that was made when the vehicle was in a state; that state is its first row.

        Raises:
            ValueError: the plan is empty or not finite.
        """
        rows, speeds = trajectory.poses_ego, trajectory.speeds_mps
        if len(rows) == 0 or not (np.isfinite(rows).all() and np.isfinite(speeds).all()):
            raise ValueError("a plan needs at least one step, and finite poses and speeds, to be followed")
        c, s = math.cos(state.yaw_rad), math.sin(state.yaw_rad)
        poses = np.zeros((len(rows) + 1, 3))
        poses[1:, 0], poses[1:, 1] = c * rows[:, 0] - s * rows[:, 1], s * rows[:, 0] + c * rows[:, 1]
        poses[1:, 2] = rows[:, 2]
        poses[:, 2] = np.unwrap(poses[:, 2])
        poses += np.array(state.pose)
        return cls(
            times_s=trajectory.dt_s * np.arange(len(poses)),
            poses=poses,
            speeds_mps=np.concatenate(((state.speed_mps,), np.maximum(speeds, 0.0))),
        )

    def poses_at(self, times_s: Float[np.ndarray, " S"]) -> Float[np.ndarray, "S 3"]:
        """x, y and yaw, linear between the rows; the last row after the end."""
        return np.stack([np.interp(times_s, self.times_s, self.poses[:, axis]) for axis in range(3)], axis=1)

    def speed_at(self, time_s: float) -> float:
        """Metres per second, linear between the rows; the last one after the end."""
        return float(np.interp(time_s, self.times_s, self.speeds_mps))

    def curvatures_at(self, times_s: Float[np.ndarray, " S"], step_s: float) -> Float[np.ndarray, " S"]:
        """Mean curvature of the `step_s` from each time on; where the plan hardly moves, that of the time before."""
        before, after = self.poses_at(times_s), self.poses_at(times_s + step_s)
        turns = after[:, 2] - before[:, 2]
        ways = np.hypot(*(after[:, :2] - before[:, :2]).T) / np.maximum(np.sinc(turns / (2 * np.pi)), 0.1)
        known = ways >= _LEAST_WAY_M
        last = np.maximum.accumulate(np.where(known, np.arange(len(ways)), -1))
        curvatures = turns / np.maximum(ways, _LEAST_WAY_M)
        return np.where(last >= 0, curvatures[np.maximum(last, 0)], 0.0)
