"""What an evaluation keeps so that runs can be compared, resampled and sliced without running again.

`scene_statistics.npz` in a results folder holds, for every row of results, the statistics from which the figures
follow, and which scene and which slices a sample belongs to. `RowFigures` and every `TaskStatistics` turn weights of
scenes into the very content of a row of `metrics.json`; with weights of one it is the same to the last bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.index import DatasetIndex
from bevstack.evaluation.comparison.slices import (
    OBJECT_SLICES,
    PATH_STEPS,
    SCENE_SLICES,
    ObjectSlice,
    SlicedFigures,
    distance_to_path,
    slices_of_description,
)
from bevstack.evaluation.comparison.statistics_file import read_arrays, write_arrays
from bevstack.evaluation.dense.instance_statistics import InstanceStatistics
from bevstack.evaluation.dense.lidarseg_statistics import LidarsegStatistics
from bevstack.evaluation.dense.map_line_statistics import MapLineStatistics
from bevstack.evaluation.dense.map_vectors import LineMatches
from bevstack.evaluation.dense.scorers import DenseScorers, DenseStatistics
from bevstack.evaluation.detection.boxes import ScoredBoxes
from bevstack.evaluation.detection.statistics import (
    ClassStatistics,
    DetectionFigures,
    DetectionStatistics,
    Places,
    TruthFacts,
)
from bevstack.evaluation.language.driving_qa import Answered
from bevstack.evaluation.language.driving_qa_files import Question
from bevstack.evaluation.language.statistics import DrivingQaStatistics
from bevstack.evaluation.motion.matching import MotionMatches
from bevstack.evaluation.motion.named import FoundChallengeStatistics
from bevstack.evaluation.motion.nusc import MotionErrors
from bevstack.evaluation.motion.statistics import ChallengeStatistics, FoundMotionStatistics
from bevstack.evaluation.planning.statistics import PlanningStatistics
from bevstack.evaluation.planning.sums import SceneSums
from bevstack.evaluation.planning.table import PlanEntry
from bevstack.evaluation.task_statistics import TaskStatistics
from bevstack.evaluation.tracking.records import ClassRecords, TrackingRecords
from bevstack.evaluation.tracking.statistics import TrackingStatistics
from bevstack.geometry.transforms import wrap_angle, yaw_of
from bevstack.types.bev import VoxelGrid

STATISTICS_FILE = "scene_statistics.npz"
FORMAT = "bevstack-scene-statistics-2"
TURNING_RAD, TURNING_STEPS = np.radians(15.0), 6
TURNING = "turning"
SAMPLE_SLICES = (*SCENE_SLICES, TURNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFacts:
    """The S samples of an evaluation: which scene and which slices each belongs to."""

    sample_tokens: tuple[str, ...]
    scene_names: tuple[str, ...]
    scene_index: Int32[np.ndarray, " S"]
    slices: dict[str, Bool[np.ndarray, " S"]]
    """A mask for each of `SAMPLE_SLICES`."""

    def of_scenes(self, name: str) -> Bool[np.ndarray, " G"]:
        """Which scenes have a sample in a slice.

        Raises:
            ValueError: the evaluation did not look for it.
        """
        if name not in self.slices:
            raise ValueError(f"there is no slice '{name}' of {', '.join(self.slices)}: evaluate again, it may be newer")
        mask = np.zeros(len(self.scene_names), bool)
        mask[self.scene_index[self.slices[name]]] = True
        return mask

    @classmethod
    def merge(cls, parts: Sequence["SampleFacts"]) -> "SampleFacts":
        """Samples of different scenes, one part after the other; at least one."""
        firsts = accumulate((len(part.scene_names) for part in parts), initial=0)
        shifted = [part.scene_index + np.int32(first) for part, first in zip(parts, firsts, strict=False)]
        return cls(
            sample_tokens=tuple(token for part in parts for token in part.sample_tokens),
            scene_names=tuple(name for part in parts for name in part.scene_names),
            scene_index=np.concatenate(shifted),
            slices={name: np.concatenate([part.slices[name] for part in parts]) for name in parts[0].slices},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneStatistics:
    """Everything that `scene_statistics.npz` holds."""

    facts: SampleFacts
    rows: dict[str, DetectionStatistics]
    """Row of results (a modality) -> its boxes; rows without objects are left out."""
    dense: dict[str, DenseStatistics] = field(default_factory=dict)
    """Row of results -> its counts of map and occupancy."""
    tasks: dict[str, dict[str, TaskStatistics]] = field(default_factory=dict)
    """Row of results -> kind of predictions -> the statistics of every other task."""

    @classmethod
    def merge(cls, parts: Sequence["SceneStatistics"]) -> "SceneStatistics":
        """What several processes gathered of different scenes, but for `dense`; at least one part."""
        first = parts[0]
        if len(parts) == 1:
            return first
        return cls(
            facts=SampleFacts.merge([part.facts for part in parts]),
            rows={name: DetectionStatistics.merge([part.rows[name] for part in parts]) for name in first.rows},
            tasks={
                row: {
                    name: type(of).merge([part.tasks[row][name] for part in parts])  # type: ignore[arg-type]
                    for name, of in of_tasks.items()
                }
                for row, of_tasks in first.tasks.items()
            },
        )

    def with_dense(self, row: str, by_scene: Mapping[str, DenseScorers]) -> "SceneStatistics":
        """With the counts of map and occupancy of one row; without them where they are not kept by scene."""
        names = self.facts.scene_names
        if not by_scene or not by_scene.keys() <= set(names):
            return self
        return replace(self, dense={**self.dense, row: DenseStatistics.of(by_scene, names)})


class RowFigures:
    """Figures of one row where each scene counts some number of times, of all samples or of a slice."""

    def __init__(self, facts: SampleFacts, statistics: DetectionStatistics, in_slice: str | None = None) -> None:
        self._scene_index, self._mask = facts.scene_index, None
        self._figures: DetectionFigures | SlicedFigures
        if in_slice is None:
            self._figures = DetectionFigures(statistics)
        elif in_slice in facts.slices:
            self._mask = facts.slices[in_slice].astype(np.float64)
            self._figures = SlicedFigures(statistics, ObjectSlice())
        elif in_slice in OBJECT_SLICES:
            self._figures = SlicedFigures(statistics, OBJECT_SLICES[in_slice])
        else:
            raise ValueError(f"there is no slice '{in_slice}'; there are {', '.join((*facts.slices, *OBJECT_SLICES))}")

    def __call__(self, scene_weight: np.ndarray) -> dict[str, Any]:
        """The figures, named as in `metrics.json`."""
        weight = np.asarray(scene_weight, np.float64)[self._scene_index]
        return self._figures(weight if self._mask is None else weight * self._mask)


class Gathering:
    """Collects the statistics of an evaluation, one row after the other: the boxes themselves are not kept."""

    def __init__(self, index: DatasetIndex, sample_tokens: Sequence[str]) -> None:
        samples = np.array([index.sample_row(token) for token in sample_tokens], np.int64)
        scene_rows, scene_index = np.unique(index["sample_scene"][samples], return_inverse=True)
        scenes = [index.scenes[int(row)] for row in scene_rows]
        named = [slices_of_description(scene.description) for scene in scenes]
        self._index = index
        self._paths, is_turning = _ways(index, samples)
        slices = {name: np.array([name in of for of in named], bool)[scene_index] for name in SCENE_SLICES}
        self._facts = SampleFacts(
            sample_tokens=tuple(sample_tokens),
            scene_names=tuple(scene.name for scene in scenes),
            scene_index=scene_index.astype(np.int32),
            slices={**slices, TURNING: is_turning},
        )
        self._rows: dict[str, DetectionStatistics] = {}
        self._tasks: dict[str, dict[str, TaskStatistics]] = {}

    def add(self, row: str, boxes: ScoredBoxes) -> None:
        """Take the boxes behind the scores of one row; their samples are those of the evaluation, in its order."""
        truth, ego_xy = boxes.truth.boxes, boxes.truth.ego_xy
        self._rows[row] = DetectionStatistics.of(
            boxes,
            _places(boxes.predictions.translation, boxes.prediction_sample, ego_xy, self._paths),
            _places(truth.translation, truth.sample_index, ego_xy, self._paths),
            _visibility(self._index, boxes),
        )

    def add_tasks(self, row: str, statistics: Mapping[str, TaskStatistics]) -> None:
        """Take the statistics of further tasks of one row."""
        self._tasks[row] = dict(statistics)

    def statistics(self) -> SceneStatistics:
        """All rows so far."""
        return SceneStatistics(facts=self._facts, rows=dict(self._rows), tasks=dict(self._tasks))


def _ways(index: DatasetIndex, samples: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Way of the vehicle after each sample, as corners in the global frame, and whether it turns."""
    channel = index.channel_index(LIDAR_NAME) if LIDAR_NAME in index.channels else None
    paths, is_turning = [], np.zeros(len(samples), bool)
    for place, sample in enumerate(samples.tolist()):
        scene = index.scene_of_sample(sample)
        last = min(sample + PATH_STEPS, scene.first_sample + scene.num_samples - 1)
        readings = [] if channel is None else index["sample_key_data"][sample : last + 1, channel].tolist()
        poses = index.T_global_ego([row for row in readings if row >= 0])
        paths.append(poses[:, :2, 3])
        if len(poses) > 1:
            turned = wrap_angle(yaw_of(poses[1 : TURNING_STEPS + 1]) - yaw_of(poses[:1]))
            is_turning[place] = bool((np.abs(turned) >= TURNING_RAD).any())
    return paths, is_turning


