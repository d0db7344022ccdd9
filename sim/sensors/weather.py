"""Light and weather of a scene: six kinds, each drawn with its own spread. Colours are linear, not gamma-coded."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

WEATHER_KINDS = ("day", "overcast", "dusk", "night", "rain", "fog")

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What shading and LiDAR need to know about sky and air. Radiance is relative: a sunlit white wall is about 1."""

    kind: str
    sun_direction: tuple[float, float, float]
    """Unit vector from the ground to the sun, global frame."""
    sun_rgb: Rgb
    """Radiance that the sun adds to a white surface facing it; zero when there are no cast shadows."""
    ambient_rgb: Rgb
    """Radiance that the sky gives to a white surface facing up."""
    zenith_rgb: Rgb
    horizon_rgb: Rgb
    cloud_cover: float
    """0 clear to 1 closed."""
    fog_rgb: Rgb
    fog_extinction_per_m: float
    """Extinction coefficient of visible light; meteorological visibility is about 3.9 / this."""
    wetness: float
    """0 dry to 1: darkens asphalt and makes it mirror."""
    rain_rate_mm_per_h: float
    is_dark: bool
    """Headlamps, street lamps and windows are lit."""
    exposure: float
    """Nominal gain from radiance to sensor signal; each camera adapts around it."""
    sensor_noise: float
    """Noise gain relative to base sensitivity."""
    seed: int
    """Of clouds, lit windows and the pattern of wet patches."""

    @property
    def sun(self) -> Float[np.ndarray, "3"]:
        """`sun_direction` as an array."""
        return np.array(self.sun_direction, np.float64)


def _tint(rgb: Rgb, gain: float) -> Rgb:
    return (rgb[0] * gain, rgb[1] * gain, rgb[2] * gain)


_CLEAR_SKY: Rgb = (0.16, 0.30, 0.62)
_HAZE: Rgb = (0.58, 0.70, 0.86)
_GREY: Rgb = (0.66, 0.69, 0.73)

# kind: sun elevation range [deg], sun radiance, ambient, zenith, horizon, extinction range [1/m]
_LOOK: dict[str, tuple[tuple[float, float], Rgb, Rgb, Rgb, Rgb, tuple[float, float]]] = {
    "day": ((28, 65), (0.82, 0.78, 0.70), (0.25, 0.30, 0.38), _CLEAR_SKY, _HAZE, (2e-4, 1.2e-3)),
    "overcast": ((30, 60), (0.0, 0.0, 0.0), (0.50, 0.53, 0.57), _tint(_GREY, 0.85), _GREY, (5e-4, 3e-3)),
    "dusk": ((3.5, 10), (0.42, 0.24, 0.11), (0.13, 0.14, 0.20), (0.10, 0.14, 0.30), (0.62, 0.40, 0.26), (5e-4, 3e-3)),
    "night": (
        (20, 50),
        (0.0, 0.0, 0.0),
        (0.010, 0.011, 0.015),
        (0.004, 0.005, 0.010),
        (0.030, 0.024, 0.020),
        (5e-4, 3e-3),
    ),
    "rain": ((30, 60), (0.0, 0.0, 0.0), (0.31, 0.33, 0.36), (0.36, 0.38, 0.42), (0.44, 0.46, 0.49), (3e-3, 9e-3)),
    "fog": ((25, 55), (0.0, 0.0, 0.0), (0.46, 0.48, 0.50), (0.60, 0.62, 0.64), (0.62, 0.64, 0.66), (0.022, 0.050)),
}
_EXPOSURE = {"day": 0.80, "overcast": 1.15, "dusk": 2.0, "night": 5.0, "rain": 1.55, "fog": 1.05}
_NOISE = {"day": 1.0, "overcast": 1.2, "dusk": 1.8, "night": 3.0, "rain": 1.6, "fog": 1.2}


def make_weather(kind: str, rng: np.random.Generator) -> Weather:
    """A weather of this kind with random sun, brightness, tint and visibility.

    Raises:
        ValueError: `kind` is not one of `WEATHER_KINDS`.
    """
    if kind not in _LOOK:
        raise ValueError(f"weather kind {kind!r} is not one of {', '.join(WEATHER_KINDS)}")
    elevations, sun_rgb, ambient_rgb, zenith_rgb, horizon_rgb, extinctions = _LOOK[kind]
    elevation, azimuth = np.deg2rad(rng.uniform(*elevations)), rng.uniform(-np.pi, np.pi)
    warmth = rng.normal(0.0, 0.03)
    tint = (1.0 + warmth, 1.0, 1.0 - warmth)
    level = rng.uniform(0.85, 1.15)

    def varied(rgb: Rgb) -> Rgb:
        return (rgb[0] * tint[0] * level, rgb[1] * tint[1] * level, rgb[2] * tint[2] * level)

    cloud_cover = {"day": rng.uniform(0.0, 0.55), "dusk": rng.uniform(0.1, 0.6)}.get(kind, 1.0)
    # A third of the nights and half of the overcast days follow rain.
    damp = {"night": rng.random() < 0.33, "overcast": rng.random() < 0.5}.get(kind, False)
    wetness = rng.uniform(0.7, 1.0) if kind == "rain" else rng.uniform(0.2, 0.6) if damp else 0.0
    horizon = varied(horizon_rgb)
    return Weather(
        kind=kind,
        sun_direction=(
            float(np.cos(elevation) * np.cos(azimuth)),
            float(np.cos(elevation) * np.sin(azimuth)),
            float(np.sin(elevation)),
        ),
        sun_rgb=varied(sun_rgb),
        ambient_rgb=varied(ambient_rgb),
        zenith_rgb=varied(zenith_rgb),
        horizon_rgb=horizon,
        cloud_cover=float(cloud_cover),
        fog_rgb=horizon,
        fog_extinction_per_m=float(np.exp(rng.uniform(*np.log(extinctions)))),
        wetness=float(wetness),
        rain_rate_mm_per_h=float(rng.uniform(3.0, 25.0)) if kind == "rain" else 0.0,
        is_dark=kind == "night" or (kind == "dusk" and rng.random() < 0.6),
        exposure=_EXPOSURE[kind] * float(rng.uniform(0.9, 1.1)),
        sensor_noise=_NOISE[kind] * float(rng.uniform(0.8, 1.25)),
        seed=int(rng.integers(1 << 31)),
    )
