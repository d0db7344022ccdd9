"""Where the vehicle really went after each frame, what it knew of its own motion, and whether it turned.

The future is read from the ego poses of the next six key frames (2 Hz, 3 s), as every nuScenes planning protocol does
(Hu et al., ST-P3, ECCV 2022; Hu et al., UniAD, CVPR 2023; Jiang et al., VAD, ICCV 2023). The last frames of a scene
have a shorter future: `valid` says which steps exist, and nothing is ever filled in.

Two points of the vehicle: `ego` has its origin on the rear axle, while the released code of those three follows the
*LiDAR*, about a metre ahead, along the axes of the LiDAR (x to the right, y forward). Both are kept.

**The released route command is a leak.** It says "right" where the vehicle will be 2 m or more to the right in 3 s: it
is made from the future that the plan is compared with. `command_from_future` reproduces it for comparison; a model
that is given it has seen part of the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int32

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.index import DatasetIndex
from bevstack.geometry.transforms import rigid_inverse, yaw_of
from bevstack.types.errors import DatasetError

PLAN_STEPS = 6
PLAN_STEP_S = 0.5
HORIZON_STEPS = {"1s": 1, "2s": 3, "3s": 5}
"""Horizon -> index of its step."""

COMMAND_SIDE_M = 2.0
"""Sideways distance at the last known step from which the released code calls a future a turn."""
TURNING_RAD = np.radians(15.0)
"""A frame is a turning frame where the heading changes by this much within the known future."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoFuture:
    """What the vehicle did after each of F frames (the expert). Frames of a scene follow each other in time."""

    sample_tokens: tuple[str, ...]
    scene_names: tuple[str, ...]
    scene_index: Int32[np.ndarray, " F"]
    """Index into `scene_names`, ascending."""
    num_past: Int32[np.ndarray, " F"]
    """Key frames of the scene before the frame."""
    poses_ego: Float64[np.ndarray, "F 6 3"]
    """x, y of the rear axle in metres and yaw, in `ego` at reference time; 0 where not valid."""
    valid: Bool[np.ndarray, "F 6"]
    """Whether the step exists; once False, False to the end."""
    path_lidar: Float64[np.ndarray, "F 6 2"]
    """Way of the LiDAR's origin along the LiDAR's axes at reference time (x right, y forward); 0 where not valid."""
    T_ego_lidar: Float64[np.ndarray, "F 4 4"]
    """Mounting of the LiDAR."""
    T_global_ego: Float64[np.ndarray, "F 4 4"]
    """Pose at reference time."""

    def __len__(self) -> int:
        return len(self.sample_tokens)

    @property
    def has_full_future(self) -> Bool[np.ndarray, " F"]:
        """All six steps exist."""
        return self.valid.all(axis=1)

    @property
    def is_turning(self) -> Bool[np.ndarray, " F"]:
        """The heading changes by `TURNING_RAD` or more at some known step; a frame without a future does not turn."""
        return ((np.abs(self.poses_ego[:, :, 2]) >= TURNING_RAD) & self.valid).any(axis=1)

    def take(self, frames: Sequence[int]) -> "EgoFuture":
        """Some frames, in the order given; the scenes keep their indices."""
        return replace(
            self,
            sample_tokens=tuple(self.sample_tokens[frame] for frame in frames),
            scene_index=self.scene_index[frames],
            num_past=self.num_past[frames],
            poses_ego=self.poses_ego[frames],
            valid=self.valid[frames],
            path_lidar=self.path_lidar[frames],
            T_ego_lidar=self.T_ego_lidar[frames],
            T_global_ego=self.T_global_ego[frames],
        )

    def of_scenes(self, scenes: Sequence[int]) -> "EgoFuture":
        """The frames of some scenes, given by ascending index into `scene_names`."""
        frames = np.flatnonzero(np.isin(self.scene_index, scenes))
        return EgoFuture(
            sample_tokens=tuple(self.sample_tokens[frame] for frame in frames),
            scene_names=tuple(self.scene_names[scene] for scene in scenes),
            scene_index=np.searchsorted(scenes, self.scene_index[frames]).astype(np.int32),
            num_past=self.num_past[frames],
            poses_ego=self.poses_ego[frames],
            valid=self.valid[frames],
            path_lidar=self.path_lidar[frames],
            T_ego_lidar=self.T_ego_lidar[frames],
            T_global_ego=self.T_global_ego[frames],
        )


def read_ego_future(index: DatasetIndex, split: str) -> EgoFuture:
    """The future of every frame of a split.

    Raises:
        DatasetError: there is no such split, or a sample lacks the LiDAR key frame that defines `ego`.
        CalibrationError: a pose or the mounting of the LiDAR is not usable.
    """
    scene_rows = index.scenes_of_split(split)
    records = [index.scenes[row] for row in scene_rows]
    samples = index.samples_of_split(split)
    position = np.concatenate([np.zeros(0, np.int64), *(np.arange(record.num_samples) for record in records)])
    left = np.concatenate([np.zeros(0, np.int64), *(np.arange(record.num_samples)[::-1] for record in records)])
    readings = lidar_readings(index, samples)
    T_global_ego = index.T_global_ego(readings)
    T_ego_lidar = index.T_ego_sensor(readings)
    steps = np.arange(1, PLAN_STEPS + 1)
    valid = steps <= left[:, None]
    later = np.where(valid, np.arange(len(samples))[:, None] + steps, 0)
    T_ego_later = rigid_inverse(T_global_ego)[:, None] @ T_global_ego[later]
    poses = np.concatenate((T_ego_later[..., :2, 3], yaw_of(T_ego_later)[..., None]), axis=-1)
    T_lidar_later = rigid_inverse(T_ego_lidar)[:, None] @ T_ego_later @ T_ego_lidar[later]
    return EgoFuture(
        sample_tokens=tuple(index.sample_tokens[int(row)] for row in samples),
        scene_names=tuple(record.name for record in records),
        scene_index=np.repeat(np.arange(len(records)), [record.num_samples for record in records]).astype(np.int32),
        num_past=position.astype(np.int32),
        poses_ego=np.where(valid[..., None], poses, 0.0),
        valid=valid,
        path_lidar=np.where(valid[..., None], T_lidar_later[..., :2, 3], 0.0),
        T_ego_lidar=T_ego_lidar,
        T_global_ego=T_global_ego,
    )


def lidar_readings(index: DatasetIndex, samples: np.ndarray) -> list[int]:
    """`sample_data` rows of the LiDAR key frames of samples.

    Raises:
        DatasetError: a sample has none.
    """
    rows = index["sample_key_data"][samples, index.channel_index(LIDAR_NAME)]
    if (rows < 0).any():
        sample = int(samples[int(np.argmax(rows < 0))])
        raise DatasetError(
            f"sample {index.sample_tokens[sample]} has no {LIDAR_NAME} key frame in "
            f"{index.folder / 'sample_data.json'}; leave its scene out of the split"
        )
    return [int(row) for row in rows]


def command_from_future(future: EgoFuture) -> np.ndarray:
    """The released code's route command of each frame: (F) indices into `COMMANDS`. It leaks the future.

    Right or left where the last known position of the LiDAR is 2 m or more to that side, else straight; straight where
    nothing is known.
    """
    num_known = future.valid.sum(axis=1)
    last = future.path_lidar[np.arange(len(future)), np.maximum(num_known - 1, 0), 0]
    side = np.where(num_known > 0, last, 0.0)
    codes = np.where(side >= COMMAND_SIDE_M, 0, np.where(side <= -COMMAND_SIDE_M, 1, 2))
    return codes.astype(np.int8)
