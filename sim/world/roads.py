"""What traffic and maps know of a town: lanes that lead into each other and the areas that they run through.

Traffic keeps to the right. Every coordinate is in the town's frame: metres, x and y in the plane of the road.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float
from shapely import STRtree
from shapely.geometry import LineString, MultiPolygon, Polygon

from bevstack.sim.world.polylines import arc_lengths, at_stations, headings, strip

Turn = Literal["straight", "left", "right"]
StopKind = Literal["PED_CROSSING", "STOP_SIGN", "YIELD"]


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One lane of a road, or one connector through a junction."""

    index: int
    """Position in `RoadNetwork.lanes`."""
    centerline: Float[np.ndarray, "P 2"]
    """Points in the direction of travel, at most 2 m apart; the end of a lane is the start of its successors."""
    width_m: float
    successors: tuple[int, ...]
    predecessors: tuple[int, ...]
    is_connector: bool
    """True inside a junction."""
    turn: Turn
    speed_limit_mps: float
    left_divider: str
    """nuScenes type of the paint on the left edge, such as DOUBLE_DASHED_WHITE or NIL."""
    right_divider: str
    must_yield: bool
    """Traffic on this connector gives way to the connectors that it crosses or joins."""
    left_neighbor: int | None = None
    """The lane in the same direction on the left, for lane changes."""
    right_neighbor: int | None = None
    stop_station_m: float | None = None
    """Distance along the lane of the stop line before the junction; None without one."""

    @cached_property
    def stations_m(self) -> Float[np.ndarray, " P"]:
        """Distance along the lane of each centreline point."""
        return arc_lengths(self.centerline)

    @property
    def length_m(self) -> float:
        """Length of the centreline."""
        return float(self.stations_m[-1])

    @cached_property
    def yaws_rad(self) -> Float[np.ndarray, " P"]:
        """Direction of travel at each centreline point."""
        return headings(self.centerline)

    def pose_at(self, station_m: float) -> tuple[float, float, float]:
        """x, y, yaw at a distance along the lane, clamped to its ends."""
        x, y, yaw = at_stations(self.centerline, np.array((station_m,)))[0]
        return float(x), float(y), float(yaw)

    def station_of(self, x: float, y: float) -> tuple[float, float]:
        """Distance along the lane of the point nearest to (x, y), and the distance to the left of it (signed)."""
        starts, steps = self.centerline[:-1], np.diff(self.centerline, axis=0)
        to_point = np.array((x, y)) - starts
        share = np.clip((to_point * steps).sum(1) / np.maximum((steps**2).sum(1), 1e-12), 0.0, 1.0)
        gaps = to_point - share[:, None] * steps
        nearest = int(np.argmin((gaps**2).sum(1)))
        side = np.sign(steps[nearest, 0] * gaps[nearest, 1] - steps[nearest, 1] * gaps[nearest, 0])
        station = self.stations_m[nearest] + share[nearest] * np.hypot(*steps[nearest])
        return float(station), float(side * np.hypot(*gaps[nearest]))

    @cached_property
    def polygon(self) -> Polygon:
        """The lane's surface."""
        return strip(self.centerline, self.width_m / 2, -self.width_m / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadSegment:
    """A stretch of road between junctions, or a junction."""

    polygon: Polygon
    is_intersection: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadBlock:
    """The lanes of one direction on one road segment."""

    polygon: Polygon
    lanes: tuple[int, ...]
    """Lane indices, from the middle of the road to the kerb."""
    segment: int
    """Index of the `RoadSegment`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopLine:
    """Where traffic stops or gives way."""

    polygon: Polygon
    kind: StopKind
    crossing: int | None
    """Index of the crossing behind the line."""
    lanes: tuple[int, ...]
    """The lanes that it lies on."""


@dataclass(frozen=True, kw_only=True)
class RoadNetwork:
    """Lanes, and the areas and lines of a vector map."""

    lanes: tuple[Lane, ...]
    drivable: Polygon | MultiPolygon
    """Everything that wheels may touch: lanes, junctions, parking bays and car parks."""
    road_segments: tuple[Polygon, ...]
    crossings: tuple[Polygon, ...]
    walkways: tuple[Polygon, ...]
    stop_lines: tuple[Polygon, ...]
    carparks: tuple[Polygon, ...]
    """Bays beside the road and parking lots."""
    road_dividers: tuple[LineString, ...]
    """Between opposite directions."""
    lane_dividers: tuple[LineString, ...]
    """Between lanes of one direction."""
    segment_is_intersection: tuple[bool, ...] = ()
    road_blocks: tuple[RoadBlock, ...] = ()
    stop_line_details: tuple[StopLine, ...] = ()
    """One per entry of `stop_lines`."""
    carpark_yaws_rad: tuple[float, ...] = ()
    """Direction of the parked cars, one per car park."""
    divider_segments: tuple[int, ...] = field(default=())
    """Road segment of each road divider."""

    @cached_property
    def conflicts(self) -> tuple[tuple[int, ...], ...]:
        """For each lane the connectors that cross or join it inside a junction (empty for lanes between junctions)."""
        connectors = [lane for lane in self.lanes if lane.is_connector]
        lines = [LineString(lane.centerline) for lane in connectors]
        result: list[tuple[int, ...]] = [() for _ in self.lanes]
        if not lines:
            return tuple(result)
        # Two vehicles meet where their centrelines come closer than half a vehicle width each.
        tree = STRtree(lines)
        pairs = tree.query([line.buffer(0.9) for line in lines], predicate="intersects")
        for row, lane in enumerate(connectors):
            others = (connectors[column] for column in pairs[1][pairs[0] == row] if column != row)
            result[lane.index] = tuple(
                sorted(
                    other.index
                    for other in others
                    if not set(other.predecessors) & set(lane.predecessors)  # diverging from one lane is no conflict
                    and other.index not in lane.successors + lane.predecessors
                )
            )
        return tuple(result)

    def nearest_lane(self, x: float, y: float) -> Lane:
        """The lane or connector whose centreline passes nearest to a point."""
        gaps = [np.hypot(lane.centerline[:, 0] - x, lane.centerline[:, 1] - y).min() for lane in self.lanes]
        return self.lanes[int(np.argmin(gaps))]
