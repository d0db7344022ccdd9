"""Positions of OpenSCENARIO as poses in the plane."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.interpolate import BSpline

from bevstack.sim.openscenario.entities import Entity
from bevstack.sim.openscenario.opendrive import RoadMap
from bevstack.sim.openscenario.plan_view import PlanElement, ReferenceLine
from bevstack.sim.openscenario.xml_nodes import Node
from bevstack.sim.scenario.places import LanePlace, WorldPlace
from bevstack.sim.scenario.roads import ScenarioRoads
from bevstack.sim.scenario.ways import Way

_CURVE_POINTS = 400
_BESIDE_END_M = 1e-3
"""Ends of lanes are rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A pose of a reference point."""

    x: float
    y: float
    yaw: float
    lane: str | None = None
    """Name of the lane of our network that it is given on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Path:
    """A trajectory."""

    points: np.ndarray
    """(P, 2)."""
    times_s: tuple[float, ...] | None

    @property
    def way(self) -> Way:
        """As a line with distances."""
        return Way.through(self.points)


class UnplacedError(ValueError):
    """A position relative to an entity that has no place yet."""


@dataclass(kw_only=True, eq=False)
class Stage:
    """What positions refer to: roads, lanes, and where everybody is at the begin."""

    roads: RoadMap
    lanes: ScenarioRoads
    entities: dict[str, Entity]
    spots: dict[str, Spot] = field(default_factory=dict)
    """By the name in the file."""

    def entity(self, node: Node) -> Entity:
        """The entity that an element refers to.

        Raises:
            ValueError: there is none.
        """
        name = node.text("entityRef")
        if name not in self.entities:
            raise node.fault(f"there is no entity '{name}'; there are {', '.join(self.entities)}")
        return self.entities[name]

    def spot(self, holder: Node) -> Spot:
        """Where the position is that an element holds.

        Raises:
            ValueError: it is of a kind that is not supported, or names what is not there.
            UnplacedError: it is relative to an entity that has no place yet.
        """
        node = holder.only()
        readers = {
            "WorldPosition": self._world,
            "LanePosition": self._lane,
            "RoadPosition": self._road,
            "RelativeWorldPosition": self._relative_world,
            "RelativeObjectPosition": self._relative_object,
            "RelativeLanePosition": self._relative_lane,
            "RelativeRoadPosition": self._relative_road,
            "RoutePosition": self._on_route,
            "TrajectoryPosition": self._on_trajectory,
        }
        if node.tag not in readers:
            raise node.fault(f"positions of this kind are not supported; there are {', '.join(readers)}")
        try:
            return _oriented(node, readers[node.tag](node))
        except ValueError as error:
            raise error if node.source in str(error) else node.fault(str(error)) from None

    def place(self, x: float, y: float, yaw: float, lane: str | None) -> LanePlace | WorldPlace:
        """A pose as a place of a scenario: on its lane, where it lies beside it."""
        if lane is not None:
            way = Way.along((self.lanes.lane(lane),))
            station, left = way.station_of(x, y)
            if -_BESIDE_END_M <= station <= way.length_m + _BESIDE_END_M:
                station = min(max(station, 0.0), way.length_m)
                turn = _wrapped(yaw - way.pose(station)[2])
                return LanePlace(lane=lane, station_m=_tidy(station), offset_m=_tidy(left), yaw_rad=_tidy(turn))
        return WorldPlace(x_m=_tidy(x), y_m=_tidy(y), yaw_rad=_tidy(_wrapped(yaw)))

    def file_lane(self, spot: Spot) -> str:
        """Name of the lane of the road file that somebody is on, or the nearest."""
        return spot.lane if spot.lane and spot.lane.count("/") == 2 else self.lane_near(spot)

    def lane_near(self, spot: Spot) -> str:
        """Name of the lane whose middle passes nearest, among those that run about where the spot faces."""
        best, name = math.inf, ""
        for candidate, index in self.lanes.lane_names.items():
            if candidate.count("/") != 2:
                continue  # A trajectory of the vehicle under test, which no file calls a lane.
            way = Way.along((self.lanes.network.lanes[index],))
            station, left = way.station_of(spot.x, spot.y)
            beyond = max(0.0, -station, station - way.length_m)
            against = math.cos(way.pose(station)[2] - spot.yaw) < 0
            cost = abs(left) + beyond + (1e3 if against else 0.0)
            if cost < best:
                best, name = cost, candidate
        return name

    def path(self, node: Node) -> Path:
        """The points of a `Trajectory`.

        Raises:
            ValueError: its shape is not supported, or it has fewer than two points.
        """
        shape = node.need("Shape").only()
        times: tuple[float, ...] | None = None
        if shape.tag == "Polyline":
            vertices = shape.all("Vertex")
            spots = [self.spot(vertex.need("Position")) for vertex in vertices]
            points = np.array([(spot.x, spot.y) for spot in spots])
            if vertices and all("time" in vertex.attributes for vertex in vertices):
                times = tuple(vertex.number("time") for vertex in vertices)
        elif shape.tag in ("Clothoid", "ClothoidSpline"):
            points = self._clothoids(shape)
        elif shape.tag == "Nurbs":
            points = self._nurbs(shape)
        else:
            raise shape.fault("trajectories of this shape are not supported; there are Polyline, Clothoid, "
                              "ClothoidSpline and Nurbs")  # fmt: skip
        if len(points) < 2:
            raise shape.fault(f"it has {len(points)} points and needs two")
        return Path(points=points, times_s=times)

    def route(self, node: Node) -> tuple[str, ...]:
        """Lanes of a `Route`, from that of the first waypoint to that of the last.

        Raises:
            ValueError: a waypoint is on no lane, or no way leads to it.
        """
        names: list[str] = []
        for waypoint in node.all("Waypoint"):
            lane = self.spot(waypoint.need("Position")).lane
            if lane is None:
                raise waypoint.fault("it is on no lane for driving")
            names += self.way_between(names[-1], lane, waypoint)[1:] if names else [lane]
        return tuple(names)

    def way_between(self, first: str, last: str, node: Node) -> list[str]:
        """Names of the fewest lanes that lead from one to another, both with it.

        Raises:
            ValueError: there is no way.
        """
        names = {index: name for name, index in self.lanes.lane_names.items()}
        before: dict[int, int | None] = {self.lanes.lane_names[first]: None}
        pending, goal = [self.lanes.lane_names[first]], self.lanes.lane_names[last]
        for index in pending:
            for following in self.lanes.network.lanes[index].successors:
                if following not in before:
                    before[following] = index
                    pending.append(following)
        if goal not in before:
            raise node.fault(f"no way leads from lane '{first}' to lane '{last}'")
        found: list[str] = []
        at: int | None = goal
        while at is not None:
            found.append(names[at])
            at = before[at]
        return found[::-1]

    def _placed(self, node: Node) -> Spot:
        name = self.entity(node).file_name
        if name not in self.spots:
            raise UnplacedError(str(node.fault(f"it is relative to '{name}', an entity without a place of its own")))
        return self.spots[name]

    def _world(self, node: Node) -> Spot:
        return Spot(x=node.number("x"), y=node.number("y"), yaw=node.number("h", 0.0))

    def _lane(self, node: Node) -> Spot:
        return self._at(node.text("roadId"), int(node.number("laneId")), node.number("s"), node.number("offset", 0.0))

    def _at(self, road_id: str, lane: int, station: float, offset: float) -> Spot:
        road = self.roads.road(road_id)
        x, y, yaw = road.lane_pose(lane, station, offset)
        name = f"{road_id}/{road.section_at(station)}/{lane}"
        return Spot(x=x, y=y, yaw=yaw, lane=name if name in self.lanes.lane_names else None)

    def _road(self, node: Node) -> Spot:
        x, y, yaw = self.roads.road(node.text("roadId")).pose(node.number("s"), node.number("t", 0.0))
        return Spot(x=x, y=y, yaw=yaw)

    def _relative_world(self, node: Node) -> Spot:
        spot = self._placed(node)
        return replace(spot, x=spot.x + node.number("dx"), y=spot.y + node.number("dy"), lane=None)

    def _relative_object(self, node: Node) -> Spot:
        spot = self._placed(node)
        dx, dy, c, s = node.number("dx"), node.number("dy"), math.cos(spot.yaw), math.sin(spot.yaw)
        return replace(spot, x=spot.x + c * dx - s * dy, y=spot.y + s * dx + c * dy)

    def _relative_lane(self, node: Node) -> Spot:
        spot = self._placed(node)
        name = self.file_lane(spot)
        road_id, _, lane = name.split("/")
        target = shifted(int(lane), int(node.number("dLane")))
        ds, offset = node.number("ds", node.number("dsLane", 0.0)), node.number("offset", 0.0)
        road, (station, _) = self.roads.road(road_id), self._along(road_id, spot)
        station += ds if road.runs_along(int(lane)) else -ds
        if 0 <= station <= road.line.length_m:
            return self._at(road_id, target, station, offset)
        way = self.lanes.way(name)
        beside = self.lanes.way(self._at(road_id, target, self._along(road_id, spot)[0], 0.0).lane or name)
        x, y, yaw = beside.pose(way.station_of(spot.x, spot.y)[0] + ds, offset)
        return Spot(x=x, y=y, yaw=yaw)

    def _relative_road(self, node: Node) -> Spot:
        spot = self._placed(node)
        road_id = self.file_lane(spot).split("/")[0]
        station, left = self._along(road_id, spot)
        x, y, yaw = self.roads.road(road_id).pose(station + node.number("ds"), left + node.number("dt"))
        return Spot(x=x, y=y, yaw=yaw)

    def _along(self, road_id: str, spot: Spot) -> tuple[float, float]:
        line = self.roads.road(road_id).line
        points = line.poses(line.stations(0.0, line.length_m))[:, :2]
        return Way.through(points).station_of(spot.x, spot.y)

    def _on_route(self, node: Node) -> Spot:
        route_node = node.need("RouteRef").need("Route")
        names = self.route(route_node)
        where = node.need("InRoutePosition").only()
        if where.tag not in ("FromLaneCoordinates", "FromRoadCoordinates"):
            raise where.fault("only FromLaneCoordinates and FromRoadCoordinates are supported")
        first = self.spot(route_node.all("Waypoint")[0].need("Position"))
        way = self.lanes.way(names[0], names)
        station = way.station_of(first.x, first.y)[0] + where.number("pathS")
        index = max(n for n, start in enumerate(way.lane_starts_m) if start <= max(station, 0.0) + 1e-9)
        lane = next(name for name, at in self.lanes.lane_names.items() if at == way.lanes[index])
        left = where.number("laneOffset", 0.0)
        if where.tag == "FromRoadCoordinates":
            left = where.number("t", 0.0) + way.lane_width_m / 2 * (1 if self._keeps_right(lane) else -1)
        x, y, yaw = way.pose(station, left)
        return Spot(x=x, y=y, yaw=yaw, lane=lane)

    def _keeps_right(self, lane: str) -> bool:
        return self.roads.road(lane.split("/")[0]).drives_right

    def _on_trajectory(self, node: Node) -> Spot:
        way = self.path(node.need("TrajectoryRef").need("Trajectory")).way
        x, y, yaw = way.pose(node.number("s"), node.number("t", 0.0))
        return Spot(x=x, y=y, yaw=yaw)

    def _clothoids(self, shape: Node) -> np.ndarray:
        parts = [shape] if shape.tag == "Clothoid" else shape.all("ClothoidSplineSegment")
        start = parts[0].child("Position" if shape.tag == "Clothoid" else "PositionStart") if parts else None
        if start is None:
            raise shape.fault("it has no position where it starts")
        spot = self.spot(start)
        pose, elements, at = np.array((spot.x, spot.y, spot.yaw)), [], 0.0
        for part in parts:
            if part.number("length") <= 0:
                continue
            length, first = part.number("length"), part.number("curvature", part.number("curvatureStart", 0.0))
            rate = part.number("curvaturePrime", part.number("curvatureDot", 0.0))
            last = part.number("curvatureEnd", first + rate * length)
            element = PlanElement(
                start_m=at, x=pose[0], y=pose[1], heading=pose[2], length_m=length, curvature=first, curvature_end=last
            )
            elements.append(element)
            pose, at = element.poses(np.array((length,)))[0], at + length
        line = ReferenceLine(elements=tuple(elements))
        return line.poses(line.stations(0.0, at))[:, :2]

    def _nurbs(self, shape: Node) -> np.ndarray:
        controls = [(self.spot(c.need("Position")), c.number("weight", 1.0)) for c in shape.all("ControlPoint")]
        knots = np.array([knot.number("value") for knot in shape.all("Knot")])
        degree = int(shape.number("order")) - 1
        if len(knots) != len(controls) + degree + 1 or degree < 1:
            raise shape.fault(f"{len(controls)} control points of order {degree + 1} need "
                              f"{len(controls) + degree + 1} knots, not {len(knots)}")  # fmt: skip
        weighted = np.array([(spot.x * weight, spot.y * weight, weight) for spot, weight in controls])
        along = np.linspace(knots[degree], knots[-degree - 1], _CURVE_POINTS)
        values = BSpline(knots, weighted, degree)(along)
        return values[:, :2] / values[:, 2:]


