"""Trees, bushes and hedges. Crowns are a dense core with loose leaves around it, so that LiDAR sees into them."""

import numpy as np
from jaxtyping import Float

from bevstack.sim.world.mesh import Material
from bevstack.sim.world.mesh_builder import STATIC_VEGETATION, MeshBuilder, Rgb, to_world
from bevstack.sim.world.polylines import at_stations
from bevstack.sim.world.town_layout import SIDE_BAY_WIDTH_M, TOWN_SIZE_M, Layout, Road
from bevstack.sim.world.town_sites import Sites

GREENS: tuple[Rgb, ...] = ((58, 92, 38), (74, 104, 44), (48, 78, 36), (92, 112, 52), (66, 86, 50))
_AUTUMN: tuple[Rgb, ...] = ((150, 104, 40), (136, 76, 36), (164, 132, 54))
_GROUND_M = 0.15
_GOLDEN = (1 + 5**0.5) / 2
_ICOSAHEDRON = np.array(
    [(-1, _GOLDEN, 0), (1, _GOLDEN, 0), (-1, -_GOLDEN, 0), (1, -_GOLDEN, 0), (0, -1, _GOLDEN), (0, 1, _GOLDEN),
     (0, -1, -_GOLDEN), (0, 1, -_GOLDEN), (_GOLDEN, 0, -1), (_GOLDEN, 0, 1), (-_GOLDEN, 0, -1), (-_GOLDEN, 0, 1)]
) / np.hypot(1, _GOLDEN)  # fmt: skip
_ICOSAHEDRON_FACES = np.array(
    [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6),
     (7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11),
     (6, 2, 10), (8, 6, 7), (9, 8, 1)]
)  # fmt: skip


def add_vegetation(builder: MeshBuilder, layout: Layout, sites: Sites, rng: np.random.Generator) -> None:
    """Add trees along the kerbs and on the grass, bushes, and hedges behind the sidewalks."""
    palette = GREENS + (_AUTUMN if rng.random() < 0.2 else ())
    for road in layout.roads:
        for side in (-1.0, 1.0):
            if rng.random() < 0.65:
                spacing = rng.uniform(9.0, 17.0)
                stations = np.arange(road.mouth_m + rng.uniform(9.0, 16.0), road.length_m, spacing)
                stations = stations + rng.uniform(-1.5, 1.5, len(stations))
                for x, y, _ in sites.kerb_side(road, side, stations):
                    if sites.take_disk(float(x), float(y), 1.2):
                        add_tree(builder, (float(x), float(y)), palette, rng, is_street_tree=True)
            if rng.random() < 0.5:
                _add_hedges(builder, layout, sites, road, side, rng)
    points = rng.uniform(-TOWN_SIZE_M / 2, TOWN_SIZE_M / 2, (260, 2))
    points = points[sites.free_ground(points, 2.2)][: int(rng.integers(40, 75))]
    for x, y in points.tolist():
        if sites.take_disk(x, y, 2.0):
            if rng.random() < 0.7:
                add_tree(builder, (x, y), palette, rng, is_street_tree=False)
            else:
                size = rng.uniform(0.6, 1.5)
                crown = np.array((size * rng.uniform(0.9, 1.6), size, size * 0.8))
                add_crown(builder, (x, y, _GROUND_M + crown[2] * 0.8), crown, _pick(palette, rng), 10, rng)
    if layout.ring_radius_m:
        _add_island_plants(builder, layout, palette, rng)


def _pick(palette: tuple[Rgb, ...], rng: np.random.Generator) -> Rgb:
    return palette[int(rng.integers(len(palette)))]


def _add_island_plants(
    builder: MeshBuilder, layout: Layout, palette: tuple[Rgb, ...], rng: np.random.Generator
) -> None:
    radius = layout.ring_radius_m - layout.ring_width_m / 2 - 2.0
    for _ in range(int(rng.integers(2, 7))):
        angle, distance = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.random())
        x, y = (layout.center + distance * np.array((np.cos(angle), np.sin(angle)))).tolist()
        if rng.random() < 0.5:
            add_tree(builder, (x, y), palette, rng, is_street_tree=False)
        else:
            add_crown(builder, (x, y, 0.6), np.array((1.2, 1.0, 0.7)), _pick(palette, rng), 10, rng)


def add_tree(
    builder: MeshBuilder,
    foot: tuple[float, float],
    palette: tuple[Rgb, ...],
    rng: np.random.Generator,
    *,
    is_street_tree: bool,
) -> None:
    """Add a tree; street trees are slimmer and clear of the road."""
    x, y = foot
    colour = _pick(palette, rng)
    trunk_rgb: Rgb = (86, 68, 52) if rng.random() < 0.8 else (150, 146, 138)
    if not is_street_tree and rng.random() < 0.25:
        _add_conifer(builder, foot, colour, trunk_rgb, rng)
        return
    clear = rng.uniform(2.4, 3.2) if is_street_tree else rng.uniform(1.2, 2.8)
    radius = rng.uniform(1.3, 2.4) if is_street_tree else rng.uniform(1.5, 3.6)
    height = radius * rng.uniform(0.9, 1.5)
    thick = 0.07 + 0.05 * radius
    kind = {"material": Material.WOOD, "semantic": STATIC_VEGETATION, "sides": 5}
    lean = rng.uniform(-0.2, 0.2, 2)
    top = (x + float(lean[0]), y + float(lean[1]), float(clear + height * 0.8))
    builder.cone((x, y, _GROUND_M - 0.1), top, (thick, thick * 0.6), trunk_rgb, **kind)
    crown = np.array((radius, radius * rng.uniform(0.85, 1.15), height))
    add_crown(builder, (top[0], top[1], float(clear + height)), crown, colour, 44, rng)


