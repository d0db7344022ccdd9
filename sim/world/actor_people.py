"""Walkers: jointed bodies in several gait phases, standing and sitting. Shoes, face, nose and bags show the heading."""

from dataclasses import dataclass

import numpy as np

from bevstack.sim.world.actor_solids import TRIM_RGB, Rgb, Solids
from bevstack.sim.world.mesh import Material

GAIT_PHASES = 6
"""Meshes of one full stride; the mesh after them stands still."""

SKIN_TONES: tuple[Rgb, ...] = ((236, 196, 166), (214, 164, 128), (170, 118, 84), (122, 80, 56), (84, 56, 42))
HAIR_COLOURS: tuple[Rgb, ...] = ((24, 20, 18), (60, 40, 26), (120, 82, 44), (150, 150, 150), (190, 160, 96))
CLOTH_COLOURS: tuple[Rgb, ...] = (
    (30, 32, 40),
    (60, 70, 100),
    (120, 30, 34),
    (200, 200, 196),
    (56, 92, 60),
    (200, 160, 60),
    (90, 60, 110),
    (40, 110, 150),
    (230, 230, 226),
    (110, 90, 70),
    (220, 120, 120),
    (70, 70, 72),
)
HI_VIS_RGB: Rgb = (220, 232, 40)
HELMET_RGB: Rgb = (240, 190, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outfit:
    """Colours and things carried."""

    skin: Rgb
    hair: Rgb
    top: Rgb
    legs: Rgb
    bag: str
    """`none`, `backpack` or `handbag`."""
    is_worker: bool = False
    has_skirt: bool = False


def random_outfit(rng: np.random.Generator, *, is_worker: bool = False) -> Outfit:
    """Colours drawn from the tables."""

    def one(table: tuple[Rgb, ...]) -> Rgb:
        return table[int(rng.integers(len(table)))]

    return Outfit(
        skin=one(SKIN_TONES),
        hair=one(HAIR_COLOURS),
        top=HI_VIS_RGB if is_worker else one(CLOTH_COLOURS),
        legs=(44, 50, 70) if is_worker else one(CLOTH_COLOURS),
        bag="none" if is_worker else str(rng.choice(["none", "none", "backpack", "handbag"])),
        is_worker=is_worker,
        has_skirt=bool(not is_worker and rng.random() < 0.2),
    )


def _limb(solids: Solids, joints: list[np.ndarray], radii: tuple[float, float], rgb: Rgb, material: Material) -> None:
    for k in range(2):
        solids.tube(
            joints[k],
            joints[k + 1],
            radii[0] if k == 0 else radii[1],
            rgb,
            material,
            end_radius=radii[1] if k == 0 else radii[1] * 0.8,
            segments=6,
        )


def _along(start: np.ndarray, length: float, angle: float) -> np.ndarray:
    """End of a limb that hangs down and is swung forward (+x) by an angle."""
    return start + length * np.array((np.sin(angle), 0.0, -np.cos(angle)))


def _head(solids: Solids, neck: np.ndarray, outfit: Outfit) -> None:
    centre = neck + np.array((0.02, 0.0, 0.15))
    solids.ellipsoid(centre, (0.10, 0.08, 0.13), outfit.skin, Material.SKIN)
    solids.tube(neck - np.array((0, 0, 0.04)), centre, 0.055, outfit.skin, Material.SKIN, segments=5)
    solids.ellipsoid(centre + np.array((0.11, 0, -0.02)), (0.025, 0.02, 0.03), outfit.skin, Material.SKIN, segments=4)
    rgb, material = (HELMET_RGB, Material.PLASTIC) if outfit.is_worker else (outfit.hair, Material.CLOTH)
    solids.ellipsoid(centre + np.array((-0.03, 0, 0.05)), (0.105, 0.095, 0.11), rgb, material)
    if outfit.is_worker:
        solids.box(
            (centre[0] + 0.04, centre[0] + 0.15), (-0.08, 0.08), (centre[2] + 0.06, centre[2] + 0.08), rgb, material
        )


def _torso(solids: Solids, hip: np.ndarray, outfit: Outfit, lean: float) -> np.ndarray:
    """Torso from the hip up; returns the shoulder-height centre."""
    shoulder = hip + 0.52 * np.array((np.sin(lean), 0.0, np.cos(lean)))
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    rings = []
    for share, depth, half_width in ((0.0, 0.10, 0.165), (0.35, 0.105, 0.155), (0.75, 0.13, 0.20), (1.0, 0.08, 0.17)):
        centre = hip + share * (shoulder - hip)
        rings.append(
            np.stack((centre[0] + depth * np.cos(angles), half_width * np.sin(angles), np.full(8, centre[2])), axis=-1)
        )
    solids.loft(np.array(rings), outfit.top, Material.CLOTH)
    if outfit.is_worker:
        for share in (0.3, 0.65):
            c = hip + share * (shoulder - hip)
            solids.box(
                (c[0] - 0.14, c[0] + 0.14),
                (-0.185, 0.185),
                (c[2] - 0.025, c[2] + 0.025),
                (226, 228, 226),
                Material.RETROREFLECTOR,
            )
    if outfit.bag == "backpack":
        c = hip + 0.7 * (shoulder - hip)
        solids.frustum(
            (c[0] - 0.30, c[0] - 0.10, -0.14, 0.14, c[2] - 0.25),
            (c[0] - 0.24, c[0] - 0.10, -0.12, 0.12, c[2] + 0.15),
            (40, 44, 60),
            Material.CLOTH,
        )
    return shoulder


def _leg(solids: Solids, hip: np.ndarray, thigh: float, knee: float, outfit: Outfit) -> None:
    knee_point = _along(hip, 0.43, thigh)
    ankle = _along(knee_point, 0.42, thigh - knee)
    _limb(solids, [hip, knee_point, ankle], (0.085, 0.06), outfit.legs, Material.CLOTH)
    solids.box(
        (ankle[0] - 0.07, ankle[0] + 0.18),
        (ankle[1] - 0.045, ankle[1] + 0.045),
        (ankle[2] - 0.07, ankle[2] + 0.02),
        TRIM_RGB,
        Material.RUBBER,
    )


def _arm(solids: Solids, shoulder: np.ndarray, swing: float, elbow: float, outfit: Outfit) -> np.ndarray:
    elbow_point = _along(shoulder, 0.29, swing)
    hand = _along(elbow_point, 0.26, swing + elbow)
    _limb(solids, [shoulder, elbow_point, hand], (0.055, 0.042), outfit.top, Material.CLOTH)
    solids.ellipsoid(hand, (0.045, 0.035, 0.05), outfit.skin, Material.SKIN, segments=4)
    return hand


def _walker(outfit: Outfit, phase: float | None) -> Solids:
    solids = Solids()
    stride = 0.0 if phase is None else 0.48 * np.sin(phase)
    lift = 0.0 if phase is None else 0.5 * (1 - np.cos(2 * phase)) * 0.02
    hip = np.array((0.0, 0.0, 0.92 + lift))
    lean = 0.03 if phase is None else 0.10
    shoulder = _torso(solids, hip, outfit, lean)
    for side in (1, -1):
        forward = side * stride
        rate = 0.0 if phase is None else side * np.cos(phase)
        knee = 0.05 + (0.65 * max(0.0, rate) if phase is not None else 0.0)
        _leg(solids, hip + np.array((0, side * 0.10, 0)), forward, knee, outfit)
        hand = _arm(
            solids,
            shoulder + np.array((0, side * 0.21, -0.03)),
            -0.9 * forward,
            0.35 if phase is not None else 0.15,
            outfit,
        )
        if side < 0 and outfit.bag == "handbag":
            solids.box(
                (hand[0] - 0.12, hand[0] + 0.12),
                (hand[1] - 0.06, hand[1] + 0.04),
                (hand[2] - 0.30, hand[2] - 0.02),
                (120, 80, 50),
                Material.CLOTH,
            )
    if outfit.has_skirt:
        solids.frustum((-0.22, 0.20, -0.20, 0.20, 0.48), (-0.10, 0.10, -0.16, 0.16, 0.95), outfit.legs, Material.CLOTH)
    _head(solids, shoulder, outfit)
    return solids


def build_walker(outfit: Outfit) -> list[Solids]:
    """`GAIT_PHASES` bodies of one stride, then one that stands."""
    phases = [_walker(outfit, 2 * np.pi * k / GAIT_PHASES) for k in range(GAIT_PHASES)]
    return [*phases, _walker(outfit, None)]


def build_stander(outfit: Outfit) -> list[Solids]:
    """One body at rest."""
    return [_walker(outfit, None)]


def build_sitter(outfit: Outfit) -> list[Solids]:
    """One body sitting on a low block, knees forward."""
    solids = Solids()
    hip = np.array((0.0, 0.0, 0.52))
    solids.box((-0.24, 0.14), (-0.24, 0.24), (0.0, 0.43), (128, 124, 118), Material.CONCRETE)
    shoulder = _torso(solids, hip, outfit, 0.05)
    for side in (1, -1):
        _leg(solids, hip + np.array((0, side * 0.11, 0)), 1.45, 1.4, outfit)
        _arm(solids, shoulder + np.array((0, side * 0.21, -0.03)), 0.4, 0.8, outfit)
    _head(solids, shoulder, outfit)
    return [solids]
