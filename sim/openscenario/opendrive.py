"""OpenDRIVE files (.xodr) as roads, lanes and links; `opendrive_lanes.py` makes a road network of them.

Read are plan view, lane offset, lane sections with widths, road marks, speeds, links and junctions. Heights, lateral
profiles, signals and objects are not: the world of scenarios is flat. No other library is needed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevstack.sim.openscenario.plan_view import Element, PlanElement, PolynomialElement, ReferenceLine
from bevstack.sim.openscenario.xml_nodes import Node, read_xml
from bevstack.types.errors import did_you_mean

_SPEED_UNITS = {"m/s": 1.0, "km/h": 1 / 3.6, "mph": 0.44704}


@dataclass(frozen=True, slots=True, kw_only=True)
class Polynomials:
    """A value along a road: cubic polynomials, each from its station on."""

    starts_m: tuple[float, ...] = ()
    coefficients: tuple[tuple[float, float, float, float], ...] = ()

    def __call__(self, stations: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """The value at stations; 0 where there are no polynomials."""
        if not self.starts_m:
            return np.zeros(len(stations))
        which = np.clip(np.searchsorted(self.starts_m, stations + 1e-9, side="right") - 1, 0, None)
        a, b, c, d = np.array(self.coefficients)[which].T
        ds = stations - np.array(self.starts_m)[which]
        return a + ds * (b + ds * (c + ds * d))


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRecord:
    """A lane within one lane section."""

    id: int
    """Positive to the left of the reference line, counted from it."""
    kind: str
    width: Polynomials
    predecessor: int | None
    successor: int | None
    mark: str
    """Type of the first road mark on its outer edge; "none" without one."""
    speed_mps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Stretch of a road with the same lanes."""

    start_m: float
    end_m: float
    lanes: dict[int, LaneRecord]

    def across(self, lane: int, stations: Float[np.ndarray, " N"]) -> tuple[np.ndarray, np.ndarray]:
        """Distances of a lane's inner and outer edge to the left of the lane offset."""
        side = 1 if lane > 0 else -1
        inner = np.zeros(len(stations))
        for index in range(side, lane, side):
            if index in self.lanes:
                inner = inner + side * self.lanes[index].width(stations)
        return inner, inner + side * self.lanes[lane].width(stations)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadLink:
    """What a road is joined to at one end."""

    is_junction: bool
    element: str
    at_start: bool
    """Of the other road."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Road:
    """One road."""

    id: str
    junction: str | None
    """The junction that it leads through."""
    line: ReferenceLine
    lane_offset: Polynomials
    sections: tuple[Section, ...]
    predecessor: RoadLink | None
    successor: RoadLink | None
    drives_right: bool
    speed_mps: float | None

    def section_at(self, station: float) -> int:
        """Index of the lane section there; the nearest beyond the ends."""
        return max((n for n, section in enumerate(self.sections) if section.start_m <= station + 1e-9), default=0)

    def runs_along(self, lane: int) -> bool:
        """Whether traffic of a lane runs in the direction of growing stations."""
        return (lane < 0) == self.drives_right

    def pose(self, station: float, left_m: float) -> tuple[float, float, float]:
        """x, y and heading of the road beside its reference line."""
        x, y, yaw = (float(value) for value in self.line.poses(np.array((station,)))[0])
        return x - left_m * float(np.sin(yaw)), y + left_m * float(np.cos(yaw)), yaw

    def lane_pose(self, lane: int, station: float, offset_m: float) -> tuple[float, float, float]:
        """x, y and direction of traffic `offset_m` beside the middle of a lane, left of the reference line's heading.

        Raises:
            ValueError: there is no such lane there.
        """
        section = self.sections[self.section_at(station)]
        if lane != 0 and lane not in section.lanes:
            raise ValueError(
                f"road '{self.id}' has no lane {lane} at s={station:g}; there are {', '.join(map(str, section.lanes))}"
            )
        at = np.array((station,))
        inner, outer = section.across(lane, at) if lane else (np.zeros(1), np.zeros(1))
        left = float((self.lane_offset(at) + (inner + outer) / 2)[0])
        x, y, yaw = self.pose(station, left + offset_m)
        return x, y, yaw if self.runs_along(lane) or lane == 0 else yaw + np.pi


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A way through a junction: from a road onto a connecting one."""

    incoming: str
    connecting: str
    at_start: bool
    """Of the connecting road."""
    lanes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadMap:
    """All roads and junctions of a file."""

    roads: dict[str, Road]
    junctions: dict[str, tuple[Connection, ...]]

    def road(self, name: str) -> Road:
        """The road of that id.

        Raises:
            ValueError: there is none.
        """
        if name not in self.roads:
            hint = did_you_mean(name, self.roads) or f"; there are {', '.join(self.roads)}"
            raise ValueError(f"the road network has no road '{name}'{hint}")
        return self.roads[name]


def read_opendrive(path: Path) -> RoadMap:
    """The roads of a file.

    Raises:
        ValueError: it is no OpenDRIVE, or says something impossible; with file, line and element.
        OSError: it cannot be read.
    """
    return roads_of(read_xml(path))


def roads_of(root: Node) -> RoadMap:
    """The roads of a document.

    Raises:
        ValueError: as `read_opendrive`.
    """
    if root.tag != "OpenDRIVE":
        raise root.fault("this is no OpenDRIVE file; its first element must be OpenDRIVE")
    roads = [_road(node) for node in root.all("road")]
    if not roads:
        raise root.fault("it has no road")
    junctions = {
        node.text("id"): tuple(_connection(c) for c in node.all("connection")) for node in root.all("junction")
    }
    return RoadMap(roads={road.id: road for road in roads}, junctions=junctions)


