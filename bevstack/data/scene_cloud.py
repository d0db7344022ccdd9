"""All LiDAR points of a scene, with what moves taken apart from what stands still.

A point in an annotated box belongs to that object and is kept in the frame of its box; over a scene an object is seen
from many sides, and at any instant all of its points can be put back to where it stood. Everything else stands still
and is kept in the frame `scene`: axes of the global frame, origin at the scene's first ego pose (small numbers, so that
float32 will do). Occ3D (Tian et al., NeurIPS 2023, section 3) and OpenOccupancy (Wang et al., ICCV 2023) accumulate
their labels in this way.
"""

import logging
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from bevstack.data.class_names import CLASS_OF_CATEGORY, LIDAR_NAME, OCCUPANCY_CLASSES
from bevstack.data.index import DatasetIndex, SceneRecord
from bevstack.data.lidar import read_rows
from bevstack.data.lidarseg import CHALLENGE_CLASS, EGO, NOISE, labels_path, read_categories
from bevstack.data.nuscenes import MICROSECOND_S, MIN_DISTANCE_M
from bevstack.data.nuscenes_boxes import boxes_in_ego
from bevstack.geometry.boxes import box_of_points, box_pose
from bevstack.geometry.transforms import rigid_inverse, transform_points, wrap_angle
from bevstack.types.boxes import BoxIndex
from bevstack.types.errors import DatasetError

UNLABELLED = 255
"""Label of a point of which only the place is known."""
FLAT_CLASSES = tuple(OCCUPANCY_CLASSES.index(n) for n in ("driveable_surface", "other_flat", "sidewalk", "terrain"))

_STANDING_CLASSES = ("others", "barrier", "traffic_cone")
_IS_MOVABLE = np.array(
    [name in CLASS_OF_CATEGORY.values() and name not in _STANDING_CLASSES for name in OCCUPANCY_CLASSES]
    + [False] * (256 - len(OCCUPANCY_CLASSES))
)
"""By label: a point of such a class outside of every box is left out, since it would leave a trail."""
_IS_FLAT = np.isin(np.arange(256), FLAT_CLASSES)

_BOX_MARGIN_M = 0.1
_GROUND_SKIN_M = 0.15
"""Unlabelled points this close to the bottom of a box are the ground that the object stands on."""
_STATIC_SPACING_M, _OBJECT_SPACING_M = 0.1, 0.05
_MERGE_POINTS = 2_000_000

_LOG = logging.getLogger(__name__)


