"""Agents that do not look: straight on at the present speed, and along the route at the present speed."""

import numpy as np

from bevstack.planning.bicycle import PLAN_STEP_S
from bevstack.sim.closed_loop.agents.protocol import DriveState
from bevstack.types.frame import Frame
from bevstack.types.trajectory import Plan, Trajectory

_STEPS = round(4.0 / PLAN_STEP_S)


class ConstantVelocityAgent:
    """Keeps speed and heading, as the baseline of that name in open-loop benchmarks. Implements `Agent`."""

    name = "constant-velocity"
    needs_frames = False

    def begin(self, run: str) -> None:
        """It remembers the speed at which a run begins."""
        self._speed_mps: float | None = None

    def act(self, frame: Frame | None, state: DriveState) -> Plan:
        """Straight on."""
        way = self._way(state)
        poses = np.stack((way, np.zeros(_STEPS), np.zeros(_STEPS)), axis=1)
        return self._plan(poses, state)

    def _way(self, state: DriveState) -> np.ndarray:
        self._speed_mps = state.ego.speed_mps if self._speed_mps is None else self._speed_mps
        return self._speed_mps * PLAN_STEP_S * np.arange(1, _STEPS + 1)

    def _plan(self, poses: np.ndarray, state: DriveState) -> Plan:
        speeds = np.full(_STEPS, self._speed_mps)
        trajectory = Trajectory(poses_ego=poses, speeds_mps=speeds, dt_s=PLAN_STEP_S)
        return Plan(trajectory=trajectory, source="candidate", reasons=(self.name,))


class UnprotectedAgent(ConstantVelocityAgent):
    """Keeps its speed and its place on the lane, whatever comes: the proof that a scenario is dangerous."""

    name = "unprotected"

    def act(self, frame: Frame | None, state: DriveState) -> Plan:
        """Along the route, as far beside it as now."""
        points = state.route.waypoints_ego
        steps = np.diff(points, axis=0)
        lengths = np.hypot(*steps.T)
        stations = np.concatenate(([0.0], np.cumsum(lengths)))
        way = self._way(state)
        yaws = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        yaw = np.interp(way, stations[:-1] + lengths / 2, yaws)
        left = -float(points[0, 1])
        x = np.interp(way, stations, points[:, 0]) - left * np.sin(yaw)
        y = np.interp(way, stations, points[:, 1]) + left * np.cos(yaw)
        return self._plan(np.stack((x, y, yaw), axis=1), state)