def _road(node: Node) -> Road:
    elements = tuple(_element(geometry) for geometry in node.need("planView").all("geometry"))
    elements = tuple(sorted((e for e in elements if e.length_m > 0), key=lambda element: element.start_m))
    if not elements:
        raise node.fault("the plan view has no geometry with a length")
    junction = node.text("junction", "-1")
    lanes = node.need("lanes")
    line = ReferenceLine(elements=elements)
    starts = [section.number("s") for section in lanes.all("laneSection")]
    ends = [*starts[1:], max(node.number("length", line.length_m), line.length_m)]
    sections = zip(lanes.all("laneSection"), starts, ends, strict=True)
    speed = node.child("type", "speed")
    return Road(
        id=node.text("id"),
        junction=None if junction == "-1" else junction,
        line=line,
        lane_offset=_polynomials(lanes.all("laneOffset"), 0.0, "s"),
        sections=tuple(_section(*entry) for entry in sections if entry[2] > entry[1] + 1e-6),
        predecessor=_link(node.child("link", "predecessor")),
        successor=_link(node.child("link", "successor")),
        drives_right=node.text("rule", "RHT") != "LHT",
        speed_mps=_speed(speed),
    )


def _element(node: Node) -> Element:
    shape, length = node.only(), node.number("length")
    x, y, heading, start = (node.number(key) for key in ("x", "y", "hdg", "s"))
    if length < 0:
        raise node.fault(f"length={length:g} must be 0 or more")
    if shape.tag in ("line", "arc", "spiral"):
        first, last = ("curvStart", "curvEnd") if shape.tag == "spiral" else ("curvature", "curvature")
        curvatures = (0.0, 0.0) if shape.tag == "line" else (shape.number(first), shape.number(last))
        return PlanElement(
            start_m=start, x=x, y=y, heading=heading, length_m=length,
            curvature=curvatures[0], curvature_end=curvatures[1],
        )  # fmt: skip
    if shape.tag == "paramPoly3":
        u, v = (_cubic(shape, axis) for axis in ("U", "V"))
        end = 1.0 if shape.text("pRange", "normalized") == "normalized" else length
    elif shape.tag == "poly3":
        u, v = (0.0, 1.0, 0.0, 0.0), _cubic(shape, "")
        end = _u_at_length(v, length)
    else:
        raise shape.fault("this geometry is not known; there are line, arc, spiral, poly3 and paramPoly3")
    return PolynomialElement(start_m=start, x=x, y=y, heading=heading, length_m=length, u=u, v=v, last=end)


def _cubic(node: Node, axis: str) -> tuple[float, float, float, float]:
    a, b, c, d = (node.number(f"{letter}{axis}") for letter in "abcd")
    return a, b, c, d


def _u_at_length(v: tuple[float, ...], length: float) -> float:
    """How far along its axis a cubic comes within a length of arc."""
    u = np.linspace(0.0, length, 2001)
    slope = np.polynomial.polynomial.polyval(u, np.polynomial.polynomial.polyder(v))
    steps = np.hypot(1.0, (slope[1:] + slope[:-1]) / 2) * (u[1] - u[0])
    return float(np.interp(length, np.concatenate(([0.0], np.cumsum(steps))), u))


def _polynomials(nodes: list[Node], start: float, key: str) -> Polynomials:
    ordered = sorted(nodes, key=lambda node: node.number(key))
    return Polynomials(
        starts_m=tuple(start + node.number(key) for node in ordered),
        coefficients=tuple((node.number("a"), node.number("b", 0.0), node.number("c", 0.0), node.number("d", 0.0))
                           for node in ordered),
    )  # fmt: skip


def _section(node: Node, start: float, end: float) -> Section:
    nodes = [lane for side in ("left", "right") for group in node.all(side) for lane in group.all("lane")]
    lanes = {lane.id: lane for lane in (_lane(child, start) for child in nodes)}
    return Section(start_m=start, end_m=end, lanes=dict(sorted(lanes.items(), reverse=True)))


def _lane(node: Node, section_start: float) -> LaneRecord:
    mark, before, after = node.child("roadMark"), node.child("link", "predecessor"), node.child("link", "successor")
    widths = node.all("width")
    if not widths and node.all("border"):
        raise node.fault("lane borders are not read; give the lane widths")
    return LaneRecord(
        id=int(node.number("id")),
        kind=node.text("type", "none"),
        width=_polynomials(widths, section_start, "sOffset"),
        predecessor=int(before.number("id")) if before else None,
        successor=int(after.number("id")) if after else None,
        mark=mark.text("type", "none") if mark else "none",
        speed_mps=_speed(node.child("speed")),
    )


def _speed(node: Node | None) -> float | None:
    if node is None or node.text("max") in ("no limit", "undefined"):
        return None
    return node.number("max") * _SPEED_UNITS.get(node.text("unit", "m/s"), 1.0)


def _link(node: Node | None) -> RoadLink | None:
    if node is None:
        return None
    return RoadLink(
        is_junction=node.text("elementType", "road") == "junction",
        element=node.text("elementId"),
        at_start=node.text("contactPoint", "start") == "start",
    )


def _connection(node: Node) -> Connection:
    return Connection(
        incoming=node.text("incomingRoad", ""),
        connecting=node.text("connectingRoad", ""),
        at_start=node.text("contactPoint", "start") == "start",
        lanes=tuple((int(link.number("from")), int(link.number("to"))) for link in node.all("laneLink")),
    )
