"""The air as plain numbers for compiled code, and the radiance of the sky in every direction."""

from typing import NamedTuple

import numba
import numpy as np

from bevstack.sim.sensors.texture import value_noise
from bevstack.sim.sensors.weather import Weather

Triple = tuple[float, float, float]


class Air(NamedTuple):
    """`Weather` as plain numbers for compiled code; no arrays, whose reference counts would cost more than shading."""

    sun: Triple
    sun_rgb: Triple
    ambient_rgb: Triple
    zenith_rgb: Triple
    horizon_rgb: Triple
    fog_rgb: Triple
    extinction: float
    cloud_cover: float
    wetness: float
    is_dark: bool
    lamps_on: bool
    seed: int


def _floats(values: Triple) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])


def air_of(weather: Weather) -> Air:
    """The numbers that shading needs of a weather."""
    return Air(
        sun=_floats(weather.sun_direction),
        sun_rgb=_floats(weather.sun_rgb),
        ambient_rgb=_floats(weather.ambient_rgb),
        zenith_rgb=_floats(weather.zenith_rgb),
        horizon_rgb=_floats(weather.horizon_rgb),
        fog_rgb=_floats(weather.fog_rgb),
        extinction=weather.fog_extinction_per_m,
        cloud_cover=weather.cloud_cover,
        wetness=weather.wetness,
        is_dark=weather.is_dark,
        lamps_on=weather.is_dark or weather.kind in ("rain", "fog"),
        seed=weather.seed % 65521,
    )


@numba.njit(cache=True, nogil=True)
def clear_sky(air: Air, x: float, y: float, z: float, out: np.ndarray) -> None:
    """Radiance without clouds in a direction (unit vector, z up) into `out` (3,)."""
    blend = np.sqrt(min(1.0, 1.6 * max(z, 0.0)))
    toward = max(0.0, x * air.sun[0] + y * air.sun[1] + z * air.sun[2])
    glow = 0.0
    if toward > 0.5:
        sharp = toward * toward
        sharp *= sharp
        sharp *= sharp * sharp  # to the 12th
        glow = 0.35 * sharp
        if toward > 0.96:
            glow += 0.8 * sharp**13
        if toward > 0.9994:
            glow += 12.0
    for c in range(3):
        out[c] = air.horizon_rgb[c] * (1.0 - blend) + air.zenith_rgb[c] * blend + glow * air.sun_rgb[c]


@numba.njit(cache=True, nogil=True)
def background(air: Air, eye_height_m: float, x: float, y: float, z: float, out: np.ndarray) -> None:
    """What one sees where there is no surface: sky with clouds, and below the horizon dull land in the haze."""
    clear_sky(air, x, y, z, out)
    if z < -1e-4:
        clear = np.exp(-(air.extinction + 4e-3) * max(eye_height_m, 1.0) / -z)
        for c in range(3):
            land = 0.10 * (air.ambient_rgb[c] + 0.5 * air.sun_rgb[c])
            out[c] = land * clear + air.fog_rgb[c] * (1.0 - clear)
    elif z > 0.01 and air.cloud_cover > 0.0:
        scale = 1.0 / (z + 0.12)
        u, v = x * scale * 1.7 + 3.0, y * scale * 1.7
        density = 0.55 * value_noise(u, v, air.seed) + 0.28 * value_noise(u * 2.3, v * 2.3, air.seed + 1)
        density += 0.17 * value_noise(u * 5.1, v * 5.1, air.seed + 2)
        if air.cloud_cover >= 1.0:
            for c in range(3):
                out[c] *= 0.86 + 0.28 * density
            return
        cover = 0.85 * min(1.0, max(0.0, (density - 0.72 + 0.55 * air.cloud_cover) * 4.0)) * min(1.0, z * 9.0)
        for c in range(3):
            white = 1.5 * air.ambient_rgb[c] + 0.55 * air.sun_rgb[c]
            out[c] = out[c] * (1.0 - cover) + cover * white * (1.15 - 0.35 * density)
