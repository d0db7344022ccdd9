"""The vehicle: its outline, what it can do, and whether it can do what a plan asks.

One source for the size that worlds, planners and evaluation share. The model is the kinematic bicycle (Rajamani,
Vehicle Dynamics and Control, 2nd ed., section 2.2): the origin is the rear axle, which never moves sideways, and the
curvature of its path is tan(steering) / wheelbase.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from bevstack.geometry.transforms import wrap_angle
from bevstack.types.frame import EgoState
from bevstack.types.trajectory import Trajectory

_SPEED_TOLERANCE_MPS, _ACCELERATION_TOLERANCE_MPS2, _JERK_TOLERANCE_MPS3 = 0.05, 0.1, 0.5
_YAW_TOLERANCE_RAD = 0.01
_SLIP_TOLERANCE_M, _SLIP_TOLERANCE_SHARE = 0.15, 0.05
_STEERING_KNOWN_FROM_M, _STEERING_KNOWN_FROM_MPS = 0.3, 2.0
_STANDING_MPS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleParams:
    """Size and abilities of the vehicle; the defaults are those of the cars that recorded nuScenes (Renault Zoe).

    Raises:
        ValueError: a value is not positive and finite, the axles do not fit the length, or the wheels would stand
            across.
    """

    length_m: float = 4.084
    width_m: float = 1.85
    height_m: float = 1.562
    wheelbase_m: float = 2.588
    rear_overhang_m: float = 0.742
    """From the rear end to the rear axle. `plan/polygon` puts the centre half a metre ahead of the LiDAR, as published
    protocols do: 0.14 m further ahead than this car's."""
    max_speed_mps: float = 25.0
    max_acceleration_mps2: float = 3.0
    max_braking_mps2: float = 8.0
    max_lateral_mps2: float = 5.0
    max_jerk_mps3: float = 15.0
    max_steering_rad: float = 0.55
    """Of the front wheels; a circle of 4.2 m radius for the rear axle."""
    max_steering_rate_radps: float = 0.7

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name}={value} must be positive and finite")
        if self.rear_overhang_m + self.wheelbase_m > self.length_m:
            raise ValueError(
                f"rear_overhang_m={self.rear_overhang_m} and wheelbase_m={self.wheelbase_m} must fit into "
                f"length_m={self.length_m}"
            )
        if self.max_steering_rad >= math.pi / 2:
            raise ValueError(f"max_steering_rad={self.max_steering_rad} must be below pi / 2")

    @property
    def center_ahead_m(self) -> float:
        """From the rear axle to the centre of the outline."""
        return self.length_m / 2 - self.rear_overhang_m

    @property
    def front_ahead_m(self) -> float:
        """From the rear axle to the front end."""
        return self.length_m - self.rear_overhang_m

    @property
    def max_curvature_per_m(self) -> float:
        """Of the rear axle's path."""
        return math.tan(self.max_steering_rad) / self.wheelbase_m

    def rectangles(self, poses: Float[np.ndarray, "T 3"], margin_m: float = 0.0) -> Float[np.ndarray, "T 5"]:
        """The outline at poses (x, y, yaw) of the rear axle: centre x, y, length, width, heading.

        Args:
            poses: Of the rear axle.
            margin_m: Added on every side.
        """
        out = np.empty((len(poses), 5))
        out[:, 0] = poses[:, 0] + self.center_ahead_m * np.cos(poses[:, 2])
        out[:, 1] = poses[:, 1] + self.center_ahead_m * np.sin(poses[:, 2])
        out[:, 2], out[:, 3] = self.length_m + 2 * margin_m, self.width_m + 2 * margin_m
        out[:, 4] = poses[:, 2]
        return out

    def footprints(self, poses: Float[np.ndarray, "T 3"], margin_m: float = 0.0) -> Float[np.ndarray, "T 4 2"]:
        """Corners of `rectangles`, counter-clockwise: front-left, back-left, back-right, front-right."""
        ahead, behind = self.front_ahead_m + margin_m, -self.rear_overhang_m - margin_m
        side = self.width_m / 2 + margin_m
        local = np.array([(ahead, side), (behind, side), (behind, -side), (ahead, -side)])
        c, s = np.cos(poses[:, 2:]), np.sin(poses[:, 2:])
        x = poses[:, :1] + c * local[:, 0] - s * local[:, 1]
        y = poses[:, 1:2] + s * local[:, 0] + c * local[:, 1]
        return np.stack((x, y), axis=-1)

    def steering_of(self, ego: EgoState) -> float:
        """Angle of the front wheels that explains the present yaw rate, within the limits; 0 where it is unknown or the
        vehicle hardly moves.
        """
        if not self._knows_steering(ego):
            return 0.0
        most = min(
            self.max_steering_rad, math.atan(self.wheelbase_m * self.max_lateral_mps2 / max(ego.speed_mps, 1.0) ** 2)
        )
        return min(max(math.atan(self.wheelbase_m * ego.yaw_rate_radps / ego.speed_mps), -most), most)

    @staticmethod
    def _knows_steering(ego: EgoState) -> bool:
        is_known = math.isfinite(ego.speed_mps) and math.isfinite(ego.yaw_rate_radps)
        return is_known and ego.speed_mps >= _STEERING_KNOWN_FROM_MPS

    def limits_broken(self, trajectory: Trajectory, ego: EgoState | None = None) -> tuple[str, ...]:
        """Which limits a plan breaks, each with the first time at which it does; none where the vehicle can drive it.

        The plan begins at the vehicle: origin, heading 0. Accelerations and curvatures are means between two rows.
        Jerk is that within the plan (a measured acceleration is too noisy to begin with), and letting go of the brakes
        at standstill is none.

        Args:
            trajectory: The plan.
            ego: The vehicle now; what is NaN, and everything where this is None, is not compared with the plan.
        """
        if len(trajectory.speeds_mps) == 0:
            return ("has no steps",)
        if not (np.isfinite(trajectory.poses_ego).all() and np.isfinite(trajectory.speeds_mps).all()):
            return ("is not finite",)
        speed_now = math.nan if ego is None or not math.isfinite(ego.speed_mps) else max(ego.speed_mps, 0.0)
        motion = _Motion.of(trajectory, speed_now)
        found = (
            *self._speed_limits(motion),
            *self._steering_limits(motion, ego),
            *self._slips(motion),
        )
        return tuple(reason for reason in found if reason)

    def _speed_limits(self, motion: "_Motion") -> tuple[str, ...]:
        allowed = max(self.max_speed_mps, motion.speeds[0] if math.isfinite(motion.speeds[0]) else 0.0)
        speed = motion.speeds[1:]
        acceleration = np.nan_to_num(motion.accelerations)
        jerk = np.abs(np.diff(acceleration)) / motion.dt_s
        jerk[speed[1:] < _STANDING_MPS] = 0.0
        return (
            motion.first(speed > allowed + _SPEED_TOLERANCE_MPS, speed, "drives at {:.1f} m/s", self.max_speed_mps),
            motion.first(speed < -_SPEED_TOLERANCE_MPS, speed, "drives backwards at {:.1f} m/s", 0.0),
            motion.first(
                acceleration > self.max_acceleration_mps2 + _ACCELERATION_TOLERANCE_MPS2,
                acceleration, "accelerates by {:.1f} m/s2", self.max_acceleration_mps2,
            ),
            motion.first(
                acceleration < -self.max_braking_mps2 - _ACCELERATION_TOLERANCE_MPS2,
                -acceleration, "brakes by {:.1f} m/s2", self.max_braking_mps2,
            ),
            motion.first(
                np.concatenate(([False], jerk > self.max_jerk_mps3 + _JERK_TOLERANCE_MPS3)),
                np.concatenate(([0.0], jerk)), "jerks by {:.1f} m/s3", self.max_jerk_mps3,
            ),
        )  # fmt: skip

    def _steering_limits(self, motion: "_Motion", ego: EgoState | None) -> tuple[str, ...]:
        turn, way = np.abs(motion.turns), motion.ways
        lateral = turn * way / motion.dt_s**2
        steering = np.arctan(self.wheelbase_m * motion.turns / np.maximum(way, 1e-6))
        rate, slack = self._steering_rate(motion, steering, ego)
        return (
            motion.first(
                turn > self.max_curvature_per_m * way + _YAW_TOLERANCE_RAD,
                np.abs(steering), "steers by {:.2f} rad", self.max_steering_rad,
            ),
            motion.first(
                lateral > self.max_lateral_mps2 + _ACCELERATION_TOLERANCE_MPS2,
                lateral, "corners with {:.1f} m/s2", self.max_lateral_mps2,
            ),
            motion.first(
                rate > self.max_steering_rate_radps + slack, rate, "turns the wheels by {:.2f} rad/s",
                self.max_steering_rate_radps,
            ),
        )  # fmt: skip

    def _steering_rate(
        self, motion: "_Motion", steering: np.ndarray, ego: EgoState | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rate at each step, and what heading noise may add to it; 0 where the vehicle hardly moves."""
        is_known = motion.ways >= _STEERING_KNOWN_FROM_M
        noise = 2 * _YAW_TOLERANCE_RAD * self.wheelbase_m / np.maximum(motion.ways, _STEERING_KNOWN_FROM_M)
        rate = np.zeros(len(steering))
        rate[1:] = np.abs(np.diff(steering)) * (is_known[1:] & is_known[:-1]) / motion.dt_s
        if ego is not None and is_known[0] and self._knows_steering(ego):
            # A measured yaw rate is noisy as well.
            change = abs(steering[0] - self.steering_of(ego))
            rate[0] = max(0.0, change - 2 * noise[0]) / motion.dt_s
        return rate, noise / motion.dt_s

    def _slips(self, motion: "_Motion") -> tuple[str, ...]:
        allowed = _SLIP_TOLERANCE_M + _SLIP_TOLERANCE_SHARE * motion.ways
        before = np.where(np.isfinite(motion.speeds[:-1]), motion.speeds[:-1], motion.speeds[1:])
        mismatch = np.abs(motion.ways / motion.dt_s - (before + motion.speeds[1:]) / 2)
        most = self.max_braking_mps2 * motion.dt_s / 2 + 0.5
        return (
            motion.first(np.abs(motion.slips) > allowed, np.abs(motion.slips), "moves {:.2f} m sideways", 0.0),
            motion.first(mismatch > most, mismatch, "has speeds that differ from its way by {:.1f} m/s", most),
        )


NUSCENES_VEHICLE = VehicleParams()
"""The vehicle of nuScenes, of our worlds, and of published planning protocols."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Motion:
    """What happens between two rows of a plan, the vehicle now before the first."""

    dt_s: float
    speeds: np.ndarray
    """One more than rows: the present speed first, NaN where unknown."""
    accelerations: np.ndarray
    ways: np.ndarray
    """Length of the arc."""
    turns: np.ndarray
    slips: np.ndarray
    """Across the mean heading, to the left."""

    @classmethod
    def of(cls, trajectory: Trajectory, speed_now: float) -> "_Motion":
        poses = np.concatenate((np.zeros((1, 3)), trajectory.poses_ego))
        step = np.diff(poses[:, :2], axis=0)
        turns = wrap_angle(np.diff(poses[:, 2]))
        middle = poses[:-1, 2] + turns / 2
        along = step[:, 0] * np.cos(middle) + step[:, 1] * np.sin(middle)
        across = step[:, 1] * np.cos(middle) - step[:, 0] * np.sin(middle)
        speeds = np.concatenate(([speed_now], trajectory.speeds_mps))
        return cls(
            dt_s=trajectory.dt_s,
            speeds=speeds,
            accelerations=np.diff(speeds) / trajectory.dt_s,
            ways=np.abs(along) / np.sinc(np.clip(turns, -np.pi, np.pi) / (2 * np.pi)),
            turns=turns,
            slips=across,
        )

    def first(self, is_broken: np.ndarray, values: np.ndarray, words: str, limit: float) -> str:
        """The first step at which a limit is broken, in words; '' where it is not."""
        if not is_broken.any():
            return ""
        step = int(np.argmax(is_broken))
        return f"{words.format(float(values[step]))} at {(step + 1) * self.dt_s:.1f} s (limit {limit:.3g})"
