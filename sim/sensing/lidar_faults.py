"""Faults of the LiDAR: of the returns of a sweep, and of when it arrives.

Raw returns are in the sensor's frame: x right, y ahead, z up, intensity, ring.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from bevstack.sim.sensing.fault import Fault, random_of_time
from bevstack.sim.sensing.fault_kinds import FRAME_STEP_S
from bevstack.sim.sensors.lidar import NUM_RINGS
from bevstack.types.frame import Frame

_NEAREST_DROP_M, _DROP_SPREAD_M = 1.5, 10.0
"""Drops answer from these ranges, nearer ones more often, as in `sensors/lidar.py`."""


class LidarDrop(Fault):
    """No LiDAR at all."""

    def frame(self, frame: Frame, time_s: float) -> Frame:  # noqa: D102
        return replace(frame, lidar=None) if self.strikes(time_s) else frame


class LidarDelay(Fault):
    """Sweeps that come late."""

    def sweep_delay_s(self) -> float:  # noqa: D102
        return self.parameters["frames"] * FRAME_STEP_S


class LidarBeams(Fault):
    """Dead lasers, the same for the whole run."""

    def sweep(self, points: Float32[np.ndarray, "M 5"], time_s: float) -> Float32[np.ndarray, "K 5"]:  # noqa: D102
        alive = np.ones(NUM_RINGS, bool)
        alive[self.generator(0).permutation(NUM_RINGS)[: int(self.parameters["count"])]] = False
        return points[alive[points[:, 4].astype(np.int64)]]


class LidarSector(Fault):
    """A blind sector."""

    def sweep(self, points: Float32[np.ndarray, "M 5"], time_s: float) -> Float32[np.ndarray, "K 5"]:  # noqa: D102
        azimuth = np.arctan2(-points[:, 0], points[:, 1]) - self.parameters["azimuth_rad"]
        aside = np.abs((azimuth + np.pi) % (2 * np.pi) - np.pi)
        return points[aside > 0.5 * self.parameters["width_rad"]]


class LidarLoss(Fault):
    """Points that are missing here and there."""

    def sweep(self, points: Float32[np.ndarray, "M 5"], time_s: float) -> Float32[np.ndarray, "K 5"]:  # noqa: D102
        draws = random_of_time(self, time_s).random(len(points))
        return points[draws >= self.parameters["share"]]


class LidarRain(Fault):
    """Extinction there and back (Beer and Lambert: exp(-2 a R)), and drops near the sensor that answer instead."""

    def sweep(self, points: Float32[np.ndarray, "M 5"], time_s: float) -> Float32[np.ndarray, "K 5"]:  # noqa: D102
        generator = random_of_time(self, time_s)
        distance = np.linalg.norm(points[:, :3], axis=1)
        transmitted = np.exp(-2.0 * self.parameters["extinction_per_m"] * distance)
        draws, echo, place, strength = generator.random((4, len(points)))
        wet = points.copy()
        wet[:, 3] = np.floor(points[:, 3] * transmitted)
        is_lost = draws >= transmitted
        near = _NEAREST_DROP_M + _DROP_SPREAD_M * place**2
        is_drop = is_lost & (echo < self.parameters["backscatter"]) & (near < distance)
        wet[is_drop, :3] *= (near / np.maximum(distance, 1e-6))[is_drop, None].astype(np.float32)
        wet[is_drop, 3] = np.floor(1.0 + 6.0 * strength[is_drop])
        return wet[~is_lost | is_drop]
