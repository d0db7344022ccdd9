"""The ten detection classes as meshes that fill their boxes exactly.

Sizes follow the averages of nuScenes (Caesar et al., CVPR 2020, data v1.0): each drawn size spreads around its shape's
mean, and the mesh is scaled to it, so that the annotated box is tight. Bodies differ between front and back
(bonnet and cabin, head and tail lamps, shoes and rucksack), so that LiDAR and cameras both show the heading.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bevstack.sim.world.actor_cars import CAR_COLOURS, SILHOUETTES, build_car
from bevstack.sim.world.actor_cycles import FRAME_COLOURS, build_bicycle, build_motorcycle
from bevstack.sim.world.actor_heavy import (
    BUS_COLOURS,
    CARGO_COLOURS,
    LORRY_COLOURS,
    build_bus,
    build_machine,
    build_trailer,
    build_truck,
)
from bevstack.sim.world.actor_people import GAIT_PHASES, build_sitter, build_stander, build_walker, random_outfit
from bevstack.sim.world.actor_solids import Rgb, Solids, fitting_transform
from bevstack.sim.world.actor_street import build_barrier, build_cone
from bevstack.sim.world.mesh import Mesh

Size = tuple[float, float, float]

LIDARSEG_INDEX = {
    "human.pedestrian.adult": 2,
    "human.pedestrian.child": 3,
    "human.pedestrian.construction_worker": 4,
    "movable_object.barrier": 9,
    "movable_object.trafficcone": 12,
    "vehicle.bicycle": 14,
    "vehicle.bus.rigid": 16,
    "vehicle.car": 17,
    "vehicle.construction": 18,
    "vehicle.motorcycle": 21,
    "vehicle.trailer": 22,
    "vehicle.truck": 23,
}
"""nuScenes-lidarseg category index of the categories that worlds contain."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActorModel:
    """One body: what it is, how large its box is, and its triangles in every phase of its motion."""

    category: str
    """nuScenes category, `vehicle.car` for example."""
    class_name: str
    """Detection class, `car` for example."""
    variant: str
    size_lwh: Size
    """Length (along the heading), width and height of the box in metres."""
    meshes: tuple[Mesh, ...]
    """One per phase. x forward, y left, z up; origin on the ground below the box centre."""
    lidarseg: int
    has_rider: bool = False

    @property
    def standing_phase(self) -> int:
        """Index of the mesh that shows the actor at rest."""
        return len(self.meshes) - 1


VARIANTS: dict[str, tuple[str, ...]] = {
    "car": ("sedan", "suv", "hatchback", "wagon", "minivan", "coupe"),
    "truck": ("pickup", "box", "flatbed", "tipper", "tanker", "tractor"),
    "bus": ("city", "coach"),
    "trailer": ("box", "flatbed", "tanker"),
    "construction_vehicle": ("excavator", "loader", "roller"),
    "pedestrian": ("adult", "child", "worker", "standing", "sitting"),
    "motorcycle": ("street", "scooter", "street_rider", "scooter_rider"),
    "bicycle": ("parked", "rider"),
    "traffic_cone": ("cone", "post", "barrel"),
    "barrier": ("jersey", "water", "board"),
}
"""Shapes of every class; the first names are the most common ones."""

_WEIGHTS: dict[str, tuple[float, ...]] = {
    "car": (0.30, 0.28, 0.18, 0.08, 0.10, 0.06),
    "truck": (0.30, 0.30, 0.12, 0.12, 0.08, 0.08),
    "pedestrian": (0.85, 0.15, 0.0, 0.0, 0.0),
    "motorcycle": (0.0, 0.0, 0.5, 0.5),
    "bicycle": (0.0, 1.0),
    "traffic_cone": (0.6, 0.2, 0.2),
}
"""Chances of `make_actor` without a variant; even where a class is not listed."""

