"""Presets of worlds: everything that decides what `bevstack sim make` draws, frozen and identified by a hash."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

WORLD_FORMAT_VERSION = 1
"""Raised whenever the same preset and seed would give other bytes."""

CROSSING_PEDESTRIAN, OCCLUDED_PEDESTRIAN, LEAD_BRAKING = "crossing pedestrian", "occluded pedestrian", "lead braking"
EVENTS = (CROSSING_PEDESTRIAN, OCCLUDED_PEDESTRIAN, LEAD_BRAKING)
"""What may be the main event of a scene; see `bevstack.sim.world.events`."""

Span = tuple[int, int]
"""Smallest and largest count, both possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How many actors a scene gets, before those without room are left out."""

    moving_cars: Span
    moving_trucks: Span
    moving_buses: Span
    towed_trailers: Span
    moving_motorcycles: Span
    moving_bicycles: Span
    parked_cars: Span
    parked_trucks: Span
    parked_buses: Span
    parked_trailers: Span
    parked_motorcycles: Span
    parked_bicycles: Span
    work_zones: Span
    barrier_rows: Span
    walkers: Span
    standing: Span
    sitting: Span
    crossing: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldPreset:
    """A distribution over scenes."""

    name: str
    town_kinds: tuple[str, ...]
    """Taken in turn, so that every kind appears equally often."""
    weather_kinds: tuple[str, ...]
    """Taken in turn at another stride than the towns."""
    crowd: Crowd
    image_width_px: int
    image_height_px: int
    jpeg_quality: int
    keyframes: int
    """Default number of keyframes (2 Hz) in a scene."""
    sweeps_per_keyframe: int
    """LiDAR sweeps from one keyframe to the next at 20 Hz, the keyframe's own included."""
    has_cameras: bool
    events: tuple[str, ...] = ()
    """Main events, taken in turn so that each meets every town and weather equally often; empty for none."""

    def event_of(self, scene_index: int) -> str | None:
        """Main event of a scene; moves on by one more after every round of weathers."""
        if not self.events:
            return None
        return self.events[(scene_index + scene_index // len(self.weather_kinds)) % len(self.events)]


_CITY = Crowd(
    moving_cars=(16, 26),
    moving_trucks=(1, 4),
    moving_buses=(1, 2),
    towed_trailers=(1, 1),
    moving_motorcycles=(2, 4),
    moving_bicycles=(1, 3),
    parked_cars=(8, 18),
    parked_trucks=(1, 3),
    parked_buses=(0, 1),
    parked_trailers=(1, 3),
    parked_motorcycles=(1, 2),
    parked_bicycles=(1, 2),
    work_zones=(2, 4),
    barrier_rows=(2, 4),
    walkers=(7, 15),
    standing=(2, 5),
    sitting=(0, 2),
    crossing=(1, 3),
)

STANDARD = WorldPreset(
    name="standard",
    town_kinds=("straight", "crossroads", "curve", "t_junction", "roundabout"),
    weather_kinds=("day", "overcast", "night", "rain", "dusk", "fog"),
    crowd=_CITY,
    image_width_px=704,
    image_height_px=256,
    jpeg_quality=92,
    keyframes=20,
    sweeps_per_keyframe=10,
    has_cameras=True,
)

SMOKE = dataclasses.replace(
    STANDARD, name="smoke", image_width_px=176, image_height_px=64, keyframes=4, sweeps_per_keyframe=2
)

ATTENTION = dataclasses.replace(
    STANDARD,
    name="attention",
    crowd=dataclasses.replace(_CITY, parked_cars=(14, 26), walkers=(9, 16), crossing=(5, 9)),
    events=EVENTS,
)
"""Scenes in which it matters where a driver looks."""

PRESETS = {preset.name: preset for preset in (STANDARD, SMOKE, ATTENTION)}


def preset_content(preset: WorldPreset) -> dict[str, Any]:
    """All values of a preset as plain data; without `events` where it has none."""
    content = dataclasses.asdict(preset)
    if not preset.events:
        del content["events"]
    return content


def preset_hash(preset: WorldPreset) -> str:
    """sha256 of the preset and the format version as canonical JSON, in hexadecimal."""
    content = {"format_version": WORLD_FORMAT_VERSION, "preset": preset_content(preset)}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def preset_named(name: str) -> WorldPreset:
    """The preset of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in PRESETS:
        raise ValueError(f"there is no preset '{name}'; known: {', '.join(PRESETS)}")
    return PRESETS[name]
