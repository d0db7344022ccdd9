"""The lanes of a scenario: test tracks drawn exactly, a town of the world generator, or an OpenDRIVE file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon, box

from bevstack.sim.openscenario.opendrive import read_opendrive
from bevstack.sim.openscenario.opendrive_lanes import lay_network
from bevstack.sim.scenario.road_specs import (
    CrossingRoads,
    CurvedRoad,
    OpenDriveRoads,
    RoadSpec,
    StraightRoad,
    TownRoads,
)
from bevstack.sim.scenario.ways import Way
from bevstack.sim.world.polylines import offset, resample, strip
from bevstack.sim.world.roads import Lane, RoadBlock, RoadNetwork, Turn
from bevstack.sim.world.town_lanes import lay_lanes
from bevstack.sim.world.town_layout import make_layout
from bevstack.types.errors import did_you_mean

STEP_M = 1.0
ARC_STEP_M = 0.25
"""Chords of this length stay within 2 mm of a circle of 5 m radius."""
ZEBRA_AHEAD_M, ZEBRA_WIDTH_M = 3.0, 3.6
_ARMS = {"south": -np.pi / 2, "east": 0.0, "north": np.pi / 2, "west": np.pi}
_TURNS: dict[int, Turn] = {1: "right", 2: "straight", 3: "left"}
"""Arms counter-clockwise from the one that traffic comes from -> how it turns."""


@dataclass(frozen=True, kw_only=True)
class ScenarioRoads:
    """A road network whose lanes have names."""

    network: RoadNetwork
    lane_names: Mapping[str, int]
    """Name -> index in `network.lanes`."""
    speed_limit_mps: float

    def lane(self, name: str) -> Lane:
        """The lane of that name.

        Raises:
            ValueError: there is none.
        """
        if name not in self.lane_names:
            hint = did_you_mean(name, self.lane_names) or f"; there are {', '.join(self.lane_names)}"
            raise ValueError(f"there is no lane '{name}'{hint}")
        return self.network.lanes[self.lane_names[name]]

    def way(self, lane: str, route: tuple[str, ...] = ()) -> Way:
        """The lanes from one on: along a route, then straight on to where the road ends.

        Args:
            lane: The first.
            route: Its beginning may be that lane.

        Raises:
            ValueError: a lane of the route does not follow the one before.
        """
        lanes = [self.lane(lane)]
        for name in route[1:] if route and route[0] == lane else route:
            following = self.lane(name)
            if following.index not in lanes[-1].successors:
                ways = ", ".join(self._names[index] for index in lanes[-1].successors) or "nothing"
                raise ValueError(f"lane '{name}' does not follow '{self._names[lanes[-1].index]}'; {ways} does")
            lanes.append(following)
        while lanes[-1].successors and len(lanes) < 40:
            options = [self.network.lanes[index] for index in lanes[-1].successors]
            lanes.append(next((option for option in options if option.turn == "straight"), options[0]))
        return Way.along(tuple(lanes))

    @cached_property
    def _names(self) -> dict[int, str]:
        return {index: name for name, index in self.lane_names.items()}


def build_roads(spec: RoadSpec) -> ScenarioRoads:
    """The lanes that a concrete road has.

    Raises:
        ValueError: a measure is not positive, or the road has no lane.
    """
    if isinstance(spec, TownRoads):
        network = lay_lanes(make_layout(spec.town, np.random.default_rng(spec.seed)))
        names = {str(lane.index): lane.index for lane in network.lanes}
        return ScenarioRoads(
            network=network, lane_names=names, speed_limit_mps=max(lane.speed_limit_mps for lane in network.lanes)
        )
    if isinstance(spec, OpenDriveRoads):
        return _read_roads(spec)
    if isinstance(spec, CrossingRoads):
        return _crossing(spec)
    if isinstance(spec, StraightRoad):
        _check_positive(length_m=spec.length_m)
        return _track(spec, resample(np.array([(0.0, 0.0), (float(spec.length_m), 0.0)]), STEP_M))
    _check_positive(before_m=spec.before_m, after_m=spec.after_m, angle_rad=spec.angle_rad)
    return _track(spec, _bent(spec))


def _read_roads(spec: OpenDriveRoads) -> ScenarioRoads:
    path = Path(spec.file)
    if not path.is_file():
        raise ValueError(f"road: there is no file '{spec.file}'; give the path of an OpenDRIVE file (.xodr)")
    further = [(lane.name, np.stack((lane.x_m, lane.y_m), axis=1).astype(float)) for lane in spec.further_lanes]
    named = lay_network(read_opendrive(path), further)
    limit = max(lane.speed_limit_mps for lane in named.network.lanes)
    return ScenarioRoads(network=named.network, lane_names=named.lane_names, speed_limit_mps=limit)


def _check_positive(**measures: float | str) -> None:
    for name, value in measures.items():
        if isinstance(value, str) or not value > 0:
            raise ValueError(f"road: {name}={value} must be a positive number")


def _bent(spec: CurvedRoad) -> np.ndarray:
    """Reference line of a curve, with an exact circle in its middle."""
    radius, angle = float(spec.radius_m), float(spec.angle_rad)
    width = max(spec.lanes_ahead, spec.lanes_oncoming) * float(spec.lane_width_m) + float(spec.shoulder_m)
    if abs(radius) <= width:
        raise ValueError(f"road: radius_m={radius} must be larger than half of the road, {width} m")
    before = resample(np.array([(0.0, 0.0), (float(spec.before_m), 0.0)]), STEP_M)
    arc = before[-1] + _arc(abs(radius), angle) * (1.0, np.sign(radius))
    heading = np.sign(radius) * angle
    end = arc[-1] + float(spec.after_m) * np.array((np.cos(heading), np.sin(heading)))
    return np.concatenate((before, arc[1:], resample(np.array([arc[-1], end]), STEP_M)[1:]))


def _arc(radius: float, angle: float) -> np.ndarray:
    """A circle (P, 2) that leaves the origin along x and bends to the left."""
    angles = np.linspace(0.0, angle, max(int(np.ceil(radius * angle / ARC_STEP_M)), 4) + 1)
    return radius * np.stack((np.sin(angles), 1.0 - np.cos(angles)), axis=1)


def _track(spec: StraightRoad | CurvedRoad, line: np.ndarray) -> ScenarioRoads:
    _check_positive(lane_width_m=spec.lane_width_m, speed_limit_mps=spec.speed_limit_mps)
    if spec.lanes_ahead < 1 or spec.lanes_oncoming < 0:
        raise ValueError(f"road: lanes_ahead={spec.lanes_ahead} must be 1 or more, lanes_oncoming 0 or more")
    width, limit = float(spec.lane_width_m), float(spec.speed_limit_mps)
    lanes: list[Lane] = []
    names: dict[str, int] = {}
    blocks = []
    for group, count, side in (("ahead", spec.lanes_ahead, -1), ("oncoming", spec.lanes_oncoming, 1)):
        first = len(lanes)
        for number in range(count):
            points = offset(line, side * (number + 0.5) * width)
            names[f"{group}_{number + 1}"] = len(lanes)
            lanes.append(
                _lane(
                    len(lanes), points if side < 0 else points[::-1].copy(), width, limit,
                    left=first + number - 1 if number else None,
                    right=first + number + 1 if number + 1 < count else None,
                    is_beside_middle=number == 0, is_outer=number + 1 == count,
                )
            )  # fmt: skip
        if count:
            edges = sorted((0.0, side * count * width))
            area = strip(line, edges[1], edges[0])
            blocks.append(RoadBlock(polygon=area, lanes=tuple(range(first, len(lanes))), segment=0))
    shoulder = float(spec.shoulder_m)
    surface = strip(line, spec.lanes_oncoming * width + shoulder, -spec.lanes_ahead * width - shoulder)
    dividers = [side * n * width for side, count in ((-1, spec.lanes_ahead), (1, spec.lanes_oncoming))
                for n in range(1, count)]  # fmt: skip
    network = _network(
        lanes, surface, (surface,), (False,), blocks=tuple(blocks),
        road_dividers=(LineString(line),) if spec.lanes_oncoming else (),
        lane_dividers=tuple(LineString(offset(line, at)) for at in dividers),
    )  # fmt: skip
    return ScenarioRoads(network=network, lane_names=names, speed_limit_mps=limit)


def _lane(
    index: int,
    points: np.ndarray,
    width: float,
    limit: float,
    *,
    left: int | None = None,
    right: int | None = None,
    is_beside_middle: bool = True,
    is_outer: bool = True,
) -> Lane:
    return Lane(
        index=index, centerline=points, width_m=width, successors=(), predecessors=(), is_connector=False,
        turn="straight", speed_limit_mps=limit,
        left_divider="SINGLE_SOLID_YELLOW" if is_beside_middle else "DOUBLE_DASHED_WHITE",
        right_divider="SINGLE_SOLID_WHITE" if is_outer else "DOUBLE_DASHED_WHITE",
        must_yield=False, left_neighbor=left, right_neighbor=right,
    )  # fmt: skip


def _network(
    lanes: list[Lane],
    surface: Polygon,
    segments: tuple[Polygon, ...],
    is_intersection: tuple[bool, ...],
    *,
    blocks: tuple[RoadBlock, ...] = (),
    road_dividers: tuple[LineString, ...] = (),
    lane_dividers: tuple[LineString, ...] = (),
    crossings: tuple[Polygon, ...] = (),
    divider_segments: tuple[int, ...] | None = None,
) -> RoadNetwork:
    return RoadNetwork(
        lanes=tuple(lanes), drivable=surface, road_segments=segments, crossings=crossings, walkways=(), stop_lines=(),
        carparks=(), road_dividers=road_dividers, lane_dividers=lane_dividers, segment_is_intersection=is_intersection,
        road_blocks=blocks,
        divider_segments=tuple(range(len(road_dividers))) if divider_segments is None else divider_segments,
    )  # fmt: skip


def _crossing(spec: CrossingRoads) -> ScenarioRoads:
    _check_positive(arm_m=spec.arm_m, lane_width_m=spec.lane_width_m, speed_limit_mps=spec.speed_limit_mps)
    arm, half, width = float(spec.arm_m), float(spec.half_m), float(spec.lane_width_m)
    if not half > width:
        raise ValueError(f"road: half_m={half} must be larger than lane_width_m={width}")
    lanes: list[Lane] = []
    names: dict[str, int] = {}
    arms, dividers, crossings, blocks = [], [], [], []
    for number, (arm_name, yaw) in enumerate(_ARMS.items()):
        line = _turned(resample(np.array([(half, 0.0), (half + arm, 0.0)]), STEP_M), yaw)
        for kind, points in (("out", offset(line, -width / 2)), ("in", offset(line, width / 2)[::-1].copy())):
            names[f"{arm_name}_{kind}"] = len(lanes)
            lanes.append(_lane(len(lanes), points, width, float(spec.speed_limit_mps)))
        reach = width + float(spec.shoulder_m)
        arms.append(strip(line, reach, -reach))
        blocks += [RoadBlock(polygon=strip(line, 0.0, -width), lanes=(len(lanes) - 2,), segment=number),
                   RoadBlock(polygon=strip(line, width, 0.0), lanes=(len(lanes) - 1,), segment=number)]  # fmt: skip
        dividers.append(LineString(line))
        middle = half + ZEBRA_AHEAD_M
        zebra = np.array([(middle - ZEBRA_WIDTH_M / 2, 0.0), (middle + ZEBRA_WIDTH_M / 2, 0.0)])
        crossings.append(strip(_turned(zebra, yaw), reach, -reach))
    _connect_arms(lanes, names, half, width)
    junction = box(-half, -half, half, half)
    network = _network(
        lanes, shapely.union_all([junction, *arms]), (*arms, junction), (False,) * 4 + (True,), blocks=tuple(blocks),
        road_dividers=tuple(dividers), crossings=tuple(crossings) if spec.has_zebras else (),
    )  # fmt: skip
    return ScenarioRoads(network=network, lane_names=names, speed_limit_mps=float(spec.speed_limit_mps))


def _connect_arms(lanes: list[Lane], names: dict[str, int], half: float, width: float) -> None:
    arm_names = list(_ARMS)
    for first, source in enumerate(arm_names):
        for steps, turn in _TURNS.items():
            target = arm_names[(first + steps) % 4]
            index, before, after = len(lanes), names[f"{source}_in"], names[f"{target}_out"]
            points = _turned(_through(turn, half, width), _ARMS[source] + np.pi)
            connector = _lane(index, points, width, lanes[before].speed_limit_mps)
            lanes.append(
                replace(
                    connector, successors=(after,), predecessors=(before,), is_connector=True, turn=turn,
                    left_divider="NIL", right_divider="NIL", must_yield=turn == "left",
                )
            )  # fmt: skip
            lanes[before] = replace(lanes[before], successors=(*lanes[before].successors, index))
            lanes[after] = replace(lanes[after], predecessors=(*lanes[after].predecessors, index))
            names[f"{source}_to_{target}"] = index


def _through(turn: Turn, half: float, width: float) -> np.ndarray:
    """The way of a vehicle that enters along x from the west."""
    start = np.array((-half, -width / 2))
    if turn == "straight":
        return start + resample(np.array([(0.0, 0.0), (2 * half, 0.0)]), STEP_M)
    radius = half + width / 2 if turn == "left" else half - width / 2
    return start + _arc(radius, np.pi / 2) * (1.0, 1.0 if turn == "left" else -1.0)


def _turned(points: np.ndarray, yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return points @ np.array([(c, s), (-s, c)])