_MEAN_SIZES: dict[tuple[str, str], Size] = {
    ("truck", "box"): (7.4, 2.55, 3.25),
    ("truck", "flatbed"): (7.2, 2.5, 2.6),
    ("truck", "tipper"): (7.6, 2.6, 2.9),
    ("truck", "tanker"): (8.0, 2.55, 3.0),
    ("truck", "tractor"): (6.4, 2.7, 3.5),
    ("bus", "city"): (11.2, 2.95, 3.25),
    ("bus", "coach"): (12.0, 2.95, 3.7),
    ("trailer", "box"): (12.6, 2.75, 4.0),
    ("trailer", "flatbed"): (12.0, 2.6, 3.5),
    ("trailer", "tanker"): (11.4, 2.6, 3.6),
    ("construction_vehicle", "excavator"): (6.9, 2.85, 3.25),
    ("construction_vehicle", "loader"): (6.7, 2.8, 3.25),
    ("construction_vehicle", "roller"): (5.6, 2.35, 3.0),
    ("pedestrian", "adult"): (0.80, 0.66, 1.76),
    ("pedestrian", "child"): (0.58, 0.48, 1.32),
    ("pedestrian", "worker"): (0.82, 0.70, 1.78),
    ("pedestrian", "standing"): (0.52, 0.64, 1.74),
    ("pedestrian", "sitting"): (0.86, 0.68, 1.26),
    ("motorcycle", "street"): (2.15, 0.80, 1.18),
    ("motorcycle", "scooter"): (1.90, 0.76, 1.20),
    ("motorcycle", "street_rider"): (2.15, 0.80, 1.62),
    ("motorcycle", "scooter_rider"): (1.90, 0.76, 1.62),
    ("bicycle", "parked"): (1.75, 0.60, 1.06),
    ("bicycle", "rider"): (1.75, 0.62, 1.72),
    ("traffic_cone", "cone"): (0.40, 0.40, 0.96),
    ("traffic_cone", "post"): (0.42, 0.42, 1.12),
    ("traffic_cone", "barrel"): (0.58, 0.58, 1.06),
    ("barrier", "jersey"): (0.55, 2.5, 0.98),
    ("barrier", "water"): (0.50, 2.1, 1.0),
    ("barrier", "board"): (0.50, 2.4, 1.05),
}

_SPREAD: dict[str, Size] = {
    "car": (0.05, 0.03, 0.04),
    "truck": (0.10, 0.04, 0.07),
    "bus": (0.07, 0.02, 0.04),
    "trailer": (0.10, 0.03, 0.06),
    "construction_vehicle": (0.08, 0.06, 0.07),
    "pedestrian": (0.10, 0.09, 0.055),
    "motorcycle": (0.06, 0.07, 0.05),
    "bicycle": (0.05, 0.08, 0.05),
    "traffic_cone": (0.08, 0.08, 0.10),
    "barrier": (0.08, 0.08, 0.06),
}
"""Relative standard deviation of length, width and height; draws stop at two of them."""


def _pick(rng: np.random.Generator, table: tuple[Rgb, ...]) -> Rgb:
    return table[int(rng.integers(len(table)))]


def _mean_size(class_name: str, variant: str) -> Size:
    if variant in SILHOUETTES and class_name in ("car", "truck"):
        return SILHOUETTES[variant].size_lwh
    return _MEAN_SIZES[class_name, variant]


def _drawn_size(class_name: str, variant: str, rng: np.random.Generator) -> Size:
    spread = np.asarray(_SPREAD[class_name])
    draw = np.clip(rng.standard_normal(3), -2, 2)
    if class_name == "traffic_cone":
        draw[1] = draw[0]
    length, width, height = np.asarray(_mean_size(class_name, variant)) * (1 + spread * draw)
    return float(round(length, 3)), float(round(width, 3)), float(round(height, 3))


