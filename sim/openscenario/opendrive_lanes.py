"""OpenDRIVE roads as the lanes and areas of our road network.

A lane of a lane section becomes one lane, named "road/section/lane" with the section counted from 0, such as "0/0/-1".
Where lanes follow each other is what the file's links say, if the ends meet; a file whose links say nothing, or
something impossible, is joined where ends meet.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon

from bevstack.sim.openscenario.opendrive import Road, RoadLink, RoadMap
from bevstack.sim.world.roads import Lane, RoadBlock, RoadNetwork, Turn

DRIVING = frozenset(
    ("driving", "bidirectional", "bus", "taxi", "HOV", "entry", "exit", "onRamp", "offRamp", "connectingRamp",
     "slipLane", "motorway", "shared")
)  # fmt: skip
"""Types of lanes that traffic runs on."""
_ALSO_DRIVABLE = frozenset(("shoulder", "stop", "parking", "biking", "restricted"))
_WALKWAYS = frozenset(("sidewalk", "walking"))
_MEET_M, _MEET_RAD = 0.5, 0.5
_TURN_RAD = 0.35
_DEFAULT_SPEED_MPS = 13.89
_MARKS = {"solid": "SINGLE_SOLID_WHITE", "broken": "DOUBLE_DASHED_WHITE", "solid solid": "DOUBLE_SOLID_WHITE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedNetwork:
    """A road network with the names of its lanes."""

    network: RoadNetwork
    lane_names: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Edges:
    """A lane of a section with its borders, as points along the reference line."""

    road: Road
    section: int
    lane: int
    inner: np.ndarray
    outer: np.ndarray

    @property
    def kind(self) -> str:
        return self.road.sections[self.section].lanes[self.lane].kind

    @property
    def polygon(self) -> Polygon:
        ring = Polygon(np.concatenate((self.inner, self.outer[::-1])))
        return ring if ring.is_valid else shapely.make_valid(ring).buffer(0)

    @property
    def name(self) -> str:
        return f"{self.road.id}/{self.section}/{self.lane}"


def lay_network(roads: RoadMap, further: Sequence[tuple[str, np.ndarray]] = ()) -> NamedNetwork:
    """The road network of a map.

    Args:
        roads: Of a file.
        further: Lanes that no file names, such as a trajectory, as name and points (P, 2).

    Raises:
        ValueError: the map has no lane for driving.
    """
    edges = [edge for road in roads.roads.values() for edge in _edges(road)]
    driving = [edge for edge in edges if edge.kind in DRIVING and _mean_width(edge) > 0.1]
    if not driving:
        raise ValueError(f"the road network has no lane for driving, which is one of {', '.join(sorted(DRIVING))}")
    names = {edge.name: index for index, edge in enumerate(driving)}
    lanes = _joined(roads, driving, [_lane(index, edge, names) for index, edge in enumerate(driving)], names)
    for name, points in further:
        names[name] = len(lanes)
        lanes.append(_further_lane(len(lanes), points))
    return NamedNetwork(network=_network(roads, edges, driving, lanes), lane_names=names)


def _edges(road: Road) -> Iterator[_Edges]:
    for index, section in enumerate(road.sections):
        breaks = {start for lane in section.lanes.values() for start in lane.width.starts_m}
        breaks.update(road.lane_offset.starts_m)
        stations = road.line.stations(section.start_m, section.end_m, breaks)
        poses, middle = road.line.poses(stations), road.lane_offset(stations)
        normal = np.stack((-np.sin(poses[:, 2]), np.cos(poses[:, 2])), axis=1)
        for lane in section.lanes:
            inner, outer = (poses[:, :2] + (middle + at)[:, None] * normal for at in section.across(lane, stations))
            yield _Edges(road=road, section=index, lane=lane, inner=inner, outer=outer)


def _mean_width(edge: _Edges) -> float:
    return float(np.hypot(*(edge.outer - edge.inner).T).mean())


def _lane(index: int, edge: _Edges, names: dict[str, int]) -> Lane:
    road, record = edge.road, edge.road.sections[edge.section].lanes[edge.lane]
    points = (edge.inner + edge.outer) / 2
    if not road.runs_along(edge.lane):
        points = points[::-1].copy()
    inwards, outwards = (edge.lane - 1, edge.lane + 1) if edge.lane > 0 else (edge.lane + 1, edge.lane - 1)
    inner, outer = (names.get(f"{road.id}/{edge.section}/{lane}") if lane else None for lane in (inwards, outwards))
    inside = road.sections[edge.section].lanes.get(inwards)
    marks = (_MARKS.get(inside.mark, "NIL") if inside else "SINGLE_SOLID_YELLOW", _MARKS.get(record.mark, "NIL"))
    left, right = (
        ((inner, marks[0]), (outer, marks[1])) if road.drives_right else ((outer, marks[1]), (inner, marks[0]))
    )
    turn = _turn_of(points) if road.junction else "straight"
    return Lane(
        index=index, centerline=points, width_m=_mean_width(edge), successors=(), predecessors=(),
        is_connector=road.junction is not None, turn=turn,
        speed_limit_mps=record.speed_mps or road.speed_mps or _DEFAULT_SPEED_MPS,
        left_divider=left[1], right_divider=right[1], must_yield=turn == "left",
        left_neighbor=left[0], right_neighbor=right[0],
    )  # fmt: skip


def _further_lane(index: int, points: np.ndarray) -> Lane:
    return Lane(
        index=index, centerline=points, width_m=3.5, successors=(), predecessors=(), is_connector=True,
        turn=_turn_of(points), speed_limit_mps=_DEFAULT_SPEED_MPS, left_divider="NIL", right_divider="NIL",
        must_yield=False,
    )  # fmt: skip


def _turn_of(points: np.ndarray) -> Turn:
    turned = _wrapped(_heading(points, at_end=True) - _heading(points, at_end=False))
    return "straight" if abs(turned) < _TURN_RAD else "left" if turned > 0 else "right"


def _heading(points: np.ndarray, *, at_end: bool) -> float:
    dx, dy = points[-1] - points[-2] if at_end else points[1] - points[0]
    return math.atan2(dy, dx)


def _wrapped(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi


def _joined(roads: RoadMap, edges: list[_Edges], lanes: list[Lane], names: dict[str, int]) -> list[Lane]:
    successors: list[tuple[int, ...]] = []
    for lane, edge in zip(lanes, edges, strict=True):
        linked = [names[name] for name in _linked(roads, edge) if name in names]
        meeting = [index for index in dict.fromkeys(linked) if _meets(lane, lanes[index])]
        if not meeting:
            meeting = [other.index for other in lanes if other.index != lane.index and _meets(lane, other)]
        successors.append(tuple(meeting))
    before: list[list[int]] = [[] for _ in lanes]
    for index, following in enumerate(successors):
        for other in following:
            before[other].append(index)
    return [replace(lane, successors=successors[lane.index], predecessors=tuple(before[lane.index])) for lane in lanes]


def _meets(lane: Lane, following: Lane) -> bool:
    gap = math.dist(lane.centerline[-1], following.centerline[0])
    turn = _heading(following.centerline, at_end=False) - _heading(lane.centerline, at_end=True)
    return gap < _MEET_M and abs(_wrapped(turn)) < _MEET_RAD


def _linked(roads: RoadMap, edge: _Edges) -> Iterator[str]:
    """Names of the lanes that the file says follow a lane in its direction of travel."""
    road, forward = edge.road, edge.road.runs_along(edge.lane)
    record = road.sections[edge.section].lanes[edge.lane]
    link = record.successor if forward else record.predecessor
    neighbour = edge.section + (1 if forward else -1)
    if 0 <= neighbour < len(road.sections):
        if link is not None:
            yield f"{road.id}/{neighbour}/{link}"
        return
    beyond = road.successor if forward else road.predecessor
    if beyond is None:
        return
    if not beyond.is_junction:
        if link is not None:
            yield _name_at(roads, beyond, link)
        return
    for connection in roads.junctions.get(beyond.element, ()):
        if connection.incoming == road.id:
            onto = RoadLink(is_junction=False, element=connection.connecting, at_start=connection.at_start)
            yield from (_name_at(roads, onto, last) for first, last in connection.lanes if first == edge.lane)


def _name_at(roads: RoadMap, link: RoadLink, lane: int) -> str:
    road = roads.roads.get(link.element)
    section = 0 if link.at_start or road is None else len(road.sections) - 1
    return f"{link.element}/{section}/{lane}"


def _network(roads: RoadMap, edges: list[_Edges], driving: list[_Edges], lanes: list[Lane]) -> RoadNetwork:
    areas = {road: [e.polygon for e in edges if e.road.id == road and _is_drivable(e)] for road in roads.roads}
    plain = [road for road in roads.roads.values() if road.junction is None and areas[road.id]]
    junctions = sorted({road.junction for road in roads.roads.values() if road.junction is not None})
    through = [[p for r in roads.roads.values() if r.junction == name for p in areas[r.id]] for name in junctions]
    segments = [shapely.union_all(areas[road.id]) for road in plain]
    crossed = [shapely.union_all(polygons) for polygons in through if polygons]
    dividers = list(_road_dividers(roads))
    segment_of = {road.id: index for index, road in enumerate(plain)}
    return RoadNetwork(
        lanes=tuple(lanes),
        drivable=shapely.union_all([*segments, *crossed]),
        road_segments=(*segments, *crossed),
        crossings=(),
        walkways=tuple(edge.polygon for edge in edges if edge.kind in _WALKWAYS),
        stop_lines=(),
        carparks=tuple(edge.polygon for edge in edges if edge.kind == "parking"),
        road_dividers=tuple(line for line, _ in dividers),
        lane_dividers=tuple(_lane_dividers(driving)),
        segment_is_intersection=(False,) * len(segments) + (True,) * len(crossed),
        road_blocks=tuple(_blocks(driving, segment_of)),
        divider_segments=tuple(segment_of.get(road, 0) for _, road in dividers),
    )


def _is_drivable(edge: _Edges) -> bool:
    return edge.kind in DRIVING | _ALSO_DRIVABLE and _mean_width(edge) > 0


def _road_dividers(roads: RoadMap) -> Iterator[tuple[LineString, str]]:
    """Between the two directions of a road, where lanes for driving lie on both sides of the reference line."""
    for road in roads.roads.values():
        for section in road.sections if road.junction is None else ():
            beside = [section.lanes[lane].kind in DRIVING for lane in (-1, 1) if lane in section.lanes]
            if len(beside) == 2 and all(beside):
                stations = road.line.stations(section.start_m, section.end_m, road.lane_offset.starts_m)
                poses, left = road.line.poses(stations), road.lane_offset(stations)[:, None]
                normal = np.stack((-np.sin(poses[:, 2]), np.cos(poses[:, 2])), axis=1)
                yield LineString(poses[:, :2] + left * normal), road.id


def _lane_dividers(driving: list[_Edges]) -> Iterator[LineString]:
    there = {(edge.road.id, edge.section, edge.lane) for edge in driving}
    for edge in driving:
        outwards = edge.lane + (1 if edge.lane > 0 else -1)
        if (edge.road.id, edge.section, outwards) in there and edge.road.junction is None:
            yield LineString(edge.outer)


def _blocks(driving: list[_Edges], segment_of: dict[str, int]) -> Iterator[RoadBlock]:
    groups: dict[tuple[str, int, bool], list[int]] = {}
    for index, edge in enumerate(driving):
        if edge.road.id in segment_of:
            groups.setdefault((edge.road.id, edge.section, edge.lane > 0), []).append(index)
    for (road, _, _), members in groups.items():
        ordered = sorted(members, key=lambda index: abs(driving[index].lane))
        polygon = shapely.union_all([driving[index].polygon for index in ordered])
        yield RoadBlock(polygon=polygon, lanes=tuple(ordered), segment=segment_of[road])
