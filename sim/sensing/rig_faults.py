"""Faults of calibration, clocks and localisation: what the vehicle believes about itself is wrong."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from bevstack.data.class_names import LIDAR_NAME
from bevstack.geometry.transforms import from_xy_yaw, rigid_inverse, transform_points
from bevstack.sim.scenario.schema import FaultEntry
from bevstack.sim.sensing.fault import Fault
from bevstack.sim.sensors.rig import SWEEP_PERIOD_S, T_EGO_LIDAR
from bevstack.types.frame import CameraImage, Frame, LidarSweep


class CalibrationDrift(Fault):
    """Wrong matrices: cameras by default, the LiDAR where it is named."""

    def __init__(self, entry: FaultEntry) -> None:
        super().__init__(entry)
        if not entry.sensors:
            self.sensors = tuple(name for name in self.sensors if name != LIDAR_NAME)

    def frame(self, frame: Frame, time_s: float) -> Frame:  # noqa: D102
        ramp_s = self.parameters["ramp_s"]
        share = min(1.0, (time_s - self.from_s) / ramp_s) if ramp_s > 0 else 1.0
        cameras = tuple(self._drifted(image, share) if image.name in self.sensors else image for image in frame.cameras)
        lidar = frame.lidar
        if lidar is not None and LIDAR_NAME in self.sensors:
            lidar = self._moved(lidar, share)
        return replace(frame, cameras=cameras, lidar=lidar)

    def _drifted(self, image: CameraImage, share: float) -> CameraImage:
        K_cam = np.array(image.K_cam, np.float64)
        focal = 1.0 + share * (self.parameters["focal_scale"] - 1.0)
        K_cam[0, 0] *= focal
        K_cam[1, 1] *= focal
        return replace(image, K_cam=K_cam, T_ego_cam=self._error(image.T_ego_cam[:3, 3], share) @ image.T_ego_cam)

    def _moved(self, lidar: LidarSweep, share: float) -> LidarSweep:
        points = lidar.points_ego.copy()
        error = self._error(T_EGO_LIDAR[:3, 3], share)
        points[:, :3] = transform_points(error, points[:, :3].astype(np.float64))
        return replace(lidar, points_ego=points)

    def _error(self, place: Float[np.ndarray, "3"], share: float) -> Float[np.ndarray, "4 4"]:
        """Turn about a place, in the axes of the vehicle, and shift."""
        yaw, pitch, roll = (share * self.parameters[f"{name}_rad"] for name in ("yaw", "pitch", "roll"))
        turn = _rotation(2, yaw) @ _rotation(1, pitch) @ _rotation(0, roll)
        shift = share * np.array([self.parameters[f"{axis}_m"] for axis in "xyz"])
        error = np.eye(4)
        error[:3, :3], error[:3, 3] = turn, place - turn @ place + shift
        return error


class TimeOffset(Fault):
    """A fast clock: cameras by default, the LiDAR where it is named."""

    def __init__(self, entry: FaultEntry) -> None:
        super().__init__(entry)
        if not entry.sensors:
            self.sensors = tuple(name for name in self.sensors if name != LIDAR_NAME)
        sweeps = self.parameters["offset_s"] / SWEEP_PERIOD_S
        if LIDAR_NAME in self.sensors and abs(sweeps - round(sweeps)) > 1e-6:
            raise ValueError(
                f"fault time_offset: offset_s={self.parameters['offset_s']} must be a multiple of {SWEEP_PERIOD_S} s "
                f"for {LIDAR_NAME}: one turn of the sensor"
            )

    def stamp_error_s(self, sensor: str) -> float:  # noqa: D102
        return self.parameters["offset_s"] if sensor in self.sensors else 0.0


class PoseBias(Fault):
    """A pose that is off by the same amount, and with it the route."""

    def frame(self, frame: Frame, time_s: float) -> Frame:  # noqa: D102
        return displaced(frame, from_xy_yaw(self.parameters["x_m"], self.parameters["y_m"], self.parameters["yaw_rad"]))


class PoseWalk(Fault):
    """A pose that drifts away step by step, and with it the route; at the begin of the window it is right."""

    def __init__(self, entry: FaultEntry) -> None:
        super().__init__(entry)
        self.reset()

    def reset(self) -> None:  # noqa: D102
        self._offset, self._last_s, self._steps = np.zeros(3), self.from_s, self.generator(0)

    def frame(self, frame: Frame, time_s: float) -> Frame:  # noqa: D102
        elapsed_s = max(0.0, time_s - self._last_s)
        sigmas = np.array([self.parameters["sigma_m"]] * 2 + [self.parameters["sigma_rad"]])
        self._offset += np.sqrt(elapsed_s) * sigmas * self._steps.standard_normal(3)
        self._last_s = max(time_s, self._last_s)
        return displaced(frame, from_xy_yaw(*self._offset.tolist())) if self._offset.any() else frame


def displaced(frame: Frame, T_true_believed: Float[np.ndarray, "4 4"]) -> Frame:
    """A frame whose vehicle believes itself elsewhere.

    Args:
        frame: With the true pose.
        T_true_believed: The believed place and heading, in the true `ego`. The route is known in the `global` frame,
            so that it comes to lie where the vehicle believes it to be.
    """
    ego = replace(frame.ego, T_global_ego=frame.ego.T_global_ego @ T_true_believed)
    if frame.route is None:
        return replace(frame, ego=ego)
    waypoints = frame.route.waypoints_ego
    raised = np.column_stack((waypoints, np.zeros(len(waypoints))))
    believed = transform_points(rigid_inverse(T_true_believed), raised)[:, :2]
    return replace(frame, ego=ego, route=replace(frame.route, waypoints_ego=believed))


def _rotation(axis: int, angle: float) -> Float[np.ndarray, "3 3"]:
    """About x, y or z (0, 1, 2)."""
    turn = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    return turn