class ThinnedPoints:
    """Points with labels, at most one of a label in each cube of `spacing_m`: memory follows the area, not the time."""

    def __init__(self, spacing_m: float) -> None:
        self._spacing_m = spacing_m
        self._points: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._num_new = 0

    def add(self, points: Float32[np.ndarray, "M 3"], labels: UInt8[np.ndarray, " M"]) -> None:
        """Add points, within 26 km of the origin."""
        self._points.append(points)
        self._labels.append(labels)
        self._num_new += len(points)
        if self._num_new > _MERGE_POINTS:
            self._merge()

    def all(self) -> tuple[Float32[np.ndarray, "P 3"], UInt8[np.ndarray, " P"]]:
        """The points and their labels."""
        if not self._points:
            return np.zeros((0, 3), np.float32), np.zeros(0, np.uint8)
        self._merge()
        return self._points[0], self._labels[0]

    def _merge(self) -> None:
        points, labels = np.concatenate(self._points), np.concatenate(self._labels)
        cell = np.floor(points / self._spacing_m).astype(np.int64) + (1 << 18, 1 << 18, 1 << 15)
        key = ((cell[:, 0] << 19 | cell[:, 1]) << 16 | cell[:, 2]) << 8 | labels
        first = np.unique(key, return_index=True)[1]
        self._points, self._labels, self._num_new = [points[first]], [labels[first]], 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObjects:
    """The annotated objects of one instant, all categories."""

    instance: Int64[np.ndarray, " N"]
    """Instance rows of the index."""
    boxes_scene: Float32[np.ndarray, "N 9"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneCloud:
    """The points of one scene."""

    T_scene_global: Float64[np.ndarray, "4 4"]
    static_points: Float32[np.ndarray, "P 3"]
    """In `scene`."""
    static_labels: UInt8[np.ndarray, " P"]
    """Class of `OCCUPANCY_CLASSES`, or `UNLABELLED`."""
    object_points: dict[int, Float32[np.ndarray, "K 3"]]
    """For each instance row its points in the frame of its box (centre; x along the heading, z up)."""
    object_class: UInt8[np.ndarray, " I"]
    """Class of `OCCUPANCY_CLASSES` of each instance row of the index."""
    beams: list[tuple[np.ndarray, np.ndarray]] = field(repr=False)
    """For each key sweep in time order the sensor's place (3,) and where its beams ended (M, 3), in `scene`."""


def accumulate_scene(index: DatasetIndex, scene: SceneRecord, *, all_sweeps: bool = False) -> SceneCloud:
    """Read the LiDAR of a scene once and take it apart.

    Args:
        index: the data set.
        scene: one of its scenes.
        all_sweeps: also use the sweeps between key frames, with boxes interpolated; they have no point labels.

    Raises:
        DatasetError: a key frame has no LiDAR, or a file is missing or damaged.
    """
    return _Accumulator(index, scene).run(all_sweeps)


def objects_of_sample(index: DatasetIndex, sample: int, T_scene_global: Float64[np.ndarray, "4 4"]) -> SceneObjects:
    """Every annotated object of a key frame."""
    rows = np.asarray(index.annotation_rows(sample), np.int64)
    if not len(rows):
        return SceneObjects(instance=rows, boxes_scene=np.zeros((0, 9), np.float32))
    return SceneObjects(
        instance=index["annotation_instance"][rows].astype(np.int64),
        boxes_scene=boxes_in_ego(index, rows, T_scene_global),
    )


class _Accumulator:
    def __init__(self, index: DatasetIndex, scene: SceneRecord) -> None:
        self.index, self.scene = index, scene
        self.samples = range(scene.first_sample, scene.first_sample + scene.num_samples)
        self.key_rows = [index.key_data_row(sample, LIDAR_NAME) for sample in self.samples]
        if min(self.key_rows, default=-1) < 0:
            raise DatasetError(f"{scene.name} has a key frame without {LIDAR_NAME}; leave it out of the split")
        self.T_scene_global = np.eye(4)
        self.T_scene_global[:3, 3] = -index.T_global_ego(self.key_rows[:1])[0, :3, 3]
        self.static = ThinnedPoints(_STATIC_SPACING_M)
        self.objects: dict[int, ThinnedPoints] = {}
        self.beams: list[tuple[np.ndarray, np.ndarray]] = []

    def run(self, all_sweeps: bool) -> SceneCloud:
        at_keys = [objects_of_sample(self.index, sample, self.T_scene_global) for sample in self.samples]
        for row, objects in zip(self.key_rows, at_keys, strict=True):
            self._add_sweep(row, objects, is_key=True)
        if all_sweeps:
            self._add_sweeps_between(at_keys)
        static_points, static_labels = self.static.all()
        return SceneCloud(
            T_scene_global=self.T_scene_global,
            static_points=static_points,
            static_labels=static_labels,
            object_points={instance: points.all()[0] for instance, points in self.objects.items()},
            object_class=_object_classes(self.index),
            beams=self.beams,
        )

    def _add_sweeps_between(self, at_keys: list[SceneObjects]) -> None:
        times, previous = self.index["data_timestamp_us"], self.index["data_previous"]
        num_missing = 0
        for place in range(1, len(self.key_rows)):
            first, last = self.key_rows[place - 1], self.key_rows[place]
            row = int(previous[last])
            while row >= 0 and row != first and times[row] > times[first]:
                if (self.index.root / self.index.data_paths[row]).is_file():
                    since_s = float(times[row] - times[first]) * MICROSECOND_S
                    span_s = float(times[last] - times[first]) * MICROSECOND_S
                    objects = interpolate_objects(at_keys[place - 1], at_keys[place], since_s, span_s)
                    self._add_sweep(row, objects, is_key=False)
                else:
                    num_missing += 1
                row = int(previous[row])
        if num_missing:
            _LOG.warning(
                "%s: %d sweeps between key frames are not there and were left out", self.scene.name, num_missing
            )

    def _add_sweep(self, row: int, objects: SceneObjects, *, is_key: bool) -> None:
        raw, labels = self._labelled_rows(row, is_key)
        T_scene_lidar = self.T_scene_global @ self.index.T_global_ego([row])[0] @ self.index.T_ego_sensor([row])[0]
        points = transform_points(T_scene_lidar, raw[:, :3].astype(np.float64)).astype(np.float32)
        if is_key:
            self.beams.append((T_scene_lidar[:3, 3].copy(), points))
        owner = box_of_points(points, objects.boxes_scene, _BOX_MARGIN_M)
        owner[_IS_FLAT[labels] & (owner >= 0)] = -1
        for place in np.unique(owner[owner >= 0]).tolist():
            mine = np.flatnonzero(owner == place)
            local = to_box_frame(objects.boxes_scene[place], points[mine])
            bottom = -0.5 * objects.boxes_scene[place, BoxIndex.HEIGHT]
            is_ground = (labels[mine] == UNLABELLED) & (local[:, 2] < bottom + _GROUND_SKIN_M)
            owner[mine[is_ground]] = -1
            local = local[~is_ground]
            store = self.objects.setdefault(int(objects.instance[place]), ThinnedPoints(_OBJECT_SPACING_M))
            store.add(local, np.zeros(len(local), np.uint8))
        stays = (owner < 0) & ~_IS_MOVABLE[labels]
        self.static.add(points[stays], labels[stays])

    def _labelled_rows(self, row: int, is_key: bool) -> tuple[np.ndarray, np.ndarray]:
        """Usable points of a sweep in the raw sensor frame, and their classes."""
        raw = read_rows(self.index.root / self.index.data_paths[row])
        usable = np.isfinite(raw[:, :3]).all(axis=1) & (np.abs(raw[:, :2]).max(axis=1, initial=0) >= MIN_DISTANCE_M)
        labels = np.full(len(raw), UNLABELLED, np.uint8)
        path = labels_path(self.index.root, self.index.version, self.index.data_tokens[row])
        if is_key and path.is_file():
            categories = read_categories(path, len(raw))
            labels = CHALLENGE_CLASS[categories]
            usable &= (categories != NOISE) & (categories != EGO)
        return raw[usable], labels[usable]


def interpolate_objects(before: SceneObjects, after: SceneObjects, since_s: float, span_s: float) -> SceneObjects:
    """The objects `since_s` seconds after one key frame, of `span_s` to the next: those that are annotated in both."""
    shared, at_before, at_after = np.intersect1d(before.instance, after.instance, return_indices=True)
    share = np.float32(since_s / span_s)
    start, end = before.boxes_scene[at_before], after.boxes_scene[at_after]
    rows = start + share * (end - start)
    turn = wrap_angle(end[:, BoxIndex.YAW] - start[:, BoxIndex.YAW])
    rows[:, BoxIndex.YAW] = wrap_angle(start[:, BoxIndex.YAW] + share * turn)
    return SceneObjects(instance=shared, boxes_scene=rows)


def to_box_frame(box: Float32[np.ndarray, "9"], points: Float32[np.ndarray, "M 3"]) -> Float32[np.ndarray, "M 3"]:
    """Points of the frame that a box is in -> the frame of the box."""
    return transform_points(rigid_inverse(box_pose(box)), points.astype(np.float64)).astype(np.float32)


def _object_classes(index: DatasetIndex) -> np.ndarray:
    names = [CLASS_OF_CATEGORY.get(name, "others") for name in index.categories]
    of_category = np.array([OCCUPANCY_CLASSES.index(name) for name in names], np.uint8)
    rows = index["instance_category"]
    return of_category[rows] if len(rows) else np.zeros(0, np.uint8)
