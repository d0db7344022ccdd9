"""From what a pixel sees to the radiance it receives: sun, sky, lamps, gloss, wet ground, fog; and the sky itself."""

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float, Float32, Int16, Int32

from bevstack.sim.sensors.lights import CELL_M, GRID_CELLS
from bevstack.sim.sensors.raster import NO_FACE
from bevstack.sim.sensors.shadow import lit_fraction
from bevstack.sim.sensors.texture import pattern, value_noise
from bevstack.sim.sensors.weather import Weather
from bevstack.sim.world.mesh import Material

_ASPHALT, _GRASS = int(Material.ASPHALT), int(Material.GRASS)
_LANE_PAINT, _CONCRETE = int(Material.LANE_PAINT), int(Material.CONCRETE)
_HEADLAMP, _TAILLAMP, _STREETLAMP = int(Material.HEADLAMP), int(Material.TAILLAMP), int(Material.STREETLAMP)
_WINDOW, _RETRO = int(Material.WINDOW), int(Material.RETROREFLECTOR)

# Mirror reflectance at normal incidence and sharpness of the sun's glint.
_F0 = np.zeros(len(Material), np.float32)
_GLOSS = np.zeros(len(Material), np.float32)
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


class Air(NamedTuple):
    """`Weather` as plain numbers for compiled code."""

    sun: Float[np.ndarray, "3"]
    sun_rgb: Float[np.ndarray, "3"]
    ambient_rgb: Float[np.ndarray, "3"]
    zenith_rgb: Float[np.ndarray, "3"]
    horizon_rgb: Float[np.ndarray, "3"]
    fog_rgb: Float[np.ndarray, "3"]
    extinction: float
    cloud_cover: float
    wetness: float
    is_dark: bool
    lamps_on: bool
    seed: int


def air_of(weather: Weather) -> Air:
    """The numbers that `shade` needs of a weather."""
    return Air(
        sun=weather.sun,
        sun_rgb=np.array(weather.sun_rgb),
        ambient_rgb=np.array(weather.ambient_rgb),
        zenith_rgb=np.array(weather.zenith_rgb),
        horizon_rgb=np.array(weather.horizon_rgb),
        fog_rgb=np.array(weather.fog_rgb),
        extinction=weather.fog_extinction_per_m,
        cloud_cover=weather.cloud_cover,
        wetness=weather.wetness,
        is_dark=weather.is_dark,
        lamps_on=weather.is_dark or weather.kind in ("rain", "fog"),
        seed=weather.seed % 65521,
    )


@numba.njit(cache=True, nogil=True)
def _sky(air: Air, x: float, y: float, z: float, with_clouds: bool, out: np.ndarray) -> None:
    """Radiance of the sky in a direction (unit vector, z up)."""
    up = max(z, 0.0)
    blend = min(1.0, up * 1.6) ** 0.6
    toward = max(0.0, x * air.sun[0] + y * air.sun[1] + z * air.sun[2])
    glow = 0.35 * toward**12 + 0.8 * toward**160
    for c in range(3):
        out[c] = air.horizon_rgb[c] * (1.0 - blend) + air.zenith_rgb[c] * blend + glow * air.sun_rgb[c]
    if toward > 0.9994:
        for c in range(3):
            out[c] += 12.0 * air.sun_rgb[c]
    if with_clouds and air.cloud_cover > 0.0 and z > 0.01:
        scale = 1.0 / (z + 0.12)
        u, v = x * scale * 1.7 + 3.0, y * scale * 1.7
        density = 0.55 * value_noise(u, v, air.seed) + 0.28 * value_noise(u * 2.3, v * 2.3, air.seed + 1)
        density += 0.17 * value_noise(u * 5.1, v * 5.1, air.seed + 2)
        cover = min(1.0, max(0.0, (density - 0.72 + 0.55 * air.cloud_cover) * 4.0)) * min(1.0, z * 9.0)
        for c in range(3):
            white = 1.5 * air.ambient_rgb[c] + 0.55 * air.sun_rgb[c]
            if air.cloud_cover >= 1.0:
                out[c] *= 0.86 + 0.28 * density
            else:
                out[c] = out[c] * (1.0 - 0.85 * cover) + 0.85 * cover * white * (1.15 - 0.35 * density)


