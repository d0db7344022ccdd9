"""Street lamps and what else stands about: signs, fences, bins, benches, posts."""

from dataclasses import dataclass

import numpy as np

from bevstack.sim.world.mesh import Material
from bevstack.sim.world.mesh_builder import (
    STATIC_MANMADE,
    STATIC_OTHER,
    STATIC_VEGETATION,
    MeshBuilder,
    Rgb,
    to_world,
)
from bevstack.sim.world.polylines import at_stations, headings
from bevstack.sim.world.roads import RoadNetwork, StopLine
from bevstack.sim.world.town_layout import SIDE_BAY_WIDTH_M, STEP_M, TOWN_SIZE_M, Layout, Road, crossing_station
from bevstack.sim.world.town_parking import ParkingLot
from bevstack.sim.world.town_sites import Sites
from bevstack.sim.world.town_surface import KERB_HEIGHT_M


@dataclass(frozen=True, slots=True, kw_only=True)
class Lamp:
    """A street lamp: a pole behind the kerb with an arm over the road."""

    foot: tuple[float, float, float]
    """x, y, yaw; yaw points at the road."""
    height_m: float
    arm_m: float

    @property
    def head(self) -> tuple[float, float, float]:
        """Position of the light."""
        x, y, yaw = self.foot
        return x + self.arm_m * float(np.cos(yaw)), y + self.arm_m * float(np.sin(yaw)), self.height_m


def lamp_places(layout: Layout, sites: Sites, rng: np.random.Generator) -> list[Lamp]:
    """Lamps on alternating sides of every road, just behind the kerb."""
    spacing = rng.uniform(24.0, 34.0)
    height, arm = float(rng.uniform(6.0, 9.0)), float(rng.uniform(1.2, 2.4))
    lamps = []
    for road in layout.roads:
        stations = np.arange(road.mouth_m + 6.0, road.length_m, spacing)
        for side, own in ((-1.0, stations[::2]), (1.0, stations[1::2])):
            for x, y, yaw in sites.kerb_side(road, side, own).tolist():
                if sites.take_disk(x, y, 0.8):
                    lamps.append(Lamp(foot=(x, y, yaw), height_m=height, arm_m=arm))
    return lamps


def add_furniture(
    builder: MeshBuilder,
    layout: Layout,
    roads: RoadNetwork,
    lots: list[ParkingLot],
    sites: Sites,
    rng: np.random.Generator,
) -> None:
    """Add signs, posts, bins, boxes, benches, shelters and fences."""
    for stop in roads.stop_line_details:
        _add_stop_sign(builder, layout, stop, sites)
    for road in layout.roads:
        for side in (-1.0, 1.0):
            _add_kerb_clutter(builder, road, side, sites, rng)
            _add_walk_clutter(builder, layout, road, side, sites, rng)
        if road.median_m >= 1.5 and rng.random() < 0.5:
            _add_median_posts(builder, road, rng)
    for lot in lots:
        if rng.random() < 0.7:
            _add_fence(builder, lot, rng)


def _add_stop_sign(builder: MeshBuilder, layout: Layout, stop: StopLine, sites: Sites) -> None:
    """The sign that belongs to a stop line, on the right of the lanes that it stops."""
    road = layout.roads[stop.crossing or 0]
    middle = np.asarray(stop.polygon.centroid.coords[0])
    nearest = int(np.argmin(np.hypot(*(road.reference - middle).T)))
    # Lanes that run against the reference line have their right kerb on its left.
    yaw_road = headings(road.reference)[nearest]
    left = np.array((-np.sin(yaw_road), np.cos(yaw_road)))
    side = 1.0 if (middle - road.reference[nearest]) @ left > 0 else -1.0
    places = sites.kerb_side(road, side, np.array((nearest * STEP_M + (2.0 if side > 0 else -2.0),)))
    if not len(places):
        return
    x, y, yaw = places[0].tolist()
    if not sites.take_disk(x, y, 0.4):
        return
    kind = {"STOP_SIGN": "octagon", "YIELD": "triangle"}.get(stop.kind, "diamond")
    _add_sign(builder, (x, y, _towards_traffic(yaw)), kind, 2.3)


