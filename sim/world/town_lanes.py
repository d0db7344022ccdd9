"""Lanes, connectors, crossings and dividers of a layout."""

from dataclasses import dataclass, field, replace

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon

from bevstack.sim.world.polylines import at_stations, clip_to_square, cut, join, offset, resample, strip
from bevstack.sim.world.roads import Lane, RoadBlock, RoadNetwork, StopKind, StopLine, Turn
from bevstack.sim.world.town_layout import STEP_M, TOWN_SIZE_M, Layout, Road, crossing_station, paved_area, square

CROSSING_WIDTH_M = 3.6
STOP_GAP_M = 1.2
STOP_LINE_M = 0.4
RING_SPEED_MPS = 7.0
TURN_SPEED_MPS = {"left": 6.5, "right": 5.0, "straight": 9.0}


@dataclass
class _Draft:
    """Lanes while they are being connected."""

    lanes: list[Lane] = field(default_factory=list)
    entering: dict[int, list[int]] = field(default_factory=dict)
    """Road index to the lanes that run towards the junction, from the middle of the road to the kerb."""
    leaving: dict[int, list[int]] = field(default_factory=dict)

    def add(self, centerline: np.ndarray, **fields: object) -> int:
        index = len(self.lanes)
        values: dict = dict(
            successors=(),
            predecessors=(),
            is_connector=False,
            turn="straight",
            left_divider="NIL",
            right_divider="NIL",
            must_yield=False,
        )
        self.lanes.append(Lane(index=index, centerline=centerline, **(values | fields)))
        return index

    def link(self, first: int, second: int) -> None:
        before, after = self.lanes[first], self.lanes[second]
        self.lanes[first] = replace(before, successors=before.successors + (second,))
        self.lanes[second] = replace(after, predecessors=after.predecessors + (first,))

    def end_pose(self, index: int) -> np.ndarray:
        lane = self.lanes[index]
        return at_stations(lane.centerline, np.array((lane.length_m,)))[0]

    def start_pose(self, index: int) -> np.ndarray:
        return at_stations(self.lanes[index].centerline, np.zeros(1))[0]


def lay_lanes(layout: Layout) -> RoadNetwork:
    """Build the lane graph, the road surface and every vector-map area except walkways and car parks."""
    draft = _Draft()
    for index, road in enumerate(layout.roads):
        _road_lanes(draft, index, road)
    if layout.ring_radius_m:
        _ring(draft, layout)
    elif len(layout.roads) > 1:
        _junction(draft, layout)
    drivable = paved_area(layout, [lane.polygon for lane in draft.lanes if lane.is_connector])
    crossings = tuple(crossing_polygon(road).intersection(drivable.convex_hull) for road in layout.roads)
    stop_lines = _stop_lines(draft, layout)
    segments, is_intersection = _segments(layout, drivable)
    return RoadNetwork(
        lanes=tuple(draft.lanes),
        drivable=drivable,
        road_segments=segments,
        segment_is_intersection=is_intersection,
        crossings=crossings,
        walkways=(),
        stop_lines=tuple(line.polygon for line in stop_lines),
        stop_line_details=stop_lines,
        carparks=(),
        road_dividers=tuple(_in_square(cut(road.reference, road.mouth_m, road.length_m)) for road in layout.roads),
        divider_segments=tuple(range(len(layout.roads))),
        lane_dividers=_lane_dividers(layout),
        road_blocks=_road_blocks(draft, layout),
    )


def _in_square(points: np.ndarray) -> LineString:
    return LineString(clip_to_square(points, TOWN_SIZE_M / 2))


def _road_lanes(draft: _Draft, index: int, road: Road) -> None:
    line = cut(road.reference, road.mouth_m, road.length_m)
    draft.leaving[index], draft.entering[index] = [], []
    middle = (
        "NIL" if road.median_m >= 1.5 else "SINGLE_SOLID_YELLOW" if road.forward_lanes == 1 else "DOUBLE_SOLID_WHITE"
    )
    for forward, count, group in (
        (True, road.forward_lanes, draft.leaving[index]),
        (False, road.backward_lanes, draft.entering[index]),
    ):
        for lane in range(count):
            lateral = road.median_m / 2 + (lane + 0.5) * road.lane_width_m
            points = offset(line, -lateral if forward else lateral)
            points = resample(clip_to_square(points, TOWN_SIZE_M / 2), STEP_M)
            group.append(
                draft.add(
                    points if forward else points[::-1].copy(),
                    width_m=road.lane_width_m,
                    speed_limit_mps=road.speed_limit_mps,
                    left_divider=middle if lane == 0 else "DOUBLE_DASHED_WHITE",
                    right_divider="DOUBLE_DASHED_WHITE" if lane < count - 1 else "SINGLE_SOLID_WHITE",
                )
            )
        for inner, outer in zip(group[:-1], group[1:]):
            draft.lanes[inner] = replace(draft.lanes[inner], right_neighbor=outer)
            draft.lanes[outer] = replace(draft.lanes[outer], left_neighbor=inner)


