"""The privileged agent: the rules of driving on a perfect perception.

It knows every box, the true future of who has a script (constant velocity else), the true map and the lights. What it
does not reach is the rules' doing, not perception's; that makes it the reference that other agents are measured by.
"""

import math

from bevstack.planning.rule_planner import RulePlanner
from bevstack.planning.safety import SafetyRules
from bevstack.planning.vehicle import VehicleParams
from bevstack.sim.closed_loop.agents.protocol import DriveState
from bevstack.sim.closed_loop.agents.true_scene import TrueScene
from bevstack.sim.closed_loop.course import DRIVEN_VEHICLE
from bevstack.types.frame import Frame
from bevstack.types.trajectory import Plan


class OracleAgent:
    """Implements `Agent`.

    Args:
        vehicle: What it drives.
    """

    name = "oracle"
    needs_frames = False

    def __init__(self, *, vehicle: VehicleParams = DRIVEN_VEHICLE) -> None:
        self.planner = RulePlanner(vehicle=vehicle, safety=SafetyRules(road="hard"), clock=no_clock)
        self._scene: TrueScene | None = None

    def begin(self, run: str) -> None:
        """The next step draws the map of the new run."""
        self._scene = None

    def act(self, frame: Frame | None, state: DriveState) -> Plan:
        """Plan on what is true."""
        if self._scene is None:
            self._scene = TrueScene(state.truth.course.roads)
        scene = self._scene.at(state)
        return self.planner.plan(scene, state.ego, state.route, stop_goal_ego=_in_ego(state))


def no_clock() -> float:
    """Time that stands still: planners with it decide the same however busy the machine is."""
    return 0.0


def _in_ego(state: DriveState) -> tuple[float, float] | None:
    """The red line, as the planner wants it."""
    if state.truth.red_line is None:
        return None
    T_global_ego = state.ego.T_global_ego
    dx, dy = state.truth.red_line[0] - T_global_ego[0, 3], state.truth.red_line[1] - T_global_ego[1, 3]
    yaw = math.atan2(T_global_ego[1, 0], T_global_ego[0, 0])
    c, s = math.cos(yaw), math.sin(yaw)
    return float(c * dx + s * dy), float(c * dy - s * dx)