def _towards_traffic(kerb_yaw: float) -> float:
    """Heading of a plate at a kerb whose places face the road.

    The driver who has this kerb on the right moves along `kerb_yaw` - 90 degrees; the plate looks the other way.
    """
    return kerb_yaw + np.pi / 2


_SIGNS: dict[str, tuple[int, float, Rgb]] = {
    "octagon": (8, np.pi / 8, (176, 28, 32)),
    "triangle": (3, -np.pi / 2, (206, 60, 48)),
    "diamond": (4, 0.0, (228, 190, 40)),
    "disk": (12, 0.0, (210, 212, 214)),
    "square": (4, np.pi / 4, (36, 84, 160)),
}


def _add_sign(builder: MeshBuilder, pose: tuple[float, float, float], kind: str, height: float) -> None:
    """A plate on a post; the plate faces along yaw and its back is bare metal."""
    x, y, yaw = pose
    builder.cone((x, y, KERB_HEIGHT_M - 0.05), (x, y, height), (0.035, 0.035), (140, 142, 144), sides=5)
    corners, turn, rgb = _SIGNS[kind]
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    local = np.zeros((corners + 1, 3))
    local[1:, 1], local[1:, 2] = 0.38 * np.cos(angles), 0.38 * np.sin(angles)
    local += (0.05, 0.0, height - 0.1)
    following = np.arange(1, corners + 1) % corners + 1
    faces = np.stack((np.zeros(corners, int), np.arange(1, corners + 1), following), axis=1)
    world = to_world(local, (x, y, yaw))
    builder.add(world, faces, rgb, Material.RETROREFLECTOR, STATIC_MANMADE)
    builder.add(world, faces[:, ::-1], (150, 152, 154), Material.METAL, STATIC_MANMADE)


def _add_kerb_clutter(builder: MeshBuilder, road: Road, side: float, sites: Sites, rng: np.random.Generator) -> None:
    """Small things between kerb and walk: bins, meters, hydrants, posts, boxes, signs."""
    stations = np.arange(road.mouth_m + 4.0, road.length_m, rng.uniform(8.0, 22.0))
    stations = stations + rng.uniform(-3.0, 3.0, len(stations))
    for x, y, yaw in sites.kerb_side(road, side, stations).tolist():
        name = _CLUTTER[int(rng.choice(len(_CLUTTER), p=_CLUTTER_WEIGHTS))]
        if not sites.take_disk(x, y, 0.5):
            continue
        if name == "sign":
            plate = ("disk", "square", "diamond", "triangle")[int(rng.integers(4))]
            _add_sign(builder, (x, y, _towards_traffic(yaw)), plate, 2.4)
        else:
            _add_small(builder, name, (x, y, yaw), rng)


_CLUTTER = ("bin", "post", "hydrant", "meter", "cabinet", "pillar", "sign")
_CLUTTER_WEIGHTS = (0.2, 0.2, 0.12, 0.13, 0.1, 0.08, 0.17)


