"""CAN bus files of a scene, in the layout of the nuScenes CAN bus expansion (what `NuScenesCanBus` reads).

Message names, rates and units are those of the expansion's documentation (nuscenes-devkit, can_bus/README.md).
"""

from pathlib import Path

import numpy as np
import orjson
from jaxtyping import Float

from bevstack.geometry.transforms import from_xy_yaw, to_quaternion, wrap_angle
from bevstack.sim.world.traffic import EgoTrack

POSE_RATE_HZ = 50
IMU_RATE_HZ = 100
MONITOR_RATE_HZ = 2
STEERING_RATIO = 14.7
"""Steering wheel angle over front wheel angle of the vehicle."""
WHEEL_RADIUS_M = 0.305
GRAVITY_MPS2 = 9.81

Messages = list[dict[str, object]]


class EgoMotion:
    """Smooth state of the ego vehicle at any set of times."""

    def __init__(self, ego: EgoTrack, offset: tuple[float, float], rate_hz: int) -> None:
        """States at `rate_hz` over the track; `offset` moves town to map coordinates."""
        self.times_s: Float[np.ndarray, " T"] = np.arange(ego.times_s[0], ego.times_s[-1] + 1e-9, 1.0 / rate_hz)
        t, track = self.times_s, ego.times_s
        self.x = np.interp(t, track, ego.poses[:, 0]) + offset[0]
        self.y = np.interp(t, track, ego.poses[:, 1]) + offset[1]
        yaw = np.unwrap(ego.poses[:, 3])
        self.yaw = wrap_angle(np.interp(t, track, yaw))
        self.speed = np.interp(t, track, ego.speeds_mps)
        self.acceleration = np.interp(t, track, _smooth(ego.accelerations_mps2))
        self.yaw_rate = np.interp(t, track, _smooth(np.gradient(yaw, track)))
        turning = np.maximum(np.abs(self.speed), 0.5)
        self.wheel_angle = np.arctan(ego.wheelbase_m * self.yaw_rate / turning)

    def utimes(self, start_us: int) -> list[int]:
        """Absolute time of every state in microseconds."""
        return [int(value) for value in start_us + np.round(self.times_s * 1e6).astype(np.int64)]

    def quaternion(self, k: int) -> list[float]:
        """Orientation (w, x, y, z) of state k."""
        return to_quaternion(from_xy_yaw(0.0, 0.0, float(self.yaw[k]))).tolist()


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over five steps; the ends are held."""
    padded = np.pad(values, 2, mode="edge")
    return np.convolve(padded, np.ones(5) / 5, mode="valid")


def _pose(motion: EgoMotion, start_us: int) -> Messages:
    return [
        {
            "accel": [float(motion.acceleration[k]), float(motion.speed[k] * motion.yaw_rate[k]), GRAVITY_MPS2],
            "orientation": motion.quaternion(k),
            "pos": [float(motion.x[k]), float(motion.y[k]), 0.0],
            "rotation_rate": [0.0, 0.0, float(motion.yaw_rate[k])],
            "utime": utime,
            "vel": [float(motion.speed[k]), 0.0, 0.0],
        }
        for k, utime in enumerate(motion.utimes(start_us))
    ]


def _imu(motion: EgoMotion, start_us: int) -> Messages:
    return [
        {
            "linear_accel": [float(motion.acceleration[k]), float(motion.speed[k] * motion.yaw_rate[k]), GRAVITY_MPS2],
            "q": motion.quaternion(k),
            "rotation_rate": [0.0, 0.0, float(motion.yaw_rate[k])],
            "utime": utime,
        }
        for k, utime in enumerate(motion.utimes(start_us))
    ]


def _steering(motion: EgoMotion, start_us: int) -> Messages:
    values = motion.wheel_angle * STEERING_RATIO
    return [{"utime": utime, "value": float(values[k])} for k, utime in enumerate(motion.utimes(start_us))]


def _pedals(acceleration: float) -> tuple[float, float]:
    """Throttle and brake in [0, 1]."""
    return max(0.0, min(1.0, acceleration / 3.0 + 0.08)), max(0.0, min(1.0, -acceleration / 6.0))


def _sensors(motion: EgoMotion, start_us: int) -> Messages:
    rows: Messages = []
    for k, utime in enumerate(motion.utimes(start_us)):
        throttle, brake = _pedals(float(motion.acceleration[k]))
        rows.append(
            {
                "brake_sensor": brake,
                "steering_sensor": float(np.degrees(motion.wheel_angle[k] * STEERING_RATIO)),
                "throttle_sensor": throttle,
                "utime": utime,
            }
        )
    return rows


def _vehicle_monitor(motion: EgoMotion, start_us: int) -> Messages:
    rows: Messages = []
    for k, utime in enumerate(motion.utimes(start_us)):
        throttle, brake = _pedals(float(motion.acceleration[k]))
        rpm = float(motion.speed[k] / (2 * np.pi * WHEEL_RADIUS_M) * 60)
        wheel_deg = float(np.degrees(motion.wheel_angle[k]))
        rows.append(
            {
                "available_distance": 150.0,
                "battery_level": 80.0,
                "brake": round(brake * 126),
                "brake_switch": 2 if brake > 0.02 else 1,
                "gear_position": 7,
                "left_signal": int(wheel_deg > 6.0),
                "rear_left_rpm": rpm,
                "rear_right_rpm": rpm,
                "right_signal": int(wheel_deg < -6.0),
                "steering": wheel_deg * STEERING_RATIO,
                "steering_speed": 0.0,
                "throttle": round(throttle * 1000),
                "utime": utime,
                "vehicle_speed": float(motion.speed[k] * 3.6),
                "yaw_rate": float(np.degrees(motion.yaw_rate[k])),
            }
        )
    return rows


def _vehicle_info(motion: EgoMotion, start_us: int) -> Messages:
    wheel = motion.speed / (2 * np.pi * WHEEL_RADIUS_M) * 60
    return [
        {
            **{f"{name}_wheel_speed": float(wheel[k]) for name in ("FL", "FR", "RL", "RR")},
            "longitudinal_accel": float(motion.acceleration[k]),
            "odom": float(np.sum(motion.speed[:k]) / IMU_RATE_HZ),
            "odom_speed": float(motion.speed[k] * 3.6),
            "steer_corrected": float(np.degrees(motion.wheel_angle[k] * STEERING_RATIO)),
            "steer_raw": float(np.degrees(motion.wheel_angle[k] * STEERING_RATIO)),
            "transversal_accel": float(motion.speed[k] * motion.yaw_rate[k]),
            "utime": utime,
        }
        for k, utime in enumerate(motion.utimes(start_us))
    ]


def _statistics(rows: Messages) -> dict[str, object]:
    """What the expansion's `meta` file holds per message: count, rate and per-key spread."""
    times = np.array([row["utime"] for row in rows], np.float64)
    spans = np.diff(times) * 1e-6
    result: dict[str, object] = {
        "message_count": len(rows),
        "message_freq": float(1.0 / spans.mean()) if len(spans) else 0.0,
        "timespan": float((times[-1] - times[0]) * 1e-6) if len(times) else 0.0,
        "var_stats": {},
    }
    statistics = {}
    for key in rows[0] if rows else ():
        values = np.array([row[key] for row in rows], np.float64)
        statistics[key] = {
            name: np.round(function(values, axis=0), 9).tolist()
            for name, function in (("max", np.max), ("mean", np.mean), ("min", np.min), ("std", np.std))
        }
    result["var_stats"] = statistics
    return result


