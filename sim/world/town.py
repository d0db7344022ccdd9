"""Procedural towns: one call draws roads, ground, buildings, plants and street furniture from a random generator."""

from dataclasses import dataclass, replace

import numpy as np
import shapely
from jaxtyping import Float
from shapely.geometry import Polygon

from bevstack.sim.world.buildings import add_buildings
from bevstack.sim.world.mesh import Mesh
from bevstack.sim.world.mesh_builder import MeshBuilder
from bevstack.sim.world.polylines import resample
from bevstack.sim.world.roads import RoadNetwork
from bevstack.sim.world.street_furniture import add_furniture, add_lamp, lamp_places
from bevstack.sim.world.town_lanes import crossing_path, lay_lanes
from bevstack.sim.world.town_layout import (
    TOWN_KINDS,
    TOWN_SIZE_M,
    Layout,
    make_layout,
    raised_islands,
    square,
)
from bevstack.sim.world.town_paint import add_paint
from bevstack.sim.world.town_parking import ParkingLot, bays_with_yaw, make_lots, side_slots, work_zones
from bevstack.sim.world.town_sites import Sites
from bevstack.sim.world.town_surface import KERB_HEIGHT_M, Ground, add_ground, add_lot, divide_ground
from bevstack.sim.world.vegetation import add_vegetation

__all__ = ["KERB_HEIGHT_M", "TOWN_KINDS", "TOWN_SIZE_M", "Town", "make_town"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """A piece of city in its own frame: centred at (0, 0), within a square of `TOWN_SIZE_M`, road surface at z = 0."""

    kind: str
    roads: RoadNetwork
    mesh: Mesh
    """Everything that never moves (instance -1)."""
    parking_slots: Float[np.ndarray, "P 3"]
    """x, y, yaw of places for parked vehicles, at road height."""
    sidewalk_paths: tuple[Float[np.ndarray, "P 2"], ...]
    """Walks along the middle of sidewalks, free of obstacles; the surface lies at `KERB_HEIGHT_M`."""
    crossing_paths: tuple[Float[np.ndarray, "P 2"], ...]
    """Walks over the zebras, kerb to kerb, one per entry of `roads.crossings`."""
    work_zones: tuple[Float[np.ndarray, " 3"], ...]
    """x, y, yaw of places at the edge of a lane for cones, barriers and construction vehicles."""
    street_lamps: Float[np.ndarray, "L 3"]
    """Positions of the lamp heads."""


def make_town(kind: str, rng: np.random.Generator) -> Town:
    """Draw a town; the same generator state gives the same town, byte for byte.

    Args:
        kind: one of `TOWN_KINDS`.
        rng: source of every choice.

    Raises:
        ValueError: for an unknown kind.
    """
    if kind not in TOWN_KINDS:
        raise ValueError(f"unknown kind of town {kind!r}; choose from {', '.join(TOWN_KINDS)}")
    layout = make_layout(kind, rng)
    roads = lay_lanes(layout)
    surface = roads.drivable
    lots = make_lots(layout, surface, rng)
    ground = divide_ground(layout, surface, roads.crossings, shapely.union_all([lot.polygon for lot in lots]))
    builder = MeshBuilder()
    add_ground(builder, layout, surface, ground, rng)
    add_paint(builder, layout, roads, rng)
    for lot in lots:
        add_lot(builder, lot)
    sites = Sites(layout, surface, lots)
    lamps = lamp_places(layout, sites, rng)
    for lamp in lamps:
        add_lamp(builder, lamp)
    add_buildings(builder, layout, sites, rng)
    add_furniture(builder, layout, roads, lots, sites, rng)
    add_vegetation(builder, layout, sites, rng)
    slots = np.concatenate([side_slots(road) for road in layout.roads] + [lot.slots for lot in lots])
    return Town(
        kind=kind,
        roads=_with_places(roads, layout, ground, lots),
        mesh=builder.build(),
        parking_slots=slots,
        sidewalk_paths=_sidewalk_paths(layout, surface),
        crossing_paths=tuple(crossing_path(road) for road in layout.roads),
        work_zones=tuple(work_zones(layout, rng)),
        street_lamps=np.array([lamp.head for lamp in lamps]).reshape(-1, 3),
    )


def _sidewalk_paths(layout: Layout, surface: Polygon) -> tuple[np.ndarray, ...]:
    """Lines along the far part of the sidewalks: poles and trees stand on the kerb side."""
    filled = surface.union(raised_islands(layout))
    line = filled.buffer(layout.kerb_strip_m + 0.62 * layout.sidewalk_m, quad_segs=6).boundary
    inside = line.intersection(square().buffer(-1.5))
    merged = shapely.line_merge(inside) if inside.geom_type == "MultiLineString" else inside
    paths = [np.asarray(part.coords) for part in shapely.get_parts(merged) if part.length > 8.0]
    return tuple(resample(path, 1.0) for path in paths)


def _with_places(roads: RoadNetwork, layout: Layout, ground: Ground, lots: list[ParkingLot]) -> RoadNetwork:
    """The network with parking lots, bays and walkways."""
    bays = [(bay.intersection(square()), yaw) for road in layout.roads for bay, yaw in bays_with_yaw(road)]
    carparks = [(bay, yaw) for bay, yaw in bays if bay.geom_type == "Polygon" and bay.area > 8.0]
    carparks += [(lot.polygon, lot.pose[2] + np.pi / 2) for lot in lots]
    drivable = shapely.union_all([roads.drivable, *[area for lot in lots for area in (lot.polygon, lot.apron)]])
    walkways = [part for part in shapely.get_parts(ground.sidewalk) if part.geom_type == "Polygon" and part.area > 1.0]
    return replace(
        roads,
        drivable=drivable,
        walkways=tuple(walkways),
        carparks=tuple(area for area, _ in carparks),
        carpark_yaws_rad=tuple(float(yaw) for _, yaw in carparks),
    )
