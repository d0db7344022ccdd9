"""Lorries, buses, trailers and construction machines. Built in metres, then scaled to their box."""

import numpy as np

from bevstack.sim.world.actor_solids import (
    GLASS_RGB,
    HEADLAMP_RGB,
    PLATE_RGB,
    STEEL_RGB,
    TAILLAMP_RGB,
    TRIM_RGB,
    Rgb,
    Solids,
)
from bevstack.sim.world.mesh import Material

LORRY_COLOURS: tuple[Rgb, ...] = (
    (236, 236, 236),
    (200, 202, 206),
    (30, 60, 130),
    (170, 28, 30),
    (36, 96, 60),
    (220, 160, 40),
    (60, 62, 66),
)
CARGO_COLOURS: tuple[Rgb, ...] = (
    (240, 240, 240),
    (206, 208, 210),
    (196, 60, 40),
    (40, 90, 150),
    (228, 190, 60),
    (96, 120, 80),
    (150, 110, 80),
)
BUS_COLOURS: tuple[Rgb, ...] = ((222, 224, 226), (196, 32, 36), (30, 110, 80), (40, 80, 160), (236, 180, 40))
MACHINE_YELLOW: Rgb = (232, 172, 24)


def _axles(solids: Solids, xs: tuple[float, ...], half_width: float, radius: float = 0.48) -> None:
    for x in xs:
        for side in (1, -1):
            solids.wheel((x, side * (half_width - 0.17), radius), radius, 0.30, segments=10)


def _front_lamps(solids: Solids, x: float, half_width: float, z: float) -> None:
    solids.pair(
        (x - 0.05, x + 0.02), (half_width - 0.42, half_width - 0.10), (z, z + 0.20), HEADLAMP_RGB, Material.HEADLAMP
    )
    solids.box(
        (x - 0.05, x + 0.03), (-half_width + 0.05, half_width - 0.05), (z - 0.28, z - 0.06), TRIM_RGB, Material.PLASTIC
    )
    solids.box((x - 0.02, x + 0.02), (-0.4, 0.4), (z + 0.02, z + 0.34), (20, 20, 22), Material.PLASTIC)


def _rear_lamps(solids: Solids, x: float, half_width: float, z: float) -> None:
    solids.pair(
        (x - 0.02, x + 0.06), (half_width - 0.34, half_width - 0.06), (z, z + 0.22), TAILLAMP_RGB, Material.TAILLAMP
    )
    solids.box((x - 0.03, x + 0.05), (-0.28, 0.28), (z, z + 0.14), PLATE_RGB, Material.RETROREFLECTOR)
    solids.box(
        (x - 0.04, x + 0.08), (-half_width + 0.1, half_width - 0.1), (z - 0.22, z - 0.08), STEEL_RGB, Material.METAL
    )


def _cab(solids: Solids, x: tuple[float, float], half_width: float, top: float, paint: Rgb) -> None:
    back, nose = x
    y = half_width - 0.04
    solids.frustum((back, nose, -y, y, 0.55), (back, nose - 0.05, -y, y, 1.55), paint, Material.CAR_PAINT)
    solids.frustum(
        (back, nose - 0.05, -y, y, 1.55), (back, nose - 0.40, -y + 0.08, y - 0.08, top), paint, Material.CAR_PAINT
    )
    low, high = 1.62, top - 0.18
    share_low, share_high = (low - 1.55) / (top - 1.55), (high - 1.55) / (top - 1.55)
    xs = [nose - 0.05 - 0.35 * s + 0.01 for s in (share_low, share_high)]
    ys = [y - 0.12 - 0.08 * s for s in (share_low, share_high)]
    quad = np.array([(xs[0], -ys[0], low), (xs[0], ys[0], low), (xs[1], ys[1], high), (xs[1], -ys[1], high)])
    solids.panel(quad, (back, 0, 1.0), GLASS_RGB, Material.GLASS)
    for side in (1, -1):
        near = [side * (y + 0.012 - 0.08 * s) for s in (share_low, share_high)]
        x_back = back + 0.45 * (nose - back)
        window = [
            (x_back, near[0], low),
            (xs[0] - 0.12, near[0], low),
            (xs[1] - 0.12, near[1], high),
            (x_back, near[1], high),
        ]
        solids.panel(np.array(window), (back, 0, 1.5), GLASS_RGB, Material.GLASS)
        mirror = (side * (half_width - 0.02), side * (half_width + 0.14))
        solids.box((nose - 0.22, nose - 0.12), (min(mirror), max(mirror)), (1.55, 2.0), TRIM_RGB, Material.PLASTIC)
    _front_lamps(solids, nose, half_width, 0.72)


