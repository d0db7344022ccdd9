"""What a test road looks like: asphalt, paint, grass, lamps, and trees, hedges and houses at a distance.

The road generator of scenarios knows lanes only. Everything that scenarios place themselves (people, parked vehicles,
obstructions) stands within a few metres of the road, so scenery keeps its distance.
"""

from collections.abc import Callable

import numpy as np
import shapely
from jaxtyping import Float
from shapely.geometry import Polygon
from shapely.geometry.polygon import orient

from bevstack.geometry.transforms import from_xy_yaw
from bevstack.sim.scenario.road_specs import RoadSpec, TownRoads
from bevstack.sim.scenario.roads import build_roads
from bevstack.sim.sensing.world_state import StaticWorld
from bevstack.sim.world.buildings import BUILDING_STYLES, Building, add_building
from bevstack.sim.world.mesh import Material, Mesh
from bevstack.sim.world.mesh_builder import FLAT_DRIVEABLE, FLAT_TERRAIN, MeshBuilder, Rgb
from bevstack.sim.world.polylines import cut, headings, offset, resample
from bevstack.sim.world.roads import Lane, RoadNetwork
from bevstack.sim.world.street_furniture import Lamp, add_lamp
from bevstack.sim.world.town import make_town
from bevstack.sim.world.town_paint import PAINT_HEIGHT_M, WHITE, YELLOW, add_ribbon
from bevstack.sim.world.town_surface import CELL_M
from bevstack.sim.world.vegetation import GREENS, add_crown, add_hedge, add_tree

_GRASS_REACH_M, _GRASS_DROP_M = 45.0, 0.02
_LAMP_SPACING_M, _LAMP_GAP_M = 35.0, 4.5
_NEAR_M, _FAR_M = 11.0, 26.0
"""Distances from the road of plants and of houses."""
_DASH_M, _DASH_PERIOD_M = 3.0, 9.0
_STRIPE_M, _STRIPE_PERIOD_M = 0.48, 0.95


def static_world_of(road: RoadSpec, *, seed: int = 0) -> StaticWorld:
    """What stands still on a concrete road of a scenario.

    Args:
        road: A test road, or a town with all that it has.
        seed: Of the scenery of a test road.

    Raises:
        ValueError: a measure of the road is impossible.
    """
    if isinstance(road, TownRoads):
        return StaticWorld.of_town(make_town(road.town, np.random.default_rng(road.seed)))
    return dressed(build_roads(road).network, seed=seed)


def dressed(roads: RoadNetwork, *, seed: int = 0) -> StaticWorld:
    """Surfaces and scenery for a road network that has none."""
    rng = np.random.default_rng([seed, 23])
    builder = MeshBuilder()
    _add_ground(builder, roads, rng)
    _add_paint(builder, roads)
    lamps = [Lamp(foot=foot, height_m=8.0, arm_m=2.0) for foot in _beside(roads, _LAMP_GAP_M, _LAMP_SPACING_M)]
    for lamp in lamps:
        add_lamp(builder, lamp)
    parts = [builder.build()]
    parts += _scattered(_plants(rng), _beside(roads, _NEAR_M, 14.0), rng, spread_m=2.0)
    parts += _scattered(_houses(rng), _beside(roads, _FAR_M, 42.0), rng, spread_m=3.0)
    return StaticWorld(
        mesh=Mesh.joined(parts), roads=roads, street_lamps=np.array([lamp.head for lamp in lamps]).reshape(-1, 3)
    )


def _add_ground(builder: MeshBuilder, roads: RoadNetwork, rng: np.random.Generator) -> None:
    tone = int(rng.integers(62, 92))
    green: Rgb = (int(rng.integers(72, 110)), int(rng.integers(104, 138)), int(rng.integers(48, 70)))
    asphalt: Rgb = (tone, tone, tone + 3)
    builder.flat(roads.drivable, 0.0, CELL_M, asphalt, material=Material.ASPHALT, semantic=FLAT_DRIVEABLE)
    around = roads.drivable.buffer(_GRASS_REACH_M, quad_segs=3)
    grass = around.difference(roads.drivable.buffer(-0.05, quad_segs=3))  # reaches under the edge: no gap
    builder.flat(grass, -_GRASS_DROP_M, 2 * CELL_M, green, material=Material.GRASS, semantic=FLAT_TERRAIN)


def _add_paint(builder: MeshBuilder, roads: RoadNetwork) -> None:
    for lane in roads.lanes:
        if lane.left_neighbor is None:
            _add_edge(builder, lane, lane.left_divider, lane.width_m / 2 - 0.1)
        inset = 0.0 if "DASHED" in lane.right_divider else 0.1  # dashes lie between two lanes
        _add_edge(builder, lane, lane.right_divider, inset - lane.width_m / 2)
    for crossing in roads.crossings:
        _add_zebra(builder, crossing)


