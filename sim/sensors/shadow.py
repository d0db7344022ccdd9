"""Cast shadows: height towards the sun on a raster that looks along the sun's rays (orthographic shadow map)."""

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float, Float32, Int32

_STATIC_CELLS = 2048
_ACTOR_CELLS = 768
_ACTOR_REACH_M = 52.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowMap:
    """Distance along the sun direction of the surface nearest to the sun, per cell."""

    height_m: Float32[np.ndarray, "S S"]
    """Coordinate along the sun direction, metres; very low where there is nothing."""
    T_sun_global: Float[np.ndarray, "3 4"]
    """Global point to (column, row, coordinate along the sun direction)."""

    @property
    def cell_m(self) -> float:
        """Edge of a cell, metres."""
        return float(1.0 / np.linalg.norm(self.T_sun_global[0, :3]))


@numba.njit(cache=True, nogil=True)
def _draw(
    vertices: Float32[np.ndarray, "V 3"],
    faces: Int32[np.ndarray, "F 3"],
    T_sun_global: Float[np.ndarray, "3 4"],
    height: Float32[np.ndarray, "S S"],
) -> None:
    """Keep the highest surface per cell; both sides of a triangle cast shadow."""
    size = height.shape[0]
    placed = np.empty((len(vertices), 3))
    for v in range(len(vertices)):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        for axis in range(3):
            placed[v, axis] = (
                T_sun_global[axis, 0] * x
                + T_sun_global[axis, 1] * y
                + T_sun_global[axis, 2] * z
                + T_sun_global[axis, 3]
            )
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, z0 = placed[i, 0], placed[i, 1], placed[i, 2]
        x1, y1, z1 = placed[j, 0], placed[j, 1], placed[j, 2]
        x2, y2, z2 = placed[k, 0], placed[k, 1], placed[k, 2]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0.0:
            continue
        top, bottom = max(0.0, np.ceil(min(y0, y1, y2))), min(size - 1.0, np.floor(max(y0, y1, y2)))
        left, right = max(0.0, np.ceil(min(x0, x1, x2))), min(size - 1.0, np.floor(max(x0, x1, x2)))
        dzdx = ((z1 - z0) * (y2 - y0) - (z2 - z0) * (y1 - y0)) / area
        dzdy = ((z2 - z0) * (x1 - x0) - (z1 - z0) * (x2 - x0)) / area
        highest = max(z0, z1, z2)
        for row in range(int(top), int(bottom) + 1):
            low, high = left, right
            for edge in range(3):
                if edge == 0:
                    ax, ay, bx, by = x0, y0, x1, y1
                elif edge == 1:
                    ax, ay, bx, by = x1, y1, x2, y2
                else:
                    ax, ay, bx, by = x2, y2, x0, y0
                a, b = ay - by, bx - ax
                c = -(a * ax + b * ay)
                if area < 0.0:
                    a, b, c = -a, -b, -c
                if a > 0.0:
                    low = max(low, -(b * row + c) / a)
                elif a < 0.0:
                    high = min(high, -(b * row + c) / a)
                elif b * row + c < 0.0:
                    high = low - 1.0
            base = z0 + (row - y0) * dzdy - x0 * dzdx
            for column in range(int(np.ceil(low)), int(np.floor(high)) + 1):
                z = np.float32(min(base + column * dzdx, highest))
                if z > height[row, column]:
                    height[row, column] = z


def _sun_axes(sun: np.ndarray) -> np.ndarray:
    across = np.cross((0.0, 0.0, 1.0), sun)
    norm = np.linalg.norm(across)
    across = across / norm if norm > 1e-6 else np.array((1.0, 0.0, 0.0))
    return np.stack((across, np.cross(sun, across), sun))


def static_shadow_map(
    vertices: Float32[np.ndarray, "V 3"], faces: Int32[np.ndarray, "F 3"], sun: Float[np.ndarray, "3"]
) -> ShadowMap:
    """Shadow map that covers all vertices (global frame, metres); `sun` is the unit vector to the sun."""
    axes = _sun_axes(sun)
    coordinates = vertices.astype(np.float64) @ axes[:2].T
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    cell = max(float((high - low).max()) / (_STATIC_CELLS - 2), 0.05)
    return _drawn(vertices, faces, axes, low, cell, _STATIC_CELLS)


def actor_shadow_map(
    vertices: Float32[np.ndarray, "V 3"],
    faces: Int32[np.ndarray, "F 3"],
    sun: Float[np.ndarray, "3"],
    center_global: Float[np.ndarray, "3"],
) -> ShadowMap:
    """Shadow map of actors (global frame, metres) that covers about 50 m around a place."""
    axes = _sun_axes(sun)
    low = axes[:2] @ center_global - _ACTOR_REACH_M
    return _drawn(vertices, faces, axes, low, 2 * _ACTOR_REACH_M / _ACTOR_CELLS, _ACTOR_CELLS)


def _drawn(
    vertices: np.ndarray, faces: np.ndarray, axes: np.ndarray, low: np.ndarray, cell: float, size: int
) -> ShadowMap:
    T_sun_global = np.zeros((3, 4))
    T_sun_global[:2, :3], T_sun_global[:2, 3] = axes[:2] / cell, -low / cell
    T_sun_global[2, :3] = axes[2]
    height = np.full((size, size), -1e6, np.float32)
    _draw(vertices, faces, T_sun_global, height)
    return ShadowMap(height_m=height, T_sun_global=T_sun_global)


@numba.njit(cache=True, nogil=True)
def lit_fraction(
    x: float,
    y: float,
    z: float,
    T_sun_global: Float[np.ndarray, "3 4"],
    height: Float32[np.ndarray, "S S"],
    bias_m: float,
) -> float:
    """Share of sunlight, 0 to 1, at a global point: four neighbouring cells compared, then blended."""
    u = T_sun_global[0, 0] * x + T_sun_global[0, 1] * y + T_sun_global[0, 2] * z + T_sun_global[0, 3]
    v = T_sun_global[1, 0] * x + T_sun_global[1, 1] * y + T_sun_global[1, 2] * z + T_sun_global[1, 3]
    w = T_sun_global[2, 0] * x + T_sun_global[2, 1] * y + T_sun_global[2, 2] * z + bias_m
    size = height.shape[0]
    i, j = int(np.floor(u)), int(np.floor(v))
    if i < 0 or j < 0 or i >= size - 1 or j >= size - 1:
        return 1.0
    du, dv = u - i, v - j
    lit = 0.0
    if height[j, i] <= w:
        lit += (1.0 - du) * (1.0 - dv)
    if height[j, i + 1] <= w:
        lit += du * (1.0 - dv)
    if height[j + 1, i] <= w:
        lit += (1.0 - du) * dv
    if height[j + 1, i + 1] <= w:
        lit += du * dv
    return lit
