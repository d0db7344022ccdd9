"""The ground of a town: asphalt, kerbs, sidewalks, grass and everything that is painted on the road."""

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import LineString, MultiPolygon, Polygon

from bevstack.sim.world.mesh import Material
from bevstack.sim.world.mesh_builder import (
    FLAT_DRIVEABLE,
    FLAT_OTHER,
    FLAT_SIDEWALK,
    FLAT_TERRAIN,
    MeshBuilder,
    Rgb,
)
from bevstack.sim.world.town_layout import TOWN_SIZE_M, Layout, raised_islands, square
from bevstack.sim.world.town_parking import ParkingLot
from bevstack.sim.world.triangulation import only_polygons

KERB_HEIGHT_M = 0.15
CELL_M = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """How the square is divided beside the drivable surface."""

    sidewalk: MultiPolygon
    kerb: MultiPolygon
    """Kerb stones and islands of concrete."""
    grass: MultiPolygon
    islands: MultiPolygon
    """Raised medians and the island of a roundabout."""


def divide_ground(layout: Layout, drivable: Polygon, crossings: tuple[Polygon, ...], lots: Polygon) -> Ground:
    """Kerb, verge, sidewalk and grass around the road surface and parking lots; they do not overlap."""
    whole = square()
    islands = raised_islands(layout)
    filled = drivable.union(islands)
    stone = filled.buffer(0.3, quad_segs=4)
    inner = filled.buffer(layout.kerb_strip_m, quad_segs=4)
    outer = filled.buffer(layout.kerb_strip_m + layout.sidewalk_m, quad_segs=4)
    # Where a zebra ends, the walk crosses the verge.
    ramps = shapely.union_all([crossing.buffer(layout.kerb_strip_m + 0.3, cap_style="flat") for crossing in crossings])
    walk = outer.difference(inner).union(ramps.intersection(inner)).difference(stone)
    sidewalk = walk.difference(lots).intersection(whole)
    kerb = stone.difference(filled).intersection(whole)
    grass = whole.difference(shapely.union_all([stone, sidewalk, lots]))
    return Ground(
        sidewalk=only_polygons(sidewalk),
        kerb=only_polygons(kerb),
        grass=only_polygons(grass),
        islands=only_polygons(islands),
    )


def add_ground(
    builder: MeshBuilder, layout: Layout, drivable: Polygon, ground: Ground, rng: np.random.Generator
) -> None:
    """Add every horizontal surface and the kerb walls."""
    tone = int(rng.integers(62, 92))
    asphalt: Rgb = (tone, tone, tone + 3)
    builder.flat(drivable, 0.0, CELL_M, asphalt, material=Material.ASPHALT, semantic=FLAT_DRIVEABLE)
    walk = int(rng.integers(140, 175))
    stone: Rgb = (walk + 14, walk + 13, walk + 10)
    paving: Rgb = (walk, walk - 3, walk - 8) if rng.random() < 0.6 else (walk - 5, walk - 30, walk - 42)
    green: Rgb = (int(rng.integers(72, 110)), int(rng.integers(104, 138)), int(rng.integers(48, 70)))
    kind = {"material": Material.CONCRETE, "semantic": FLAT_SIDEWALK}
    builder.flat(ground.sidewalk, KERB_HEIGHT_M, CELL_M, paving, **kind)
    builder.flat(ground.kerb, KERB_HEIGHT_M, CELL_M, stone, **kind)
    grass_kind = {"material": Material.GRASS, "semantic": FLAT_TERRAIN}
    builder.flat(ground.grass, KERB_HEIGHT_M, CELL_M, green, **grass_kind)
    for island in shapely.get_parts(ground.islands):
        inner = island.buffer(-0.35)
        other = {"material": Material.CONCRETE, "semantic": FLAT_OTHER}
        if island.area > 60.0 and layout.ring_radius_m and not inner.is_empty:
            builder.flat(island.difference(inner), KERB_HEIGHT_M, CELL_M, stone, **other)
            builder.flat(inner, KERB_HEIGHT_M, CELL_M, green, **grass_kind)
        else:
            builder.flat(island, KERB_HEIGHT_M, CELL_M, stone, **other)
    _add_kerb_walls(builder, drivable, stone)


def _add_kerb_walls(builder: MeshBuilder, drivable: Polygon, rgb: Rgb) -> None:
    """Vertical faces along every edge of the drivable surface that is not on the border of the town."""
    half = TOWN_SIZE_M / 2
    walls = []
    for part in shapely.get_parts(drivable):
        outline = part.exterior
        for ring in (outline, *part.interiors):
            # With the road on the left of the walk along the edge, the wall faces left.
            is_outline = ring is outline
            points = np.asarray(ring.coords)[:: 1 if ring.is_ccw == is_outline else -1]
            points = np.asarray(LineString(points).segmentize(CELL_M).coords)
            start, end = points[:-1], points[1:]
            middle = np.abs((start + end) / 2).max(axis=1)
            inside = middle < half - 1e-3
            start, end = start[inside], end[inside]
            low, high = np.full((len(start), 1), -0.01), np.full((len(start), 1), KERB_HEIGHT_M)
            corners = [np.concatenate(pair, axis=1) for pair in ((end, low), (start, low), (start, high), (end, high))]
            walls.append(np.stack(corners, axis=1))
    builder.quads(np.concatenate(walls), rgb, Material.CONCRETE, FLAT_SIDEWALK)


def add_lot(builder: MeshBuilder, lot: ParkingLot) -> None:
    """Add the surface of a parking lot at road height, its kerb, its apron at sidewalk height and the bay marks."""
    asphalt = {"material": Material.ASPHALT, "semantic": FLAT_DRIVEABLE}
    builder.flat(lot.polygon, 0.0, CELL_M, (88, 88, 90), **asphalt)
    builder.flat(lot.apron, KERB_HEIGHT_M + 0.005, CELL_M, (120, 118, 114), **asphalt)
    _add_kerb_walls(builder, lot.polygon, (150, 150, 146))