@numba.njit(cache=True, nogil=True)
def _lamp_light(
    lights: np.ndarray, grid: np.ndarray, camera: np.ndarray, px: float, py: float, pz: float,
    nx: float, ny: float, nz: float, toward_x: float, toward_y: float, toward_z: float,
    is_retro: bool, out: np.ndarray,
) -> None:  # fmt: skip
    """Irradiance by lamps at a point, divided by pi: what a white surface sends back."""
    i = int(np.floor((px - camera[0]) / CELL_M + 0.5 * GRID_CELLS))
    j = int(np.floor((py - camera[1]) / CELL_M + 0.5 * GRID_CELLS))
    out[0] = out[1] = out[2] = 0.0
    if i < 0 or j < 0 or i >= GRID_CELLS or j >= GRID_CELLS:
        return
    for slot in range(grid.shape[2]):
        index = grid[j, i, slot]
        if index < 0:
            break
        dx, dy, dz = lights[index, 0] - px, lights[index, 1] - py, lights[index, 2] - pz
        square = dx * dx + dy * dy + dz * dz + 0.04
        reach = lights[index, 10]
        if square > reach * reach:
            continue
        distance = np.sqrt(square)
        facing = (dx * nx + dy * ny + dz * nz) / distance
        if is_retro:
            # Sends light back towards where it came from: bright for lamps near the eye.
            back = (dx * toward_x + dy * toward_y + dz * toward_z) / distance
            facing = 40.0 * max(0.0, back - 0.985) / 0.015
        if facing <= 0.0:
            continue
        cosine = -(dx * lights[index, 6] + dy * lights[index, 7] + dz * lights[index, 8]) / distance
        cone = lights[index, 9]
        if cosine <= cone:
            continue
        focus = (cosine - cone) / (1.0 - cone)
        edge = 1.0 - distance / reach
        gain = facing * focus * focus * edge / square
        for c in range(3):
            out[c] += gain * lights[index, 3 + c]


@numba.njit(cache=True, nogil=True)
def _emission(material: int, cell_hash: float, lamps_on: bool, is_dark: bool, facing: float, out: np.ndarray) -> None:
    out[0] = out[1] = out[2] = 0.0
    if lamps_on and material == _HEADLAMP:
        out[0] = out[1] = 5.0 * facing
        out[2] = 4.6 * facing
    elif lamps_on and material == _TAILLAMP:
        out[0], out[1], out[2] = 0.75, 0.03, 0.02
    elif is_dark and material == _STREETLAMP:
        out[0], out[1], out[2] = 6.0, 5.0, 3.4
    elif is_dark and material == _WINDOW and cell_hash < 0.34:
        level = 0.05 + 0.35 * cell_hash
        warm = (cell_hash * 97.0) % 1.0
        out[0], out[1], out[2] = level, level * (0.72 + 0.2 * warm), level * (0.38 + 0.5 * warm)


