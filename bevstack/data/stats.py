"""What a data set contains, in numbers: scenes, classes, distances, points, attributes. No sensor file is opened."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bevstack.data.class_names import CLASS_OF_CATEGORY, DETECTION_CLASSES, LIDAR_NAME
from bevstack.data.index import DatasetIndex

DISTANCE_EDGES_M = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, float("inf"))
_WORDS = ("night", "rain")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassStats:
    """One detection class in a split."""

    name: str
    boxes: int
    instances: int
    boxes_per_frame: float
    boxes_without_points: int
    median_lidar_points: float
    median_size_lwh_m: tuple[float, float, float]
    median_speed_mps: float
    """Of the boxes whose velocity is known."""
    distance_histogram: tuple[int, ...]
    """Boxes by distance from the vehicle, between `DISTANCE_EDGES_M`."""
    attributes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStats:
    """The answer of `dataset_stats`."""

    version: str
    split: str | None
    num_scenes: int
    num_frames: int
    num_boxes: int
    num_other_boxes: int
    """Boxes of categories outside of the ten classes."""
    duration_s: float
    distance_m: float
    """Way of the vehicle, summed over the scenes."""
    sweeps_per_frame: float
    locations: dict[str, int]
    scenes_described_as: dict[str, int]
    boxes_per_frame: tuple[float, float, float]
    """Mean, median, maximum."""
    visibility: dict[str, int]
    classes: tuple[ClassStats, ...]

    def as_dict(self) -> dict[str, Any]:
        """The statistics as plain data, for JSON."""
        return asdict(self)


def dataset_stats(index: DatasetIndex, split: str | None = None) -> DatasetStats:
    """Statistics of a split, or of everything.

    Raises:
        DatasetError: there is no such split.
    """
    scene_rows = index.scenes_of_split(split) if split else list(range(len(index.scenes)))
    scenes = [index.scenes[row] for row in scene_rows]
    samples = np.flatnonzero(np.isin(index["sample_scene"], scene_rows))
    first = index["sample_annotation_first"]
    counts = np.diff(first)[samples]
    rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(first[s], first[s + 1]) for s in samples)])
    classes = _class_names(index, rows)
    return DatasetStats(
        version=index.version,
        split=split,
        num_scenes=len(scenes),
        num_frames=len(samples),
        num_boxes=len(rows),
        num_other_boxes=int((classes == "").sum()),
        duration_s=sum(_duration_s(index, scene.first_sample, scene.num_samples) for scene in scenes),
        distance_m=sum(_way_m(index, scene.first_sample, scene.num_samples) for scene in scenes),
        sweeps_per_frame=_sweeps_per_frame(index, samples),
        locations=dict(Counter(scene.location for scene in scenes)),
        scenes_described_as={word: sum(word in scene.description.lower() for scene in scenes) for word in _WORDS},
        boxes_per_frame=(float(counts.mean()), float(np.median(counts)), float(counts.max()))
        if len(counts)
        else (0.0, 0.0, 0.0),
        visibility=_count_values(index["annotation_visibility"][rows]) if len(rows) else {},
        classes=tuple(_class_stats(index, name, rows[classes == name], len(samples)) for name in DETECTION_CLASSES),
    )


def _class_names(index: DatasetIndex, rows: np.ndarray) -> np.ndarray:
    """Detection class of annotation rows; '' outside of the ten."""
    if not len(rows):
        return np.zeros(0, "U1")
    names = np.array([CLASS_OF_CATEGORY.get(category, "") for category in index.categories])
    return names[index["instance_category"][index["annotation_instance"][rows]]]


def _class_stats(index: DatasetIndex, name: str, rows: np.ndarray, num_frames: int) -> ClassStats:
    if not len(rows):
        empty = tuple(0 for _ in DISTANCE_EDGES_M[1:])
        nan = float("nan")
        return ClassStats(
            name=name,
            boxes=0,
            instances=0,
            boxes_per_frame=0.0,
            boxes_without_points=0,
            median_lidar_points=nan,
            median_size_lwh_m=(nan, nan, nan),
            median_speed_mps=nan,
            distance_histogram=empty,
            attributes={},
        )
    points = index["annotation_num_lidar_points"][rows]
    size = np.median(index["annotation_size_wlh"][rows], axis=0)[[1, 0, 2]]
    speed = np.linalg.norm(index["annotation_velocity"][rows][:, :2], axis=1)
    attributes = index["annotation_attribute"][rows]
    return ClassStats(
        name=name,
        boxes=len(rows),
        instances=len(np.unique(index["annotation_instance"][rows])),
        boxes_per_frame=len(rows) / max(num_frames, 1),
        boxes_without_points=int((points + index["annotation_num_radar_points"][rows] == 0).sum()),
        median_lidar_points=float(np.median(points)),
        median_size_lwh_m=(float(size[0]), float(size[1]), float(size[2])),
        median_speed_mps=float(np.nanmedian(speed)) if np.isfinite(speed).any() else float("nan"),
        distance_histogram=tuple(np.histogram(_distances_m(index, rows), DISTANCE_EDGES_M)[0].tolist()),
        attributes={
            index.attributes[value] if value >= 0 else "none": int(count)
            for value, count in zip(*np.unique(attributes, return_counts=True))
        },
    )


def _distances_m(index: DatasetIndex, rows: np.ndarray) -> np.ndarray:
    """Distance in the ground plane from the vehicle to annotated boxes."""
    lidar = index["sample_key_data"][index["annotation_sample"][rows], index.channel_index(LIDAR_NAME)]
    offset = index["annotation_translation"][rows][:, :2] - index["data_pose"][lidar][:, :2]
    return np.linalg.norm(offset, axis=1)


def _duration_s(index: DatasetIndex, first: int, count: int) -> float:
    times = index["sample_timestamp_us"][first : first + count]
    return float(times[-1] - times[0]) * 1e-6 if count else 0.0


def _way_m(index: DatasetIndex, first: int, count: int) -> float:
    rows = index["sample_key_data"][first : first + count, index.channel_index(LIDAR_NAME)]
    return float(np.linalg.norm(np.diff(index["data_pose"][rows[rows >= 0]][:, :2], axis=0), axis=1).sum())


def _sweeps_per_frame(index: DatasetIndex, samples: np.ndarray) -> float:
    """LiDAR readings, key frames included, for each key frame."""
    is_lidar = index["data_channel"] == index.channel_index(LIDAR_NAME)
    inside = np.isin(index["data_sample"], samples)
    return float((is_lidar & inside).sum() / max(len(samples), 1))


def _count_values(values: np.ndarray) -> dict[str, int]:
    bins = {0: "unknown", 1: "0-40 %", 2: "40-60 %", 3: "60-80 %", 4: "80-100 %"}
    return {bins.get(int(v), str(v)): int(count) for v, count in zip(*np.unique(values, return_counts=True))}
