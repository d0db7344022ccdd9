"""Closed solids from which actors are put together: boxes, frusta, tubes, ellipsoids, lofts.

Local frame of an actor: x forward, y left, z up, origin on the ground below the box centre. Every solid is turned so
that its faces wind counter-clockwise seen from outside, so builders never think about winding.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from bevstack.sim.world.mesh import Material, Mesh

Rgb = tuple[int, int, int]
Range = tuple[float, float]

GLASS_RGB: Rgb = (28, 36, 44)
RUBBER_RGB: Rgb = (24, 24, 26)
TRIM_RGB: Rgb = (38, 38, 42)
STEEL_RGB: Rgb = (150, 152, 156)
HEADLAMP_RGB: Rgb = (240, 240, 228)
TAILLAMP_RGB: Rgb = (190, 16, 18)
PLATE_RGB: Rgb = (236, 236, 220)


_AHEAD, _LEFT = np.array((1.0, 0.0, 0.0)), np.array((0.0, 1.0, 0.0))
Point = Sequence[float] | np.ndarray


def _signed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    corners = (vertices - vertices[0])[faces]
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners.transpose(1, 2, 0)
    return float((ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)).sum())


@lru_cache
def _loft_faces(sections: int, n: int) -> np.ndarray:
    """Faces over sections * n ring points and the two cap centres behind them."""
    here = np.arange(sections - 1)[:, None] * n + np.arange(n)[None]
    beside = np.arange(sections - 1)[:, None] * n + (np.arange(n)[None] + 1) % n
    k, k1 = np.arange(n), (np.arange(n) + 1) % n
    return np.concatenate(
        [
            np.stack((here, beside, here + n), -1).reshape(-1, 3),
            np.stack((beside, beside + n, here + n), -1).reshape(-1, 3),
            np.stack((k1, k, np.full(n, sections * n)), -1),
            np.stack((k, k1, np.full(n, sections * n + 1)), -1) + np.array([(sections - 1) * n] * 2 + [0]),
        ]
    )


@lru_cache
def _circle(segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines (segments, 1) around a circle."""
    angles = np.linspace(0, 2 * np.pi, segments, endpoint=False) + np.pi / segments
    return np.cos(angles)[:, None], np.sin(angles)[:, None]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of two vectors; numpy's own is slow for single ones."""
    return np.array((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]))