def shifted(lane: int, by: int) -> int:
    """A lane id so many lanes further; there is no lane 0 to stop at."""
    target = lane + by
    return target + (1 if by > 0 else -1) if (lane < 0 <= target) or (lane > 0 >= target) else target


def lanes_between(first: int, last: int) -> int:
    """How many lanes `last` is further; the inverse of `shifted`."""
    by = last - first
    return by - (1 if by > 0 else -1) if first * last < 0 else by


def _wrapped(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi


def _tidy(value: float) -> float:
    """Without the last bits, which mean nothing and fill files."""
    return round(value, 6) + 0.0


def _oriented(node: Node, spot: Spot) -> Spot:
    orientation = node.child("Orientation")
    if orientation is None or "h" not in orientation.attributes:
        return spot
    turn = orientation.number("h")
    relative = orientation.text("type", "absolute") == "relative"
    return replace(spot, yaw=spot.yaw + turn if relative else turn)


def placed_in_order(stage: Stage, teleports: Iterable[tuple[str, Node]]) -> None:
    """Fill `stage.spots`, with relative positions after those that they are relative to.

    Raises:
        ValueError: as `Stage.spot`; or positions are relative to each other in a circle.
    """
    pending = list(teleports)
    while pending:
        waiting: list[tuple[str, Node]] = []
        reason = UnplacedError("nothing is placed")
        for name, holder in pending:
            try:
                stage.spots[name] = stage.spot(holder)
            except UnplacedError as error:
                waiting.append((name, holder))
                reason = error
        if len(waiting) == len(pending):
            raise reason
        pending = waiting
