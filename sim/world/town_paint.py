"""Everything that is painted on the road: lines, zebras, arrows and bay marks, as thin areas above the asphalt."""

import numpy as np
from shapely.geometry import Polygon

from bevstack.sim.world.mesh import Material
from bevstack.sim.world.mesh_builder import FLAT_DRIVEABLE, MeshBuilder, Rgb, to_world
from bevstack.sim.world.polylines import at_stations, clip_to_square, cut, offset, resample
from bevstack.sim.world.roads import RoadNetwork, Turn
from bevstack.sim.world.town_lanes import CROSSING_WIDTH_M
from bevstack.sim.world.town_layout import SIDE_BAY_WIDTH_M, TOWN_SIZE_M, Layout, Road, bay_spans, crossing_station
from bevstack.sim.world.town_parking import SIDE_BAY_LENGTH_M
from bevstack.sim.world.town_surface import CELL_M

PAINT_HEIGHT_M = 0.012
WHITE: Rgb = (225, 225, 220)
YELLOW: Rgb = (222, 178, 52)


def add_paint(builder: MeshBuilder, layout: Layout, roads: RoadNetwork, rng: np.random.Generator) -> None:
    """Add edge lines, dividers, zebras, stop lines, bay marks and arrows as thin areas just above the asphalt."""
    yellow_middle = rng.random() < 0.6
    for road in layout.roads:
        line = clip_to_square(cut(road.reference, road.mouth_m + 0.2, road.length_m), TOWN_SIZE_M / 2 - 0.2)
        _paint_middle(builder, road, line, YELLOW if yellow_middle else WHITE)
        for side, count in ((-1.0, road.forward_lanes), (1.0, road.backward_lanes)):
            for divider in range(1, count):
                _dashes(builder, offset(line, side * (road.median_m / 2 + divider * road.lane_width_m)), 3.0, 6.0)
            edge = road.median_m / 2 + count * road.lane_width_m
            for piece in _beside_crossing(road, edge * side):
                _line(builder, piece, 0.12, WHITE)
        _zebra(builder, road)
        _bay_marks(builder, road)
    for stop in roads.stop_line_details:
        if stop.kind == "YIELD":
            _shark_teeth(builder, stop.polygon)
        else:
            kind = {"material": Material.LANE_PAINT, "semantic": FLAT_DRIVEABLE}
            builder.flat(stop.polygon, PAINT_HEIGHT_M, CELL_M, WHITE, **kind)
    for lane in roads.lanes:
        if not lane.is_connector and lane.successors and lane.length_m > 30.0:
            for back in (14.0, 40.0):
                turns = {roads.lanes[successor].turn for successor in lane.successors}
                _arrow(builder, lane.pose_at(lane.length_m - back), turns)


def add_ribbon(builder: MeshBuilder, points: np.ndarray, width_m: float, rgb: Rgb) -> None:
    """Paint along a curve, a piece per step of it."""
    left, right = offset(points, width_m / 2), offset(points, -width_m / 2)
    height = np.full((len(points), 1), PAINT_HEIGHT_M)
    left, right = np.concatenate((left, height), 1), np.concatenate((right, height), 1)
    quads = np.stack((right[:-1], right[1:], left[1:], left[:-1]), axis=1)
    builder.quads(quads, rgb, Material.LANE_PAINT, FLAT_DRIVEABLE)


def _line(builder: MeshBuilder, points: np.ndarray, width_m: float, rgb: Rgb) -> None:
    """A solid line, with longer pieces where it hardly bends."""
    if len(points) < 2 or not np.isfinite(points).all():
        return
    bend = np.abs(np.diff(np.unwrap(np.arctan2(*np.diff(points, axis=0).T[::-1]))))
    spacing = 8.0 if not len(bend) or bend.max() < 0.002 else 4.0
    add_ribbon(builder, resample(points, spacing), width_m, rgb)


def _dashes(builder: MeshBuilder, points: np.ndarray, dash_m: float, gap_m: float) -> None:
    length = float(np.hypot(*np.diff(points, axis=0).T).sum())
    starts = np.arange(1.0, length - dash_m, dash_m + gap_m)
    poses = at_stations(points, starts + dash_m / 2)
    _rectangles(builder, poses, dash_m, 0.14, WHITE)


def _rectangles(builder: MeshBuilder, poses: np.ndarray, length_m: float, width_m: float, rgb: Rgb) -> None:
    """Painted rectangles at x, y, yaw (S, 3)."""
    poses = poses[np.abs(poses[:, :2]).max(axis=1, initial=0.0) < TOWN_SIZE_M / 2 - length_m / 2]
    if not len(poses):
        return
    ahead = np.stack((np.cos(poses[:, 2]), np.sin(poses[:, 2])), 1) * length_m / 2
    left = np.stack((-np.sin(poses[:, 2]), np.cos(poses[:, 2])), 1) * width_m / 2
    middle = poses[:, :2]
    flat = np.stack((middle - ahead - left, middle + ahead - left, middle + ahead + left, middle - ahead + left), 1)
    quads = np.concatenate((flat, np.full((*flat.shape[:2], 1), PAINT_HEIGHT_M)), axis=2)
    builder.quads(quads, rgb, Material.LANE_PAINT, FLAT_DRIVEABLE)


