"""Surface detail without image files: value noise and simple patterns in world coordinates, one rule per material."""

import numba
import numpy as np

from bevstack.sim.world.mesh import Material

_ASPHALT, _LANE_PAINT, _CONCRETE = int(Material.ASPHALT), int(Material.LANE_PAINT), int(Material.CONCRETE)
_GRASS, _FOLIAGE, _BRICK = int(Material.GRASS), int(Material.FOLIAGE), int(Material.BRICK)
_PLASTER, _WOOD = int(Material.PLASTER), int(Material.WOOD)


@numba.njit(cache=True, nogil=True)
def _lattice(i: int, j: int, layer: int) -> float:
    """A number in [0, 1) for a lattice point."""
    h = np.uint32(i) * np.uint32(0x8DA6B343) ^ np.uint32(j) * np.uint32(0xD8163841) ^ np.uint32(layer * 0x9E3779B1)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    h = (h ^ (h >> np.uint32(12))) * np.uint32(0x297A2D39)
    return float((h ^ (h >> np.uint32(15))) & np.uint32(0xFFFFFF)) * 5.9604645e-8


@numba.njit(cache=True, nogil=True)
def value_noise(x: float, y: float, layer: int) -> float:
    """Smooth noise of mean about 0.5 in [0, 1) that varies over a distance of about 1; layers are independent."""
    fx, fy = np.floor(x), np.floor(y)
    i, j = int(fx), int(fy)
    u, v = x - fx, y - fy
    u, v = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v)
    low = _lattice(i, j, layer) * (1.0 - u) + _lattice(i + 1, j, layer) * u
    high = _lattice(i, j + 1, layer) * (1.0 - u) + _lattice(i + 1, j + 1, layer) * u
    return low * (1.0 - v) + high * v


@numba.njit(cache=True, nogil=True)
def _fade(footprint_m: float, detail_m: float) -> float:
    """1 where a detail of this size spans several pixels, 0 where it would alias."""
    return min(1.0, max(0.0, 1.6 - 1.6 * footprint_m / detail_m))


@numba.njit(cache=True, nogil=True)
def pattern(
    material: int, point: tuple[float, float, float], normal: tuple[float, float, float], footprint_m: float
) -> float:
    """Factor on the albedo of a static surface at a global point.

    Args:
        material: a `Material`.
        point: metres.
        normal: unit vector.
        footprint_m: size of a pixel on the surface; finer detail fades out.
    """
    x, y, z = point
    u, v = (x, y) if abs(normal[2]) > 0.7 else (y * normal[0] - x * normal[1], z)
    if material == _ASPHALT:
        value = 0.86 + 0.28 * value_noise(u * 0.23, v * 0.23, 1)
        grain = _fade(footprint_m, 0.12)
        if grain > 0.0:
            value += grain * 0.30 * (value_noise(u * 13.0, v * 13.0, 2) - 0.5)
        crack = _fade(footprint_m, 0.20)
        if crack > 0.0:
            ridge = abs(value_noise(u * 0.31, v * 0.31, 3) + 0.15 * value_noise(u * 2.0, v * 2.0, 4) - 0.58)
            # Only some places are cracked, and cracks are narrow and tarred at best.
            if ridge < 0.006 and value_noise(u * 0.05, v * 0.05, 18) > 0.55:
                value *= 1.0 - 0.35 * crack
        return value
    if material == _LANE_PAINT:
        fine = _fade(footprint_m, 0.25)
        return 0.95 - 0.45 * fine * max(0.0, value_noise(u * 5.0, v * 5.0, 5) - 0.45) - 0.15 * value_noise(u, v, 6)
    if material == _CONCRETE:
        value = 0.85 + 0.3 * value_noise(u * 0.6, v * 0.6, 7)
        joint = _fade(footprint_m, 0.08)
        if joint > 0.0:
            across, along = u * 0.6667, v * 0.6667
            if min(across - np.floor(across), along - np.floor(along)) < 0.022:
                value *= 1.0 - 0.35 * joint
            value += joint * 0.16 * (value_noise(u * 17.0, v * 17.0, 8) - 0.5)
        return value
    if material == _GRASS:
        value = 0.62 + 0.5 * value_noise(u * 0.35, v * 0.35, 9)
        fine = _fade(footprint_m, 0.3)
        if fine > 0.0:
            value += 0.7 * fine * (value_noise(u * 7.0, v * 7.0, 10) - 0.5)
        return value
    if material == _FOLIAGE:
        u, v = x + 0.7 * z, y - 0.6 * z
        value = 0.55 + 0.75 * value_noise(u * 1.3, v * 1.3, 11)
        fine = _fade(footprint_m, 0.35)
        if fine > 0.0:
            value += 0.9 * fine * (value_noise(u * 6.5, v * 6.5, 12) - 0.5)
        return max(value, 0.15)
    if material == _BRICK:
        value = 0.82 + 0.32 * value_noise(u * 0.4, v * 0.4, 13)
        fine = _fade(footprint_m, 0.09)
        if fine > 0.0:
            course = v * 8.0
            row = np.floor(course)
            brick = u * 3.2 + 0.5 * (row % 2.0)
            if course - row < 0.14 or brick - np.floor(brick) < 0.06:
                value *= 1.0 + 0.35 * fine
            else:
                value *= 1.0 + fine * 0.35 * (_lattice(int(np.floor(brick)), int(row), 14) - 0.5)
        return value
    if material == _PLASTER:
        return 0.9 + 0.18 * value_noise(u * 0.35, v * 0.2, 15) - 0.12 * value_noise(u * 2.5, v * 0.4, 16)
    if material == _WOOD:
        return 0.75 + 0.5 * value_noise(u * 9.0, v * 0.9, 17)
    return 1.0