def build_truck(kind: str, paint: Rgb, cargo: Rgb, size: tuple[float, float, float]) -> Solids:
    """A lorry: `box`, `flatbed`, `tipper`, `tanker` or `tractor` (the semi-tractor alone)."""
    length, width, height = size
    solids, w = Solids(), width / 2 - 0.14
    nose, tail = length / 2, -length / 2
    cab_length = min(2.1, 0.36 * length)
    cab_top = min(height, 2.95) if kind != "box" else min(height - 0.35, 2.6)
    _cab(solids, (nose - cab_length, nose), w, cab_top, paint)
    solids.box((tail + 0.06, nose - 0.5), (-0.5, 0.5), (0.52, 0.86), (52, 52, 56), Material.METAL)
    load = (tail, nose - cab_length - 0.16)
    if kind == "box":
        solids.box(load, (-w, w), (0.92, height), cargo, Material.METAL)
        solids.box((load[0] - 0.02, load[0] + 0.02), (-0.04, 0.04), (1.0, height - 0.1), TRIM_RGB, Material.METAL)
    elif kind == "flatbed":
        solids.box(load, (-w, w), (0.9, 1.05), (110, 84, 60), Material.WOOD)
        solids.box((load[1] - 0.1, load[1]), (-w, w), (1.05, 1.9), STEEL_RGB, Material.METAL)
        middle = 0.5 * (load[0] + load[1])
        solids.box((middle - 0.3, load[1] - 0.3), (-w + 0.15, w - 0.15), (1.05, 2.05), cargo, Material.WOOD)
        solids.box((load[0] + 0.3, middle - 0.5), (-w + 0.3, w - 0.3), (1.05, 1.55), (120, 120, 124), Material.METAL)
    elif kind == "tipper":
        solids.frustum(
            (load[0] + 0.35, load[1], -w + 0.2, w - 0.2, 0.9), (load[0], load[1], -w, w, 1.95), cargo, Material.METAL
        )
        solids.frustum(
            (load[0] + 0.2, load[1] - 0.2, -w + 0.1, w - 0.1, 1.95),
            (load[0] + 1.2, load[1] - 0.9, -0.2, 0.2, 2.4),
            (120, 96, 70),
            Material.CONCRETE,
        )
        solids.box((load[1] - 0.1, load[1] + 0.5), (-w, w), (2.2, 2.4), cargo, Material.METAL)
    elif kind == "tanker":
        solids.tube((load[0], 0, 1.75), (load[1], 0, 1.75), w * 0.92, cargo, Material.METAL, segments=12)
        solids.box((load[0] + 0.4, load[1] - 0.4), (-0.3, 0.3), (2.6, 2.85), STEEL_RGB, Material.METAL)
    else:
        solids.box((tail + 0.3, tail + 1.6), (-0.45, 0.45), (0.9, 1.12), (40, 40, 42), Material.METAL)
        solids.pair((load[1] - 0.7, load[1] - 0.1), (w - 0.45, w - 0.05), (0.5, 1.0), STEEL_RGB, Material.METAL)
        solids.frustum(
            (nose - cab_length, nose - cab_length + 1.2, -w, w, cab_top - 0.1),
            (nose - cab_length, nose - cab_length + 0.4, -w + 0.1, w - 0.1, height),
            paint,
            Material.CAR_PAINT,
        )
    rear = (tail + 1.0, tail + 2.2) if length > 7.5 else (tail + 1.25,)
    _axles(solids, (*rear, nose - 0.5 * cab_length), w)
    _rear_lamps(solids, tail, w, 0.62)
    return solids