def _add_conifer(
    builder: MeshBuilder, foot: tuple[float, float], rgb: Rgb, trunk_rgb: Rgb, rng: np.random.Generator
) -> None:
    x, y = foot
    height, radius = rng.uniform(5.0, 11.0), rng.uniform(1.2, 2.2)
    wood = {"material": Material.WOOD, "semantic": STATIC_VEGETATION, "sides": 5}
    builder.cone((x, y, 0.0), (x, y, 1.4), (0.16, 0.14), trunk_rgb, **wood)
    leaf = {"material": Material.FOLIAGE, "semantic": STATIC_VEGETATION, "sides": 9}
    for level in range(3):
        low = 0.9 + level * 0.27 * height
        builder.cone((x, y, low), (x, y, low + 0.45 * height), (radius * (1 - 0.27 * level), 0.05), rgb, **leaf)


def add_crown(
    builder: MeshBuilder,
    center: tuple[float, float, float],
    radii: Float[np.ndarray, " 3"],
    rgb: Rgb,
    leaves: int,
    rng: np.random.Generator,
) -> None:
    """An uneven ellipsoid at 75 % of the size and loose triangles out to the full one, each visible from both sides."""
    core = _ICOSAHEDRON * rng.uniform(0.65, 0.95, (12, 1)) * radii * 0.8 + center
    shade = rng.integers(-14, 15, (20, 1))
    faces_rgb = np.clip(np.array(rgb) + shade, 0, 255).astype(np.uint8)
    builder.add(_in_square(core), _ICOSAHEDRON_FACES, faces_rgb, Material.FOLIAGE, STATIC_VEGETATION)
    directions = rng.normal(size=(leaves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    middles = directions * rng.uniform(0.72, 1.0, (leaves, 1)) * radii + center
    size = 0.34 * float(radii.mean())
    spread = rng.normal(scale=size * 0.6, size=(leaves, 3, 3))
    corners = (middles[:, None] + spread).reshape(-1, 3)
    front = np.arange(3 * leaves).reshape(-1, 3)
    leaf_rgb = np.clip(np.array(rgb) + rng.integers(-18, 26, (leaves, 1)), 0, 255).astype(np.uint8)
    both = np.concatenate((front, front[:, ::-1]))
    builder.add(_in_square(corners), both, np.concatenate((leaf_rgb, leaf_rgb)), Material.FOLIAGE, STATIC_VEGETATION)


def _in_square(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Crowns are cut off flat at the border of the town."""
    half = TOWN_SIZE_M / 2
    return np.clip(points, (-half, -half, -np.inf), (half, half, np.inf))


def _add_hedges(
    builder: MeshBuilder, layout: Layout, sites: Sites, road: Road, side: float, rng: np.random.Generator
) -> None:
    """Hedges just behind a sidewalk, in runs of several metres with gaps."""
    bay = SIDE_BAY_WIDTH_M if (road.bay_left if side > 0 else road.bay_right) else 0.0
    lateral = side * (
        (road.left_m if side > 0 else road.right_m) + bay + layout.kerb_strip_m + layout.sidewalk_m + 0.65
    )
    height, station = rng.uniform(0.8, 1.7), road.mouth_m + rng.uniform(10.0, 30.0)
    rgb = _pick(GREENS, rng)
    while station < road.length_m - 30.0:
        length = float(rng.uniform(3.0, 9.0))
        x, y, yaw = at_stations(road.reference, np.array((station + length / 2,)))[0]
        pose = (float(x - lateral * np.sin(yaw)), float(y + lateral * np.cos(yaw)), float(yaw))
        ends = to_world(np.array(((-length / 2, 0.0, 0.0), (0.0, 0.0, 0.0), (length / 2, 0.0, 0.0))), pose)[:, :2]
        if sites.free_ground(ends, 0.42).all() and all(sites.take_disk(px, py, 0.4) for px, py in ends.tolist()):
            add_hedge(builder, pose, length, height, rgb, rng)
        station += length + float(rng.choice((0.3, 4.0, 12.0)))


def add_hedge(
    builder: MeshBuilder,
    pose: tuple[float, float, float],
    length: float,
    height: float,
    rgb: Rgb,
    rng: np.random.Generator,
) -> None:
    """A box of foliage with an uneven surface, closed on five sides."""
    columns = max(int(length / 1.2), 2) + 1
    along = np.linspace(-length / 2, length / 2, columns)
    profile = np.array(((-0.38, 0.0), (-0.42, 0.9), (0.42, 0.9), (0.38, 0.0))) * (1.0, height)
    grid = np.zeros((columns, 4, 3))
    grid[..., 0], grid[..., 1:] = along[:, None], profile
    grid[:, 1:3] += rng.uniform(-0.08, 0.08, (columns, 2, 3))
    grid[..., 2] += _GROUND_M
    world = to_world(grid, pose)
    sides = np.stack((world[:-1, :-1], world[:-1, 1:], world[1:, 1:], world[1:, :-1]), axis=2).reshape(-1, 4, 3)
    ends = np.stack((world[0, ::-1], world[-1]))
    quads = np.concatenate((sides[:, ::-1], ends[:, ::-1]))
    shade = np.clip(np.array(rgb) + rng.integers(-12, 13, (len(quads), 1)), 0, 255).astype(np.uint8)
    builder.quads(quads, shade, Material.FOLIAGE, STATIC_VEGETATION)
