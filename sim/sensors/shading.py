"""From what a pixel sees to the radiance it receives: sun, sky light, lamps, gloss, wet ground, fog."""

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float, Float32, Int16, Int32, UInt8

from bevstack.sim.sensors.lights import CELL_M, GRID_CELLS
from bevstack.sim.sensors.raster import NO_FACE
from bevstack.sim.sensors.shadow import lit_fraction
from bevstack.sim.sensors.sky import Air, Triple, background, clear_sky
from bevstack.sim.sensors.texture import pattern, value_noise
from bevstack.sim.world.mesh import Material

_ASPHALT, _LANE_PAINT, _CONCRETE = int(Material.ASPHALT), int(Material.LANE_PAINT), int(Material.CONCRETE)
_HEADLAMP, _TAILLAMP, _STREETLAMP = int(Material.HEADLAMP), int(Material.TAILLAMP), int(Material.STREETLAMP)
_WINDOW, _RETRO = int(Material.WINDOW), int(Material.RETROREFLECTOR)

# Mirror reflectance at normal incidence and exponent of the sun's glint.
_F0 = np.zeros(len(Material))
_GLOSS = np.zeros(len(Material))
for _material, _f0, _gloss in (
    (Material.GLASS, 0.09, 400.0),
    (Material.WINDOW, 0.12, 400.0),
    (Material.CAR_PAINT, 0.045, 160.0),
    (Material.METAL, 0.22, 30.0),
    (Material.PLASTIC, 0.02, 20.0),
    (Material.HEADLAMP, 0.10, 200.0),
    (Material.TAILLAMP, 0.05, 100.0),
):
    _F0[_material], _GLOSS[_material] = _f0, _gloss


class Surfaces(NamedTuple):
    """Faces of one exposure: the static world first, then the actors."""

    num_static: int
    normals: Float32[np.ndarray, "F 3"]
    """Unit normals, global frame."""
    albedo: Float32[np.ndarray, "F 3"]
    """Linear reflectance."""
    material: UInt8[np.ndarray, " F"]
    cell_hash: Float32[np.ndarray, " F"]
    """A random number per face, for windows."""


class Shadows(NamedTuple):
    """Shadow maps of the static world and of the actors (empty without sun), and what actors hide of the sky."""

    T_static: Float[np.ndarray, "3 4"]
    static_map: Float32[np.ndarray, "S S"]
    T_actors: Float[np.ndarray, "3 4"]
    actor_map: Float32[np.ndarray, "R R"]
    below: Float32[np.ndarray, "Q Q"]
    """Share of the sky hidden from the ground, row = y, column = x, centred at the camera."""
    below_cell_m: float


@numba.njit(cache=True, nogil=True)
def _sunlight(
    air: Air,
    T_static: np.ndarray,
    static_map: np.ndarray,
    T_actors: np.ndarray,
    actor_map: np.ndarray,
    point: Triple,
    normal: Triple,
) -> tuple[float, float]:
    """Cosine of the sun's incidence times its visible share, and that share alone."""
    cosine = normal[0] * air.sun[0] + normal[1] * air.sun[1] + normal[2] * air.sun[2]
    if cosine <= 0.0:
        return 0.0, 0.0
    # Off the surface and towards the sun by about a cell of the map, or surfaces would shade themselves.
    bias = 0.12 + 0.25 * (1.0 - cosine)
    x, y, z = point[0] + 0.08 * normal[0], point[1] + 0.08 * normal[1], point[2] + 0.08 * normal[2]
    lit = lit_fraction(x, y, z, T_static, static_map, bias)
    if lit > 0.0:
        lit *= lit_fraction(x, y, z, T_actors, actor_map, 0.06)
    return cosine * lit, lit


