"""Places where vehicles stand: bays beside the road, parking lots, and stretches of kerb for road works."""

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float
from shapely.geometry import Polygon

from bevstack.sim.world.mesh_builder import to_world
from bevstack.sim.world.polylines import at_stations, headings
from bevstack.sim.world.town_layout import (
    SIDE_BAY_WIDTH_M,
    TOWN_SIZE_M,
    Layout,
    Road,
    bay_spans,
    bay_strips,
    square,
)

SIDE_BAY_LENGTH_M = 6.2
LOT_BAY_WIDTH_M = 2.6
LOT_BAY_LENGTH_M = 5.2
LOT_AISLE_M = 6.4


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkingLot:
    """Two rows of bays along an aisle, reached over the sidewalk by an apron."""

    polygon: Polygon
    apron: Polygon
    """The driveway between the road and the lot, level with the sidewalk."""
    slots: Float[np.ndarray, "P 3"]
    """x, y, yaw of the bays."""
    pose: tuple[float, float, float]
    """x, y, yaw of the lot's centre; the aisle runs along yaw."""


def make_lots(layout: Layout, road_surface: Polygon, rng: np.random.Generator) -> list[ParkingLot]:
    """Up to two parking lots beside the roads, clear of every road and of each other."""
    wanted = int(rng.choice((0, 1, 2), p=(0.35, 0.45, 0.2)))
    lots: list[ParkingLot] = []
    keep_out = road_surface.buffer(layout.kerb_strip_m + layout.sidewalk_m - 0.05, quad_segs=4)
    for _ in range(12 * wanted):
        if len(lots) == wanted:
            break
        lot = _draw_lot(layout, rng)
        taken = shapely.union_all([keep_out, *[other.polygon.buffer(3.0) for other in lots]])
        if square().buffer(-4.0).contains(lot.polygon) and not taken.intersects(lot.polygon):
            lots.append(lot)
    return lots


def _draw_lot(layout: Layout, rng: np.random.Generator) -> ParkingLot:
    road = layout.roads[int(rng.integers(len(layout.roads)))]
    columns = int(rng.integers(6, 13))
    width = columns * LOT_BAY_WIDTH_M
    depth = 2 * LOT_BAY_LENGTH_M + LOT_AISLE_M
    station = rng.uniform(road.mouth_m + 30.0, max(road.length_m - 60.0, road.mouth_m + 31.0))
    side = float(rng.choice((-1.0, 1.0)))
    x, y, yaw = at_stations(road.reference, np.array((station,)))[0]
    kerb = (road.left_m if side > 0 else road.right_m) + SIDE_BAY_WIDTH_M
    near = kerb + layout.kerb_strip_m + layout.sidewalk_m + 0.3
    # In the lot's frame x runs along the road and y away from it.
    frame = (x, y, yaw if side > 0 else yaw + np.pi)
    aisle_x = rng.uniform(-width / 2 + 4.0, width / 2 - 4.0)
    slots = []
    for column in range(columns):
        across = -width / 2 + (column + 0.5) * LOT_BAY_WIDTH_M
        if abs(across - aisle_x) > 3.2 + LOT_BAY_WIDTH_M / 2:  # the near row leaves the driveway free
            slots.append((across, near + LOT_BAY_LENGTH_M / 2, np.pi / 2))
        slots.append((across, near + depth - LOT_BAY_LENGTH_M / 2, np.pi / 2))
    flips = rng.random(len(slots)) < 0.5
    local = np.array([(slot_x, slot_y, 0.0) for slot_x, slot_y, _ in slots])
    world = to_world(local, frame)
    yaws = frame[2] + np.pi / 2 + np.pi * flips
    center = to_world(np.array((0.0, near + depth / 2, 0.0)), frame)
    return ParkingLot(
        polygon=_rectangle(frame, (-width / 2, near), (width / 2, near + depth)),
        apron=_rectangle(frame, (aisle_x - 3.0, kerb - SIDE_BAY_WIDTH_M), (aisle_x + 3.0, near)),
        slots=np.column_stack((world[:, :2], yaws)),
        pose=(float(center[0]), float(center[1]), float(frame[2])),
    )


def _rectangle(frame: tuple[float, float, float], low: tuple[float, float], high: tuple[float, float]) -> Polygon:
    corners = np.array(((low[0], low[1], 0.0), (high[0], low[1], 0.0), (high[0], high[1], 0.0), (low[0], high[1], 0.0)))
    return Polygon(to_world(corners, frame)[:, :2])


def bays_with_yaw(road: Road) -> list[tuple[Polygon, float]]:
    """The bay strips of a road and the direction of the cars in their middle."""
    strips = bay_strips(road)
    yaws = []
    for strip in strips:
        middle = np.asarray(strip.centroid.coords[0])
        nearest = int(np.argmin(np.hypot(*(road.reference - middle).T)))
        yaws.append(float(headings(road.reference)[nearest]))
    return list(zip(strips, yaws, strict=True))


def side_slots(road: Road) -> Float[np.ndarray, "P 3"]:
    """x, y, yaw of the bays beside a road; cars stand in the direction of the nearest lane."""
    rows = []
    for start, end in bay_spans(road):
        stations = np.arange(start + SIDE_BAY_LENGTH_M / 2, end - SIDE_BAY_LENGTH_M / 2, SIDE_BAY_LENGTH_M)
        for has_bays, lateral, turn in (
            (road.bay_left, road.left_m + SIDE_BAY_WIDTH_M / 2 - 0.1, np.pi),
            (road.bay_right, -road.right_m - SIDE_BAY_WIDTH_M / 2 + 0.1, 0.0),
        ):
            if has_bays and len(stations):
                rows.append(_beside(road, stations, lateral, turn))
    slots = np.concatenate(rows) if rows else np.zeros((0, 3))
    return slots[np.abs(slots[:, :2]).max(axis=1, initial=0.0) < TOWN_SIZE_M / 2 - 4.0]


def work_zones(layout: Layout, rng: np.random.Generator) -> Float[np.ndarray, "Z 3"]:
    """x, y, yaw of places at the edge of outer lanes, well before or behind the junction, one or two per road."""
    rows = []
    for road in layout.roads:
        first, last = road.mouth_m + 30.0, road.length_m - 55.0
        for side, turn in ((1.0, np.pi), (-1.0, 0.0)):
            if last > first:
                lateral = side * ((road.left_m if side > 0 else road.right_m) - 0.9)
                rows.append(_beside(road, np.array((rng.uniform(first, last),)), lateral, turn))
    zones = np.concatenate(rows) if rows else np.zeros((0, 3))
    return zones[np.abs(zones[:, :2]).max(axis=1, initial=0.0) < TOWN_SIZE_M / 2 - 15.0]


def _beside(road: Road, stations: np.ndarray, lateral: float, turn: float) -> np.ndarray:
    poses = at_stations(road.reference, stations)
    poses[:, 0] -= lateral * np.sin(poses[:, 2])
    poses[:, 1] += lateral * np.cos(poses[:, 2])
    poses[:, 2] = (poses[:, 2] + turn + np.pi) % (2 * np.pi) - np.pi
    return poses
