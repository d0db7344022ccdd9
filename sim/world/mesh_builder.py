"""Collects solids and flat areas of the static world into one mesh."""

import numpy as np
from jaxtyping import Float
from shapely.geometry import MultiPolygon, Polygon

from bevstack.sim.world.mesh import Material, Mesh
from bevstack.sim.world.triangulation import triangulate

Rgb = tuple[int, int, int]

FLAT_DRIVEABLE = 24
FLAT_OTHER = 25
FLAT_SIDEWALK = 26
FLAT_TERRAIN = 27
STATIC_MANMADE = 28
STATIC_OTHER = 29
STATIC_VEGETATION = 30

_BOX_CORNERS = np.array(
    [(x, y, z) for z in (0.0, 1.0) for x, y in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))]
)
_BOX_SIDES = ((0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7), (3, 2, 1, 0))


class MeshBuilder:
    """Grows a mesh part by part; every face keeps its colour, material and lidarseg class."""

    def __init__(self) -> None:
        self._vertices: list[np.ndarray] = []
        self._faces: list[np.ndarray] = []
        self._albedo: list[np.ndarray] = []
        self._material: list[np.ndarray] = []
        self._semantic: list[np.ndarray] = []
        self._count = 0

    @property
    def num_faces(self) -> int:
        """Triangles collected so far."""
        return sum(len(faces) for faces in self._faces)

    def add(self, vertices: np.ndarray, faces: np.ndarray, rgb: Rgb | np.ndarray, material: int, semantic: int) -> None:
        """Add triangles: vertices (V, 3), faces (F, 3), one colour or one per face."""
        if not len(faces):
            return
        self._vertices.append(np.asarray(vertices, np.float32))
        self._faces.append(np.asarray(faces, np.int32) + self._count)
        self._albedo.append(np.broadcast_to(np.asarray(rgb, np.uint8), (len(faces), 3)))
        self._material.append(np.full(len(faces), material, np.uint8))
        self._semantic.append(np.full(len(faces), semantic, np.uint8))
        self._count += len(vertices)

    def quads(self, corners: Float[np.ndarray, "Q 4 3"], rgb: Rgb | np.ndarray, material: int, semantic: int) -> None:
        """Add quads whose corners run counter-clockwise seen from outside."""
        if not len(corners):
            return
        start = 4 * np.arange(len(corners))[:, None, None]
        faces = (start + np.array(((0, 1, 2), (0, 2, 3)))).reshape(-1, 3)
        if isinstance(rgb, np.ndarray) and rgb.ndim == 2:
            rgb = np.repeat(rgb, 2, axis=0)
        self.add(corners.reshape(-1, 3), faces, rgb, material, semantic)

    def box(
        self, pose: tuple[float, float, float], size: tuple[float, float, float], z: float, rgb: Rgb, **kind: int
    ) -> None:
        """Add a box standing on height z: pose x, y, yaw of its centre, size length, width, height.

        The underside is built from 0.4 m above the ground on, where a camera or LiDAR can see it.
        """
        local = _BOX_CORNERS * size + (0.0, 0.0, z)
        world = to_world(local, pose)
        sides = _BOX_SIDES if z > 0.4 else _BOX_SIDES[:-1]
        self.quads(world[np.array(sides)], rgb, kind["material"], kind["semantic"])

    def cone(
        self,
        bottom: tuple[float, float, float],
        top: tuple[float, float, float],
        radii: tuple[float, float],
        rgb: Rgb,
        *,
        sides: int = 6,
        material: int = Material.METAL,
        semantic: int = STATIC_MANMADE,
    ) -> None:
        """Add a round pole between two points, with its own radius at each end and a cap on top."""
        start, end = np.asarray(bottom, float), np.asarray(top, float)
        axis = (end - start) / np.linalg.norm(end - start)
        aside = np.cross(axis, (0.0, 0.0, 1.0) if abs(axis[2]) < 0.9 else (1.0, 0.0, 0.0))
        aside /= np.linalg.norm(aside)
        other = np.cross(axis, aside)
        angles = 2 * np.pi * np.arange(sides) / sides
        circle = np.cos(angles)[:, None] * aside + np.sin(angles)[:, None] * other
        ring = np.concatenate((start + radii[0] * circle, end + radii[1] * circle, end[None]))
        now, following = np.arange(sides), (np.arange(sides) + 1) % sides
        faces = np.concatenate(
            (
                np.stack((now, following, following + sides), 1),
                np.stack((now, following + sides, now + sides), 1),
                np.stack((now + sides, following + sides, np.full(sides, 2 * sides)), 1),
            )
        )
        self.add(ring, faces, rgb, material, semantic)

    def flat(self, area: Polygon | MultiPolygon, z: float, cell_m: float, rgb: Rgb, **kind: int) -> None:
        """Add a horizontal area facing up, in triangles no larger than a cell."""
        vertices, faces = triangulate(area, cell_m)
        heights = np.full((len(vertices), 1), z)
        self.add(np.concatenate((vertices, heights), axis=1), faces, rgb, kind["material"], kind["semantic"])

    def build(self) -> Mesh:
        """Everything collected, as static world (instance -1)."""
        if not self._faces:
            return Mesh.empty()
        faces = np.concatenate(self._faces)
        return Mesh(
            vertices=np.concatenate(self._vertices),
            faces=faces,
            albedo=np.concatenate(self._albedo),
            material=np.concatenate(self._material),
            semantic=np.concatenate(self._semantic),
            instance=np.full(len(faces), -1, np.int32),
        )


def to_world(local: Float[np.ndarray, "*N 3"], pose: tuple[float, float, float]) -> Float[np.ndarray, "*N 3"]:
    """Points of an object's own frame (x forward, y left) placed at x, y, yaw; heights stay."""
    x, y, yaw = pose
    cos, sin = np.cos(yaw), np.sin(yaw)
    moved = np.array(local, np.float64)
    moved[..., 0] = x + cos * local[..., 0] - sin * local[..., 1]
    moved[..., 1] = y + sin * local[..., 0] + cos * local[..., 1]
    return moved
