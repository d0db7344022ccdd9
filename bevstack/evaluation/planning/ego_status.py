"""What the vehicle knew of its own motion at each frame: from earlier poses and CAN bus messages only.

The released planners fill the status of a scene's first frame, and partly of all others, with differences to the *next*
pose, and take the CAN message nearest to the frame, which may lie after it. Here nothing later than the frame is read:
what is not known is NaN. Speeds estimated from poses are those of `bevstack.data.nuscenes.motion_from_past`.

Why it matters: a network that sees this status and no sensor at all reaches the L2 of published planners (Zhai et al.,
AD-MLP, 2023; Li et al., BEV-Planner, CVPR 2024). Every planning result therefore states whether its model was given it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from jaxtyping import Bool, Float64

from bevstack.data.images import ImageSize
from bevstack.data.index import DatasetIndex
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.planning.ego_future import lidar_readings
from bevstack.geometry.transforms import rigid_inverse, yaw_of
from bevstack.types.errors import DatasetError

HISTORY_STEPS = 4
"""Key frames before the present one (2 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoStatus:
    """Own motion of F frames, known at the frame. NaN is unknown."""

    history_ego: Float64[np.ndarray, "F 4 3"]
    """x, y, yaw of the key frames before, newest first, in `ego` at reference time; 0 where there is none."""
    history_valid: Bool[np.ndarray, "F 4"]
    speed_mps: Float64[np.ndarray, " F"]
    acceleration_mps2: Float64[np.ndarray, " F"]
    yaw_rate_radps: Float64[np.ndarray, " F"]
    steering_rad: Float64[np.ndarray, " F"]
    """Angle of the steering wheel as the CAN bus tells it; NaN without a CAN bus."""

    def __len__(self) -> int:
        return len(self.speed_mps)

    def of_frames(self, frames: np.ndarray) -> "EgoStatus":
        """Some frames, in a given order."""
        return EgoStatus(
            history_ego=self.history_ego[frames],
            history_valid=self.history_valid[frames],
            speed_mps=self.speed_mps[frames],
            acceleration_mps2=self.acceleration_mps2[frames],
            yaw_rate_radps=self.yaw_rate_radps[frames],
            steering_rad=self.steering_rad[frames],
        )


def read_ego_status(index: DatasetIndex, split: str) -> EgoStatus:
    """Own motion of every frame of a split.

    At the first frame of a scene there is no earlier pose; speed and yaw rate come from the CAN bus where the data set
    has it.

    Raises:
        DatasetError: there is no such split, a sample lacks its LiDAR key frame, or a CAN file is damaged.
        CalibrationError: a pose is not usable.
    """
    samples = index.samples_of_split(split)
    times_us = index["data_timestamp_us"][lidar_readings(index, samples)]
    motion = _motion(index, split)
    steering = np.full(len(samples), np.nan)
    first = 0
    for row in index.scenes_of_split(split):
        record = index.scenes[row]
        frames = slice(first, first + record.num_samples)
        first += record.num_samples
        angle = _last_values(_messages(index.root, record.name, "steeranglefeedback"), times_us[frames], "value", None)
        pose = _messages(index.root, record.name, "pose")
        speed = _last_values(pose, times_us[frames], "vel", 0)
        yaw_rate = _last_values(pose, times_us[frames], "rotation_rate", 2)
        steering[frames] = angle
        motion[frames, 0] = np.where(np.isnan(motion[frames, 0]), speed, motion[frames, 0])
        motion[frames, 2] = np.where(np.isnan(motion[frames, 2]), yaw_rate, motion[frames, 2])
    history, known = _history(index, split)
    return EgoStatus(
        history_ego=history,
        history_valid=known,
        speed_mps=motion[:, 0],
        acceleration_mps2=motion[:, 1],
        yaw_rate_radps=motion[:, 2],
        steering_rad=steering,
    )


def _motion(index: DatasetIndex, split: str) -> np.ndarray:
    """(F, 3): speed, acceleration, yaw rate from the poses of the last half second."""
    frames = NuScenesFrames(
        root=index.root,
        split=split,
        image_size=ImageSize(width=1, height=1),
        version=index.version,
        num_sweeps=0,
        cameras=(),
        with_annotations=False,
        index_dir=index.path,
    )
    states = [frames.ego(position) for position in range(len(frames))]
    rows = [(state.speed_mps, state.acceleration_mps2, state.yaw_rate_radps) for state in states]
    return np.array(rows, np.float64).reshape(-1, 3)


def _history(index: DatasetIndex, split: str) -> tuple[np.ndarray, np.ndarray]:
    samples = index.samples_of_split(split)
    counts = [index.scenes[row].num_samples for row in index.scenes_of_split(split)]
    position = np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)])
    T_global_ego = index.T_global_ego(lidar_readings(index, samples))
    steps = np.arange(1, HISTORY_STEPS + 1)
    known = steps <= position[:, None]
    earlier = np.where(known, np.arange(len(samples))[:, None] - steps, 0)
    T_ego_earlier = rigid_inverse(T_global_ego)[:, None] @ T_global_ego[earlier]
    poses = np.concatenate((T_ego_earlier[..., :2, 3], yaw_of(T_ego_earlier)[..., None]), axis=-1)
    return np.where(known[..., None], poses, 0.0), known


def _messages(root: Path, scene: str, kind: str) -> list[dict[str, Any]]:
    """Messages of one kind in time order; none where the data set has no such file."""
    path = root / "can_bus" / f"{scene}_{kind}.json"
    if not path.is_file():
        return []
    try:
        messages = orjson.loads(path.read_bytes())
        return sorted(messages, key=lambda message: message["utime"])
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is no list of CAN bus messages ({error!r}): unpack can_bus.zip again") from error


def _last_values(messages: list[dict[str, Any]], times_us: np.ndarray, field: str, component: int | None) -> np.ndarray:
    """The value of the last message at or before each time; NaN before the first."""
    if not messages:
        return np.full(len(times_us), np.nan)
    values = np.array([message[field] if component is None else message[field][component] for message in messages])
    last = np.searchsorted([message["utime"] for message in messages], times_us, side="right") - 1
    return np.where(last >= 0, values[np.maximum(last, 0)], np.nan).astype(np.float64)