def _junction(draft: _Draft, layout: Layout) -> None:
    """Connect every entering lane with the roads that it may turn into."""
    yaws = [at_stations(road.reference, np.zeros(1))[0, 2] for road in layout.roads]
    for source in range(len(layout.roads)):
        for target in range(len(layout.roads)):
            if source == target:
                continue
            # The entering heading is opposite to the outward direction of the arm.
            change = (yaws[target] - yaws[source] - np.pi + np.pi) % (2 * np.pi) - np.pi
            turn: Turn = "straight" if abs(change) < 0.6 else "left" if change > 0 else "right"
            for first, second in _lane_pairs(draft.entering[source], draft.leaving[target], turn):
                must_yield = turn == "left" or not layout.roads[source].is_major
                _connect(draft, first, second, turn=turn, must_yield=must_yield, speed=TURN_SPEED_MPS[turn])


def _lane_pairs(entering: list[int], leaving: list[int], turn: Turn) -> list[tuple[int, int]]:
    if turn == "left":
        return [(entering[0], leaving[0])]
    if turn == "right":
        return [(entering[-1], leaving[-1])]
    count = min(len(entering), len(leaving))
    return list(zip(entering[-count:], leaving[-count:]))


def _connect(draft: _Draft, first: int, second: int, *, turn: Turn, must_yield: bool, speed: float) -> int:
    before, after = draft.lanes[first], draft.lanes[second]
    connector = draft.add(
        join(draft.end_pose(first), draft.start_pose(second), STEP_M),
        width_m=min(before.width_m, after.width_m),
        is_connector=True,
        turn=turn,
        must_yield=must_yield,
        speed_limit_mps=min(speed, before.speed_limit_mps),
    )
    draft.link(first, connector)
    draft.link(connector, second)
    return connector


def _ring(draft: _Draft, layout: Layout) -> None:
    """The lane around a roundabout, counter-clockwise, with an exit before and an entry behind each arm's axis."""
    radius = layout.ring_radius_m
    order = sorted(range(len(layout.roads)), key=lambda arm: _arm_angle(layout.roads[arm]) % (2 * np.pi))
    angles = [_arm_angle(layout.roads[arm]) % (2 * np.pi) for arm in order]
    # Entries and exits meet the ring beside the arm's own width.
    half = float(np.arcsin(min(0.9, (layout.roads[0].right_m + 1.5) / radius)))
    speed = RING_SPEED_MPS
    passing, between = [], []
    for position, angle in enumerate(angles):
        following = angles[(position + 1) % len(angles)] + (2 * np.pi if position + 1 == len(angles) else 0.0)
        passing.append(_ring_arc(draft, layout, angle - half, angle + half, speed))
        between.append(_ring_arc(draft, layout, angle + half, following - half, speed))
    for position, arm in enumerate(order):
        previous = between[position - 1]
        draft.link(previous, passing[position])
        draft.link(passing[position], between[position])
        exit_lane, entry_lane = draft.leaving[arm][0], draft.entering[arm][0]
        out = draft.add(
            join(draft.end_pose(previous), draft.start_pose(exit_lane), STEP_M),
            width_m=draft.lanes[exit_lane].width_m,
            is_connector=True,
            turn="right",
            speed_limit_mps=speed,
        )
        draft.link(previous, out)
        draft.link(out, exit_lane)
        enter = draft.add(
            join(draft.end_pose(entry_lane), draft.start_pose(between[position]), STEP_M),
            width_m=draft.lanes[entry_lane].width_m,
            is_connector=True,
            turn="right",
            must_yield=True,
            speed_limit_mps=speed,
        )
        draft.link(entry_lane, enter)
        draft.link(enter, between[position])


def _arm_angle(road: Road) -> float:
    return float(at_stations(road.reference, np.zeros(1))[0, 2])


