"""Bicycles and motorcycles, with a rider who leans forward or without one."""

import numpy as np

from bevstack.sim.world.actor_people import Outfit
from bevstack.sim.world.actor_solids import HEADLAMP_RGB, PLATE_RGB, STEEL_RGB, TAILLAMP_RGB, TRIM_RGB, Rgb, Solids
from bevstack.sim.world.mesh import Material

PEDAL_PHASES = 4
"""Meshes of one turn of the pedals."""

FRAME_COLOURS: tuple[Rgb, ...] = (
    (24, 24, 28), (180, 30, 30), (30, 70, 160), (230, 230, 230), (40, 130, 80), (230, 120, 20),
)  # fmt: skip


def _rider(
    solids: Solids, outfit: Outfit, seat: tuple[float, float], bars: tuple[float, float], feet: list[np.ndarray],
    *, helmet: Rgb | None,
) -> None:  # fmt: skip
    hip = np.array((seat[0], 0.0, seat[1] + 0.08))
    shoulder = np.array((hip[0] + 0.55 * (bars[0] - hip[0]), 0.0, hip[2] + 0.50))
    angles = np.linspace(0, 2 * np.pi, 7, endpoint=False)
    rings = [
        np.stack((c[0] + d * np.cos(angles), w * np.sin(angles), np.full(7, c[2])), axis=-1)
        for c, d, w in ((hip, 0.12, 0.16), (0.5 * (hip + shoulder), 0.12, 0.17), (shoulder, 0.09, 0.20))
    ]
    solids.loft(np.array(rings), outfit.top, Material.CLOTH)
    for side, foot in zip((1, -1), feet):
        top = hip + np.array((0.0, side * 0.09, -0.02))
        reach = foot - top
        knee = top + 0.5 * reach + np.array((0.24, side * 0.03, 0.06))
        for a, b in ((top, knee), (knee, foot)):
            solids.tube(a, b, 0.065, outfit.legs, Material.CLOTH, end_radius=0.05, segments=5)
        solids.box((foot[0] - 0.08, foot[0] + 0.15), (foot[1] - 0.04, foot[1] + 0.04), (foot[2] - 0.05, foot[2] + 0.03),
                   TRIM_RGB, Material.RUBBER)  # fmt: skip
        arm = shoulder + np.array((0.0, side * 0.20, -0.03))
        hand = np.array((bars[0], side * 0.24, bars[1]))
        elbow = 0.5 * (arm + hand) + np.array((-0.04, side * 0.04, -0.07))
        for a, b in ((arm, elbow), (elbow, hand)):
            solids.tube(a, b, 0.045, outfit.top, Material.CLOTH, segments=5)
    centre = shoulder + np.array((0.08, 0.0, 0.20))
    solids.ellipsoid(centre, (0.10, 0.08, 0.13), outfit.skin, Material.SKIN)
    rgb, material = (outfit.hair, Material.CLOTH) if helmet is None else (helmet, Material.PLASTIC)
    solids.ellipsoid(centre + np.array((-0.025, 0, 0.035)), (0.12, 0.10, 0.12), rgb, material)


def _bicycle_frame(solids: Solids, paint: Rgb) -> None:
    rear, front, radius = (-0.52, 0.0, 0.34), (0.52, 0.0, 0.34), 0.34
    solids.ring(rear, radius, 0.035)
    solids.ring(front, radius, 0.035)
    crank, seat, head = (-0.08, 0.0, 0.29), (-0.22, 0.0, 0.86), (0.36, 0.0, 0.85)
    for a, b in ((crank, seat), (crank, head), (seat, head), (crank, rear), (seat, rear), (head, front)):
        solids.tube(a, b, 0.022, paint, Material.METAL, segments=5)
    solids.tube(seat, (-0.24, 0, 0.96), 0.018, STEEL_RGB, Material.METAL, segments=4)
    solids.frustum((-0.38, -0.08, -0.07, 0.07, 0.94), (-0.38, -0.12, -0.09, 0.09, 1.0), TRIM_RGB, Material.PLASTIC)
    solids.tube(head, (0.33, 0, 1.02), 0.02, STEEL_RGB, Material.METAL, segments=4)
    solids.tube((0.34, -0.29, 1.02), (0.34, 0.29, 1.02), 0.018, TRIM_RGB, Material.METAL, segments=4)
    solids.box((0.37, 0.43), (-0.04, 0.04), (0.88, 0.95), HEADLAMP_RGB, Material.HEADLAMP)
    solids.box((-0.60, -0.56), (-0.04, 0.04), (0.72, 0.79), TAILLAMP_RGB, Material.TAILLAMP)
    solids.box((-0.74, -0.36), (-0.06, 0.06), (0.70, 0.72), STEEL_RGB, Material.METAL)


