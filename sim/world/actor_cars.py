"""Passenger cars and pick-ups: a lofted lower body, a glazed cabin set back from the nose, lamps at both ends."""

from dataclasses import dataclass

import numpy as np

from bevstack.sim.world.actor_solids import (
    GLASS_RGB,
    HEADLAMP_RGB,
    PLATE_RGB,
    TAILLAMP_RGB,
    TRIM_RGB,
    Rgb,
    Solids,
)
from bevstack.sim.world.mesh import Material


@dataclass(frozen=True, slots=True, kw_only=True)
class Silhouette:
    """Side view of a car. x runs from -0.5 (tail) to 0.5 (nose) of the length, z from 0 to 1 of the height."""

    nose_z: float
    cowl: tuple[float, float]
    """(x, z) where the windscreen meets the bonnet."""
    roof_front_x: float
    roof_rear_x: float
    deck: tuple[float, float]
    """(x, z) where the rear window meets the boot lid or the tail."""
    tail_z: float
    size_lwh: tuple[float, float, float]
    is_pickup: bool = False


SILHOUETTES = {
    "sedan": Silhouette(nose_z=0.50, cowl=(0.17, 0.63), roof_front_x=0.04, roof_rear_x=-0.20, deck=(-0.33, 0.66),
                        tail_z=0.60, size_lwh=(4.75, 1.93, 1.56)),
    "hatchback": Silhouette(nose_z=0.52, cowl=(0.24, 0.62), roof_front_x=0.08, roof_rear_x=-0.36, deck=(-0.47, 0.62),
                            tail_z=0.60, size_lwh=(4.15, 1.85, 1.58)),
    "suv": Silhouette(nose_z=0.58, cowl=(0.21, 0.65), roof_front_x=0.09, roof_rear_x=-0.42, deck=(-0.485, 0.62),
                      tail_z=0.62, size_lwh=(4.75, 2.03, 1.80)),
    "wagon": Silhouette(nose_z=0.50, cowl=(0.19, 0.62), roof_front_x=0.05, roof_rear_x=-0.39, deck=(-0.48, 0.64),
                        tail_z=0.60, size_lwh=(4.80, 1.93, 1.58)),
    "minivan": Silhouette(nose_z=0.50, cowl=(0.32, 0.60), roof_front_x=0.16, roof_rear_x=-0.45, deck=(-0.495, 0.58),
                          tail_z=0.58, size_lwh=(4.95, 2.08, 1.92)),
    "coupe": Silhouette(nose_z=0.48, cowl=(0.12, 0.66), roof_front_x=-0.03, roof_rear_x=-0.16, deck=(-0.40, 0.70),
                        tail_z=0.66, size_lwh=(4.45, 1.92, 1.40)),
    "pickup": Silhouette(nose_z=0.58, cowl=(0.22, 0.64), roof_front_x=0.13, roof_rear_x=-0.07, deck=(-0.10, 0.62),
                         tail_z=0.60, size_lwh=(5.75, 2.15, 1.92), is_pickup=True),
}  # fmt: skip

CAR_COLOURS: tuple[Rgb, ...] = (
    (236, 236, 234), (225, 226, 228), (22, 22, 25), (34, 36, 40), (122, 126, 130), (168, 170, 174), (84, 88, 94),
    (150, 24, 28), (26, 52, 110), (46, 84, 150), (60, 74, 60), (196, 176, 140), (214, 130, 30), (230, 200, 40),
)  # fmt: skip


def _lower_body(solids: Solids, shape: Silhouette, paint: Rgb) -> None:
    cowl_x, cowl_z = shape.cowl
    deck_x, deck_z = shape.deck
    stations = [  # x, z_bottom, z_top, half width
        (0.500, 0.20, 0.42, 0.36), (0.485, 0.14, shape.nose_z, 0.425), (0.42, 0.12, shape.nose_z + 0.03, 0.455),
        (cowl_x, 0.12, cowl_z, 0.465), (0.0, 0.12, cowl_z, 0.468), (deck_x, 0.12, deck_z, 0.465),
    ]  # fmt: skip
    if deck_x > -0.45:
        stations.append((-0.44, 0.13, shape.tail_z + 0.02, 0.455))
    stations += [(-0.488, 0.15, shape.tail_z, 0.43), (-0.5, 0.22, shape.tail_z - 0.12, 0.38)]
    rings = []
    for x, low, high, w in sorted(stations, reverse=True):
        sill, shoulder = low + 0.06, high - 0.10
        half = [(0.90 * w, low), (w, sill), (w, shoulder), (0.90 * w, high)]
        rings.append([(x, y, z) for y, z in half] + [(x, -y, z) for y, z in reversed(half)])
    solids.loft(np.array(rings), paint, Material.CAR_PAINT)


