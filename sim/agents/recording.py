"""A recorded drive of a data set in nuScenes format: the vehicle and everybody annotated around it, at 10 Hz.

Boxes are annotated at key frames (2 Hz) and move linearly in between; the vehicle's own poses are those of every LiDAR
sweep. Frame: the data set's global one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from bevstack.data.class_names import CLASS_OF_CATEGORY, LIDAR_NAME
from bevstack.data.index import DatasetIndex, SceneRecord
from bevstack.geometry.transforms import from_quaternion, yaw_of
from bevstack.types.errors import DatasetError, did_you_mean

RECORDING_STEP_S = 0.1
LONGEST_GAP_S = 1.1
"""Somebody who is not annotated for longer is not there in between."""
_SWEEPS = 20
"""Looked for before each key frame; more than there are."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordedTrack:
    """Somebody in the recording."""

    name: str
    """Instance token."""
    class_name: str
    size_lwh: tuple[float, float, float]
    poses: Float[np.ndarray, "T 3"]
    """x, y, yaw of the box centre; NaN while it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """One scene, from its first key frame on, every `RECORDING_STEP_S`."""

    scene: str
    ego_poses: Float[np.ndarray, "T 3"]
    """x, y, yaw of the rear axle."""
    tracks: tuple[RecordedTrack, ...]

    @property
    def times_s(self) -> Float[np.ndarray, " T"]:
        """0, 0.1, 0.2 ..."""
        return np.arange(len(self.ego_poses)) * RECORDING_STEP_S


def read_recording(index: DatasetIndex, scene: str) -> Recording:
    """The recording of a scene.

    Raises:
        DatasetError: there is no such scene, it has no LiDAR, or fewer than two key frames.
        CalibrationError: a pose is not usable.
    """
    record = next((known for known in index.scenes if known.name == scene), None)
    if record is None:
        raise DatasetError(f"no scene '{scene}'{did_you_mean(scene, [known.name for known in index.scenes])}")
    samples = np.arange(record.first_sample, record.first_sample + record.num_samples)
    seconds = _seconds(index["sample_timestamp_us"][samples])
    if len(samples) < 2:
        raise DatasetError(f"{scene} has {len(samples)} key frame; a recording needs two")
    grid = np.arange(0.0, seconds[-1] + 1e-6, RECORDING_STEP_S)
    return Recording(scene=scene, ego_poses=_ego_poses(index, record, grid), tracks=_tracks(index, samples, grid))


def interpolated_poses(
    times_s: Float[np.ndarray, " S"], poses: Float[np.ndarray, "S 3"], grid_s: Float[np.ndarray, " T"]
) -> Float[np.ndarray, "T 3"]:
    """x, y, yaw at other times: linear, the short way round for yaw; NaN outside and in gaps."""
    straight = np.column_stack((poses[:, :2], np.unwrap(poses[:, 2])))
    out = np.stack(
        [np.interp(grid_s, times_s, straight[:, axis], left=np.nan, right=np.nan) for axis in range(3)], axis=1
    )
    after = np.clip(np.searchsorted(times_s, grid_s, side="left"), 1, max(len(times_s) - 1, 1))
    if len(times_s) > 1:
        is_gap = times_s[after] - times_s[after - 1] > LONGEST_GAP_S
        is_exact = np.isclose(grid_s[:, None], times_s[None], atol=1e-6, rtol=0).any(axis=1)
        out[is_gap & ~is_exact] = np.nan
    out[:, 2] = (out[:, 2] + np.pi) % (2 * np.pi) - np.pi
    return out


def _seconds(timestamps_us: Int64[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    return 1e-6 * (timestamps_us - timestamps_us[0])


def _ego_poses(index: DatasetIndex, record: SceneRecord, grid: np.ndarray) -> np.ndarray:
    samples = range(record.first_sample, record.first_sample + record.num_samples)
    if index.key_data_row(samples[0], LIDAR_NAME) < 0:
        raise DatasetError(f"{record.name} has no {LIDAR_NAME} key frame to begin with")
    rows = sorted(
        {row for sample in samples for row in index.sweep_rows(sample, _SWEEPS)},
        key=lambda row: int(index["data_timestamp_us"][row]),
    )
    stamps = index["data_timestamp_us"][rows]
    times = 1e-6 * (stamps - index["sample_timestamp_us"][record.first_sample])
    T_global_ego = index.T_global_ego(rows)
    poses = np.column_stack((T_global_ego[:, :2, 3], np.unwrap(yaw_of(T_global_ego))))
    # Clamped at the ends: the LiDAR's clock differs from the sample's by some milliseconds.
    out = np.stack([np.interp(grid, times, poses[:, axis]) for axis in range(3)], axis=1)
    out[:, 2] = (out[:, 2] + np.pi) % (2 * np.pi) - np.pi
    return out


def _tracks(index: DatasetIndex, samples: np.ndarray, grid: np.ndarray) -> tuple[RecordedTrack, ...]:
    seconds = _seconds(index["sample_timestamp_us"][samples])
    first, last = (int(index["sample_annotation_first"][sample]) for sample in (samples[0], samples[-1] + 1))
    rows = np.arange(first, last)
    instances = index["annotation_instance"][rows]
    found = []
    for instance in dict.fromkeys(int(value) for value in instances):
        class_name = CLASS_OF_CATEGORY.get(index.categories[int(index["instance_category"][instance])])
        if not class_name:
            continue
        own = rows[instances == instance]
        T_global_box = from_quaternion(index["annotation_rotation"][own], index["annotation_translation"][own])
        poses = np.column_stack((T_global_box[:, :2, 3], yaw_of(T_global_box)))
        times = seconds[index["annotation_sample"][own] - samples[0]]
        width, length, height = (float(value) for value in np.median(index["annotation_size_wlh"][own], axis=0))
        found.append(
            RecordedTrack(
                name=index.instance_tokens[instance],
                class_name=class_name,
                size_lwh=(length, width, height),
                poses=interpolated_poses(times, poses, grid),
            )
        )
    return tuple(track for track in found if np.isfinite(track.poses).any())