@numba.njit(cache=True, nogil=True)
def _lamp_light(
    lights: Float[np.ndarray, "L 11"],
    grid: Int16[np.ndarray, "G G P"],
    camera: np.ndarray,
    point: Triple,
    normal: Triple,
    view: Triple,
    is_retro: bool,
    out: np.ndarray,
) -> None:
    """What a white surface sends back of the lamps' light."""
    out[0] = out[1] = out[2] = 0.0
    i = int(np.floor((point[0] - camera[0]) / CELL_M + 0.5 * GRID_CELLS))
    j = int(np.floor((point[1] - camera[1]) / CELL_M + 0.5 * GRID_CELLS))
    if i < 0 or j < 0 or i >= GRID_CELLS or j >= GRID_CELLS:
        return
    for slot in range(grid.shape[2]):
        index = grid[j, i, slot]
        if index < 0:
            break
        dx, dy, dz = lights[index, 0] - point[0], lights[index, 1] - point[1], lights[index, 2] - point[2]
        axial = -(dx * lights[index, 6] + dy * lights[index, 7] + dz * lights[index, 8])
        facing = dx * normal[0] + dy * normal[1] + dz * normal[2]
        cone, reach = lights[index, 9], lights[index, 10]
        square = dx * dx + dy * dy + dz * dz + 0.04
        if square > reach * reach or (facing <= 0.0 and not is_retro) or (axial <= 0.0 and cone >= 0.0):
            continue
        near = 1.0 / np.sqrt(square)
        if axial * near <= cone:
            continue
        facing *= near
        if is_retro:  # sends light back to where it came from: bright when the lamp is near the eye's direction
            back = -(dx * view[0] + dy * view[1] + dz * view[2]) * near
            facing = 40.0 * max(0.0, back - 0.985) / 0.015
        focus = (axial * near - cone) / (1.0 - cone)
        gain = facing * focus * focus * (1.0 - square * near / reach) * near * near
        for c in range(3):
            out[c] += gain * lights[index, 3 + c]


@numba.njit(cache=True, nogil=True)
def _mirrored(
    air: Air,
    lit: float,
    f0: float,
    gloss: float,
    view: Triple,
    normal: Triple,
    out: np.ndarray,
) -> float:
    """Radiance seen in a glossy surface into `out`; returns how much of it is mirrored (Schlick's approximation)."""
    along = view[0] * normal[0] + view[1] * normal[1] + view[2] * normal[2]
    grazing = 1.0 - max(0.0, -along)
    square = grazing * grazing
    share = f0 + (0.85 * min(1.0, 8.0 * f0) - f0) * square * square * grazing
    x, y = view[0] - 2.0 * along * normal[0], view[1] - 2.0 * along * normal[1]
    z = view[2] - 2.0 * along * normal[2]
    clear_sky(air, x, y, max(z, 0.0), out)
    glint = 0.0
    if lit > 0.0:
        toward = x * air.sun[0] + y * air.sun[1] + z * air.sun[2]
        if toward > 0.7:
            glint = lit * gloss * 0.05 * np.exp(gloss * np.log(toward))
    # Below about 8 degrees the mirror shows houses and ground rather than sky.
    seen = min(1.0, max(0.0, 0.25 + 5.0 * z))
    for c in range(3):
        out[c] = out[c] * seen + 0.18 * air.ambient_rgb[c] * (1.0 - seen) + glint * air.sun_rgb[c]
    return share


@numba.njit(cache=True, nogil=True)
def _emission(air: Air, material: int, chance: float, facing: float, out: np.ndarray) -> None:
    """Light that a surface gives off itself."""
    out[0] = out[1] = out[2] = 0.0
    if not air.lamps_on:
        return
    if material == _HEADLAMP:
        out[0] = out[1] = 5.0 * facing
        out[2] = 4.6 * facing
    elif material == _TAILLAMP:
        out[0], out[1], out[2] = 0.75, 0.03, 0.02
    elif air.is_dark and material == _STREETLAMP:
        out[0], out[1], out[2] = 6.0, 5.0, 3.4
    elif air.is_dark and material == _WINDOW and chance < 0.34:
        level = 0.05 + 0.35 * chance
        warm = (chance * 97.0) % 1.0
        out[0], out[1], out[2] = level, level * (0.72 + 0.2 * warm), level * (0.38 + 0.5 * warm)


@numba.njit(cache=True, nogil=True)
def _wet_share(air: Air, material: int, x: float, y: float, nz: float) -> float:
    """How much of a mirror of water covers the ground at a place: 0 when dry, most in puddles."""
    if air.wetness <= 0.0 or nz <= 0.7 or material not in (_ASPHALT, _CONCRETE, _LANE_PAINT):
        return 0.0
    puddle = value_noise(x * 0.22, y * 0.22, air.seed + 7)
    return air.wetness * min(1.0, max(0.0, 0.35 + 2.2 * (puddle - 0.35)))


