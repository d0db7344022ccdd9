"""All faults of a run, in the order of the scenario: one place that sensors, cues and controls ask."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, UInt8

from bevstack.sim.scenario.schema import FaultEntry
from bevstack.sim.sensing.camera_faults import (
    CameraBlur,
    CameraCrop,
    CameraDelay,
    CameraDirt,
    CameraDrop,
    CameraExposure,
    CameraFreeze,
)
from bevstack.sim.sensing.fault import AbsentCue, ControlLatencyFault, Fault, WrongCue
from bevstack.sim.sensing.fault_kinds import checked
from bevstack.sim.sensing.lidar_faults import LidarBeams, LidarDelay, LidarDrop, LidarLoss, LidarRain, LidarSector
from bevstack.sim.sensing.rig_faults import CalibrationDrift, PoseBias, PoseWalk, TimeOffset
from bevstack.types.cue import Cue
from bevstack.types.frame import CameraImage, Frame

FAULTS: dict[str, type[Fault]] = {
    "camera_drop": CameraDrop,
    "camera_freeze": CameraFreeze,
    "camera_delay": CameraDelay,
    "camera_dirt": CameraDirt,
    "camera_exposure": CameraExposure,
    "camera_blur": CameraBlur,
    "camera_crop": CameraCrop,
    "lidar_drop": LidarDrop,
    "lidar_delay": LidarDelay,
    "lidar_beams": LidarBeams,
    "lidar_sector": LidarSector,
    "lidar_loss": LidarLoss,
    "lidar_rain": LidarRain,
    "calibration_drift": CalibrationDrift,
    "time_offset": TimeOffset,
    "pose_bias": PoseBias,
    "pose_walk": PoseWalk,
    "cue_absent": AbsentCue,
    "cue_wrong": WrongCue,
    "control_latency": ControlLatencyFault,
}
"""The class of every kind in `fault_kinds.FAULT_KINDS`."""


class FaultSet:
    """The faults of one run.

    Args:
        entries: Of a concrete scenario.

    Raises:
        ValueError: an entry has an unknown kind, parameter or sensor, or a value out of range; all of them are named.
    """

    def __init__(self, entries: Sequence[FaultEntry] = ()) -> None:
        problems = []
        self._faults: list[Fault] = []
        for entry in entries:
            try:
                checked(entry)
                self._faults.append(FAULTS[entry.kind](entry))
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))

    def reset(self) -> None:
        """Begin a new run."""
        for fault in self._faults:
            fault.reset()

    @property
    def longest_delay_s(self) -> float:
        """How far back any of them needs the world."""
        delays = [fault.sweep_delay_s() for fault in self._faults]
        errors = [max(map(fault.stamp_error_s, fault.sensors), default=0.0) for fault in self._faults]
        return sum(delays) + sum(errors)

    def stamp_error_s(self, sensor: str, time_s: float) -> float:
        """How much older the readings of a sensor are than their stamps."""
        return sum(fault.stamp_error_s(sensor) for fault in self._active(time_s))

    def sweep_delay_s(self, time_s: float) -> float:
        """Age of the newest LiDAR sweep that has arrived."""
        return sum(fault.sweep_delay_s() for fault in self._active(time_s))

    def sweep(self, points: Float32[np.ndarray, "M 5"], taken_s: float, frame_s: float) -> Float32[np.ndarray, "K 5"]:
        """Raw returns of a sweep, in a frame.

        A fault counts where both lie in its window: with its end it is gone from older sweeps too, so that every frame
        outside of all windows is the same as without faults.
        """
        for fault in self._active(frame_s):
            if fault.is_active(taken_s):
                points = fault.sweep(points, taken_s)
        return points

    def picture(self, name: str, rgb: UInt8[np.ndarray, "H W 3"], time_s: float) -> UInt8[np.ndarray, "H W 3"]:
        """A picture as the camera makes it."""
        for fault in self._active(time_s):
            if name in fault.sensors:
                rgb = fault.picture(name, rgb)
        return rgb

    def cameras(
        self, images: tuple[CameraImage, ...], T_global_ego: Float[np.ndarray, "4 4"], time_s: float
    ) -> tuple[CameraImage, ...]:
        """The pictures that arrive in a frame; to be asked for every frame."""
        for fault in self._faults:
            images = fault.cameras(images, T_global_ego, time_s)
        return images

    def frame(self, frame: Frame, time_s: float) -> Frame:
        """The frame as the vehicle gets it."""
        for fault in self._active(time_s):
            frame = fault.frame(frame, time_s)
        return frame

    def cue(self, cue: Cue | None, time_s: float) -> Cue | None:
        """The cue as the vehicle gets it; None stays None."""
        for fault in self._active(time_s):
            cue = None if cue is None else fault.cue(cue, time_s)
        return cue

    def control_delay_s(self, time_s: float) -> float:
        """By how much commands given now are late."""
        return sum(fault.control_delay_s() for fault in self._active(time_s))

    def _active(self, time_s: float) -> list[Fault]:
        return [fault for fault in self._faults if fault.is_active(time_s)]