def _cabin(solids: Solids, shape: Silhouette, paint: Rgb) -> None:
    base_z = min(shape.cowl[1], shape.deck[1]) - 0.02
    bottom = (shape.deck[0], shape.cowl[0], -0.43, 0.43, base_z)
    top = (shape.roof_rear_x, shape.roof_front_x, -0.345, 0.345, 1.0)
    solids.frustum(bottom, top, paint, Material.CAR_PAINT)
    low = np.array([(bottom[1], -0.43), (bottom[1], 0.43), (bottom[0], 0.43), (bottom[0], -0.43)])
    high = np.array([(top[1], -0.345), (top[1], 0.345), (top[0], 0.345), (top[0], -0.345)])
    inside = (0.5 * (shape.deck[0] + shape.cowl[0]), 0.0, 0.5 * (base_z + 1.0))
    sides = [(0, 1, 0.05), (2, 3, 0.07), (1, 2, 0.06), (3, 0, 0.06)]  # windscreen, rear window, left, right
    for first, second, inset in sides:
        corners = []
        for level, along in ((0.14, 0), (0.14, 1), (0.88, 1), (0.88, 0)):
            ends = low + (high - low) * level
            share = inset + (1 - 2 * inset) * along
            xy = ends[first] + (ends[second] - ends[first]) * share
            corners.append((*xy, base_z + (1.0 - base_z) * level))
        quad = np.array(corners)
        normal = np.cross(quad[1] - quad[0], quad[2] - quad[0])
        normal /= np.linalg.norm(normal)
        if normal @ (quad.mean(0) - np.array(inside)) < 0:
            normal = -normal
        # Lifted off the body by a few millimetres so that the glass wins over the paint behind it.
        solids.panel(quad + normal * 0.006, inside, GLASS_RGB, Material.GLASS)
    if not shape.is_pickup:
        x = shape.roof_front_x - 0.42 * (shape.roof_front_x - shape.roof_rear_x)
        solids.pair((x - 0.008, x + 0.008), (0.36, 0.425), (base_z, base_z + 0.26), paint, Material.CAR_PAINT)


def _bed(solids: Solids, shape: Silhouette, paint: Rgb) -> None:
    floor, rail = shape.tail_z - 0.16, shape.tail_z + 0.03
    solids.box((-0.47, shape.deck[0] - 0.01), (-0.40, 0.40), (floor, shape.tail_z + 0.005), TRIM_RGB, Material.PLASTIC)
    solids.pair((-0.49, shape.deck[0]), (0.41, 0.465), (floor, rail), paint, Material.CAR_PAINT)
    solids.box((-0.497, -0.475), (-0.44, 0.44), (floor, rail), paint, Material.CAR_PAINT)


def _details(solids: Solids, shape: Silhouette, size: tuple[float, float, float]) -> None:
    nose, tail = shape.nose_z, shape.tail_z
    solids.pair((0.470, 0.497), (0.27, 0.415), (nose - 0.13, nose - 0.02), HEADLAMP_RGB, Material.HEADLAMP)
    solids.box((0.480, 0.503), (-0.22, 0.22), (nose - 0.17, nose - 0.05), (18, 18, 20), Material.PLASTIC)
    solids.box((0.475, 0.505), (-0.36, 0.36), (0.15, 0.27), TRIM_RGB, Material.PLASTIC)
    solids.pair((-0.499, -0.465), (0.29, 0.435), (tail - 0.16, tail - 0.01), TAILLAMP_RGB, Material.TAILLAMP)
    solids.box((-0.506, -0.48), (-0.14, 0.14), (tail - 0.26, tail - 0.18), PLATE_RGB, Material.RETROREFLECTOR)
    solids.box((-0.505, -0.475), (-0.37, 0.37), (0.17, 0.27), TRIM_RGB, Material.PLASTIC)
    mirror_x = shape.cowl[0] - 0.035
    solids.pair((mirror_x - 0.016, mirror_x + 0.016), (0.44, 0.5), (0.60, 0.69), TRIM_RGB, Material.PLASTIC)
    radius = 0.335 / size[2]
    for x in (0.305, -0.295):
        solids.pair((x - 0.085, x + 0.085), (0.440, 0.4695), (0.11, 0.47), (14, 14, 15), Material.PLASTIC)
        for y in (0.425, -0.425):
            _flat_wheel(solids, x, y, radius, size)


def _flat_wheel(solids: Solids, x: float, y: float, radius: float, size: tuple[float, float, float]) -> None:
    """A wheel that is round after scaling the unit car to its size."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for share, half, rgb, material in (
        (1.0, 0.055, (24, 24, 26), Material.RUBBER),
        (0.58, 0.062, (158, 160, 164), Material.METAL),
    ):
        circle = np.stack((np.cos(angles) * radius * size[2] / size[0], np.sin(angles) * radius), -1) * share
        rings = np.stack([np.insert(circle + (x, radius), 1, y + side, axis=1) for side in (-half, half)])
        solids.loft(rings, rgb, material)


def build_car(kind: str, paint: Rgb, size: tuple[float, float, float], *, is_taxi: bool = False) -> Solids:
    """A car of a silhouette in unit coordinates, to be scaled to `size` (length, width, height in metres)."""
    shape = SILHOUETTES[kind]
    solids = Solids()
    _lower_body(solids, shape, paint)
    _cabin(solids, shape, paint)
    if shape.is_pickup:
        _bed(solids, shape, paint)
    _details(solids, shape, size)
    if is_taxi:
        x = 0.5 * (shape.roof_front_x + shape.roof_rear_x)
        solids.box((x - 0.02, x + 0.02), (-0.15, 0.15), (1.0, 1.06), (244, 220, 90), Material.HEADLAMP)
    return solids