def _vehicle_parts(class_name: str, variant: str, size: Size, rng: np.random.Generator) -> list[Solids]:
    if class_name == "car" or variant == "pickup":
        is_taxi = class_name == "car" and variant in ("sedan", "wagon", "hatchback") and rng.random() < 0.1
        return [build_car(variant, _pick(rng, CAR_COLOURS), size, is_taxi=bool(is_taxi))]
    if class_name == "truck":
        return [build_truck(variant, _pick(rng, LORRY_COLOURS), _pick(rng, CARGO_COLOURS), size)]
    if class_name == "bus":
        return [build_bus(variant, _pick(rng, BUS_COLOURS), size)]
    if class_name == "trailer":
        return [build_trailer(variant, _pick(rng, CARGO_COLOURS), size)]
    return [build_machine(variant)]


def _pedestrian_parts(_: str, variant: str, size: Size, rng: np.random.Generator) -> list[Solids]:
    outfit = random_outfit(rng, is_worker=variant == "worker")
    if variant == "sitting":
        return build_sitter(outfit)
    return build_stander(outfit) if variant == "standing" else build_walker(outfit)


def _cycle_parts(class_name: str, variant: str, size: Size, rng: np.random.Generator) -> list[Solids]:
    outfit = random_outfit(rng) if variant.endswith("rider") else None
    helmet = _pick(rng, FRAME_COLOURS)
    if class_name == "bicycle":
        return build_bicycle(_pick(rng, FRAME_COLOURS), outfit, helmet if rng.random() < 0.6 else None)
    return build_motorcycle(variant.removesuffix("_rider"), _pick(rng, FRAME_COLOURS), outfit, helmet)


def _street_parts(class_name: str, variant: str, size: Size, rng: np.random.Generator) -> list[Solids]:
    return [build_cone(variant) if class_name == "traffic_cone" else build_barrier(variant)]


_BUILDERS: dict[str, Callable[[str, str, Size, np.random.Generator], list[Solids]]] = {
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle"), _vehicle_parts),
    "pedestrian": _pedestrian_parts,
    **dict.fromkeys(("motorcycle", "bicycle"), _cycle_parts),
    **dict.fromkeys(("traffic_cone", "barrier"), _street_parts),
}

_CATEGORIES = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "construction_vehicle": "vehicle.construction",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
}


def _category(class_name: str, variant: str) -> str:
    if class_name != "pedestrian":
        return _CATEGORIES[class_name]
    names = {"child": "human.pedestrian.child", "worker": "human.pedestrian.construction_worker"}
    return names.get(variant, "human.pedestrian.adult")


def make_actor(class_name: str, rng: np.random.Generator, *, variant: str | None = None) -> ActorModel:
    """A body of a detection class with drawn shape, size and colours.

    Args:
        class_name: one of `DETECTION_CLASSES`.
        rng: source of every choice; the same state gives the same actor.
        variant: a shape of `VARIANTS[class_name]`; drawn when None.

    Raises:
        ValueError: the class or the variant does not exist.
    """
    if class_name not in VARIANTS:
        raise ValueError(f"no actors of class '{class_name}'; known: {', '.join(VARIANTS)}")
    if variant is None:
        weights = _WEIGHTS.get(class_name)
        variant = str(rng.choice(VARIANTS[class_name], p=weights))
    elif variant not in VARIANTS[class_name]:
        raise ValueError(f"class '{class_name}' has no variant '{variant}'; known: {', '.join(VARIANTS[class_name])}")
    size = _drawn_size(class_name, variant, rng)
    phases = _BUILDERS[class_name](class_name, variant, size, rng)
    category = _category(class_name, variant)
    fit = fitting_transform(phases, size)
    return ActorModel(
        category=category,
        class_name=class_name,
        variant=variant,
        size_lwh=size,
        meshes=tuple(phase.mesh(LIDARSEG_INDEX[category], fit) for phase in phases),
        lidarseg=LIDARSEG_INDEX[category],
        has_rider=variant.endswith("rider"),
    )


def is_walker(model: ActorModel) -> bool:
    """Whether the meshes are a stride of `GAIT_PHASES` followed by a standing body."""
    return len(model.meshes) == GAIT_PHASES + 1
