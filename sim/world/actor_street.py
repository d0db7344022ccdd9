"""Traffic cones and barriers of work zones."""

import numpy as np

from bevstack.sim.world.actor_solids import Rgb, Solids
from bevstack.sim.world.mesh import Material

ORANGE: Rgb = (240, 92, 20)
WHITE_BAND: Rgb = (240, 240, 240)


def _stacked(solids: Solids, profile: list[tuple[float, float, Rgb, Material]], segments: int) -> None:
    for (z0, r0, rgb, material), (z1, r1, _, _) in zip(profile, profile[1:]):
        solids.tube((0, 0, z0), (0, 0, z1), r0, rgb, material, end_radius=r1, segments=segments)


def build_cone(kind: str) -> Solids:
    """A `cone` on a square foot, a `post` on a round foot or a drum (`barrel`), each with reflective bands."""
    solids, band, body = Solids(), Material.RETROREFLECTOR, Material.PLASTIC
    if kind == "cone":
        solids.box((-0.2, 0.2), (-0.2, 0.2), (0.0, 0.05), (36, 36, 38), Material.RUBBER)
        profile = [(0.05, 0.15, ORANGE, body), (0.35, 0.115, WHITE_BAND, band), (0.5, 0.095, ORANGE, body),
                   (0.62, 0.08, WHITE_BAND, band), (0.74, 0.065, ORANGE, body), (1.0, 0.03, ORANGE, body)]  # fmt: skip
    elif kind == "post":
        solids.tube((0, 0, 0), (0, 0, 0.07), 0.22, (36, 36, 38), Material.RUBBER, segments=8)
        profile = [(0.07, 0.06, ORANGE, body), (0.5, 0.055, WHITE_BAND, band), (0.65, 0.055, ORANGE, body),
                   (0.75, 0.05, WHITE_BAND, band), (0.9, 0.05, ORANGE, body), (1.05, 0.045, ORANGE, body)]  # fmt: skip
    else:
        solids.tube((0, 0, 0), (0, 0, 0.06), 0.30, (36, 36, 38), Material.RUBBER, segments=10)
        profile = [(0.06, 0.26, ORANGE, body), (0.3, 0.25, WHITE_BAND, band), (0.45, 0.25, ORANGE, body),
                   (0.6, 0.24, WHITE_BAND, band), (0.75, 0.23, ORANGE, body), (1.0, 0.20, ORANGE, body)]  # fmt: skip
    _stacked(solids, profile, 10)
    return solids


def build_barrier(kind: str) -> Solids:
    """A `jersey` wall of concrete, a `water` barrier of red or white plastic, or a striped `board` on feet.

    Length (x) is the short side: the heading of a barrier is across it, as in nuScenes.
    """
    solids = Solids()
    if kind == "board":
        for y in (-0.9, 0.9):
            solids.box((-0.25, 0.25), (y - 0.06, y + 0.06), (0.0, 0.10), (50, 50, 54), Material.RUBBER)
            solids.box((-0.03, 0.03), (y - 0.04, y + 0.04), (0.10, 1.0), (150, 150, 152), Material.METAL)
        edges = np.linspace(-1.25, 1.25, 9)
        for k in range(8):
            rgb = ORANGE if k % 2 == 0 else WHITE_BAND
            for z in (0.30, 0.70):
                solids.box((-0.03, 0.05), (edges[k], edges[k + 1]), (z, z + 0.24), rgb, Material.RETROREFLECTOR)
        return solids
    profile = [
        (-0.25, 0.0),
        (0.25, 0.0),
        (0.25, 0.10),
        (0.12, 0.35),
        (0.08, 0.95),
        (-0.08, 0.95),
        (-0.12, 0.35),
        (-0.25, 0.10),
    ]
    plain: Rgb = (168, 166, 160) if kind == "jersey" else (200, 40, 34)
    other: Rgb = (160, 158, 152) if kind == "jersey" else WHITE_BAND
    material = Material.CONCRETE if kind == "jersey" else Material.PLASTIC
    edges = np.linspace(-1.25, 1.25, 4)
    for k in range(3):
        rings = np.array([[(x, y, z) for x, z in profile] for y in (edges[k], edges[k + 1])])
        solids.loft(rings, plain if k % 2 == 0 else other, material)
    for y in (-0.8, 0.8):
        solids.box((-0.04, 0.04), (y - 0.05, y + 0.05), (0.93, 0.98), ORANGE, Material.RETROREFLECTOR)
    return solids