def _add_edge(builder: MeshBuilder, lane: Lane, divider: str, left_m: float) -> None:
    if divider == "NIL":
        return
    rgb = YELLOW if "YELLOW" in divider else WHITE
    line = offset(lane.centerline, left_m)
    if "DASHED" not in divider:
        add_ribbon(builder, resample(line, 4.0), 0.12, rgb)
        return
    length = float(np.hypot(*np.diff(line, axis=0).T).sum())
    for start in np.arange(1.0, length - _DASH_M, _DASH_PERIOD_M):
        add_ribbon(builder, cut(line, float(start), float(start) + _DASH_M), 0.14, rgb)


def _add_zebra(builder: MeshBuilder, crossing: Polygon) -> None:
    """Stripes along the road, next to each other across it; a crossing is longer across the road than along it."""
    corners = np.asarray(shapely.oriented_envelope(crossing).exterior.coords)[:4]
    across, along = corners[1] - corners[0], corners[3] - corners[0]
    if np.hypot(*across) < np.hypot(*along):
        across, along = along, across
    width = float(np.hypot(*across))
    for middle in np.arange(0.5 * _STRIPE_PERIOD_M, width, _STRIPE_PERIOD_M):
        low, high = (np.clip((middle + side * _STRIPE_M / 2) / width, 0.0, 1.0) for side in (-1, 1))
        stripe = Polygon([corners[0] + s * across + t * along for s, t in ((low, 0), (high, 0), (high, 1), (low, 1))])
        kind = {"material": Material.LANE_PAINT, "semantic": FLAT_DRIVEABLE}
        builder.flat(orient(stripe), PAINT_HEIGHT_M, CELL_M, WHITE, **kind)


def _beside(roads: RoadNetwork, gap_m: float, spacing_m: float) -> list[tuple[float, float, float]]:
    """x, y, yaw of places along both sides of the road at a distance from it; yaw points at the road."""
    places = []
    for part in shapely.get_parts(roads.drivable.buffer(gap_m, quad_segs=6)).tolist():
        ring = np.asarray(orient(part).exterior.coords)
        points = resample(ring, 1.0)[:: max(1, round(spacing_m))]
        yaws = headings(resample(ring, 1.0))[:: max(1, round(spacing_m))] + np.pi / 2  # the road is on the left
        places += [(float(x), float(y), float(yaw)) for (x, y), yaw in zip(points[:-1], yaws[:-1])]
    return places


def _scattered(
    shapes: list[Mesh], places: list[tuple[float, float, float]], rng: np.random.Generator, *, spread_m: float
) -> list[Mesh]:
    """One of the shapes at most places, moved away from the road by chance."""
    placed = []
    for x, y, yaw in places:
        if rng.random() < 0.8:
            back = rng.uniform(0.0, spread_m)
            pose = from_xy_yaw(x - back * np.cos(yaw), y - back * np.sin(yaw), yaw + np.pi / 2)
            placed.append(shapes[int(rng.integers(len(shapes)))].placed(pose, -1))
    return placed


def _plants(rng: np.random.Generator) -> list[Mesh]:
    """Trees, bushes and hedges around the origin."""

    def bush(builder: MeshBuilder) -> None:
        radii: Float[np.ndarray, " 3"] = rng.uniform((0.8, 0.7, 0.6), (2.0, 1.4, 1.1))
        add_crown(builder, (0.0, 0.0, float(radii[2]) * 0.8), radii, GREENS[int(rng.integers(len(GREENS)))], 12, rng)

    def hedge(builder: MeshBuilder) -> None:
        rgb = GREENS[int(rng.integers(len(GREENS)))]
        add_hedge(builder, (0.0, 0.0, 0.0), float(rng.uniform(4.0, 8.0)), float(rng.uniform(0.9, 1.6)), rgb, rng)

    def tree(builder: MeshBuilder) -> None:
        add_tree(builder, (0.0, 0.0), GREENS, rng, is_street_tree=bool(rng.random() < 0.5))

    return [_built(add) for add in (tree, tree, tree, tree, bush, bush, hedge, hedge)]


def _houses(rng: np.random.Generator) -> list[Mesh]:
    """One building of every style around the origin; the front faces -y."""
    widths = {"house": 11.0, "apartments": 20.0, "office": 24.0, "shop": 13.0, "shed": 28.0}
    floors = {"house": 2, "apartments": 4, "office": 5, "shop": 2, "shed": 1}
    shapes = []
    for style in BUILDING_STYLES:
        building = Building(
            style=style, pose=(0.0, 0.0, 0.0), width_m=widths[style], depth_m=float(rng.uniform(9.0, 12.0)),
            floors=floors[style], floor_m=6.0 if style == "shed" else float(rng.uniform(2.8, 3.4)),
        )  # fmt: skip
        builder = MeshBuilder()
        add_building(builder, building, rng)
        shapes.append(builder.build())
    return shapes


def _built(add: Callable[[MeshBuilder], None]) -> Mesh:
    builder = MeshBuilder()
    add(builder)
    return builder.build()