@numba.njit(cache=True, nogil=True)
def shade(
    inverse_depth: Float32[np.ndarray, "H W"],
    face_index: Int32[np.ndarray, "H W"],
    num_static: int,
    normals: tuple[np.ndarray, np.ndarray],
    albedo: tuple[np.ndarray, np.ndarray],
    material: tuple[np.ndarray, np.ndarray],
    cell_hash: tuple[np.ndarray, np.ndarray],
    ray_matrix: Float[np.ndarray, "3 3"],
    camera: Float[np.ndarray, "3"],
    air: Air,
    sun_maps: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    shade_below: Float32[np.ndarray, "S S"],
    shade_below_cell_m: float,
    lights: Float[np.ndarray, "L 11"],
    grid: Int16[np.ndarray, "G G P"],
    radiance: Float32[np.ndarray, "H W 3"],
) -> None:
    """Fill `radiance` (linear RGB).

    Args:
        inverse_depth: 1/m along the optical axis, 0 where there is sky.
        face_index: face per pixel; below `num_static` a static face, above an actor's, -1 for sky.
        num_static: number of static faces.
        normals: (static, actors) unit normals, global frame.
        albedo: (static, actors) linear reflectance.
        material: (static, actors) `Material`.
        cell_hash: (static, actors) random number per face, for windows.
        ray_matrix: pixel (u, v, 1) to the global direction of the ray whose depth along the axis is 1.
        camera: optical centre, global frame.
        air: light and weather.
        sun_maps: transform and heights of the shadow map of the static world, then of the actors.
        shade_below: how much of the sky actors hide from the ground, centred at the camera.
        shade_below_cell_m: cell edge of `shade_below`.
        lights: see `lights.collect_lights`.
        grid: see `lights.light_grid`.
        radiance: result.
    """
    height, width = inverse_depth.shape
    has_sun = air.sun_rgb[0] > 0.0
    T_static, static_map, T_actors, actor_map = sun_maps
    sky, lamp, own = np.empty(3), np.zeros(3), np.empty(3)
    pixel_size = np.sqrt(ray_matrix[0, 0] ** 2 + ray_matrix[1, 0] ** 2 + ray_matrix[2, 0] ** 2)
    half_map = 0.5 * shade_below.shape[0]
    for v in range(height):
        for u in range(width):
            dx = ray_matrix[0, 0] * u + ray_matrix[0, 1] * v + ray_matrix[0, 2]
            dy = ray_matrix[1, 0] * u + ray_matrix[1, 1] * v + ray_matrix[1, 2]
            dz = ray_matrix[2, 0] * u + ray_matrix[2, 1] * v + ray_matrix[2, 2]
            stretch = np.sqrt(dx * dx + dy * dy + dz * dz)
            face = face_index[v, u]
            vx, vy, vz = dx / stretch, dy / stretch, dz / stretch
            if face == NO_FACE:
                _sky(air, vx, vy, vz, True, sky)
                if vz < -1e-4:  # beyond the edge of the world: dull land that fades into the haze
                    clear = np.exp(-(air.extinction + 4e-3) * max(camera[2], 1.0) / -vz)
                    for c in range(3):
                        land = 0.10 * (air.ambient_rgb[c] + 0.5 * air.sun_rgb[c])
                        sky[c] = land * clear + air.fog_rgb[c] * (1.0 - clear)
                for c in range(3):
                    radiance[v, u, c] = sky[c]
                continue
            is_static = face < num_static
            part = face if is_static else face - num_static
            if is_static:
                nx, ny, nz = normals[0][part, 0], normals[0][part, 1], normals[0][part, 2]
                red, green, blue = albedo[0][part, 0], albedo[0][part, 1], albedo[0][part, 2]
                kind, chance = material[0][part], cell_hash[0][part]
            else:
                nx, ny, nz = normals[1][part, 0], normals[1][part, 1], normals[1][part, 2]
                red, green, blue = albedo[1][part, 0], albedo[1][part, 1], albedo[1][part, 2]
                kind, chance = material[1][part], cell_hash[1][part]
            z = 1.0 / inverse_depth[v, u]
            px, py, pz = camera[0] + dx * z, camera[1] + dy * z, camera[2] + dz * z
            distance = stretch * z
            facing = max(0.0, -(nx * vx + ny * vy + nz * vz))
            detail = 1.0
            if is_static:
                detail = pattern(kind, px, py, pz, nx, ny, nz, pixel_size * z / max(facing, 0.08))
            # Direct sun.
            direct = nx * air.sun[0] + ny * air.sun[1] + nz * air.sun[2] if has_sun else 0.0
            lit = 0.0
            if direct > 0.0:
                bias = 0.12 + 0.25 * (1.0 - direct)
                ox, oy, oz = px + 0.08 * nx, py + 0.08 * ny, pz + 0.08 * nz
                lit = lit_fraction(ox, oy, oz, T_static, static_map, bias)
                if lit > 0.0:
                    lit *= lit_fraction(ox, oy, oz, T_actors, actor_map, 0.06)
                direct *= lit
            else:
                direct = 0.0
            # Sky light from above, light from the ground from below; actors hide the sky from the ground below them.
            open_sky = 0.5 + 0.5 * nz
            if is_static and nz > 0.5:
                i = int((px - camera[0]) / shade_below_cell_m + half_map)
                j = int((py - camera[1]) / shade_below_cell_m + half_map)
                if 0 <= i < shade_below.shape[1] and 0 <= j < shade_below.shape[0]:
                    open_sky *= 1.0 - 0.78 * shade_below[j, i]
            bounce = 0.18 * (0.5 - 0.5 * nz)
            if len(lights):
                _lamp_light(lights, grid, camera, px, py, pz, nx, ny, nz, -vx, -vy, -vz, kind == _RETRO, lamp)
            # Gloss: car paint, glass, metal and wet ground mirror the sky.
            f0, gloss = float(_F0[kind]), float(_GLOSS[kind])
            wet = 0.0
            if air.wetness > 0.0 and nz > 0.7 and kind in (_ASPHALT, _CONCRETE, _LANE_PAINT):
                puddle = value_noise(px * 0.22, py * 0.22, air.seed + 7)
                wet = air.wetness * min(1.0, max(0.0, 0.35 + 2.2 * (puddle - 0.35)))
                detail *= 1.0 - 0.45 * wet
                f0, gloss = 0.03 * wet, 60.0
            mirror = 0.0
            if f0 > 0.0:
                grazing = 1.0 - facing
                mirror = f0 + (0.85 * min(1.0, 8.0 * f0) - f0) * grazing * grazing * grazing * grazing * grazing
                twice = 2.0 * (nx * vx + ny * vy + nz * vz)
                rx, ry, rz = vx - twice * nx, vy - twice * ny, vz - twice * nz
                _sky(air, rx, ry, max(rz, 0.0), False, sky)
                # Below about 8 degrees the mirror shows houses and ground rather than sky.
                seen = min(1.0, max(0.0, 0.25 + 5.0 * rz))
                glint = 0.0
                if lit > 0.0:
                    toward = rx * air.sun[0] + ry * air.sun[1] + rz * air.sun[2]
                    glint = lit * max(0.0, toward) ** gloss * gloss * 0.05
                for c in range(3):
                    sky[c] = sky[c] * seen + 0.18 * air.ambient_rgb[c] * (1.0 - seen) + glint * air.sun_rgb[c]
            _emission(kind, chance, air.lamps_on, air.is_dark, facing, own)
            clear = np.exp(-air.extinction * distance)
            for c in range(3):
                base = (red if c == 0 else green if c == 1 else blue) * detail
                light = air.sun_rgb[c] * direct + air.ambient_rgb[c] * (open_sky + bounce) + lamp[c]
                value = base * light * (1.0 - mirror) + mirror * sky[c] + own[c]
                radiance[v, u, c] = value * clear + air.fog_rgb[c] * (1.0 - clear)