def _beside_crossing(road: Road, left_m: float) -> list[np.ndarray]:
    """A parallel of the reference inside the town, interrupted at the zebra."""
    crossing, half = crossing_station(road), CROSSING_WIDTH_M / 2 + 0.3
    pieces = []
    for start, end in ((road.mouth_m + 0.2, crossing - half), (crossing + half, road.length_m)):
        if end - start > 1.0:
            clipped = clip_to_square(offset(cut(road.reference, start, end), left_m), TOWN_SIZE_M / 2 - 0.2)
            if len(clipped) > 1:
                pieces.append(clipped)
    return pieces


def _paint_middle(builder: MeshBuilder, road: Road, line: np.ndarray, rgb: Rgb) -> None:
    if road.median_m >= 1.5:
        for side in (-1.0, 1.0):
            for piece in _beside_crossing(road, side * (road.median_m / 2 - 0.08)):
                _line(builder, piece, 0.12, rgb)
    elif road.forward_lanes == 1 and not road.is_major:
        _dashes(builder, line, 2.0, 4.0)
    else:
        for side in (-1.0, 1.0):
            for piece in _beside_crossing(road, side * 0.12):
                _line(builder, piece, 0.11, rgb)


def _zebra(builder: MeshBuilder, road: Road) -> None:
    x, y, yaw = at_stations(road.reference, np.array((float(crossing_station(road)),)))[0]
    laterals = np.arange(-road.right_m + 0.55, road.left_m - 0.3, 0.95)
    across = np.array((-np.sin(yaw), np.cos(yaw)))
    poses = np.concatenate(((x, y) + laterals[:, None] * across, np.full((len(laterals), 1), yaw)), axis=1)
    _rectangles(builder, poses, CROSSING_WIDTH_M, 0.48, WHITE)


def _bay_marks(builder: MeshBuilder, road: Road) -> None:
    half = TOWN_SIZE_M / 2 - 1.0
    for start, end in bay_spans(road):
        stations = np.arange(start, end + 0.1, SIDE_BAY_LENGTH_M)
        for has_bays, lateral in (
            (road.bay_left, road.left_m + SIDE_BAY_WIDTH_M / 2),
            (road.bay_right, -road.right_m - SIDE_BAY_WIDTH_M / 2),
        ):
            if has_bays and len(stations):
                poses = at_stations(road.reference, stations)
                poses[:, 0] -= lateral * np.sin(poses[:, 2])
                poses[:, 1] += lateral * np.cos(poses[:, 2])
                poses = poses[np.abs(poses[:, :2]).max(axis=1) < half]
                _rectangles(builder, poses, 0.1, SIDE_BAY_WIDTH_M - 0.2, WHITE)


def _shark_teeth(builder: MeshBuilder, polygon: Polygon) -> None:
    """Give-way triangles, pointing at the driver."""
    corners = np.asarray(polygon.exterior.coords)[:-1]
    center = corners.mean(axis=0)
    edges = np.roll(corners, -1, axis=0) - corners
    along = edges[np.argmax((edges**2).sum(1))]
    width = float(np.hypot(*along))
    yaw = float(np.arctan2(along[1], along[0]))
    laterals = np.arange(-width / 2 + 0.35, width / 2 - 0.2, 0.7)
    direction = np.array((np.cos(yaw), np.sin(yaw)))
    poses = np.concatenate((center + laterals[:, None] * direction, np.full((len(laterals), 1), yaw)), axis=1)
    _rectangles(builder, poses, 0.45, 0.5, WHITE)


_STRAIGHT_ARROW = (
    ((-1.6, -0.08), (0.6, -0.08), (0.6, 0.08)),
    ((-1.6, -0.08), (0.6, 0.08), (-1.6, 0.08)),
    ((0.6, -0.32), (1.6, 0.0), (0.6, 0.32)),
)
_LEFT_ARROW = (
    ((-1.6, -0.08), (-0.1, -0.08), (-0.1, 0.08)),
    ((-1.6, -0.08), (-0.1, 0.08), (-1.6, 0.08)),
    ((-0.26, 0.08), (-0.1, 0.08), (-0.1, 0.6)),
    ((-0.26, 0.08), (-0.1, 0.6), (-0.26, 0.6)),
    ((-0.45, 0.6), (0.09, 0.6), (-0.18, 1.25)),
)
"""Triangles in the lane's frame (x ahead, y left), counter-clockwise."""


def _arrow(builder: MeshBuilder, pose: tuple[float, float, float], turns: set[Turn]) -> None:
    """A lane arrow for the turns that the lane allows."""
    shapes = []
    if "straight" in turns or len(turns) > 1:
        shapes.append(np.array(_STRAIGHT_ARROW))
    if "left" in turns:
        shapes.append(np.array(_LEFT_ARROW))
    if "right" in turns:
        shapes.append(np.array(_LEFT_ARROW)[:, ::-1] * (1.0, -1.0))
    corners = np.concatenate(shapes).reshape(-1, 2)
    local = np.column_stack((corners, np.full(len(corners), PAINT_HEIGHT_M)))
    faces = np.arange(len(corners)).reshape(-1, 3)
    builder.add(to_world(local, pose), faces, WHITE, Material.LANE_PAINT, FLAT_DRIVEABLE)