def _add_small(builder: MeshBuilder, name: str, pose: tuple[float, float, float], rng: np.random.Generator) -> None:
    x, y, _ = pose
    low = KERB_HEIGHT_M - 0.05
    other = {"material": Material.PLASTIC, "semantic": STATIC_OTHER}
    manmade = {"material": Material.METAL, "semantic": STATIC_MANMADE}
    if name == "bin":
        rgb = ((52, 84, 60), (58, 60, 64), (70, 78, 120))[int(rng.integers(3))]
        builder.cone((x, y, low), (x, y, low + 1.0), (0.24, 0.28), rgb, sides=8, **other)
    elif name == "post":
        builder.cone((x, y, low), (x, y, low + 0.95), (0.07, 0.07), (60, 62, 66), sides=6, **manmade)
        builder.cone((x, y, low + 0.7), (x, y, low + 0.82), (0.075, 0.075), (230, 228, 220), sides=6, **manmade)
    elif name == "hydrant":
        builder.cone((x, y, low), (x, y, low + 0.62), (0.13, 0.11), (176, 40, 36), sides=7, **manmade)
        builder.cone((x, y, low + 0.6), (x, y, low + 0.78), (0.14, 0.04), (176, 40, 36), sides=7, **manmade)
        builder.box(pose, (0.2, 0.42, 0.12), low + 0.4, (176, 40, 36), **manmade)
    elif name == "meter":
        builder.cone((x, y, low), (x, y, low + 1.1), (0.035, 0.035), (110, 112, 116), sides=5, **manmade)
        builder.box(pose, (0.18, 0.22, 0.36), low + 1.1, (74, 78, 84), **manmade)
    elif name == "cabinet":
        width, height = float(rng.uniform(0.7, 1.3)), float(rng.uniform(0.9, 1.4))
        builder.box(pose, (0.42, width, height), low, (132, 138, 132), **manmade)
    else:
        builder.cone((x, y, low), (x, y, low + 2.7), (0.42, 0.42), (150, 120, 96), sides=10, **manmade)
        builder.cone((x, y, low + 2.7), (x, y, low + 3.1), (0.5, 0.2), (60, 70, 66), sides=10, **manmade)


def _add_walk_clutter(
    builder: MeshBuilder, layout: Layout, road: Road, side: float, sites: Sites, rng: np.random.Generator
) -> None:
    """Benches, planters and shelters behind the walk."""
    bay = SIDE_BAY_WIDTH_M if (road.bay_left if side > 0 else road.bay_right) else 0.0
    half = road.left_m if side > 0 else road.right_m
    lateral = side * (half + bay + layout.kerb_strip_m + layout.sidewalk_m + 0.75)
    stations = np.arange(road.mouth_m + 10.0, road.length_m - 26.0, rng.uniform(20.0, 45.0))
    poses = at_stations(road.reference, stations + rng.uniform(-4.0, 4.0, len(stations)))
    x, y = poses[:, 0] - lateral * np.sin(poses[:, 2]), poses[:, 1] + lateral * np.cos(poses[:, 2])
    free = sites.free_ground(np.column_stack((x, y)), 0.55)
    for place_x, place_y, yaw in np.column_stack((x, y, poses[:, 2] - side * np.pi / 2))[free].tolist():
        if not sites.take_disk(place_x, place_y, 1.6):
            continue
        pose = (place_x, place_y, yaw)
        choice = rng.random()
        if choice < 0.5:
            _add_bench(builder, pose)
        elif choice < 0.85:
            concrete = {"material": Material.CONCRETE, "semantic": STATIC_OTHER}
            builder.box(pose, (0.8, 1.6, 0.55), KERB_HEIGHT_M - 0.05, (150, 146, 138), **concrete)
            leaves = {"material": Material.FOLIAGE, "semantic": STATIC_VEGETATION}
            builder.box(pose, (0.65, 1.4, float(rng.uniform(0.25, 0.6))), 0.62, (70, 104, 52), **leaves)
        else:
            _add_shelter(builder, pose)


def _add_bench(builder: MeshBuilder, pose: tuple[float, float, float]) -> None:
    wood = {"material": Material.WOOD, "semantic": STATIC_MANMADE}
    metal = {"material": Material.METAL, "semantic": STATIC_MANMADE}
    x, y, yaw = pose
    back = to_world(np.array((-0.25, 0.0, 0.0)), pose)
    builder.box(pose, (0.5, 1.6, 0.07), 0.52, (132, 96, 62), **wood)
    builder.box((float(back[0]), float(back[1]), yaw), (0.06, 1.6, 0.4), 0.62, (132, 96, 62), **wood)
    for across in (-0.65, 0.65):
        leg = to_world(np.array((0.0, across, 0.0)), pose)
        builder.box((float(leg[0]), float(leg[1]), yaw), (0.4, 0.06, 0.42), 0.1, (64, 64, 68), **metal)