def write_can_bus(folder: Path, scene_name: str, ego: EgoTrack, offset: tuple[float, float], start_us: int) -> None:
    """Write all eight files of a scene into `folder`.

    Args:
        folder: `can_bus` of the data set.
        scene_name: `scene-NNNN`; the devkit takes no other form.
        ego: track in town coordinates.
        offset: town's centre in map coordinates, metres.
        start_us: absolute time of the track's time 0.
    """
    imu = EgoMotion(ego, offset, IMU_RATE_HZ)
    files: dict[str, Messages] = {
        "pose": _pose(EgoMotion(ego, offset, POSE_RATE_HZ), start_us),
        "ms_imu": _imu(imu, start_us),
        "steeranglefeedback": _steering(imu, start_us),
        "zoesensors": _sensors(imu, start_us),
        "zoe_veh_info": _vehicle_info(imu, start_us),
        "vehicle_monitor": _vehicle_monitor(EgoMotion(ego, offset, MONITOR_RATE_HZ), start_us),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (folder / f"{scene_name}_{name}.json").write_bytes(orjson.dumps(rows))
    meta = {name: _statistics(rows) for name, rows in files.items()}
    (folder / f"{scene_name}_meta.json").write_bytes(orjson.dumps(meta))
    route = (ego.route + np.asarray(offset)).tolist()
    (folder / f"{scene_name}_route.json").write_bytes(orjson.dumps(route))