class Solids:
    """A growing list of solids that becomes one `Mesh`."""

    def __init__(self) -> None:
        self._vertices: list[np.ndarray] = []
        self._faces: list[np.ndarray] = []
        self._albedo: list[np.ndarray] = []
        self._material: list[np.ndarray] = []
        self._count = 0

    def add(self, vertices: np.ndarray, faces: np.ndarray, rgb: Rgb, material: Material) -> None:
        """Append triangles (F, 3) over vertices (V, 3) as they are."""
        self._vertices.append(np.asarray(vertices, np.float64))
        self._faces.append(np.asarray(faces, np.int64) + self._count)
        self._albedo.append(np.tile(np.asarray(rgb, np.uint8), (len(faces), 1)))
        self._material.append(np.full(len(faces), int(material), np.uint8))
        self._count += len(vertices)

    def _add_closed(self, vertices: np.ndarray, faces: np.ndarray, rgb: Rgb, material: Material) -> None:
        self.add(vertices, faces if _signed_volume(vertices, faces) > 0 else faces[:, ::-1], rgb, material)

    def loft(self, rings: np.ndarray, rgb: Rgb, material: Material) -> None:
        """A skin over rings (S, N, 3) of N points each, closed by a fan at both ends."""
        sections, n, _ = rings.shape
        vertices = np.concatenate((rings.reshape(-1, 3), rings[0].mean(0)[None], rings[-1].mean(0)[None]))
        self._add_closed(vertices, _loft_faces(sections, n), rgb, material)

    def frustum(self, bottom: Sequence[float], top: Sequence[float], rgb: Rgb, material: Material) -> None:
        """Six faces between two rectangles, each (x_low, x_high, y_low, y_high, z)."""
        rings = np.array(
            [[(r[0], r[2], r[4]), (r[1], r[2], r[4]), (r[1], r[3], r[4]), (r[0], r[3], r[4])] for r in (bottom, top)]
        )
        vertices = rings.reshape(-1, 3)
        faces = np.array(
            [
                (0, 2, 1), (0, 3, 2), (4, 5, 6), (4, 6, 7), (0, 1, 5), (0, 5, 4),
                (1, 2, 6), (1, 6, 5), (2, 3, 7), (2, 7, 6), (3, 0, 4), (3, 4, 7),
            ]
        )  # fmt: skip
        self._add_closed(vertices, faces, rgb, material)

    def box(self, x: Range, y: Range, z: Range, rgb: Rgb, material: Material) -> None:
        """A cuboid."""
        self.frustum((*x, *y, z[0]), (*x, *y, z[1]), rgb, material)

    def pair(self, x: Range, y: Range, z: Range, rgb: Rgb, material: Material) -> None:
        """The same cuboid left (y as given) and right (mirrored)."""
        self.box(x, y, z, rgb, material)
        self.box(x, (-y[1], -y[0]), z, rgb, material)

    def panel(self, quad: np.ndarray, away_from: Point, rgb: Rgb, material: Material) -> None:
        """One four-cornered face (4, 3), seen from the side that does not hold the point `away_from`."""
        corners = np.asarray(quad, np.float64)
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        faces = np.array([(0, 1, 2), (0, 2, 3)])
        if normal @ (corners.mean(0) - np.asarray(away_from, np.float64)) < 0:
            faces = faces[:, ::-1]
        self.add(corners, faces, rgb, material)

    def tube(
        self,
        start: Point,
        end: Point,
        radius: float,
        rgb: Rgb,
        material: Material,
        *,
        end_radius: float | None = None,
        segments: int = 6,
        flatten: float = 1.0,
    ) -> None:
        """A round bar or cone between two points; `flatten` scales its second cross-axis (ellipse)."""
        a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
        axis = (b - a) / max(float(np.sqrt(((b - a) ** 2).sum())), 1e-9)
        side = _cross(axis, _LEFT if abs(axis[1]) < 0.9 else _AHEAD)
        side /= np.sqrt((side**2).sum())
        cosines, sines = _circle(segments)
        circle = cosines * side + sines * (_cross(axis, side) * flatten)
        rings = np.stack((a + circle * radius, b + circle * (radius if end_radius is None else end_radius)))
        self.loft(rings, rgb, material)

    def wheel(self, centre: Point, radius: float, width: float, *, segments: int = 12) -> None:
        """A tyre on an axle along y, with a bright rim on both faces."""
        x, y, z = centre
        half = width / 2
        self.tube((x, y - half, z), (x, y + half, z), radius, RUBBER_RGB, Material.RUBBER, segments=segments)
        rim = half + 0.012
        self.tube((x, y - rim, z), (x, y + rim, z), radius * 0.55, STEEL_RGB, Material.METAL, segments=6)

    def ring(self, centre: Point, radius: float, thickness: float, *, segments: int = 14) -> None:
        """A thin spoked wheel (bicycle): a tyre hoop on an axle along y and four spokes."""
        angles = np.linspace(0, 2 * np.pi, segments, endpoint=False)
        outer, inner = radius, radius - 2.0 * thickness
        half = thickness / 2
        profile = [(outer, -half), (outer, half), (inner, half), (inner, -half)]
        rings = np.array(
            [
                [(centre[0] + r * np.cos(a), centre[1] + y, centre[2] + r * np.sin(a)) for r, y in profile]
                for a in angles
            ]
        )
        n = len(profile)
        here = np.arange(segments)[:, None] * n + np.arange(n)[None]
        ahead = (np.arange(segments)[:, None] + 1) % segments * n + np.arange(n)[None]
        turn = (np.arange(n) + 1) % n - np.arange(n)
        faces = np.concatenate(
            [
                np.stack((here, here + turn, ahead), -1).reshape(-1, 3),
                np.stack((here + turn, ahead + turn, ahead), -1).reshape(-1, 3),
            ]
        )
        self._add_closed(rings.reshape(-1, 3), faces, RUBBER_RGB, Material.RUBBER)
        for angle in (0.4, 0.4 + np.pi / 2):
            d = np.array((np.cos(angle), 0.0, np.sin(angle))) * inner
            c = np.asarray(centre, np.float64)
            self.tube(c - d, c + d, 0.008, STEEL_RGB, Material.METAL, segments=3)

    def ellipsoid(self, centre: Point, radii: Point, rgb: Rgb, material: Material, *, segments: int = 8) -> None:
        """An ellipsoid with horizontal rings."""
        heights = np.array([-0.92, -0.6, 0.0, 0.6, 0.92])
        cosines, sines = _circle(segments)
        widths = np.sqrt(1 - heights**2)[:, None]
        levels = np.tile(heights[:, None] / 0.92, segments)
        rings = np.stack((widths * cosines.T, widths * sines.T, levels), axis=-1)
        self.loft(rings * np.asarray(radii) + np.asarray(centre), rgb, material)

    def points(self) -> np.ndarray:
        """All vertices (V, 3)."""
        return np.concatenate(self._vertices)

    def mesh(self, semantic: int, fit: np.ndarray | None = None) -> Mesh:
        """The triangles as a `Mesh` with one lidarseg index; `fit` (3, 2) holds per-axis (scale, offset) to apply."""
        vertices = self.points() if fit is None else self.points() * fit[:, 0] + fit[:, 1]
        faces = np.concatenate(self._faces).astype(np.int32)
        return Mesh(
            vertices=vertices.astype(np.float32),
            faces=faces,
            albedo=np.concatenate(self._albedo),
            material=np.concatenate(self._material),
            semantic=np.full(len(faces), semantic, np.uint8),
            instance=np.zeros(len(faces), np.int32),
        )


def fitting_transform(phases: Sequence[Solids], size_lwh: Sequence[float]) -> np.ndarray:
    """Per-axis (scale, offset) (3, 2) that makes the union of all phases fill the box of that size exactly."""
    points = np.concatenate([phase.points() for phase in phases])
    low, high = points.min(0), points.max(0)
    size = np.asarray(size_lwh, np.float64)
    scale = size / (high - low)
    target_low = np.array((-size[0] / 2, -size[1] / 2, 0.0))
    return np.stack((scale, target_low - low * scale), axis=1)