def build_bus(kind: str, paint: Rgb, size: tuple[float, float, float]) -> Solids:
    """A `city` bus with low windows, or a `coach` with a raised deck and a raked windscreen."""
    length, width, height = size
    solids, w = Solids(), width / 2 - 0.13
    nose, tail = length / 2, -length / 2
    rake = 0.55 if kind == "coach" else 0.12
    rings = []
    for x, low, top, half in (
        (nose, 0.42, 1.2, w - 0.14),
        (nose - 0.06, 0.34, 1.5, w - 0.03),
        (nose - rake, 0.32, height - 0.28, w),
        (nose - rake - 0.35, 0.32, height - 0.16, w),
        (tail + 0.2, 0.34, height - 0.16, w),
        (tail, 0.45, height - 0.35, w - 0.06),
    ):
        ring = [(half, low), (half, top - 0.22), (half - 0.22, top)]
        rings.append([(x, y, z) for y, z in ring] + [(x, -y, z) for y, z in reversed(ring)])
    solids.loft(np.array(rings), paint, Material.CAR_PAINT)
    low, high = (1.55, 2.65) if kind == "coach" else (1.15, 2.35)
    high = min(high, height - 0.62)
    screen = np.array(
        [
            (nose - 0.05, -w + 0.14, 1.35),
            (nose - 0.05, w - 0.14, 1.35),
            (nose - rake + 0.03, w - 0.2, height - 0.55),
            (nose - rake + 0.03, -w + 0.2, height - 0.55),
        ]
    )
    solids.panel(screen + np.array((0.03, 0, 0)), (0, 0, 1.5), GLASS_RGB, Material.GLASS)
    bays = max(5, round(length / 1.6))
    edges = np.linspace(tail + 0.5, nose - rake - 0.3, bays + 1)
    for k in range(bays):
        for side in (1, -1):
            is_door = side < 0 and k in (bays - 1, bays // 2)
            y, z0 = side * (w + 0.012), 0.42 if is_door else low
            a, b = edges[k] + 0.07, edges[k + 1] - 0.07
            quad = np.array([(a, y, z0), (b, y, z0), (b, y, high), (a, y, high)])
            solids.panel(quad, (0, 0, 1.5), GLASS_RGB, Material.GLASS)
    rear = np.array(
        [
            (tail - 0.012, -w + 0.3, 1.9),
            (tail - 0.012, w - 0.3, 1.9),
            (tail - 0.012, w - 0.35, height - 0.7),
            (tail - 0.012, -w + 0.35, height - 0.7),
        ]
    )
    solids.panel(rear, (0, 0, 1.5), GLASS_RGB, Material.GLASS)
    solids.box((tail + 0.8, tail + 3.2), (-w + 0.25, w - 0.25), (height - 0.2, height), STEEL_RGB, Material.METAL)
    front_sign = (nose - rake - 0.02, nose - rake + 0.08)
    solids.box(front_sign, (-0.8, 0.8), (height - 0.5, height - 0.24), (250, 170, 40), Material.HEADLAMP)
    for side in (1, -1):
        mirror = (side * (w - 0.02), side * (w + 0.13))
        solids.box((nose - 0.02, nose + 0.14), (min(mirror), max(mirror)), (1.6, 2.1), TRIM_RGB, Material.PLASTIC)
    _front_lamps(solids, nose, w, 0.62)
    _rear_lamps(solids, tail, w, 0.75)
    _axles(solids, (nose - 2.4, tail + 3.0), w)
    return solids


def build_trailer(kind: str, cargo: Rgb, size: tuple[float, float, float]) -> Solids:
    """A semi-trailer: `box`, `flatbed` with a container, or `tanker`. Axles at the tail, landing gear and pin ahead."""
    length, width, height = size
    solids, w = Solids(), width / 2
    nose, tail = length / 2, -length / 2
    deck = 1.15
    solids.box((tail, nose), (-0.55, 0.55), (deck - 0.3, deck), (60, 60, 64), Material.METAL)
    if kind == "box":
        solids.box((tail, nose), (-w, w), (deck, height), cargo, Material.METAL)
        solids.box(
            (nose - 0.02, nose + 0.35), (-0.8, 0.8), (height - 1.3, height - 0.3), (214, 216, 218), Material.PLASTIC
        )
        solids.box((tail - 0.03, tail + 0.02), (-0.05, 0.05), (deck, height - 0.1), TRIM_RGB, Material.METAL)
    elif kind == "flatbed":
        solids.box((tail, nose), (-w, w), (deck, deck + 0.14), (104, 80, 58), Material.WOOD)
        solids.box((nose - 0.1, nose), (-w, w), (deck, deck + 1.5), STEEL_RGB, Material.METAL)
        top = max(deck + 1.6, height)
        solids.box((-0.12 * length, nose - 0.35), (-w + 0.1, w - 0.1), (deck + 0.14, top), cargo, Material.METAL)
        solids.box(
            (tail + 0.5, -0.2 * length), (-w + 0.3, w - 0.3), (deck + 0.14, deck + 1.0), (140, 120, 90), Material.WOOD
        )
    else:
        solids.tube((tail + 0.1, 0, 2.1), (nose, 0, 2.2), w * 0.96, cargo, Material.METAL, segments=14)
        solids.box((tail + 2.0, nose - 2.0), (-0.25, 0.25), (height - 0.45, height), STEEL_RGB, Material.METAL)
    solids.pair((tail + 3.6, nose - 3.6), (w - 0.1, w - 0.04), (0.5, deck), (190, 192, 196), Material.METAL)
    solids.pair((nose - 2.6, nose - 2.4), (0.5, 0.64), (0.0, deck), STEEL_RGB, Material.METAL)
    _axles(solids, (tail + 1.1, tail + 2.3), w)
    solids.pair(
        (tail - 0.02, tail + 0.04), (w - 0.12, w - 0.02), (deck, height - 0.2), PLATE_RGB, Material.RETROREFLECTOR
    )
    _rear_lamps(solids, tail, w, 0.75)
    return solids


def _machine_cab(solids: Solids, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> None:
    solids.frustum((*x, *y, z[0]), (x[0], x[1] - 0.15, y[0] + 0.05, y[1] - 0.05, z[1] - 0.1), GLASS_RGB, Material.GLASS)
    solids.box((x[0] - 0.04, x[1] - 0.1), y, (z[1] - 0.1, z[1]), MACHINE_YELLOW, Material.CAR_PAINT)
    for corner_x in (x[0], x[1] - 0.08):
        for corner_y in y:
            solids.tube(
                (corner_x, corner_y, z[0]), (corner_x, corner_y, z[1]), 0.05, TRIM_RGB, Material.METAL, segments=4
            )
    middle = 0.5 * (x[0] + x[1])
    solids.box((middle - 0.1, middle + 0.1), (-0.1, 0.1), (z[1], z[1] + 0.14), (250, 150, 20), Material.TAILLAMP)


def build_machine(kind: str) -> Solids:
    """A construction vehicle: `excavator`, `loader` or `roller`."""
    solids, yellow = Solids(), MACHINE_YELLOW
    if kind == "excavator":
        for side in (1, -1):
            y = (side * 0.95, side * 1.4)
            solids.frustum(
                (-1.5, 1.5, min(y), max(y), 0.0), (-1.9, 1.9, min(y), max(y), 0.45), (30, 30, 32), Material.RUBBER
            )
            solids.frustum(
                (-1.9, 1.9, min(y), max(y), 0.45), (-1.6, 1.6, min(y), max(y), 0.85), (30, 30, 32), Material.RUBBER
            )
        solids.box((-1.0, 1.0), (-0.95, 0.95), (0.4, 0.9), TRIM_RGB, Material.METAL)
        solids.box((-2.2, 1.2), (-1.3, 1.3), (0.95, 1.75), yellow, Material.CAR_PAINT)
        solids.frustum((-2.25, -0.9, -1.3, 1.3, 1.75), (-2.1, -1.0, -1.2, 1.2, 2.15), (60, 60, 64), Material.METAL)
        _machine_cab(solids, (-0.3, 1.3), (0.25, 1.25), (1.75, 2.95))
        solids.tube((0.9, -0.2, 1.6), (2.7, -0.2, 3.1), 0.24, yellow, Material.CAR_PAINT, segments=4)
        solids.tube((2.6, -0.2, 3.15), (4.2, -0.2, 1.7), 0.18, yellow, Material.CAR_PAINT, segments=4)
        solids.frustum((3.7, 4.4, -0.75, 0.35, 0.5), (4.0, 4.6, -0.75, 0.35, 1.6), (70, 70, 72), Material.METAL)
    elif kind == "loader":
        for x in (-1.7, 1.3):
            for side in (1, -1):
                solids.wheel((x, side * 1.1, 0.75), 0.75, 0.5, segments=12)
        solids.frustum((-3.1, 0.0, -0.95, 0.95, 0.8), (-2.9, -0.5, -0.8, 0.8, 2.1), yellow, Material.CAR_PAINT)
        solids.box((-0.2, 1.9), (-0.7, 0.7), (0.7, 1.4), yellow, Material.CAR_PAINT)
        _machine_cab(solids, (-0.6, 0.8), (-0.75, 0.75), (1.5, 3.1))
        solids.box((-3.14, -3.08), (-0.6, 0.6), (1.0, 1.8), (30, 30, 32), Material.METAL)
        for side in (1, -1):
            solids.tube((1.2, side * 0.6, 1.5), (3.0, side * 0.6, 0.7), 0.16, yellow, Material.CAR_PAINT, segments=4)
        solids.frustum((2.7, 3.6, -1.4, 1.4, 0.1), (2.9, 3.3, -1.4, 1.4, 1.15), (84, 84, 86), Material.METAL)
    else:
        solids.tube((1.9, -1.0, 0.75), (1.9, 1.0, 0.75), 0.75, (120, 120, 124), Material.METAL, segments=14)
        solids.pair((0.9, 2.9), (1.02, 1.16), (0.5, 1.0), yellow, Material.CAR_PAINT)
        solids.box((0.6, 1.1), (-1.16, 1.16), (0.5, 1.1), yellow, Material.CAR_PAINT)
        for side in (1, -1):
            solids.wheel((-1.6, side * 0.85, 0.75), 0.75, 0.5, segments=12)
        solids.frustum((-2.8, -0.2, -0.8, 0.8, 0.7), (-2.7, -0.4, -0.75, 0.75, 1.75), yellow, Material.CAR_PAINT)
        _machine_cab(solids, (-0.5, 0.8), (-0.75, 0.75), (1.3, 2.9))
    solids.pair((-2.30, -2.18), (0.6, 0.9), (1.2, 1.4), TAILLAMP_RGB, Material.TAILLAMP)
    return solids
