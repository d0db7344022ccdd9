"""Houses, apartment blocks, offices, shops and sheds along the roads, with window facades and doors."""

from dataclasses import dataclass

import numpy as np
from shapely.geometry import Polygon

from bevstack.sim.world.mesh import Material
from bevstack.sim.world.mesh_builder import STATIC_MANMADE, MeshBuilder, Rgb, to_world
from bevstack.sim.world.polylines import at_stations
from bevstack.sim.world.town_layout import SIDE_BAY_WIDTH_M, TOWN_SIZE_M, Layout, Road
from bevstack.sim.world.town_sites import Sites

BUILDING_STYLES = ("house", "apartments", "office", "shop", "shed")
_DISTRICTS = {
    "suburb": (0.75, 0.1, 0.0, 0.1, 0.05),
    "centre": (0.0, 0.35, 0.35, 0.3, 0.0),
    "mixed": (0.25, 0.35, 0.1, 0.2, 0.1),
    "industry": (0.05, 0.1, 0.2, 0.1, 0.55),
}
_PLASTERS: tuple[Rgb, ...] = (
    (206, 198, 180), (188, 176, 152), (214, 208, 200), (176, 160, 140), (196, 168, 132), (160, 166, 168),
    (204, 184, 170),
)  # fmt: skip
_BRICKS: tuple[Rgb, ...] = ((140, 78, 60), (122, 70, 56), (154, 98, 74), (112, 84, 72), (166, 124, 96))
_ROOFS: tuple[Rgb, ...] = ((112, 62, 48), (84, 74, 70), (70, 72, 78), (128, 78, 56), (96, 88, 80))
_METALS: tuple[Rgb, ...] = ((150, 158, 164), (120, 134, 142), (166, 160, 148), (96, 116, 128))
_WINDOW: Rgb = (58, 68, 80)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Style:
    floors: tuple[int, int]
    floor_m: tuple[float, float]
    width_m: tuple[float, float]
    depth_m: tuple[float, float]
    setback_m: tuple[float, float]
    gap_m: tuple[float, float]


