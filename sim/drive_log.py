"""What happened in one closed-loop run, complete enough for every metric, picture and replay; nothing else is read.

Letters: T steps of the run, the first at time 0 (before anything moved), and P points. Frame: the town's, x east, y
north, metres; yaw counter-clockwise from x.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from bevstack.planning.vehicle import VehicleParams
from bevstack.sim.world.roads import RoadNetwork
from bevstack.types.trajectory import Plan

DRIVE_STEP_S = 0.1
"""Time between two steps of a closed loop: sensors, model, planner and vehicle at 10 Hz."""

Ending = Literal["duration", "goal", "collision", "timeout", "agent_error", "diverged", "impossible"]
"""Why a run ended: its time was up; the goal was reached; a collision that ends the scenario; no progress or a slow
agent; the agent raised; a state that is not finite; a scenario that cannot begin."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActorLog:
    """One other road user or object through the run."""

    name: str
    """Unique in the run; the scenario's name of it."""
    class_name: str
    """One of `bevstack.data.class_names.DETECTION_CLASSES`, or "building" and the like for what is no road user."""
    size_lwh: tuple[float, float, float]
    """Length, width and height in metres."""
    poses: Float[np.ndarray, "T 3"]
    """x, y, yaw of the box centre; NaN while the actor is not in the world."""
    velocities: Float[np.ndarray, "T 2"]
    """Metres per second, town frame; NaN as the poses."""

    @property
    def is_vulnerable(self) -> bool:
        """Whether it is a person on foot or on two wheels."""
        return self.class_name in ("pedestrian", "bicycle", "motorcycle")

    @property
    def is_object(self) -> bool:
        """Whether it is a thing rather than a road user."""
        return self.class_name in ("barrier", "traffic_cone", "building", "debris")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RedLight:
    """A signal that stops some lanes for part of the run."""

    lanes: tuple[int, ...]
    """Lanes of the road network that end at it."""
    from_s: float
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DriveLog:
    """One closed-loop run."""

    scenario: str
    agent: str
    seed: int
    parameters: dict[str, float]
    """Of the scenario, as this run drew or was given them."""
    vehicle: VehicleParams
    roads: RoadNetwork
    route: Float[np.ndarray, "P 2"]
    """The way that the ego vehicle was asked to take, every 0.5 m or so, beyond where it may get in the run's time."""
    speed_limit_mps: float
    red_lights: tuple[RedLight, ...]
    ego_poses: Float[np.ndarray, "T 3"]
    """x, y, yaw of the rear axle."""
    ego_speeds_mps: Float[np.ndarray, " T"]
    ego_accelerations_mps2: Float[np.ndarray, " T"]
    """Along the vehicle's axis."""
    ego_steering_rad: Float[np.ndarray, " T"]
    """Of the front wheels, left positive."""
    actors: tuple[ActorLog, ...]
    plans: tuple[Plan | None, ...]
    """What the agent decided at each step, in the ego frame of that step; None where it decided by controls alone or
    raised. As many as steps, or one less where the run ended by its last step."""
    step_seconds: Float[np.ndarray, " T"]
    """Wall time of the agent at each step; never part of a hash, a score or a picture."""
    ending: Ending
    remark: str = ""
    """What the agent raised, what was impossible; empty otherwise."""

    @property
    def times_s(self) -> Float[np.ndarray, " T"]:
        """0, 0.1, 0.2 ..."""
        return np.arange(len(self.ego_poses)) * DRIVE_STEP_S

    @property
    def ego_rectangles(self) -> Float[np.ndarray, "T 5"]:
        """Centre x, y, length, width, heading of the ego vehicle's outline at each step."""
        return self.vehicle.rectangles(self.ego_poses)
