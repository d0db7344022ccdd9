"""Faults of a scenario that its types alone do not exclude."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from shapely import Polygon

from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.scenario.actions import FollowAction
from bevstack.sim.scenario.expressions import names_in
from bevstack.sim.scenario.motion import EgoMotion, corners_of, gap_between
from bevstack.sim.scenario.placing import EGO, ego_way, start_motions
from bevstack.sim.scenario.reading import hints_of, is_number
from bevstack.sim.scenario.roads import ScenarioRoads, build_roads
from bevstack.sim.scenario.schema import Scenario
from bevstack.sim.scenario.script import size_of
from bevstack.sim.scenario.variations import grid_of
from bevstack.types.errors import did_you_mean

_KERB_M = 0.2
"""So far an outline may stand beyond the edge of the road."""
_NAMES_OF_ACTORS = ("who", "to", "relative_to", "actor")


def check_scenario(scenario: Scenario, source: str = "") -> None:
    """Raise the first fault that is there whatever the parameters' values: names, references, ranges.

    Raises:
        ValueError: what is wrong and what would be right.
    """
    where = f"{source}: " if source else f"scenario {scenario.name}: "
    for fault in _faults(scenario):
        raise ValueError(f"{where}{fault}")


def check_concrete(scenario: Scenario, vehicle: VehicleParams = NUSCENES_VEHICLE) -> ScenarioRoads:
    """Build a concrete scenario's road and place everybody; returns the road.

    Raises:
        ValueError: the scenario cannot begin: a lane is unknown, the route is broken, the ego
            vehicle starts off the road or inside of somebody, or a number is out of its range.
    """
    try:
        roads = build_roads(scenario.road)
        ego, station, left = ego_way(scenario.ego, roads)
        motions = start_motions(scenario, roads)
        for lane in (name for light in scenario.red_lights for name in light.lanes):
            roads.lane(lane)
    except ValueError as error:
        raise ValueError(f"scenario {scenario.name} {scenario.values or ''}: {error}") from None
    x, y, yaw = ego.pose(station, left)
    start = EgoMotion(x=x, y=y, yaw=yaw, speed_mps=float(scenario.ego.speed_mps)).body(vehicle)
    if not roads.network.drivable.buffer(_KERB_M).covers(Polygon(corners_of(start))):
        raise ValueError(f"scenario {scenario.name} {scenario.values or ''}: the ego vehicle starts off the road")
    for actor in scenario.actors:
        motion = motions[actor.name]
        if motion.is_present and gap_between(start, motion.body(size_of(actor))) <= 0:
            raise ValueError(
                f"scenario {scenario.name} {scenario.values or ''}: the ego vehicle starts inside of {actor.name}"
            )
    if not float(scenario.duration_s) > 0 or float(scenario.ego.speed_mps) < 0:
        raise ValueError(f"scenario {scenario.name}: duration_s must be positive and ego.speed_mps 0 or more")
    return roads


def _faults(scenario: Scenario) -> Iterator[str]:
    names = [actor.name for actor in scenario.actors]
    maneuvers = [maneuver.name for actor in scenario.actors for maneuver in actor.maneuvers]
    parameters = [parameter.name for parameter in scenario.parameters]
    yield from _repeated("actor", names)
    yield from _repeated("manoeuvre", maneuvers)
    yield from _repeated("parameter", [*parameters, *scenario.derived])
    if EGO in names:
        yield "an actor is named 'ego', which means the ego vehicle"
    for parameter in scenario.parameters:
        try:
            grid = grid_of(parameter)
        except ValueError as error:
            yield str(error)
            continue
        if parameter.default is not None and not min(grid) <= parameter.default <= max(grid):
            yield f"parameter {parameter.name}: default={parameter.default} must lie in {min(grid)} to {max(grid)}"
    for key, name, kind in _references(scenario, ""):
        known = maneuvers if kind == "maneuver" else [EGO, *names]
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are {', '.join(known) or 'none'}"
            yield f"{key}: there is no {'manoeuvre' if kind == 'maneuver' else 'actor'} '{name}'{hint}"
    yield from _untimed(scenario)
    yield from _unknown_names(scenario, parameters)


def _repeated(what: str, names: Iterable[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{what} '{name}' is there {count} times; names must differ"


def _references(value: Any, key: str) -> Iterator[tuple[str, str, str]]:
    """Key, name and kind of everything that names an actor or a manoeuvre."""
    for name, child in _children(value):
        path = f"{key}.{name}".lstrip(".")
        if isinstance(child, str) and (name in _NAMES_OF_ACTORS or name == "maneuver"):
            yield path, child, name
        yield from _references(child, path)


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in fields(value))
    elif isinstance(value, tuple):
        yield from ((f"{index}", entry) for index, entry in enumerate(value))


def _untimed(scenario: Scenario) -> Iterator[str]:
    for actor in scenario.actors:
        for maneuver in actor.maneuvers:
            if isinstance(maneuver.action, FollowAction):
                timed = [point.time_s is not None for point in maneuver.action.points]
                if not timed or any(timed) != all(timed):
                    yield f"manoeuvre {maneuver.name}: it needs points, and either all or none of them a time_s"


def _unknown_names(scenario: Scenario, parameters: list[str]) -> Iterator[str]:
    """Expressions that name what no parameter, derived value or measure is."""
    known = {*parameters, *scenario.derived, "ego.length", "ego.width", "ego.front", "ego.rear"}
    known |= {f"{actor.name}.{measure}" for actor in scenario.actors for measure in ("length", "width")}
    conditions = [("constraints", text) for text in scenario.constraints]
    claims = {"preventable": scenario.preventable, "danger.holds_if": getattr(scenario.danger, "holds_if", True)}
    conditions += [(key, claim) for key, claim in claims.items() if isinstance(claim, str)]
    for key, text in (*_expressions(scenario, ""), *conditions):
        try:
            unknown = sorted(names_in(text) - known)
        except ValueError as error:
            yield f"{key}: {error}"
            continue
        for name in unknown:
            yield f"{key}: '{text}' names '{name}', which is unknown{did_you_mean(name, known)}"


def _expressions(value: Any, key: str) -> Iterator[tuple[str, str]]:
    hints = hints_of(type(value)) if is_dataclass(value) and not isinstance(value, type) else {}
    for name, child in _children(value):
        path = f"{key}.{name}".lstrip(".")
        if isinstance(child, str) and is_number(hints.get(name, str)):
            yield path, child
        elif isinstance(child, dict):
            yield from ((f"{path}.{entry}", text) for entry, text in child.items() if isinstance(text, str))
        elif name == "size_lwh" and child:
            yield from ((path, text) for text in child if isinstance(text, str))
        else:
            yield from _expressions(child, path)
