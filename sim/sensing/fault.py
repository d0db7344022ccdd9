"""What every fault is: an entry with a window, asked at each stage between a sensor and the frame."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32, UInt8

from bevstack.sim.scenario.schema import FaultEntry
from bevstack.sim.sensing.fault_kinds import FAULT_KINDS, checked, window_of
from bevstack.types.cue import Cue
from bevstack.types.frame import CameraImage, Frame

_SAME_TIME_S = 1e-6


class Fault:
    """One fault while a run goes on; this base leaves everything as it is.

    Stages are only asked within the window, `cameras` always: what it does later may need what was there before.
    All chance comes from the entry's seed and the time, so that a run can be repeated.
    """

    def __init__(self, entry: FaultEntry) -> None:
        """Raises ValueError: see `fault_kinds.checked`."""
        self.parameters = checked(entry)
        self.from_s, self.until_s = window_of(entry)
        self.seed, self.kind = entry.seed, entry.kind
        self.sensors = entry.sensors or FAULT_KINDS[entry.kind].sensors

    def is_active(self, time_s: float) -> bool:
        """Whether a time lies in the window; its begin does, its end does not."""
        return self.from_s - _SAME_TIME_S <= time_s < self.until_s - _SAME_TIME_S

    def generator(self, *about: int) -> np.random.Generator:
        """Random numbers for one purpose, of this fault alone."""
        return np.random.default_rng([self.seed, *(value & 0xFFFFFFFF for value in about)])

    def strikes(self, time_s: float) -> bool:
        """Whether it happens in this frame, where a kind has a `probability`."""
        chance = self.parameters.get("probability", 1.0)
        return chance >= 1.0 or self.generator(_milliseconds(time_s)).random() < chance

    def reset(self) -> None:
        """Begin a new run."""

    def stamp_error_s(self, sensor: str) -> float:
        """How much older readings are than their stamps."""
        return 0.0

    def sweep_delay_s(self) -> float:
        """How old the newest LiDAR sweep is that has arrived."""
        return 0.0

    def sweep(self, points: Float32[np.ndarray, "M 5"], time_s: float) -> Float32[np.ndarray, "K 5"]:
        """Raw returns (`data.lidar.FILE_COLUMNS`) of a sweep taken at a time."""
        return points

    def picture(self, name: str, rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """A picture as the camera makes it, before it is compressed."""
        return rgb

    def cameras(
        self, images: tuple[CameraImage, ...], T_global_ego: Float[np.ndarray, "4 4"], time_s: float
    ) -> tuple[CameraImage, ...]:
        """The pictures of a frame; asked for every frame, in order."""
        return images

    def frame(self, frame: Frame, time_s: float) -> Frame:
        """The finished frame."""
        return frame

    def cue(self, cue: Cue, time_s: float) -> Cue | None:
        """What is said about the pictures."""
        return cue

    def control_delay_s(self) -> float:
        """By how much commands are late."""
        return 0.0


def _milliseconds(time_s: float) -> int:
    return round(time_s * 1000.0)


def random_of_time(fault: Fault, time_s: float, *about: int) -> np.random.Generator:
    """Random numbers that depend on a fault's seed and a time."""
    return fault.generator(_milliseconds(time_s), *about)


def with_rows(images: Sequence[CameraImage], changed: dict[str, CameraImage | None]) -> tuple[CameraImage, ...]:
    """Pictures with some exchanged, or left out where the new one is None."""
    rows = (changed.get(image.name, image) for image in images)
    return tuple(image for image in rows if image is not None)


class ControlLatencyFault(Fault):
    """Commands that take longer."""

    def control_delay_s(self) -> float:  # noqa: D102
        return self.parameters["delay_s"]


class AbsentCue(Fault):
    """No cue."""

    def cue(self, cue: Cue, time_s: float) -> Cue | None:  # noqa: D102
        return None if self.strikes(time_s) else cue


class WrongCue(Fault):
    """A cue about something else."""

    def cue(self, cue: Cue, time_s: float) -> Cue | None:  # noqa: D102
        if cue.mirrored_embedding is not None:
            return replace(cue, embedding=cue.mirrored_embedding, mirrored_embedding=cue.embedding)
        drawn = self.generator(0).standard_normal(len(cue.embedding))
        return replace(cue, embedding=(drawn / np.linalg.norm(drawn)).astype(np.float32))
