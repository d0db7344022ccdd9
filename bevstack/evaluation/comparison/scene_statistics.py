"""What an evaluation keeps so that runs can be compared, resampled and sliced without running again.

`scene_statistics.npz` in a results folder holds, for every row of results, the statistics of each sample from which the
figures follow, and which scene and which slices a sample belongs to. `RowFigures` turns weights of scenes into the
very content of a row of `metrics.json`; with weights of one it is the same to the last bit.
"""

import json
import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

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
from bevstack.evaluation.dense.scorers import DenseScorers, DenseStatistics
from bevstack.evaluation.detection.boxes import ScoredBoxes
from bevstack.evaluation.detection.statistics import (
    ClassStatistics,
    DetectionFigures,
    DetectionStatistics,
    Places,
    TruthFacts,
)
from bevstack.geometry.transforms import wrap_angle, yaw_of
from bevstack.types.bev import VoxelGrid

STATISTICS_FILE = "scene_statistics.npz"
FORMAT = "bevstack-scene-statistics-1"
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
        """Which scenes have a sample in a slice."""
        mask = np.zeros(len(self.scene_names), bool)
        mask[self.scene_index[self.slices[name]]] = True
        return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneStatistics:
    """Everything that `scene_statistics.npz` holds."""

    facts: SampleFacts
    rows: dict[str, DetectionStatistics]
    """Row of results (a modality) -> its boxes; rows without objects are left out."""
    dense: dict[str, DenseStatistics] = field(default_factory=dict)
    """Row of results -> its counts of map and occupancy."""


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
        self._dense: dict[str, DenseStatistics] = {}

    def add(self, row: str, boxes: ScoredBoxes) -> None:
        """Take the boxes behind the scores of one row; their samples are those of the evaluation, in its order."""
        truth, ego_xy = boxes.truth.boxes, boxes.truth.ego_xy
        self._rows[row] = DetectionStatistics.of(
            boxes,
            _places(boxes.predictions.translation, boxes.prediction_sample, ego_xy, self._paths),
            _places(truth.translation, truth.sample_index, ego_xy, self._paths),
            _visibility(self._index, boxes),
        )

    def add_dense(self, row: str, by_scene: Mapping[str, DenseScorers]) -> None:
        """Take the counts of map and occupancy of one row; left out where they are not kept by scene."""
        if by_scene and by_scene.keys() <= set(self._facts.scene_names):
            self._dense[row] = DenseStatistics.of(by_scene, self._facts.scene_names)

    def statistics(self) -> SceneStatistics:
        """All rows so far."""
        return SceneStatistics(facts=self._facts, rows=dict(self._rows), dense=dict(self._dense))


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


def write_statistics(path: str | Path, statistics: SceneStatistics) -> Path:
    """Write the file, complete or not at all."""
    path = Path(path)
    facts = statistics.facts
    head = {
        "format": FORMAT,
        "sample_tokens": facts.sample_tokens,
        "scene_names": facts.scene_names,
        "slices": list(facts.slices),
        "rows": {name: list(of.classes) for name, of in statistics.rows.items()},
        "dense": {
            name: {"counts": list(of.counts), "grid": _grid_text(of.grid), "lidar_grid": _grid_text(of.lidar_grid)}
            for name, of in statistics.dense.items()
        },
    }
    arrays = {"scene_index": facts.scene_index}
    arrays |= {f"slice/{name}": mask for name, mask in facts.slices.items()}
    for place, counts in enumerate(statistics.dense.values()):
        arrays |= {f"dense{place}/{name}": array for name, array in counts.counts.items()}
    for row, of in enumerate(statistics.rows.values()):
        arrays |= _flat(f"row{row}/truth", of.truth)
        for k, of_class in enumerate(of.classes.values()):
            arrays |= _flat(f"row{row}/class{k}", of_class)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def read_statistics(path: str | Path) -> SceneStatistics:
    """Read the file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: evaluate the run again with 'bevstack eval', which writes it")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        head = json.loads(arrays["head"].tobytes())
        if head["format"] != FORMAT:
            raise ValueError(f"format {head['format']}, not {FORMAT}")
        tokens = tuple(head["sample_tokens"])
        facts = SampleFacts(
            sample_tokens=tokens,
            scene_names=tuple(head["scene_names"]),
            scene_index=arrays["scene_index"],
            slices={name: arrays[f"slice/{name}"] for name in head["slices"]},
        )
        rows = {}
        for row, (name, classes) in enumerate(head["rows"].items()):
            of_class = {
                each: ClassStatistics(**_unflat(f"row{row}/class{k}", arrays, ClassStatistics))
                for k, each in enumerate(classes)
            }
            truth = TruthFacts(**_unflat(f"row{row}/truth", arrays, TruthFacts))
            rows[name] = DetectionStatistics(sample_tokens=tokens, truth=truth, classes=of_class)
        dense = {
            name: DenseStatistics(
                counts={each: arrays[f"dense{place}/{each}"] for each in of["counts"]},
                grid=_grid(of["grid"]),
                lidar_grid=_grid(of["lidar_grid"]),
            )
            for place, (name, of) in enumerate(head["dense"].items())
        }
    except (KeyError, ValueError, OSError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged or of another version ({error}): evaluate the run again") from error
    return SceneStatistics(facts=facts, rows=rows, dense=dense)


def _flat(prefix: str, of: Any) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for column in fields(of):
        value = getattr(of, column.name)
        if isinstance(value, Places):
            arrays |= _flat(prefix, value)
        else:
            arrays[f"{prefix}/{column.name}"] = value
    return arrays


def _unflat(prefix: str, arrays: Mapping[str, np.ndarray], kind: type) -> dict[str, Any]:
    names = [column.name for column in fields(kind) if column.name != "places"]
    places = Places(**{column.name: arrays[f"{prefix}/{column.name}"] for column in fields(Places)})
    return {"places": places, **{name: arrays[f"{prefix}/{name}"] for name in names}}


def _grid_text(grid: VoxelGrid | None) -> dict[str, Any] | None:
    return None if grid is None else asdict(grid)


def _grid(text: dict[str, Any] | None) -> VoxelGrid | None:
    if text is None:
        return None
    values: dict[str, Any] = {name: tuple(of) if isinstance(of, list) else of for name, of in text.items()}
    return VoxelGrid(**values)