def build_bicycle(paint: Rgb, outfit: Outfit | None, helmet: Rgb | None) -> list[Solids]:
    """One mesh without a rider (outfit None), else one per pedal phase."""
    phases = []
    for k in range(1 if outfit is None else PEDAL_PHASES):
        solids = Solids()
        _bicycle_frame(solids, paint)
        turn = 2 * np.pi * k / PEDAL_PHASES
        feet = [
            np.array((-0.08 + sign * 0.16 * np.cos(turn), sign * 0.12, 0.29 + sign * 0.16 * np.sin(turn)))
            for sign in (1, -1)
        ]
        solids.tube(feet[0], feet[1], 0.02, STEEL_RGB, Material.METAL, segments=4)
        if outfit is not None:
            _rider(solids, outfit, (-0.24, 0.98), (0.34, 1.04), feet, helmet=helmet)
        phases.append(solids)
    return phases


def build_motorcycle(kind: str, paint: Rgb, outfit: Outfit | None, helmet: Rgb) -> list[Solids]:
    """A `street` machine or a `scooter` with a leg shield."""
    solids = Solids()
    is_scooter = kind == "scooter"
    radius = 0.25 if is_scooter else 0.31
    for x in (-0.68, 0.70):
        solids.wheel((x, 0.0, radius), radius, 0.14 if is_scooter else 0.16, segments=12)
    if is_scooter:
        solids.frustum((-0.85, -0.05, -0.17, 0.17, 0.30), (-0.9, -0.1, -0.15, 0.15, 0.74), paint, Material.CAR_PAINT)
        solids.box((-0.1, 0.40), (-0.17, 0.17), (0.26, 0.34), paint, Material.CAR_PAINT)
        solids.frustum((0.34, 0.48, -0.22, 0.22, 0.30), (0.42, 0.52, -0.20, 0.20, 0.98), paint, Material.CAR_PAINT)
        seat, bars = (-0.42, 0.76), (0.42, 1.05)
    else:
        solids.box((-0.35, 0.35), (-0.16, 0.16), (0.22, 0.58), (60, 62, 66), Material.METAL)
        solids.frustum((-0.15, 0.42, -0.17, 0.17, 0.60), (-0.05, 0.35, -0.13, 0.13, 0.86), paint, Material.CAR_PAINT)
        solids.frustum((-0.95, -0.3, -0.10, 0.10, 0.66), (-1.0, -0.4, -0.08, 0.08, 0.76), paint, Material.CAR_PAINT)
        solids.tube((-0.1, 0.16, 0.34), (-0.8, 0.2, 0.40), 0.055, STEEL_RGB, Material.METAL, segments=6)
        seat, bars = (-0.32, 0.78), (0.36, 1.02)
    solids.frustum((-0.80, -0.05, -0.14, 0.14, seat[1] - 0.04), (-0.78, -0.1, -0.12, 0.12, seat[1] + 0.04), TRIM_RGB,
                   Material.PLASTIC)  # fmt: skip
    for side in (0.09, -0.09):
        solids.tube((0.70, side, radius), (0.44, side, 0.95), 0.03, STEEL_RGB, Material.METAL, segments=5)
    solids.tube((bars[0], -0.36, bars[1]), (bars[0], 0.36, bars[1]), 0.02, TRIM_RGB, Material.METAL, segments=5)
    solids.pair(
        (bars[0] - 0.02, bars[0] + 0.01), (0.28, 0.40), (bars[1] + 0.06, bars[1] + 0.15), TRIM_RGB, Material.PLASTIC
    )
    solids.frustum((0.48, 0.62, -0.10, 0.10, 0.74), (0.46, 0.58, -0.12, 0.12, 0.94), HEADLAMP_RGB, Material.HEADLAMP)
    solids.box((-1.02, -0.94), (-0.09, 0.09), (0.62, 0.72), TAILLAMP_RGB, Material.TAILLAMP)
    solids.box((-1.0, -0.97), (-0.08, 0.08), (0.42, 0.56), PLATE_RGB, Material.RETROREFLECTOR)
    if outfit is not None:
        feet = [np.array((0.0, sign * 0.2, 0.30)) for sign in (1, -1)]
        _rider(solids, outfit, seat, bars, feet, helmet=helmet)
    return [solids]