def _add_shelter(builder: MeshBuilder, pose: tuple[float, float, float]) -> None:
    """A bus shelter: roof, glass back, two posts."""
    metal = {"material": Material.METAL, "semantic": STATIC_MANMADE}
    glass = {"material": Material.GLASS, "semantic": STATIC_MANMADE}
    x, y, yaw = pose
    builder.box(pose, (1.1, 3.2, 0.12), 2.45, (70, 76, 84), **metal)
    for across in (-1.5, 1.5):
        post = to_world(np.array((-0.4, across, 0.0)), pose)
        builder.cone(
            (float(post[0]), float(post[1]), 0.1), (float(post[0]), float(post[1]), 2.5), (0.05, 0.05), (70, 76, 84)
        )
    back = to_world(np.array((-0.42, 0.0, 0.0)), pose)
    builder.box((float(back[0]), float(back[1]), yaw), (0.03, 2.9, 1.8), 0.4, (128, 150, 158), **glass)


def _add_median_posts(builder: MeshBuilder, road: Road, rng: np.random.Generator) -> None:
    """Guard rails or low posts along a raised median."""
    stations = np.arange(crossing_station(road) + 6.0, road.length_m, 4.0)
    poses = at_stations(road.reference, stations)
    poses = poses[np.abs(poses[:, :2]).max(axis=1) < TOWN_SIZE_M / 2 - 2.5]
    has_rail = rng.random() < 0.5
    metal = {"material": Material.METAL, "semantic": STATIC_MANMADE}
    for x, y, yaw in poses.tolist():
        builder.cone((x, y, 0.1), (x, y, 0.8), (0.06, 0.06), (120, 122, 124), sides=5)
        if has_rail:
            builder.box((x, y, yaw), (4.05, 0.06, 0.3), 0.5, (158, 160, 162), **metal)


def _add_fence(builder: MeshBuilder, lot: ParkingLot, rng: np.random.Generator) -> None:
    """A fence of posts and rails around the three far sides of a parking lot."""
    ring = np.asarray(lot.polygon.buffer(0.4, join_style="mitre").exterior.coords)
    rgb = ((120, 122, 120), (124, 96, 66))[int(rng.integers(2))]
    material = Material.METAL if rgb[0] == rgb[1] - 2 else Material.WOOD
    kind = {"material": material, "semantic": STATIC_MANMADE}
    apron = np.asarray(lot.apron.centroid.coords[0])
    sides = list(zip(ring[:-1], ring[1:]))
    near = int(np.argmin([np.linalg.norm((start + end) / 2 - apron) for start, end in sides]))
    for number, (start, end) in enumerate(sides):
        if number == near:
            continue
        length = float(np.linalg.norm(end - start))
        yaw = float(np.arctan2(*(end - start)[::-1]))
        middle = (start + end) / 2
        for height in (0.45, 0.95):
            builder.box((float(middle[0]), float(middle[1]), yaw), (length, 0.05, 0.14), height, rgb, **kind)
        for share in np.linspace(0.0, 1.0, max(int(length / 2.5), 1) + 1):
            x, y = (start + share * (end - start)).tolist()
            builder.box((x, y, yaw), (0.09, 0.09, 1.1), 0.1, rgb, **kind)


def add_lamp(builder: MeshBuilder, lamp: Lamp) -> None:
    """Add a pole, an arm and a head with its light."""
    x, y, yaw = lamp.foot
    head = lamp.head
    grey = (98, 102, 104)
    builder.cone((x, y, KERB_HEIGHT_M), (x, y, lamp.height_m), (0.11, 0.07), grey)
    builder.cone((x, y, lamp.height_m - 0.1), (head[0], head[1], lamp.height_m + 0.1), (0.05, 0.04), grey, sides=4)
    metal = {"material": Material.METAL, "semantic": STATIC_MANMADE}
    builder.box((head[0], head[1], yaw), (0.7, 0.28, 0.12), lamp.height_m + 0.06, grey, **metal)
    light = {"material": Material.STREETLAMP, "semantic": STATIC_MANMADE}
    builder.box((head[0], head[1], yaw), (0.6, 0.24, 0.06), lamp.height_m, (255, 236, 200), **light)