def _places(translation: np.ndarray, sample: np.ndarray, ego_xy: np.ndarray, paths: list[np.ndarray]) -> Places:
    distance = np.linalg.norm(translation[:, :2] - ego_xy[sample], axis=1)
    to_path = np.zeros(len(distance))
    order = np.argsort(sample, kind="stable")
    first = np.searchsorted(sample[order], np.arange(len(paths) + 1))
    for place, path in enumerate(paths):
        rows = order[first[place] : first[place + 1]]
        if len(rows):
            to_path[rows] = distance_to_path(translation[rows, :2], path if len(path) else ego_xy[place : place + 1])
    return Places.of(distance, to_path)


def _visibility(index: DatasetIndex, boxes: ScoredBoxes) -> np.ndarray:
    """Level of each annotated box, found by its place in its sample's annotations."""
    truth = boxes.truth.boxes
    levels = np.zeros(len(truth), np.int8)
    first = truth.sample_first
    for place, token in enumerate(truth.sample_tokens):
        annotations = np.array(index.annotation_rows(index.sample_row(token)), np.int64)
        own = truth.translation[first[place] : first[place + 1]]
        if len(own):
            known = {
                tuple(xyz): row for xyz, row in zip(index["annotation_translation"][annotations].tolist(), annotations)
            }
            rows = [known[tuple(xyz)] for xyz in own.tolist()]
            levels[first[place] : first[place + 1]] = index["annotation_visibility"][rows]
    return levels


_KINDS = (
    SceneStatistics,
    SampleFacts,
    DetectionStatistics,
    TruthFacts,
    ClassStatistics,
    Places,
    DenseStatistics,
    VoxelGrid,
    TrackingStatistics,
    TrackingRecords,
    ClassRecords,
    ChallengeStatistics,
    MotionErrors,
    FoundMotionStatistics,
    FoundChallengeStatistics,
    MotionMatches,
    PlanningStatistics,
    PlanEntry,
    SceneSums,
    LidarsegStatistics,
    MapLineStatistics,
    LineMatches,
    InstanceStatistics,
    DrivingQaStatistics,
    Answered,
    Question,
)
"""Everything that the file may hold; names must differ."""


def write_statistics(path: str | Path, statistics: SceneStatistics) -> Path:
    """Write the file, complete or not at all."""
    return write_arrays(path, statistics, FORMAT)


def read_statistics(path: str | Path) -> SceneStatistics:
    """Read the file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged or of another format.
    """
    found = read_arrays(path, FORMAT, _KINDS)
    if not isinstance(found, SceneStatistics):
        raise ValueError(f"{path} holds {type(found).__name__}, not the statistics of an evaluation")
    return found
