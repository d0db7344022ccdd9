"""Writes down what happens, step by step, and makes the `DriveLog` of it."""

import numpy as np
from shapely.geometry import Polygon

from bevstack.planning.vehicle import VehicleParams
from bevstack.sim.closed_loop.course import DRIVEN_VEHICLE
from bevstack.sim.closed_loop.stage import Stage
from bevstack.sim.closed_loop.world import ActorNow
from bevstack.sim.drive_log import ActorLog, DriveLog, Ending
from bevstack.sim.ego.motion import VehicleState
from bevstack.sim.world.roads import RoadNetwork
from bevstack.types.trajectory import Plan


class Recorder:
    """Of one run.

    Args:
        stage: What is driven.
        agent: Name of who drives.
    """

    def __init__(self, stage: Stage, agent: str) -> None:
        self.stage, self.agent = stage, agent
        self.plans: list[Plan | None] = []
        self.seconds: list[float] = []
        self._states: list[VehicleState] = []
        self._actors: list[tuple[ActorNow | None, ...]] = []

    def note(self, state: VehicleState, actors: tuple[ActorNow | None, ...]) -> None:
        """A step as it begins."""
        self._states.append(state)
        self._actors.append(actors)

    def decided(self, plan: Plan | None, seconds: float) -> None:
        """What the agent decided at the step, and the wall time that it took."""
        self.plans.append(plan)
        self.seconds.append(seconds)

    def log(self, ending: Ending, remark: str = "") -> DriveLog:
        """The run so far as a whole one."""
        steps, course = len(self._states), self.stage.course
        seconds = np.zeros(steps)
        seconds[: len(self.seconds)] = self.seconds
        return DriveLog(
            scenario=self.stage.name,
            agent=self.agent,
            seed=self.stage.seed,
            parameters=dict(self.stage.parameters),
            vehicle=course.vehicle,
            roads=course.roads,
            route=course.line,
            speed_limit_mps=course.speed_limit_mps,
            red_lights=course.red_lights,
            ego_poses=np.array([state.pose for state in self._states]).reshape(steps, 3),
            ego_speeds_mps=np.array([state.speed_mps for state in self._states]),
            ego_accelerations_mps2=np.array([state.acceleration_mps2 for state in self._states]),
            ego_steering_rad=np.array([state.steering_rad for state in self._states]),
            actors=tuple(self._actor(row) for row in range(len(self.stage.world.participants))),
            plans=tuple(self.plans),
            step_seconds=seconds,
            ending=ending,
            remark=remark,
        )

    def _actor(self, row: int) -> ActorLog:
        who = self.stage.world.participants[row]
        poses, velocities = np.full((len(self._actors), 3), np.nan), np.full((len(self._actors), 2), np.nan)
        for step, actors in enumerate(self._actors):
            now = actors[row]
            if now is not None:
                poses[step], velocities[step] = now.pose, now.velocity
        return ActorLog(
            name=who.name, class_name=who.class_name, size_lwh=who.size_lwh, poses=poses, velocities=velocities
        )


def undriven_log(
    name: str,
    agent: str,
    seed: int,
    parameters: dict[str, float],
    why: str,
    *,
    ending: Ending = "impossible",
    vehicle: VehicleParams = DRIVEN_VEHICLE,
) -> DriveLog:
    """The record of a run without a step: its scenario could not begin, or nothing of it is left."""
    nothing = np.zeros(0)
    roads = RoadNetwork(
        lanes=(), drivable=Polygon(), road_segments=(), crossings=(), walkways=(), stop_lines=(), carparks=(),
        road_dividers=(), lane_dividers=(),
    )  # fmt: skip
    return DriveLog(
        scenario=name, agent=agent, seed=seed, parameters=dict(parameters), vehicle=vehicle, roads=roads,
        route=np.zeros((0, 2)), speed_limit_mps=float("nan"), red_lights=(), ego_poses=np.zeros((0, 3)),
        ego_speeds_mps=nothing, ego_accelerations_mps2=nothing, ego_steering_rad=nothing, actors=(), plans=(),
        step_seconds=nothing, ending=ending, remark=why,
    )  # fmt: skip
