"""Motion of annotated vehicles: the nuScenes prediction challenge.

`motion/nusc` (Phan-Minh et al., CoverNet, CVPR 2020, section 4, and `nuscenes/eval/prediction` of nuscenes-devkit 1.2,
configuration `predict_2020_icra`): six seconds at 2 Hz, up to 25 modes, of which the k = 1, 5, 10 most probable count.
minADE_k and minFDE_k are the least mean and final distance among them, MissRateTopK_2 is the share of objects for which
all of them are 2 m or more off somewhere, OffRoadRate the share of all modes that leave the drivable area. Objects are
given with their past, so numbers say nothing about detection, and are not comparable with `motion/epa-*`.

Traps: the devkit scores whatever entries a file holds; here every object of the split must be there, and no other. Of
modes of equal probability the later one comes first. An object with fewer than k modes enters with those it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from jaxtyping import Bool, Float64, Int64

from bevstack.data.class_names import CLASS_OF_CATEGORY
from bevstack.data.index import DatasetIndex
from bevstack.data.maps import map_of_location
from bevstack.evaluation.motion.agent_future import STEP_S, agent_futures, past_velocity
from bevstack.evaluation.motion.baselines import CONSTANT_VELOCITY, COPY_LAST, EMPTY, constant_velocity, copy_last
from bevstack.evaluation.motion.predictions import NUM_STEPS, MotionPredictions
from bevstack.evaluation.planning.drivable_area import DrivableArea
from bevstack.types.errors import DatasetError

PROTOCOL = "motion/nusc"
TOP_K = (1, 5, 10)
MISS_M = 2.0
_TRAIN_VAL_SCENES = 200
"""The first scenes of the official training split, which the challenge sets apart as "train_val"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """The objects of which a split wants a prediction; all have a known future of six seconds."""

    annotation_rows: Int64[np.ndarray, " N"]
    instance_tokens: tuple[str, ...]
    sample_tokens: tuple[str, ...]
    is_official: bool
    """From the challenge's own list; else every annotated vehicle whose next six seconds are annotated."""

    def __len__(self) -> int:
        return len(self.annotation_rows)

    def of_samples(self, sample_tokens: Sequence[str]) -> "Agents":
        """Those in some samples, in the order of the samples: whoever asks for which part, it joins to the same."""
        place = {token: number for number, token in enumerate(sample_tokens)}
        rows = [row for row, token in enumerate(self.sample_tokens) if token in place]
        rows.sort(key=lambda row: place[self.sample_tokens[row]])
        return Agents(
            annotation_rows=self.annotation_rows[rows],
            instance_tokens=tuple(self.instance_tokens[row] for row in rows),
            sample_tokens=tuple(self.sample_tokens[row] for row in rows),
            is_official=self.is_official,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionErrors:
    """What was measured of each object; those of any part of the objects can be scored."""

    scene: Int64[np.ndarray, " N"]
    """Row of its scene in the index."""
    min_ade_m: Float64[np.ndarray, "N 3"]
    """By k of `TOP_K`."""
    min_fde_m: Float64[np.ndarray, "N 3"]
    is_missed: Bool[np.ndarray, "N 3"]
    off_road_share: Float64[np.ndarray, " N"] | None
    """None where the data set has no vector map."""

    @classmethod
    def join(cls, parts: Sequence["MotionErrors"]) -> "MotionErrors":
        """All together, in the order given; at least one. The share off the road is known only where all know it."""
        columns: dict[str, list[Any]] = {of.name: [getattr(part, of.name) for part in parts] for of in fields(cls)}
        joined: dict[str, Any] = {
            name: None if any(part is None for part in of) else np.concatenate(of) for name, of in columns.items()
        }
        return cls(**joined)


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionScores:
    """The numbers of the challenge; None where nothing was measured."""

    protocol: str
    num_objects: int
    min_ade_m: dict[str, float | None]
    """k -> metres."""
    min_fde_m: dict[str, float | None]
    miss_rate: dict[str, float | None]
    off_road_rate: float | None


def agents_to_predict(index: DatasetIndex, split: str) -> Agents:
    """The objects of a split: those of `maps/prediction/prediction_scenes.json` where the data set has that file.

    Raises:
        DatasetError: there is no such split, or the list names an object that is not in the tables.
    """
    path = index.root / "maps" / "prediction" / "prediction_scenes.json"
    if path.is_file():
        return _listed_agents(index, split, orjson.loads(path.read_bytes()))
    samples = index.samples_of_split(split)
    rows = np.array(list(chain.from_iterable(map(index.annotation_rows, samples.tolist()))), np.int64)
    is_vehicle = np.array([name in CLASS_OF_CATEGORY and name.startswith("vehicle.") for name in index.categories])
    if len(rows):
        rows = rows[is_vehicle[index["instance_category"][index["annotation_instance"][rows]]]]
        rows = rows[agent_futures(index, rows).is_complete]
    return _agents(index, rows, is_official=False)


def measure(predictions: MotionPredictions, index: DatasetIndex, agents: Agents) -> MotionErrors:
    """Compare predictions with what happened.

    Raises:
        ValueError: an object is missing, one is predicted that is not asked for, or the steps are not 12.
    """
    if predictions.trajectories.shape[2] != NUM_STEPS:
        raise ValueError(f"predictions have {predictions.trajectories.shape[2]} steps; six seconds have {NUM_STEPS}")
    order = _rows_of_agents(predictions, agents)
    trajectories, probabilities = predictions.trajectories[order], predictions.probabilities[order]
    truth = agent_futures(index, agents.annotation_rows)
    if not truth.is_complete.all():
        lacking = agents.instance_tokens[int(np.argmin(truth.is_complete))]
        raise ValueError(f"the future of instance {lacking} is not known for six seconds: it cannot be asked for")
    errors = displacement_errors(
        trajectories, probabilities, predictions.num_modes[order], truth.positions_global[..., :2]
    )
    return MotionErrors(
        scene=index["sample_scene"][truth.sample_rows].astype(np.int64),
        min_ade_m=errors[0],
        min_fde_m=errors[1],
        is_missed=errors[2] >= MISS_M,
        off_road_share=_off_road(index, truth.sample_rows, trajectories, predictions.num_modes[order]),
    )


def displacement_errors(
    trajectories: Float64[np.ndarray, "N K T 2"],
    probabilities: Float64[np.ndarray, "N K"],
    num_modes: Int64[np.ndarray, " N"],
    truth: Float64[np.ndarray, "N T 2"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least mean, least final and least largest distance among the `TOP_K` most probable modes: (N, 3) each."""
    out = np.full((3, len(trajectories), len(TOP_K)), np.nan)
    for count in np.unique(num_modes).tolist():  # modes that are not there must not take part in sorting
        own = num_modes == count
        distance = np.linalg.norm(trajectories[own, :count] - truth[own, None], axis=-1)
        ranked = np.flip(np.argsort(probabilities[own, :count], axis=-1, kind="stable"), axis=-1)
        columns = [min(k, count) - 1 for k in TOP_K]
        for place, values in enumerate((distance.mean(axis=-1), distance[..., -1], distance.max(axis=-1))):
            best = np.minimum.accumulate(np.take_along_axis(values, ranked, axis=-1), axis=-1)
            out[place, own] = best[:, columns]
    return out[0], out[1], out[2]


def score(errors: MotionErrors, scene_weight: Int64[np.ndarray, " G"] | None = None) -> MotionScores:
    """The means over objects; `scene_weight` says how often each scene (by its number) is drawn, once by default."""
    weight = np.ones(len(errors.scene)) if scene_weight is None else scene_weight[errors.scene].astype(np.float64)
    total = float(weight.sum())

    def by_k(values: np.ndarray) -> dict[str, float | None]:
        means = ((values * weight[:, None]).sum(axis=0) / total).tolist() if total else [None] * len(TOP_K)
        return {str(k): mean for k, mean in zip(TOP_K, means, strict=True)}

    share = errors.off_road_share
    return MotionScores(
        protocol=PROTOCOL,
        num_objects=int(total),
        min_ade_m=by_k(errors.min_ade_m),
        min_fde_m=by_k(errors.min_fde_m),
        miss_rate=by_k(errors.is_missed.astype(np.float64)),
        off_road_rate=None if share is None or not total else float((share * weight).sum() / total),
    )


def nothing_predicted(num_objects: int) -> MotionScores:
    """The numbers of a system that says nothing: it misses all objects, and errors are not defined."""
    unknown: dict[str, float | None] = dict.fromkeys(map(str, TOP_K))
    return MotionScores(
        protocol=PROTOCOL,
        num_objects=num_objects,
        min_ade_m=unknown,
        min_fde_m=unknown,
        miss_rate=dict.fromkeys(unknown, 1.0 if num_objects else None),
        off_road_rate=None,
    )


def score_with_baselines(
    predictions: Mapping[str, MotionPredictions], index: DatasetIndex, agents: Agents
) -> dict[str, MotionScores]:
    """Row name -> numbers: the given predictions, then constant velocity, copy last and empty.

    Raises:
        ValueError: as `measure`.
    """
    rows = {**predictions, **baselines(index, agents)}
    scores = {name: score(measure(each, index, agents)) for name, each in rows.items()}
    scores[EMPTY] = nothing_predicted(len(agents))
    return scores


def baselines(index: DatasetIndex, agents: Agents) -> dict[str, MotionPredictions]:
    """Constant velocity (from the past half second) and copy last for the objects of a split."""
    here = index["annotation_translation"][agents.annotation_rows, :2] if len(agents) else np.zeros((0, 2))
    velocity = past_velocity(index, agents.annotation_rows)
    modes = {
        CONSTANT_VELOCITY: constant_velocity(here, velocity, num_steps=NUM_STEPS, step_s=STEP_S),
        COPY_LAST: copy_last(here, num_steps=NUM_STEPS),
    }
    certain = np.ones((len(agents), 1))
    return {
        name: MotionPredictions.of(agents.instance_tokens, agents.sample_tokens, list(each), list(certain))
        for name, each in modes.items()
    }


def _listed_agents(index: DatasetIndex, split: str, listed: Mapping[str, Sequence[str]]) -> Agents:
    names = index.splits().get("train" if split == "train_val" else split, [])
    names = names or [index.scenes[row].name for row in index.scenes_of_split(split)]
    if split == "train":
        names = names[_TRAIN_VAL_SCENES:]
    if split == "train_val":
        names = names[:_TRAIN_VAL_SCENES]
    wanted = [entry for name in names for entry in listed.get(name, ())]
    row_of = {}
    for token in {entry.split("_")[1] for entry in wanted}:
        for row in index.annotation_rows(index.sample_row(token)):
            row_of[f"{index.instance_tokens[int(index['annotation_instance'][row])]}_{token}"] = row
    unknown = [entry for entry in wanted if entry not in row_of]
    if unknown:
        raise DatasetError(f"maps/prediction/prediction_scenes.json names {unknown[0]}, which is not annotated")
    return _agents(index, np.array([row_of[entry] for entry in wanted], np.int64), is_official=True)


def _agents(index: DatasetIndex, rows: np.ndarray, *, is_official: bool) -> Agents:
    pairs = [(int(index["annotation_instance"][row]), int(index["annotation_sample"][row])) for row in rows.tolist()]
    return Agents(
        annotation_rows=rows,
        instance_tokens=tuple(index.instance_tokens[instance] for instance, _ in pairs),
        sample_tokens=tuple(index.sample_tokens[sample] for _, sample in pairs),
        is_official=is_official,
    )


def _rows_of_agents(predictions: MotionPredictions, agents: Agents) -> np.ndarray:
    pairs = zip(predictions.instance_tokens, predictions.sample_tokens, strict=True)
    row_of = {pair: row for row, pair in enumerate(pairs)}
    wanted = list(zip(agents.instance_tokens, agents.sample_tokens, strict=True))
    missing = [pair for pair in wanted if pair not in row_of]
    if missing:
        instance, sample = missing[0]
        raise ValueError(
            f"the predictions lack {len(missing)} of {len(wanted)} objects, the first is instance {instance} in "
            f"sample {sample}: all objects of the split must be predicted"
        )
    extra = set(row_of) - set(wanted)
    if extra:
        instance, sample = min(extra)
        raise ValueError(
            f"{len(extra)} predicted objects are none of the split's {len(wanted)}, for example instance {instance} "
            f"in sample {sample}: leave them out"
        )
    return np.array([row_of[pair] for pair in wanted], np.int64)


def _off_road(
    index: DatasetIndex, samples: np.ndarray, trajectories: np.ndarray, num_modes: np.ndarray
) -> np.ndarray | None:
    """Share of each object's modes that leave the road; None without the map of a location."""
    locations = [index.scene_of_sample(sample).location for sample in samples.tolist()]
    folder = index.root / "maps" / "expansion"
    if not all((folder / f"{location}.json").is_file() for location in set(locations)):
        return None
    rows = zip(locations, trajectories, num_modes.tolist(), strict=True)
    return np.array([_area(index.root, location).off_road_share(modes[:count]) for location, modes, count in rows])


@lru_cache(maxsize=8)
def _area(root: Path, location: str) -> DrivableArea:
    return DrivableArea(map_of_location(root, location))
