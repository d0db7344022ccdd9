"""Bodies for the actors of scenarios: of the size that a scenario gives, and of things that no town contains."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bevstack.sim.world.actors import VARIANTS, ActorModel, Size, make_actor
from bevstack.sim.world.buildings import Building, add_building
from bevstack.sim.world.mesh import Material, Mesh
from bevstack.sim.world.mesh_builder import STATIC_MANMADE, MeshBuilder
from bevstack.types.errors import did_you_mean

ANIMAL_LIDARSEG, DEBRIS_LIDARSEG = 1, 10
"""nuScenes-lidarseg index of animal and of movable_object.debris."""


def actor_shape(
    class_name: str, *, size_lwh: Size | None = None, variant: str | None = None, seed: int = 0
) -> ActorModel:
    """A body for an actor.

    Args:
        class_name: A detection class, or building, debris or animal.
        size_lwh: Length, width and height of its box, which the body fills; None: drawn, for detection classes.
        variant: A shape of `world.actors.VARIANTS`; None: drawn.
        seed: Of what is drawn.

    Raises:
        ValueError: there is no such class or shape, or a size is not positive.
    """
    if size_lwh is not None and not all(side > 0 for side in size_lwh):
        raise ValueError(f"size_lwh={size_lwh} of a {class_name} must be three positive lengths")
    if class_name in VARIANTS:
        model = make_actor(class_name, np.random.default_rng([seed, 5]), variant=variant)
        return model if size_lwh is None else _fitted(model, size_lwh)
    if class_name not in _OTHER:
        known = (*VARIANTS, *_OTHER)
        raise ValueError(f"no shape for actors of class '{class_name}'{did_you_mean(class_name, known)}")
    build, category, lidarseg, usual = _OTHER[class_name]
    mesh = build(np.random.default_rng([seed, 5]))
    model = ActorModel(
        category=category,
        class_name=class_name,
        variant=class_name,
        size_lwh=_extent(mesh),
        meshes=(_centred(mesh),),
        lidarseg=lidarseg,
    )
    return _fitted(model, size_lwh or usual)


def _fitted(model: ActorModel, size_lwh: Size) -> ActorModel:
    """The same body stretched to another box."""
    scale = np.array(size_lwh) / np.array(model.size_lwh)
    meshes = tuple(replace(mesh, vertices=(mesh.vertices * scale).astype(np.float32)) for mesh in model.meshes)
    return replace(model, size_lwh=size_lwh, meshes=meshes)


def _extent(mesh: Mesh) -> Size:
    length, width, height = np.ptp(mesh.vertices, axis=0).tolist()
    return length, width, height


def _centred(mesh: Mesh) -> Mesh:
    """Standing on the ground, with the origin below the middle of its box."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    return replace(mesh, vertices=(mesh.vertices - (*(low + high)[:2] / 2, low[2])).astype(np.float32))


def _building(rng: np.random.Generator) -> Mesh:
    builder = MeshBuilder()
    house = Building(style="apartments", pose=(0.0, 0.0, 0.0), width_m=12.0, depth_m=12.0, floors=3, floor_m=2.9)
    add_building(builder, house, rng)
    return builder.build()


def _debris(rng: np.random.Generator) -> Mesh:
    """A cardboard box on a piece of a pallet."""
    builder = MeshBuilder()
    wood = {"material": Material.WOOD, "semantic": DEBRIS_LIDARSEG}
    builder.box((0.0, 0.0, 0.0), (0.8, 0.8, 0.12), 0.0, (120, 92, 60), **wood)
    builder.box((0.05, -0.04, 0.3), (0.5, 0.45, 0.28), 0.12, (164, 128, 84), **wood)
    return builder.build()


def _animal(rng: np.random.Generator) -> Mesh:
    """A deer: body, neck, head and four legs."""
    builder = MeshBuilder()
    brown = tuple(int(value) for value in np.array((112, 82, 56)) + rng.integers(-10, 11))
    rgb = (brown[0], brown[1], brown[2])
    hide = {"material": Material.CLOTH, "semantic": ANIMAL_LIDARSEG}
    builder.box((-0.1, 0.0, 0.0), (1.0, 0.36, 0.42), 0.55, rgb, **hide)
    builder.cone((0.36, 0.0, 0.85), (0.62, 0.0, 1.15), (0.13, 0.09), rgb, **hide)
    builder.box((0.7, 0.0, 0.0), (0.3, 0.16, 0.18), 1.08, rgb, **hide)
    for x in (-0.5, 0.3):
        for y in (-0.12, 0.12):
            builder.cone((x, y, 0.0), (x, y, 0.6), (0.04, 0.06), rgb, **hide)
    return builder.build()


_OTHER: dict[str, tuple[Callable[[np.random.Generator], Mesh], str, int, Size]] = {
    "building": (_building, "static.manmade", STATIC_MANMADE, (12.0, 12.0, 9.0)),
    "debris": (_debris, "movable_object.debris", DEBRIS_LIDARSEG, (0.8, 0.8, 0.4)),
    "animal": (_animal, "animal", ANIMAL_LIDARSEG, (1.4, 0.5, 1.2)),
}
"""Class -> how it is built, its nuScenes category and lidarseg index, and its size where none is given."""
