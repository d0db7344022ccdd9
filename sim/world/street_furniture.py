"""Street lamps and what else stands about: signs, fences, bins, benches, posts."""

from dataclasses import dataclass

import numpy as np
from shapely.geometry import Polygon

from bevstack.sim.world.mesh import Material
from bevstack.sim.world.mesh_builder import STATIC_MANMADE, MeshBuilder
from bevstack.sim.world.polylines import at_stations
from bevstack.sim.world.town_layout import SIDE_BAY_WIDTH_M, TOWN_SIZE_M, Layout
from bevstack.sim.world.town_parking import ParkingLot
from bevstack.sim.world.town_surface import KERB_HEIGHT_M, Ground


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


def lamp_places(layout: Layout, surface: Polygon, rng: np.random.Generator) -> list[Lamp]:
    """Lamps on alternating sides of every road, at least half a metre from any kerb."""
    spacing = rng.uniform(24.0, 34.0)
    height, arm = rng.uniform(6.0, 9.0), rng.uniform(1.2, 2.4)
    lamps = []
    for road in layout.roads:
        stations = np.arange(road.mouth_m + 6.0, road.length_m, spacing)
        poses = at_stations(road.reference, stations)
        for number, (x, y, yaw) in enumerate(poses):
            side = 1.0 if number % 2 else -1.0
            half = road.left_m if side > 0 else road.right_m
            bay = SIDE_BAY_WIDTH_M if (road.bay_left if side > 0 else road.bay_right) else 0.0
            lateral = side * (half + bay + min(layout.kerb_strip_m, 0.8) + 0.35)
            foot = (float(x - lateral * np.sin(yaw)), float(y + lateral * np.cos(yaw)), float(yaw - side * np.pi / 2))
            if max(abs(foot[0]), abs(foot[1])) < TOWN_SIZE_M / 2 - 2.0:
                lamps.append(Lamp(foot=foot, height_m=float(height), arm_m=float(arm + bay)))
    return lamps


def add_furniture(
    builder: MeshBuilder,
    layout: Layout,
    surface: Polygon,
    ground: Ground,
    lots: list[ParkingLot],
    lamps: list[Lamp],
    rng: np.random.Generator,
) -> None:
    """Add everything that stands beside the roads."""
    for lamp in lamps:
        _add_lamp(builder, lamp)


def _add_lamp(builder: MeshBuilder, lamp: Lamp) -> None:
    x, y, yaw = lamp.foot
    head = lamp.head
    grey = (98, 102, 104)
    builder.cone((x, y, KERB_HEIGHT_M), (x, y, lamp.height_m), (0.11, 0.07), grey)
    builder.cone((x, y, lamp.height_m - 0.1), (head[0], head[1], lamp.height_m + 0.1), (0.05, 0.04), grey, sides=4)
    metal = {"material": Material.METAL, "semantic": STATIC_MANMADE}
    builder.box((head[0], head[1], yaw), (0.7, 0.28, 0.12), lamp.height_m + 0.06, grey, **metal)
    light = {"material": Material.STREETLAMP, "semantic": STATIC_MANMADE}
    builder.box((head[0], head[1], yaw), (0.6, 0.24, 0.06), lamp.height_m, (255, 236, 200), **light)
