"""From radiance to the picture a camera delivers: lens blur, bloom, rain, exposure, vignette, noise, tone curve."""

import cv2
import numba
import numpy as np
from jaxtyping import Float32, UInt8

from bevstack.sim.sensors.hashing import bell, mix
from bevstack.sim.sensors.weather import Weather

_MIDDLE_GREY_BY_DAY = 0.36
_MIDDLE_GREY_AFTER_DARK = 0.13
_TONE_STEPS = 4096
_TONE_WHITE = 4.0
_READ_NOISE = 0.0016
_SHOT_NOISE = 0.00022


def _tone_curve() -> UInt8[np.ndarray, " T"]:
    """8-bit code by the square root of the signal: linear below a shoulder that saves highlights, then gamma 2.2."""
    signal = np.linspace(0.0, 1.0, _TONE_STEPS) ** 2 * _TONE_WHITE
    shoulder = 0.62
    bent = np.where(
        signal < shoulder, signal, shoulder + (1 - shoulder) * (1 - np.exp(-(signal - shoulder) / (1 - shoulder)))
    )
    return np.clip(np.round(255.0 * bent ** (1 / 2.2)), 0, 255).astype(np.uint8)


_TONE = _tone_curve()


def develop(radiance: Float32[np.ndarray, "H W 3"], weather: Weather, seed: int) -> UInt8[np.ndarray, "H W 3"]:
    """The finished picture, RGB.

    Args:
        radiance: linear RGB; overwritten.
        weather: gives nominal exposure, noise and rain.
        seed: of white balance, rain and sensor noise.
    """
    generator = np.random.default_rng(seed)
    # Lens: a point spreads a little into its neighbours, which also softens stair steps.
    lens = np.array((0.13, 0.74, 0.13), np.float32)
    soft = cv2.sepFilter2D(radiance, -1, lens, lens, borderType=cv2.BORDER_REPLICATE)
    if weather.is_dark:
        _add_bloom(soft)
    if weather.rain_rate_mm_per_h > 0.0:
        _add_rain(soft, weather, generator)
    gain = _exposure(soft, weather.exposure, _MIDDLE_GREY_AFTER_DARK if weather.is_dark else _MIDDLE_GREY_BY_DAY)
    balance = (gain * (1.0 + 0.02 * generator.standard_normal(3))).astype(np.float64)
    picture = np.empty(soft.shape, np.uint8)
    key = np.uint64(generator.integers(1 << 62))
    _expose(soft, balance, weather.sensor_noise, key, _TONE, picture)
    return picture


def _exposure(radiance: np.ndarray, nominal: float, target: float) -> float:
    """Gain that brings the picture near the target, at most 2.2 times off the nominal one."""
    luminance = radiance[::4, ::4] @ np.array((0.2126, 0.7152, 0.0722), np.float32)
    # Lamps and the sun must not darken everything else.
    mean = float(np.minimum(luminance * nominal, 1.5).mean(dtype=np.float64))
    return nominal * float(np.clip((target / max(mean, 1e-6)) ** 0.55, 1 / 2.2, 2.2))


def _add_bloom(radiance: np.ndarray) -> None:
    height, width = radiance.shape[:2]
    glare = np.clip(radiance - 0.6, 0.0, 8.0)
    small = cv2.resize(glare, (max(width // 4, 1), max(height // 4, 1)), interpolation=cv2.INTER_AREA)
    halo = 0.10 * cv2.GaussianBlur(small, (0, 0), 1.5) + 0.05 * cv2.GaussianBlur(small, (0, 0), 6.0)
    radiance += np.asarray(cv2.resize(halo, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _add_rain(radiance: np.ndarray, weather: Weather, generator: np.random.Generator) -> None:
    """Streaks of falling drops: short, nearly vertical, a little brighter than what is behind them."""
    height, width = radiance.shape[:2]
    count = int(0.00016 * height * width * weather.rain_rate_mm_per_h**0.6)
    slant = generator.normal(0.0, 0.06)
    streaks = np.zeros((height, width), np.float32)
    x, y = generator.uniform(0, width, count), generator.uniform(-0.1 * height, height, count)
    length = generator.uniform(0.02, 0.10, count) * height
    tilt = slant + generator.normal(0.0, 0.02, count)
    strength = generator.uniform(0.03, 0.13, count)
    ends = np.stack((x, y, x + tilt * length, y + length), axis=1)
    for (x0, y0, x1, y1), alpha in zip((ends * 16).astype(int).tolist(), strength.tolist()):
        cv2.line(streaks, (x0, y0), (x1, y1), alpha, 1, cv2.LINE_8, 4)
    veil = np.asarray(cv2.GaussianBlur(streaks, (3, 3), 0.6), np.float32)[..., None]
    bright = np.array(weather.horizon_rgb, np.float32) * 1.15
    radiance += veil * (bright - radiance)


@numba.njit(cache=True, nogil=True)
def _expose(
    radiance: np.ndarray, balance: np.ndarray, noise: float, key: np.uint64, tone: np.ndarray, picture: np.ndarray
) -> None:
    height, width = radiance.shape[:2]
    steps = tone.shape[0] - 1
    scale = 1.0 / (width * width)
    for v in range(height):
        for u in range(width):
            off_u, off_v = u - 0.5 * width, v - 0.5 * height
            vignette = 1.0 - 0.9 * (off_u * off_u + off_v * off_v) * scale
            for c in range(3):
                signal = max(0.0, radiance[v, u, c] * balance[c] * vignette)
                deviation = noise * np.sqrt(_READ_NOISE * _READ_NOISE + _SHOT_NOISE * signal)
                signal += deviation * bell(mix(key, np.uint64((v * width + u) * 3 + c)))
                index = int(np.sqrt(max(signal, 0.0) / _TONE_WHITE) * steps + 0.5)
                picture[v, u, c] = tone[min(index, steps)]
