"""Where annotated objects and the vehicle go next, looked up in the tables: labels of forecasts and of plans.

A future is known at key frames only (2 Hz in nuScenes). A step is *known* where a key frame of the same scene lies at
its nominal time, within half a step, and the same object is annotated there; everything else is NaN, so that an unknown
step can never pass for one without movement. An object that is annotated again after a gap keeps its true time, which
following the chain of its annotations (as nuscenes-devkit does) would lose.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.index import DatasetIndex
from bevstack.geometry.transforms import transform_points, yaw_of
from bevstack.types.trajectory import FUTURE_STEP_S

AGENT_STEPS = 12
"""Steps of an object's future: 6 s."""
EGO_STEPS = 6
"""Steps of the vehicle's own: 3 s."""
LATE_S = 0.15
"""How far beyond the horizon the last key frame may lie, as in nuscenes-devkit."""


def agent_futures_ego(
    index: DatasetIndex,
    annotation_rows: Int64[np.ndarray, " N"],
    T_ego_global: Float64[np.ndarray, "4 4"],
    num_steps: int = AGENT_STEPS,
) -> Float64[np.ndarray, "N T 2"]:
    """Where the box centres of some annotations will be, (x, y) in metres in one `ego`; NaN where unknown."""
    positions = np.full((len(annotation_rows), num_steps, 3), np.nan)
    if len(annotation_rows):
        found = known_rows_ahead(index, annotation_rows, num_steps)
        positions[found >= 0] = index["annotation_translation"][found[found >= 0]]
    return transform_points(T_ego_global, positions)[..., :2]


def ego_future(
    index: DatasetIndex, sample: int, T_ego_global: Float64[np.ndarray, "4 4"], num_steps: int = EGO_STEPS
) -> Float64[np.ndarray, "S 3"]:
    """Where the vehicle will be after a sample: x, y of the rear axle and yaw in `ego`; NaN where unknown.

    Raises:
        CalibrationError: a pose is not usable.
    """
    future = np.full((num_steps, 3), np.nan)
    later = sample + np.arange(1, num_steps + 1)
    later = later[later < index.num_samples]
    is_same_drive = index["sample_scene"][later] == index["sample_scene"][sample]
    rows = index["sample_key_data"][later, index.channel_index(LIDAR_NAME)]
    elapsed_s = 1e-6 * (index["sample_timestamp_us"][later] - index["sample_timestamp_us"][sample])
    known = np.flatnonzero(is_same_drive & (rows >= 0) & is_timely(elapsed_s, num_steps))
    if len(known):
        T_ego_later = T_ego_global @ index.T_global_ego(int(row) for row in rows[known])
        future[known] = np.column_stack((T_ego_later[:, :2, 3], yaw_of(T_ego_later)))
    return future


def known_rows_ahead(
    index: DatasetIndex, annotation_rows: Int64[np.ndarray, " N"], num_steps: int
) -> Int64[np.ndarray, "N T"]:
    """Annotation rows of the same objects in the key frames that follow; -1 where a step is not known."""
    found, samples = rows_ahead(index, annotation_rows, np.arange(1, num_steps + 1))
    return np.where(is_timely(elapsed_s(index, samples, found), num_steps), found, -1)


def rows_ahead(
    index: DatasetIndex, annotation_rows: Int64[np.ndarray, " N"], steps: Int64[np.ndarray, " T"]
) -> tuple[Int64[np.ndarray, "N T"], Int64[np.ndarray, " N"]]:
    """Annotation rows of the same objects some key frames ahead (or behind), -1 for none; and the samples now.

    At least one annotation is needed. Annotations are grouped by sample: only those of the samples between the first
    and the last that are wanted are looked at, few for one frame, all of them for a whole split.
    """
    rows = np.asarray(annotation_rows, np.int64)
    samples = index["annotation_sample"][rows].astype(np.int64)
    scene = index["sample_scene"]
    target = samples[:, None] + steps
    inside = (target >= 0) & (target < index.num_samples)
    inside[inside] = scene[target[inside]] == np.broadcast_to(scene[samples][:, None], target.shape)[inside]
    low, high = np.clip((target.min(), target.max()), 0, index.num_samples - 1)
    first, last = (int(index["sample_annotation_first"][sample]) for sample in (low, high + 1))
    if first == last:
        return np.full(target.shape, -1), samples
    instance = index["annotation_instance"]
    keys = instance[first:last].astype(np.int64) * index.num_samples + index["annotation_sample"][first:last]
    order = np.argsort(keys, kind="stable")
    wanted = instance[rows].astype(np.int64)[:, None] * index.num_samples + target
    place = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(inside & (keys[place] == wanted), first + place, -1), samples


def elapsed_s(
    index: DatasetIndex, samples: Int64[np.ndarray, " N"], found: Int64[np.ndarray, "N T"]
) -> Float64[np.ndarray, "N T"]:
    """Seconds from each sample to that of each annotation found; of no meaning where there is none."""
    times = index["sample_timestamp_us"]
    return 1e-6 * (times[index["annotation_sample"][found]] - times[samples][:, None])


def is_timely(elapsed: Float64[np.ndarray, "*n T"], num_steps: int) -> Bool[np.ndarray, "*n T"]:
    """Whether key frames so many seconds ahead stand for their steps, the first T of `num_steps`."""
    nominal_s = FUTURE_STEP_S * np.arange(1, elapsed.shape[-1] + 1)
    is_late = elapsed >= FUTURE_STEP_S * num_steps + LATE_S
    return ~is_late & (np.abs(elapsed - nominal_s) <= FUTURE_STEP_S / 2)