def _ring_arc(draft: _Draft, layout: Layout, start: float, end: float, speed: float) -> int:
    count = max(int(np.ceil((end - start) * layout.ring_radius_m / STEP_M)), 2) + 1
    angles = np.linspace(start, end, count)
    points = layout.center + layout.ring_radius_m * np.stack((np.cos(angles), np.sin(angles)), axis=1)
    width = layout.ring_width_m - 0.8
    return draft.add(points, width_m=width, is_connector=True, turn="left", speed_limit_mps=speed)


def crossing_polygon(road: Road) -> Polygon:
    """The zebra across a road, kerb to kerb."""
    middle = crossing_station(road)
    line = cut(road.reference, middle - CROSSING_WIDTH_M / 2, middle + CROSSING_WIDTH_M / 2)
    return strip(line, road.left_m, -road.right_m)


def crossing_path(road: Road) -> np.ndarray:
    """The walk (P, 2) across a zebra from the right kerb to the left one."""
    x, y, yaw = at_stations(road.reference, np.array((float(crossing_station(road)),)))[0]
    across = np.array((-np.sin(yaw), np.cos(yaw)))
    return resample(np.stack(((x, y) - road.right_m * across, (x, y) + road.left_m * across)), STEP_M)


def _stop_lines(draft: _Draft, layout: Layout) -> tuple[StopLine, ...]:
    result = []
    for index, road in enumerate(layout.roads):
        groups = [(draft.entering[index], False)]
        if not road.mouth_m:
            groups.append((draft.leaving[index], True))
        for lanes, forward in groups:
            near = crossing_station(road) + (-1 if forward else 1) * (CROSSING_WIDTH_M / 2 + STOP_GAP_M)
            far = near + (-STOP_LINE_M if forward else STOP_LINE_M)
            inner = road.median_m / 2
            width = len(lanes) * road.lane_width_m
            line = cut(road.reference, min(near, far), max(near, far))
            polygon = strip(line, -inner, -inner - width) if forward else strip(line, inner + width, inner)
            kind: StopKind = "YIELD" if layout.ring_radius_m else "PED_CROSSING" if road.is_major else "STOP_SIGN"
            result.append(StopLine(polygon=polygon, kind=kind, crossing=index, lanes=tuple(lanes)))
            for lane in lanes:
                station = draft.lanes[lane].station_of(*polygon.centroid.coords[0])[0]
                draft.lanes[lane] = replace(draft.lanes[lane], stop_station_m=station)
    return tuple(result)


def _segments(layout: Layout, drivable: Polygon) -> tuple[tuple[Polygon, ...], tuple[bool, ...]]:
    bands = []
    for road in layout.roads:
        line = cut(road.reference, road.mouth_m, road.length_m)
        bands.append(strip(line, road.left_m, -road.right_m).intersection(square()))
    if len(layout.roads) == 1:
        return tuple(bands), (False,)
    reach = max(road.mouth_m for road in layout.roads) + 1.0
    hull = shapely.Point(*layout.center).buffer(reach + 12.0)
    middle = drivable.intersection(hull).difference(shapely.union_all(bands))
    # The drivable surface beside the roads (bays) is not part of the junction.
    pieces = [piece for piece in shapely.get_parts(middle) if piece.distance(shapely.Point(*layout.center)) < reach]
    junction = max(pieces, key=lambda piece: piece.area)
    return (*bands, junction), (*([False] * len(bands)), True)


def _lane_dividers(layout: Layout) -> tuple[LineString, ...]:
    result = []
    for road in layout.roads:
        line = cut(road.reference, road.mouth_m, road.length_m)
        for side, count in ((-1.0, road.forward_lanes), (1.0, road.backward_lanes)):
            for lane in range(1, count):
                result.append(_in_square(offset(line, side * (road.median_m / 2 + lane * road.lane_width_m))))
    return tuple(result)


def _road_blocks(draft: _Draft, layout: Layout) -> tuple[RoadBlock, ...]:
    result = []
    for index, road in enumerate(layout.roads):
        line = cut(road.reference, road.mouth_m, road.length_m)
        inner = road.median_m / 2
        right = strip(line, -inner, -inner - road.forward_lanes * road.lane_width_m).intersection(square())
        left = strip(line, inner + road.backward_lanes * road.lane_width_m, inner).intersection(square())
        result.append(RoadBlock(polygon=right, lanes=tuple(draft.leaving[index]), segment=index))
        result.append(RoadBlock(polygon=left, lanes=tuple(draft.entering[index]), segment=index))
    return tuple(result)
