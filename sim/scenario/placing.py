"""Places of a concrete scenario as poses of its world."""

import math
from collections.abc import Mapping

from bevstack.sim.scenario.motion import ActorMotion
from bevstack.sim.scenario.places import LanePlace, Place, RelativePlace
from bevstack.sim.scenario.roads import ScenarioRoads
from bevstack.sim.scenario.schema import ActorSpec, EgoSpec, Scenario
from bevstack.sim.scenario.ways import Way
from bevstack.types.errors import did_you_mean

EGO = "ego"

Standing = Mapping[str, tuple[Way, float, float]]
"""Name -> way, station and distance to the left of it of the reference point."""


def ego_way(ego: EgoSpec, roads: ScenarioRoads) -> tuple[Way, float, float]:
    """The way that the ego vehicle takes, and station and offset of its rear axle at the begin.

    Raises:
        ValueError: a lane is unknown, or the start lies beyond its lane.
    """
    _check_station(ego.start, roads, "ego.start")
    return roads.way(ego.start.lane, ego.route), float(ego.start.station_m), float(ego.start.offset_m)


def start_motions(scenario: Scenario, roads: ScenarioRoads) -> dict[str, ActorMotion]:
    """Every actor at the begin, by name.

    Raises:
        ValueError: a place names an unknown lane or actor, or actors are placed relative to each other in a circle.
    """
    standing: dict[str, tuple[Way, float, float]] = {EGO: ego_way(scenario.ego, roads)}
    motions: dict[str, ActorMotion] = {}
    pending = list(scenario.actors)
    while pending:
        ready = [actor for actor in pending if not isinstance(actor.start, RelativePlace) or actor.start.to in standing]
        if not ready:
            first = pending[0]
            to = first.start.to if isinstance(first.start, RelativePlace) else ""
            raise ValueError(f"actor {first.name}: its start is relative to '{to}'{did_you_mean(to, standing)}, which "
                             "is no actor or is placed relative to it")  # fmt: skip
        for actor in ready:
            motions[actor.name] = _start(actor, roads, standing)
            motion = motions[actor.name]
            standing[actor.name] = (motion.way, motion.station_m, motion.left_m)
        pending = [actor for actor in pending if actor.name not in motions]
    return {actor.name: motions[actor.name] for actor in scenario.actors}


def pose_of(place: Place, roads: ScenarioRoads, standing: Standing) -> tuple[float, float, float]:
    """x, y, yaw of a place.

    Raises:
        ValueError: it names an unknown lane or actor.
    """
    if isinstance(place, LanePlace):
        x, y, yaw = Way.along((roads.lane(place.lane),)).pose(float(place.station_m), float(place.offset_m))
        return x, y, yaw + float(place.yaw_rad)
    if isinstance(place, RelativePlace):
        if place.to not in standing:
            raise ValueError(f"there is no actor '{place.to}'{did_you_mean(place.to, standing)}")
        way, station, left = standing[place.to]
        x, y, yaw = way.pose(station + float(place.ahead_m), left + float(place.left_m))
        return x, y, yaw + float(place.yaw_rad)
    return float(place.x_m), float(place.y_m), float(place.yaw_rad)


def placed(actor: ActorSpec, place: Place, roads: ScenarioRoads, standing: Standing) -> tuple[Way, float, float, float]:
    """Way, station, offset and extra yaw of an actor at a place.

    Raises:
        ValueError: it names an unknown lane or actor.
    """
    x, y, yaw = pose_of(place, roads, standing)
    if actor.guide == "heading":
        return Way.ahead(x, y, yaw), 0.0, 0.0, 0.0
    if isinstance(place, LanePlace):
        _check_station(place, roads, f"actor {actor.name}")
        way = roads.way(place.lane, actor.route)
        return way, float(place.station_m), float(place.offset_m), float(place.yaw_rad)
    way = roads.way(actor.route[0] if actor.route else _lane_there(roads, x, y, yaw), actor.route)
    station, left = way.station_of(x, y)
    return way, station, left, yaw - way.pose(station)[2]


def _start(actor: ActorSpec, roads: ScenarioRoads, standing: Standing) -> ActorMotion:
    way, station, left, yaw = placed(actor, actor.start, roads, standing)
    return ActorMotion(
        way=way,
        station_m=station,
        left_m=left,
        speed_mps=float(actor.speed_mps),
        yaw_rad=yaw,
        is_present=actor.is_present,
    )


def _lane_there(roads: ScenarioRoads, x: float, y: float, yaw: float) -> str:
    """Name of the lane nearest to a point among those that run about where it faces."""
    best, name = math.inf, ""
    for candidate, index in roads.lane_names.items():
        way = Way.along((roads.network.lanes[index],))
        station, left = way.station_of(x, y)
        beyond = max(0.0, -station, station - way.length_m)
        turned = abs((way.pose(station)[2] - yaw + math.pi) % (2 * math.pi) - math.pi)
        cost = abs(left) + beyond + (1000.0 if turned > math.pi / 2 else 0.0)
        if cost < best:
            best, name = cost, candidate
    return name


def _check_station(place: LanePlace, roads: ScenarioRoads, who: str) -> None:
    lane = roads.lane(place.lane)
    if not 0 <= float(place.station_m) <= lane.length_m:
        raise ValueError(
            f"{who}: station_m={float(place.station_m):.2f} must lie on lane '{place.lane}', 0 to {lane.length_m:.2f}"
        )
