"""Where things may stand beside the roads, so that nothing blocks a lane, a sidewalk path or another thing."""

import numpy as np
import shapely
from jaxtyping import Bool, Float
from shapely.geometry import Polygon

from bevstack.sim.world.polylines import at_stations
from bevstack.sim.world.town_layout import (
    SIDE_BAY_WIDTH_M,
    TOWN_SIZE_M,
    Layout,
    Road,
    bay_spans,
    crossing_station,
    raised_islands,
)
from bevstack.sim.world.town_parking import ParkingLot


class Sites:
    """The free ground of a town; every placed thing takes its place."""

    def __init__(self, layout: Layout, surface: Polygon, lots: list[ParkingLot]) -> None:
        self.layout = layout
        paved = surface.union(raised_islands(layout))
        self.aprons = shapely.union_all([lot.apron.buffer(1.0) for lot in lots]) if lots else Polygon()
        lot_area = shapely.union_all([lot.polygon for lot in lots]) if lots else Polygon()
        walk_edge = layout.kerb_strip_m + layout.sidewalk_m
        self.behind_walks = shapely.union_all([paved.buffer(walk_edge + 0.1, quad_segs=4), lot_area.buffer(0.6)])
        """Roads, sidewalks and parking lots: off limits for buildings and hedges."""
        self.footprints: list[Polygon] = []
        self._disks: list[tuple[float, float, float]] = []

    def place_footprint(self, footprint: Polygon, gap_m: float) -> bool:
        """Take an area for a building unless it touches a sidewalk, a lot, another building or the border."""
        x_min, y_min, x_max, y_max = footprint.bounds
        if max(-x_min, -y_min, x_max, y_max) > TOWN_SIZE_M / 2 - 0.5:
            return False
        if self.behind_walks.intersects(footprint):
            return False
        if self.footprints and shapely.distance(np.array(self.footprints), footprint).min() < gap_m:
            return False
        self.footprints.append(footprint)
        return True

    def free_ground(self, points: Float[np.ndarray, "N 2"], margin_m: float) -> Bool[np.ndarray, " N"]:
        """Whether points on the grass are at least a margin away from sidewalks, lots and buildings."""
        dots = shapely.points(points)
        free = np.abs(points).max(axis=1) < TOWN_SIZE_M / 2 - margin_m
        free &= shapely.distance(self.behind_walks, dots) > margin_m
        if self.footprints:
            free &= shapely.distance(shapely.union_all(self.footprints), dots) > margin_m
        return free

    def take_disk(self, x: float, y: float, radius_m: float) -> bool:
        """Take a round place unless another round place overlaps it."""
        for other_x, other_y, other_radius in self._disks:
            if (x - other_x) ** 2 + (y - other_y) ** 2 < (radius_m + other_radius) ** 2:
                return False
        self._disks.append((x, y, radius_m))
        return True

    def kerb_side(self, road: Road, side: float, stations: Float[np.ndarray, " S"]) -> Float[np.ndarray, "_ 3"]:
        """x, y, yaw (facing the road) of places just behind the kerb that keep zebras and driveways free."""
        half = road.left_m if side > 0 else road.right_m
        has_bay = road.bay_left if side > 0 else road.bay_right
        in_bay, at_jump = np.zeros(len(stations), bool), np.zeros(len(stations), bool)
        for start, end in bay_spans(road):
            in_bay |= (stations > start) & (stations < end)
            if has_bay:  # the kerb jumps there, and the walk cuts the corner
                at_jump |= np.minimum(np.abs(stations - start), np.abs(stations - end)) < 2.2
        behind = min(self.layout.kerb_strip_m, 0.8) + 0.35
        lateral = side * (half + np.where(in_bay & has_bay, SIDE_BAY_WIDTH_M, 0.0) + behind)
        poses = at_stations(road.reference, stations)
        x, y, yaw = (
            poses[:, 0] - lateral * np.sin(poses[:, 2]),
            poses[:, 1] + lateral * np.cos(poses[:, 2]),
            poses[:, 2],
        )
        free = np.abs(stations - crossing_station(road)) > 3.4
        free &= ~at_jump & (stations > road.mouth_m + 1.0) & (np.maximum(np.abs(x), np.abs(y)) < TOWN_SIZE_M / 2 - 1.5)
        if not self.aprons.is_empty:
            free &= ~shapely.contains_xy(self.aprons, x, y)
        return np.column_stack((x, y, yaw - side * np.pi / 2))[free]
