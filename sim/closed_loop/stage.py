"""A concrete scenario set up to be driven: world, course and what will be recorded about both."""

import math
from dataclasses import dataclass, field

import numpy as np
import shapely

from bevstack.geometry.rectangles import rectangles_touch
from bevstack.planning.vehicle import VehicleParams
from bevstack.sim.closed_loop.course import BEHIND_M, BEYOND_M, DRIVEN_VEHICLE, Course, LightAhead
from bevstack.sim.closed_loop.reacting import Recordings
from bevstack.sim.closed_loop.scenario_actors import ScenarioActors
from bevstack.sim.closed_loop.world import DrivenWorld
from bevstack.sim.drive_log import RedLight
from bevstack.sim.ego.motion import VehicleState
from bevstack.sim.scenario.check import check_concrete
from bevstack.sim.scenario.placing import ego_way
from bevstack.sim.scenario.roads import ScenarioRoads
from bevstack.sim.scenario.schema import FaultEntry, Scenario, WeatherSpec
from bevstack.sim.scenario.script import Script
from bevstack.sim.scenario.ways import Way
from bevstack.sim.sensing.faults import FaultSet
from bevstack.sim.world.drive_paths import PATH_STEP_M


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """Everything that one run needs but the agent."""

    name: str
    seed: int
    parameters: dict[str, float]
    world: DrivenWorld
    course: Course
    weather: WeatherSpec = WeatherSpec()
    faults: tuple[FaultEntry, ...] = ()
    scenario: Scenario | None = field(default=None)
    """What was set up; None for a town."""


def set_up(
    scenario: Scenario,
    *,
    name: str | None = None,
    seed: int = 0,
    vehicle: VehicleParams = DRIVEN_VEHICLE,
    recordings: Recordings | None = None,
) -> Stage:
    """A concrete scenario, ready to be driven.

    Args:
        scenario: Without free parameters.
        name: In logs and tables; the scenario's own where not given.
        seed: Of everything that actors decide by chance.
        vehicle: The ego vehicle.
        recordings: Where actors that replay a recording have it from.

    Raises:
        ValueError: the scenario cannot begin: somebody starts inside of somebody, the ego vehicle beside the road, a
            lane or route is not there, a fault does not exist.
    """
    roads = check_concrete(scenario, vehicle)
    FaultSet(scenario.faults)
    script = Script(scenario=scenario, roads=roads, vehicle=vehicle)
    course = _course(scenario, roads, vehicle)
    world = ScenarioActors.begin(
        script, ego=course.start, seed=seed, red_lights=course.red_lights, recordings=recordings
    )
    check_start(course, world)
    return Stage(
        name=name or scenario.name,
        seed=seed,
        parameters=dict(scenario.values),
        world=world,
        course=course,
        weather=scenario.weather,
        faults=scenario.faults,
        scenario=scenario,
    )


def check_start(course: Course, world: DrivenWorld) -> None:
    """Refuse a start that no driver could make good.

    Raises:
        ValueError: the ego vehicle stands beside the road, touches somebody, or has no way ahead.
    """
    own = course.vehicle.rectangles(np.array([course.start.pose]))[0]
    if not course.roads.drivable.is_empty and not shapely.intersects_xy(course.roads.drivable, own[0], own[1]):
        raise ValueError(f"the ego vehicle starts beside the road, at {own[0]:.1f}, {own[1]:.1f}")
    for participant, now in zip(world.participants, world.now(), strict=True):
        if now is None:
            continue
        other = np.array((*now.pose[:2], *participant.size_lwh[:2], now.pose[2]))
        if rectangles_touch(own, other):
            raise ValueError(f"the ego vehicle starts inside of {participant.name}")
    if len(course.line) * PATH_STEP_M < BEHIND_M + course.vehicle.length_m:
        raise ValueError("the ego vehicle has no route: its way ends where it starts")


def _course(scenario: Scenario, roads: ScenarioRoads, vehicle: VehicleParams) -> Course:
    spec = scenario.ego
    way, station, left = ego_way(spec, roads)
    speed, limit = float(spec.speed_mps), roads.speed_limit_mps
    wished = float(spec.cruise_mps) if spec.cruise_mps is not None else speed
    duration = float(scenario.duration_s)
    lights = tuple(
        RedLight(
            lanes=tuple(roads.lane(lane).index for lane in light.lanes),
            from_s=float(light.from_s),
            until_s=float(light.until_s),
        )
        for light in scenario.red_lights
    )
    reach = max(speed, wished, limit) * duration + BEYOND_M
    stations = np.arange(station - BEHIND_M, station + reach, PATH_STEP_M)
    return Course(
        roads=roads.network,
        line=np.array([way.pose(float(at))[:2] for at in stations]),
        lanes=way.lanes,
        start=_start(way, station, left, speed, vehicle),
        wished_mps=wished if wished > 0 else limit,
        speed_limit_mps=limit,
        duration_s=duration,
        goal_m=None if spec.goal_m is None else float(spec.goal_m),
        red_lights=lights,
        lights_ahead=tuple(_lights_on(way, station, roads, lights)),
        vehicle=vehicle,
    )


def _start(way: Way, station: float, left: float, speed: float, vehicle: VehicleParams) -> VehicleState:
    """On the way with the wheels as the way bends there."""
    x, y, yaw = way.pose(station, left)
    bend = way.curvature(station)
    bend = bend / max(1.0 - bend * left, 0.1)
    wheel = math.atan(vehicle.wheelbase_m * bend)
    wheel = min(max(wheel, -vehicle.max_steering_rad), vehicle.max_steering_rad)
    return VehicleState(
        x_m=x, y_m=y, yaw_rad=yaw, speed_mps=speed, steering_rad=wheel, demanded_steering_rad=wheel,
        yaw_rate_radps=speed * math.tan(wheel) / vehicle.wheelbase_m,
    )  # fmt: skip


def _lights_on(way: Way, station: float, roads: ScenarioRoads, lights: tuple[RedLight, ...]) -> list[LightAhead]:
    """Lights of the way's own lanes, with their stop lines as stations of the course."""
    found = []
    for lane_index, begin in zip(way.lanes, way.lane_starts_m, strict=True):
        lane = roads.network.lanes[lane_index]
        line = lane.length_m if lane.stop_station_m is None else lane.stop_station_m
        for light in lights:
            if lane_index in light.lanes:
                found.append(LightAhead(station_m=begin + line - station + BEHIND_M, light=light))
    return found
