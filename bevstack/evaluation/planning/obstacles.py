"""Who stands in the way: annotated objects at each future step, as each published collision test picks them.

The three code bases disagree on the obstacles more than on anything else, which alone changes a collision rate:

* UniAD: every annotated vehicle of the detection classes (bicycles and motorcycles among them) at the future step, in
  the frame of the LiDAR; no pedestrians.
* VAD: vehicles and pedestrians of the detection classes that are annotated *at the present frame* with a LiDAR point
  and within 15 m to the sides and 30 m ahead and behind; their next annotations, one a step. An object that comes into
  sight later does not exist.
* ST-P3: every vehicle and human category, of objects annotated in the last three frames with a visibility above 40 %
  (or of unknown visibility), in `ego`. (Its rasters of later frames are warped into the present one cell by cell; here
  the boxes are moved and drawn once, as the other two do.)

The exact tests use `annotated_agents`: everything annotated at the step, in `ego`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64

from bevstack.data.class_names import CLASS_OF_CATEGORY
from bevstack.data.index import DatasetIndex, SceneRecord
from bevstack.evaluation.planning.ego_future import PLAN_STEPS, lidar_readings
from bevstack.geometry.transforms import from_quaternion, rigid_inverse

VEHICLE, PEDESTRIAN, OTHER = 0, 1, 2
"""Kinds of agents: categories `vehicle.*`, `human.*`, and everything else that is annotated."""

VAD_REACH_M = (15.0, 30.0)
"""Present centres beyond these (to the side, along) are no obstacles for VAD."""
STP3_PAST_FRAMES = 2

_VEHICLE_CLASSES = frozenset(("car", "truck", "bus", "trailer", "construction_vehicle", "motorcycle", "bicycle"))
_HIDDEN = 1
"""Visibility bin of 0 to 40 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxesByStep:
    """Ground rectangles of objects at the six steps after each of F frames."""

    first: Int64[np.ndarray, " S"]
    """The boxes of frame f at step k are rows first[6 f + k] to first[6 f + k + 1]; 6 F + 1 numbers."""
    boxes: Float64[np.ndarray, "N 5"]
    """x, y of the centre, length, width, yaw, in the frame named by whoever made them."""
    kind: Int8[np.ndarray, " N"]

    @classmethod
    def of(cls, slot: np.ndarray, boxes: np.ndarray, kind: np.ndarray, num_frames: int) -> "BoxesByStep":
        """Boxes in any order, each with its slot 6 f + k."""
        order = np.argsort(slot, kind="stable")
        counts = np.bincount(slot, minlength=num_frames * PLAN_STEPS)
        first = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
        return cls(first=first, boxes=boxes[order].astype(np.float64), kind=kind[order].astype(np.int8))

    def of_frames(self, frames: np.ndarray) -> "BoxesByStep":
        """The boxes of some frames, in a given order."""
        slots = (frames[:, None] * PLAN_STEPS + np.arange(PLAN_STEPS)).reshape(-1)
        counts = self.first[slots + 1] - self.first[slots]
        first = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
        rows = np.arange(first[-1]) + np.repeat(self.first[slots] - first[:-1], counts)
        return BoxesByStep(first=first, boxes=self.boxes[rows], kind=self.kind[rows])


@dataclass(frozen=True, slots=True)
class _Scene:
    """Poses and annotations of one scene; annotations are numbered from 0 in the order of the index."""

    record: SceneRecord
    T_global_ego: np.ndarray
    T_global_lidar: np.ndarray
    sample: np.ndarray
    """Key frame of each annotation, from 0."""
    instance: np.ndarray
    center: np.ndarray
    forward: np.ndarray
    length_width: np.ndarray
    category: np.ndarray
    visibility: np.ndarray
    num_lidar_points: np.ndarray


_Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of each obstacle: frame, step (from 0) and annotation, each numbered from 0 in the scene."""


def annotated_agents(index: DatasetIndex, split: str) -> BoxesByStep:
    """Everything that is annotated at each step, in `ego` at reference time, with its kind.

    Raises:
        DatasetError: there is no such split, or a sample lacks its LiDAR key frame.
    """
    return _collect(index, split, lambda scene: _annotated_later(scene), in_lidar=False)


def uniad_obstacles(index: DatasetIndex, split: str) -> BoxesByStep:
    """UniAD's obstacles, in the frame of the LiDAR at reference time."""
    is_vehicle = np.array([CLASS_OF_CATEGORY.get(name) in _VEHICLE_CLASSES for name in index.categories], bool)

    def choose(scene: _Scene) -> _Pairs:
        return _where(_annotated_later(scene), is_vehicle[scene.category])

    return _collect(index, split, choose, in_lidar=True)


def vad_obstacles(index: DatasetIndex, split: str) -> BoxesByStep:
    """VAD's obstacles, in the frame of the LiDAR at reference time."""
    counted = (*_VEHICLE_CLASSES, "pedestrian")
    is_counted = np.array([CLASS_OF_CATEGORY.get(name) in counted for name in index.categories], bool)

    def choose(scene: _Scene) -> _Pairs:
        frame = scene.sample
        in_lidar = _seen_from(scene.T_global_lidar[frame], scene.center)
        is_near = (np.abs(in_lidar[:, 0]) < VAD_REACH_M[0]) & (np.abs(in_lidar[:, 1]) < VAD_REACH_M[1])
        present = is_counted[scene.category] & (scene.num_lidar_points > 0) & is_near
        order = np.lexsort((scene.sample, scene.instance))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        pairs = []
        for step in range(PLAN_STEPS):
            later = np.minimum(place + step + 1, max(len(order) - 1, 0))
            following = order[later] if len(order) else later
            goes_on = (place + step + 1 < len(order)) & (scene.instance[following] == scene.instance)
            chosen = np.flatnonzero(present & goes_on)
            pairs.append((frame[chosen], np.full(len(chosen), step), following[chosen]))
        frames, steps, annotations = (np.concatenate(part) for part in zip(*pairs, strict=True))
        return frames, steps, annotations

    return _collect(index, split, choose, in_lidar=True)