_STYLES = {
    "house": _Style(
        floors=(1, 2), floor_m=(2.7, 3.0), width_m=(8, 14), depth_m=(8, 11), setback_m=(3, 8), gap_m=(4, 10)
    ),
    "apartments": _Style(
        floors=(3, 6), floor_m=(2.8, 3.2), width_m=(14, 28), depth_m=(10, 14), setback_m=(1, 5), gap_m=(0.1, 6)
    ),
    "office": _Style(
        floors=(4, 11), floor_m=(3.3, 3.8), width_m=(18, 32), depth_m=(14, 22), setback_m=(1, 6), gap_m=(1, 8)
    ),
    "shop": _Style(
        floors=(1, 3), floor_m=(3.0, 3.6), width_m=(8, 18), depth_m=(9, 14), setback_m=(0.5, 2), gap_m=(0.1, 3)
    ),
    "shed": _Style(
        floors=(1, 1), floor_m=(5.0, 8.5), width_m=(20, 38), depth_m=(14, 24), setback_m=(4, 10), gap_m=(5, 12)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """A placed building; x of its frame runs along the street, the front faces -y."""

    style: str
    pose: tuple[float, float, float]
    width_m: float
    depth_m: float
    floors: int
    floor_m: float

    @property
    def height_m(self) -> float:
        """Height of the eaves or of the flat roof."""
        return self.floors * self.floor_m + 0.4

    @property
    def footprint(self) -> Polygon:
        """The ground that it covers."""
        corners = _corners(self.width_m / 2, self.depth_m / 2)
        return Polygon(to_world(corners, self.pose)[:, :2])


def add_buildings(builder: MeshBuilder, layout: Layout, sites: Sites, rng: np.random.Generator) -> list[Building]:
    """Line the roads with buildings and close the view with a second row; returns what was placed."""
    district = str(rng.choice(list(_DISTRICTS)))
    weights = np.array(_DISTRICTS[district])
    placed: list[Building] = []
    for road in layout.roads:
        for side in (-1.0, 1.0):
            placed += _row(road, side, layout, sites, weights, rng)
    placed += _background(sites, weights, rng)
    for building in placed:
        add_building(builder, building, rng)
    return placed


def _row(
    road: Road, side: float, layout: Layout, sites: Sites, weights: np.ndarray, rng: np.random.Generator
) -> list[Building]:
    placed = []
    station = road.mouth_m * 0.6 + rng.uniform(0.0, 8.0)
    while station < road.length_m - 24.0:
        building, advance = _draw(road, side, station, layout, weights, rng)
        if rng.random() < 0.88 and sites.place_footprint(building.footprint, 0.05):
            placed.append(building)
            station += advance
        else:
            station += rng.uniform(3.0, 7.0)
    return placed


def _draw(
    road: Road, side: float, station: float, layout: Layout, weights: np.ndarray, rng: np.random.Generator
) -> tuple[Building, float]:
    name = str(rng.choice(BUILDING_STYLES, p=weights))
    style = _STYLES[name]
    width, depth = rng.uniform(*style.width_m), rng.uniform(*style.depth_m)
    x, y, yaw = at_stations(road.reference, np.array((station + width / 2,)))[0]
    kerb = (road.left_m if side > 0 else road.right_m) + (
        SIDE_BAY_WIDTH_M if (road.bay_left if side > 0 else road.bay_right) else 0.0
    )
    lateral = side * (kerb + layout.kerb_strip_m + layout.sidewalk_m + rng.uniform(*style.setback_m) + 0.2 + depth / 2)
    building = Building(
        style=name,
        pose=(
            float(x - lateral * np.sin(yaw)),
            float(y + lateral * np.cos(yaw)),
            float(yaw if side > 0 else yaw + np.pi),
        ),
        width_m=float(width),
        depth_m=float(depth),
        floors=int(rng.integers(style.floors[0], style.floors[1] + 1)),
        floor_m=float(rng.uniform(*style.floor_m)),
    )
    return building, float(width + rng.uniform(*style.gap_m))


def _background(sites: Sites, weights: np.ndarray, rng: np.random.Generator) -> list[Building]:
    """Larger buildings away from the roads, most of them near the border, so that streets do not end in nothing."""
    placed: list[Building] = []
    for _ in range(45):
        name = str(rng.choice(BUILDING_STYLES, p=weights))
        style = _STYLES[name]
        spot = rng.uniform(-1.0, 1.0, 2)
        spot[rng.integers(2)] = rng.choice((-1.0, 1.0)) * rng.uniform(0.8, 1.0)
        building = Building(
            style=name,
            pose=(
                *(spot * (TOWN_SIZE_M / 2 - 8.0)).tolist(),
                float(rng.choice(4) * np.pi / 2 + rng.uniform(-0.1, 0.1)),
            ),
            width_m=float(style.width_m[1] * rng.uniform(0.8, 1.1)),
            depth_m=float(rng.uniform(*style.depth_m)),
            floors=int(style.floors[1]),
            floor_m=float(rng.uniform(*style.floor_m)),
        )
        if len(placed) < 14 and sites.place_footprint(building.footprint, 2.0):
            placed.append(building)
    return placed


def _corners(half_x: float, half_y: float) -> np.ndarray:
    flat = ((-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y))
    return np.array([(x, y, 0.0) for x, y in flat])


def add_building(builder: MeshBuilder, building: Building, rng: np.random.Generator) -> None:
    """Add one building."""
    if building.style == "shed":
        wall, material = _METALS[int(rng.integers(len(_METALS)))], Material.METAL
    elif building.style == "office":
        wall, material = _PLASTERS[int(rng.integers(len(_PLASTERS)))], Material.CONCRETE
    elif rng.random() < 0.45:
        wall, material = _BRICKS[int(rng.integers(len(_BRICKS)))], Material.BRICK
    else:
        wall, material = _PLASTERS[int(rng.integers(len(_PLASTERS)))], Material.PLASTER
    _add_walls(builder, building, wall, material)
    for facade in range(4):
        _add_windows(builder, building, facade, rng)
    _add_entrance(builder, building, rng)
    roof = _ROOFS[int(rng.integers(len(_ROOFS)))]
    if building.style == "house" or (building.style in ("shop", "apartments") and rng.random() < 0.35):
        _add_gable(builder, building, roof, wall, material, float(rng.uniform(0.35, 0.8)))
    else:
        _add_flat_roof(builder, building, wall, material, rng)


def _add_walls(builder: MeshBuilder, building: Building, rgb: Rgb, material: int) -> None:
    corners = _corners(building.width_m / 2, building.depth_m / 2)
    following = np.roll(corners, -1, axis=0)
    up = np.array((0.0, 0.0, building.height_m))
    walls = np.stack((corners, following, following + up, corners + up), axis=1)
    builder.quads(to_world(walls, building.pose), rgb, material, STATIC_MANMADE)


def _facade(building: Building, facade: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Length of a facade (0 front, 1 right, 2 back, 3 left), its left end seen from outside and its direction."""
    corners = _corners(building.width_m / 2, building.depth_m / 2)
    start, end = corners[facade], corners[(facade + 1) % 4]
    length = float(np.linalg.norm(end - start))
    return length, start, (end - start) / length


def _panels(
    builder: MeshBuilder,
    building: Building,
    facade: int,
    rectangles: np.ndarray,
    rgb: Rgb | np.ndarray,
    material: int,
    out_m: float = 0.04,
) -> None:
    """Add flat rectangles (R, 4) in front of a facade: left, right along it and bottom, top above the ground."""
    if not len(rectangles):
        return
    _, start, along = _facade(building, facade)
    outward = np.array((along[1], -along[0], 0.0))
    left, right, bottom, top = (rectangles[:, column, None] for column in range(4))
    up = np.array((0.0, 0.0, 1.0))
    base = start + out_m * outward
    quads = np.stack(
        (
            base + left * along + bottom * up,
            base + right * along + bottom * up,
            base + right * along + top * up,
            base + left * along + top * up,
        ),
        axis=1,
    )
    builder.quads(to_world(quads, building.pose), rgb, material, STATIC_MANMADE)


def _add_windows(builder: MeshBuilder, building: Building, facade: int, rng: np.random.Generator) -> None:
    length = _facade(building, facade)[0]
    first = 1 if facade == 0 else 0  # the front ground floor has doors and shop windows
    if building.style == "shed":
        count = int(length // 9)
        rows = [(0.7 * building.height_m, 0.85 * building.height_m)] if facade != 2 else []
        window, pitch = 2.4, 9.0
    elif building.style == "office":
        rows = [
            (floor * building.floor_m + 1.0, (floor + 1) * building.floor_m - 0.5)
            for floor in range(first, building.floors)
        ]
        pitch = max(length / 3.0, 5.0)
        count, window = int(length // pitch), pitch - 0.5
    else:
        pitch, window = float(rng.uniform(2.4, 3.4)), float(rng.uniform(0.9, 1.5))
        rows = [
            (floor * building.floor_m + 0.95, floor * building.floor_m + 2.3) for floor in range(first, building.floors)
        ]
        count = int((length - 0.6) // pitch)
    if not rows or count < 1:
        return
    margin = (length - count * pitch) / 2 + (pitch - window) / 2
    lefts = margin + pitch * np.arange(count)
    rectangles = np.array([(left, left + window, low, high) for low, high in rows for left in lefts])
    shade = rng.integers(-14, 22, (len(rectangles), 1))
    rgb = np.clip(np.array(_WINDOW) + shade, 0, 255).astype(np.uint8)
    _panels(builder, building, facade, rectangles, rgb, Material.WINDOW)


def _add_entrance(builder: MeshBuilder, building: Building, rng: np.random.Generator) -> None:
    """The front ground floor: a door, and windows, a gate or shop windows beside it."""
    width = building.width_m
    top = min(building.floor_m - 0.4, 2.9)
    door = float(rng.uniform(0.2, 0.7)) * width
    colour = tuple(int(value) for value in rng.integers(40, 130, 3))
    rgb = (colour[0], colour[1], colour[2])
    _panels(builder, building, 0, np.array(((door, door + 1.15, 0.0, 2.15),)), rgb, Material.WOOD, 0.05)
    beside = [(0.6, door - 0.5), (door + 1.6, width - 0.6)]
    if building.style == "shed":
        gates = [(left + 0.5, left + 4.3, 0.0, 4.2) for left, right in beside if right - left > 5.5]
        _panels(builder, building, 0, np.array(gates).reshape(-1, 4), (172, 174, 170), Material.METAL)
    elif building.style in ("shop", "office"):
        glass = [(left, right, 0.45, top) for left, right in beside if right - left > 1.0]
        _panels(builder, building, 0, np.array(glass).reshape(-1, 4), (52, 60, 66), Material.WINDOW)
        if building.style == "shop":
            sign = rng.integers(30, 230, 3)
            board = (int(sign[0]), int(sign[1]), int(sign[2]))
            _panels(
                builder,
                building,
                0,
                np.array(((0.5, width - 0.5, top + 0.1, top + 0.75),)),
                board,
                Material.PLASTIC,
                0.12,
            )
            _add_awning(builder, building, top, board)
    else:
        windows = []
        for left, right in beside:
            for number in range(int((right - left) // 2.8)):
                windows.append((left + 2.8 * number + 0.6, left + 2.8 * number + 1.8, 0.95, 2.25))
        _panels(builder, building, 0, np.array(windows).reshape(-1, 4), _WINDOW, Material.WINDOW)
        if building.style == "apartments":
            _add_balconies(builder, building, rng)


def _add_awning(builder: MeshBuilder, building: Building, top: float, rgb: Rgb) -> None:
    half, front = building.width_m / 2 - 0.6, -building.depth_m / 2
    upper = ((-half, front - 0.1, top + 0.1), (half, front - 0.1, top + 0.1))
    lower = ((half, front - 0.9, top - 0.25), (-half, front - 0.9, top - 0.25))
    quad = np.array((lower[1], lower[0], upper[1], upper[0]))
    both = to_world(np.stack((quad, quad[::-1])), building.pose)
    builder.quads(both, rgb, Material.CLOTH, STATIC_MANMADE)


def _add_balconies(builder: MeshBuilder, building: Building, rng: np.random.Generator) -> None:
    columns = np.arange(4.0, building.width_m - 3.0, float(rng.uniform(6.0, 8.0)))
    for floor in range(1, building.floors):
        for column in columns:
            local = np.array((column - building.width_m / 2, -building.depth_m / 2 - 0.6, 0.0))
            x, y, _ = to_world(local, building.pose)
            builder.box(
                (float(x), float(y), building.pose[2]),
                (2.6, 1.2, 1.0),
                floor * building.floor_m,
                (150, 150, 148),
                material=Material.CONCRETE,
                semantic=STATIC_MANMADE,
            )


def _add_gable(builder: MeshBuilder, building: Building, roof: Rgb, wall: Rgb, material: int, slope: float) -> None:
    half_x, half_y, eaves = building.width_m / 2, building.depth_m / 2, building.height_m
    ridge = eaves + slope * half_y
    out, drop = 0.4, 0.4 * slope
    low_y, low_z, x = half_y + out, eaves - drop, half_x + out
    front = ((-x, -low_y, low_z), (x, -low_y, low_z), (x, 0.0, ridge), (-x, 0.0, ridge))
    back = ((x, low_y, low_z), (-x, low_y, low_z), (-x, 0.0, ridge), (x, 0.0, ridge))
    # Seen from below, eaves show their underside: both faces are built.
    slopes = np.array((front, back, front[::-1], back[::-1])) + np.array((0.0, 0.0, 0.05))
    slopes[2:] -= (0.0, 0.0, 0.005)
    builder.quads(to_world(slopes, building.pose), roof, Material.BRICK, STATIC_MANMADE)
    right = np.array(((half_x, -half_y, eaves), (half_x, half_y, eaves), (half_x, 0.0, ridge)))
    left = np.array(((-half_x, half_y, eaves), (-half_x, -half_y, eaves), (-half_x, 0.0, ridge)))
    ends = to_world(np.concatenate((right, left)), building.pose)
    builder.add(ends, np.arange(6).reshape(2, 3), wall, material, STATIC_MANMADE)
    x_w, y_w, _ = to_world(np.array((half_x * 0.5, 0.6, 0.0)), building.pose)
    chimney = {"material": Material.BRICK, "semantic": STATIC_MANMADE}
    builder.box((float(x_w), float(y_w), building.pose[2]), (0.7, 0.6, 1.6), ridge - 0.9, (120, 84, 70), **chimney)


def _add_flat_roof(
    builder: MeshBuilder, building: Building, wall: Rgb, material: int, rng: np.random.Generator
) -> None:
    """A roof half a metre below the top of the walls, with boxes of machinery on larger ones."""
    corners = _corners(building.width_m / 2 - 0.25, building.depth_m / 2 - 0.25) + (0.0, 0.0, building.height_m - 0.5)
    outer = _corners(building.width_m / 2, building.depth_m / 2) + (0.0, 0.0, building.height_m)
    up = np.array((0.0, 0.0, 0.5))
    builder.quads(to_world(corners[None], building.pose), (110, 108, 104), Material.CONCRETE, STATIC_MANMADE)
    inner, inner_next, outer_next = (
        np.roll(ring, -1, axis=0) for ring in (np.roll(corners, 1, axis=0), corners, outer)
    )
    rim = np.stack((outer, outer_next, inner_next + up, inner + up), axis=1)
    parapet = np.stack((inner_next, inner, inner + up, inner_next + up), axis=1)
    builder.quads(to_world(np.concatenate((rim, parapet)), building.pose), wall, material, STATIC_MANMADE)
    for _ in range(int(rng.integers(0, 4)) if building.width_m > 14.0 else 0):
        spot = rng.uniform(-0.32, 0.32, 2) * (building.width_m, building.depth_m)
        x, y, _ = to_world(np.array((spot[0], spot[1], 0.0)), building.pose)
        size = (float(rng.uniform(1.2, 3.0)), float(rng.uniform(1.2, 2.4)), float(rng.uniform(0.8, 2.2)))
        metal = {"material": Material.METAL, "semantic": STATIC_MANMADE}
        builder.box((float(x), float(y), building.pose[2]), size, building.height_m - 0.5, (146, 148, 150), **metal)