@numba.njit(cache=True, nogil=True)
def shade(
    inverse_depth: Float32[np.ndarray, "H W"],
    face_index: Int32[np.ndarray, "H W"],
    surfaces: Surfaces,
    ray_matrix: Float[np.ndarray, "3 3"],
    camera: Float[np.ndarray, "3"],
    air: Air,
    shadows: Shadows,
    lights: Float[np.ndarray, "L 11"],
    grid: Int16[np.ndarray, "G G P"],
) -> Float32[np.ndarray, "H W 3"]:
    """Linear RGB radiance of every pixel.

    Args:
        inverse_depth: 1/m along the optical axis, 0 where there is sky.
        face_index: face per pixel, -1 for sky.
        surfaces: what the faces are made of.
        ray_matrix: pixel (u, v, 1) to the global direction of the ray whose depth along the axis is 1.
        camera: optical centre, global frame.
        air: light and weather.
        shadows: shadow maps.
        lights: see `lights.collect_lights`.
        grid: see `lights.light_grid`.
    """
    height, width = inverse_depth.shape
    radiance = np.empty((height, width, 3), np.float32)
    color, mirror, lamp, own = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    # Arrays out of their tuples once: taking them out per pixel would cost more than shading it.
    normals, albedo, material, cell_hash = surfaces.normals, surfaces.albedo, surfaces.material, surfaces.cell_hash
    T_static, static_map = shadows.T_static, shadows.static_map
    T_actors, actor_map, below = shadows.T_actors, shadows.actor_map, shadows.below
    half_below, has_sun, has_lamps = 0.5 * below.shape[0], air.sun_rgb[0] > 0.0, len(lights) > 0
    pixel_rad = np.sqrt(ray_matrix[0, 0] ** 2 + ray_matrix[1, 0] ** 2 + ray_matrix[2, 0] ** 2)
    for v in range(height):
        for u in range(width):
            dx = ray_matrix[0, 0] * u + ray_matrix[0, 1] * v + ray_matrix[0, 2]
            dy = ray_matrix[1, 0] * u + ray_matrix[1, 1] * v + ray_matrix[1, 2]
            dz = ray_matrix[2, 0] * u + ray_matrix[2, 1] * v + ray_matrix[2, 2]
            stretch = np.sqrt(dx * dx + dy * dy + dz * dz)
            view = (dx / stretch, dy / stretch, dz / stretch)
            face = face_index[v, u]
            if face == NO_FACE:
                background(air, camera[2], view[0], view[1], view[2], color)
                for c in range(3):
                    radiance[v, u, c] = color[c]
                continue
            z = 1.0 / inverse_depth[v, u]
            point = (camera[0] + dx * z, camera[1] + dy * z, camera[2] + dz * z)
            normal = (float(normals[face, 0]), float(normals[face, 1]), float(normals[face, 2]))
            kind, is_static = material[face], face < surfaces.num_static
            facing = max(0.0, -(normal[0] * view[0] + normal[1] * view[1] + normal[2] * view[2]))
            detail = pattern(kind, point, normal, pixel_rad * z / max(facing, 0.08)) if is_static else 1.0
            direct, lit = 0.0, 0.0
            if has_sun:
                direct, lit = _sunlight(air, T_static, static_map, T_actors, actor_map, point, normal)
            sky = 0.5 + 0.5 * normal[2]
            if is_static and normal[2] > 0.5:  # actors hide the sky from the ground below them
                i = int((point[0] - camera[0]) / shadows.below_cell_m + half_below)
                j = int((point[1] - camera[1]) / shadows.below_cell_m + half_below)
                if 0 <= i < below.shape[1] and 0 <= j < below.shape[0]:
                    sky *= 1.0 - 0.78 * below[j, i]
            sky += 0.18 * (0.5 - 0.5 * normal[2])  # what the ground sends back up
            if has_lamps:
                _lamp_light(lights, grid, camera, point, normal, view, kind == _RETRO, lamp)
            f0, gloss = _F0[kind], _GLOSS[kind]
            wet = _wet_share(air, kind, point[0], point[1], normal[2])
            if wet > 0.0:
                detail *= 1.0 - 0.45 * wet
                f0, gloss = 0.03 * wet, 60.0
            share = _mirrored(air, lit, f0, gloss, view, normal, mirror) if f0 > 0.0 else 0.0
            _emission(air, kind, cell_hash[face], facing, own)
            clear = np.exp(-air.extinction * stretch * z)
            for c in range(3):
                light = air.sun_rgb[c] * direct + air.ambient_rgb[c] * sky + lamp[c]
                value = albedo[face, c] * detail * light * (1.0 - share) + share * mirror[c] + own[c]
                radiance[v, u, c] = value * clear + air.fog_rgb[c] * (1.0 - clear)
    return radiance