def stp3_obstacles(index: DatasetIndex, split: str) -> BoxesByStep:
    """ST-P3's obstacles, in `ego` at reference time."""
    is_counted = np.array([_kind(name) != OTHER for name in index.categories], bool)

    def choose(scene: _Scene) -> _Pairs:
        known = is_counted[scene.category] & (scene.visibility != _HIDDEN)
        pair = _where(_annotated_later(scene), is_counted[scene.category])
        frame, _, annotation = pair
        was_seen = _instances_seen(scene, known)
        return _where_pairs(pair, was_seen[frame, _instance_number(scene)[annotation]])

    return _collect(index, split, choose, in_lidar=False)


def _instance_number(scene: _Scene) -> np.ndarray:
    return np.unique(scene.instance, return_inverse=True)[1].reshape(-1)


def _instances_seen(scene: _Scene, known: np.ndarray) -> Bool[np.ndarray, "F I"]:
    """Whether each object was annotated and visible in a frame or the two before it."""
    number = _instance_number(scene)
    seen = np.zeros((scene.record.num_samples, int(number.max(initial=-1)) + 1), bool)
    seen[scene.sample[known], number[known]] = True
    recent = seen.copy()
    for age in range(1, STP3_PAST_FRAMES + 1):
        recent[age:] |= seen[:-age]
    return recent


def _collect(index: DatasetIndex, split: str, choose: Callable[[_Scene], _Pairs], *, in_lidar: bool) -> BoxesByStep:
    kind_of = np.array([_kind(name) for name in index.categories], np.int8)
    slots, boxes, kinds, first_frame = [np.zeros(0, np.int64)], [np.zeros((0, 5))], [np.zeros(0, np.int8)], 0
    for row in index.scenes_of_split(split):
        scene = _read_scene(index, index.scenes[row])
        frame, step, annotation = choose(scene)
        T_global_frame = (scene.T_global_lidar if in_lidar else scene.T_global_ego)[frame]
        center = _seen_from(T_global_frame, scene.center[annotation])
        forward = np.einsum("nij,ni->nj", T_global_frame[:, :3, :3], scene.forward[annotation])
        yaw = np.arctan2(forward[:, 1], forward[:, 0])
        boxes.append(np.concatenate((center[:, :2], scene.length_width[annotation], yaw[:, None]), axis=1))
        kinds.append(kind_of[scene.category[annotation]])
        slots.append((first_frame + frame) * PLAN_STEPS + step)
        first_frame += scene.record.num_samples
    return BoxesByStep.of(np.concatenate(slots), np.concatenate(boxes), np.concatenate(kinds), first_frame)


def _read_scene(index: DatasetIndex, record: SceneRecord) -> _Scene:
    samples = np.arange(record.first_sample, record.first_sample + record.num_samples)
    readings = lidar_readings(index, samples)
    T_global_ego = index.T_global_ego(readings)
    first = index["sample_annotation_first"]
    rows = np.arange(int(first[samples[0]]), int(first[samples[-1] + 1])) if len(samples) else np.zeros(0, np.int64)
    T_global_box = from_quaternion(index["annotation_rotation"][rows], index["annotation_translation"][rows])
    instance = index["annotation_instance"][rows].astype(np.int64)
    return _Scene(
        record=record,
        T_global_ego=T_global_ego,
        T_global_lidar=T_global_ego @ index.T_ego_sensor(readings),
        sample=index["annotation_sample"][rows].astype(np.int64) - record.first_sample,
        instance=instance,
        center=T_global_box[:, :3, 3],
        forward=T_global_box[:, :3, 0],
        length_width=index["annotation_size_wlh"][rows][:, [1, 0]],
        category=index["instance_category"][instance].astype(np.int64),
        visibility=index["annotation_visibility"][rows],
        num_lidar_points=index["annotation_num_lidar_points"][rows],
    )


def _annotated_later(scene: _Scene) -> _Pairs:
    """Every annotation, once for each frame that it lies one to six steps after."""
    age = np.arange(1, PLAN_STEPS + 1)
    frame = scene.sample[:, None] - age
    annotation, column = np.nonzero(frame >= 0)
    return frame[annotation, column], age[column] - 1, annotation


def _where(pairs: _Pairs, of_annotation: np.ndarray) -> _Pairs:
    return _where_pairs(pairs, of_annotation[pairs[2]])


def _where_pairs(pairs: _Pairs, mask: np.ndarray) -> _Pairs:
    frame, step, annotation = pairs
    return frame[mask], step[mask], annotation[mask]


def _seen_from(T_global_frame: np.ndarray, points_global: np.ndarray) -> np.ndarray:
    """Points (N, 3), each in its own frame."""
    T_frame_global = rigid_inverse(T_global_frame)
    return np.einsum("nij,nj->ni", T_frame_global[:, :3, :3], points_global) + T_frame_global[:, :3, 3]


def _kind(category: str) -> int:
    if category.startswith("vehicle."):
        return VEHICLE
    return PEDESTRIAN if category.startswith("human.") else OTHER
