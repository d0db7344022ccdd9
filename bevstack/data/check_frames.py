"""Whether the boxes of a data set, or of a results file, lie where its points are: `frame_sanity` over many frames."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.frame_sanity import FrameSanity
from bevstack.data.index import DatasetIndex
from bevstack.data.lidar import read_points
from bevstack.data.nuscenes_boxes import boxes_in_ego
from bevstack.geometry.transforms import rigid_inverse, transform_points

NUM_FRAMES = 20
"""Frames that are looked at, spread over the data: enough to name every fault that can be named."""

LIDAR_FRAME = "LiDAR"
"""What verdicts call the frame of the sensor."""

BoxesOfSample = Callable[[int], Float[np.ndarray, "N 9"]]


def frame_sanity_of(
    index: DatasetIndex,
    split: str | None = None,
    *,
    num_frames: int = NUM_FRAMES,
    boxes_of: BoxesOfSample | None = None,
) -> FrameSanity:
    """The evidence of frames spread over a data set or one of its splits; frames without a LiDAR file are passed over.

    Args:
        index: the data set.
        split: only frames of this split.
        num_frames: how many frames to read, of those that have LiDAR.
        boxes_of: sample row -> boxes in `ego`; None takes the annotated ones.

    Raises:
        DatasetError: there is no such split, or a LiDAR file or an annotation is damaged.
        ValueError: `num_frames` is not positive.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames} must be at least 1")
    samples = index.samples_of_split(split) if split else np.arange(index.num_samples)
    present = [int(sample) for sample in samples if _has_lidar(index, int(sample))]
    chosen = sorted(
        {present[round(place)] for place in np.linspace(0, len(present) - 1, num_frames)} if present else ()
    )
    sanity = FrameSanity()
    for sample in chosen:
        row = index.key_data_row(sample, LIDAR_NAME)
        T_ego_lidar = index.T_ego_sensor([row])[0]
        raw = read_points(index.root / index.data_paths[row])
        points_ego = transform_points(T_ego_lidar, raw[:, :3].astype(np.float64))
        boxes = boxes_of(sample) if boxes_of else annotated_boxes(index, sample)
        sanity.add(boxes, points_ego, {LIDAR_FRAME: T_ego_lidar})
    return sanity


def annotated_boxes(index: DatasetIndex, sample: int) -> Float[np.ndarray, "N 9"]:
    """All annotated boxes of a sample in `ego` at its LiDAR key frame, whatever their category."""
    row = index.key_data_row(sample, LIDAR_NAME)
    annotations = np.asarray(index.annotation_rows(sample), np.int64)
    return boxes_in_ego(index, annotations, rigid_inverse(index.T_global_ego([row])[0]))


def _has_lidar(index: DatasetIndex, sample: int) -> bool:
    row = index.key_data_row(sample, LIDAR_NAME)
    if row < 0:
        return False
    path = index.root / index.data_paths[row]
    return path.is_file() and path.stat().st_size > 0
