"""Motion of found objects by the measures of the nuScenes prediction challenge.

`motion/found-nusc`: the objects, horizon and measures of `motion/nusc`, but nobody tells the system where the objects
are. A found vehicle speaks for the named object whose centre it lies nearest to, at most 2 m away (the assignment of
the least total distance). A named object that no found one stands for is missed at every k and has no error: errors are
over the `num_forecast` objects that have one, the miss rate is over all. Not comparable with `motion/nusc`, whose
systems are given every object with its past; the baselines move the same found boxes.

Trap: errors improve when hard objects are not found. Quote them with `num_forecast` and the miss rate.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int64
from scipy.optimize import linear_sum_assignment

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.index import DatasetIndex
from bevstack.evaluation.motion import nusc
from bevstack.evaluation.motion.columns import MotionColumns
from bevstack.evaluation.motion.nusc import Agents, MotionErrors
from bevstack.evaluation.motion.predictions import NUM_STEPS, MotionPredictions
from bevstack.evaluation.task_statistics import Numbers, joined_scene_names, whole_weights, with_baselines

PROTOCOL = "motion/found-nusc"
MATCH_M = 2.0
_FAR_M = 1e6
_IS_VEHICLE = np.array(
    [name in ("car", "truck", "bus", "trailer", "construction_vehicle", "motorcycle", "bicycle")
     for name in DETECTION_CLASSES]
)  # fmt: skip


def named(found: MotionColumns, index: DatasetIndex, agents: Agents) -> tuple[Int64[np.ndarray, " P"], MotionColumns]:
    """Rows of the agents that are found, ascending by sample, and the found vehicles that speak for them."""
    boxes = found.boxes
    place = {token: number for number, token in enumerate(boxes.sample_tokens)}
    of_agent = np.array([place.get(token, -1) for token in agents.sample_tokens], np.int64)
    here = index["annotation_translation"][agents.annotation_rows, :2] if len(agents) else np.zeros((0, 2))
    is_vehicle = _IS_VEHICLE[boxes.class_index]
    own, theirs = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for sample in np.unique(of_agent[of_agent >= 0]).tolist():
        wanted = np.flatnonzero(of_agent == sample)
        there = np.flatnonzero((boxes.sample_index == sample) & is_vehicle)
        apart = np.linalg.norm(here[wanted, None] - boxes.translation[None, there, :2], axis=-1)
        rows, columns = linear_sum_assignment(np.where(apart <= MATCH_M, apart, _FAR_M))
        near = apart[rows, columns] <= MATCH_M
        own.append(wanted[rows[near]])
        theirs.append(there[columns[near]])
    return np.concatenate(own), found.take(np.concatenate(theirs))


def errors_of(found: MotionColumns, index: DatasetIndex, agents: Agents) -> MotionErrors:
    """How far the forecasts of those agents that are found are off.

    Raises:
        ValueError: forecasts end before six seconds.
    """
    if found.trajectories.shape[2] < NUM_STEPS:
        raise ValueError(
            f"the predictions have {found.trajectories.shape[2]} steps; this protocol looks {NUM_STEPS} steps (2 Hz) "
            "ahead"
        )
    rows, speaking = named(found, index, agents)
    of_found = Agents(
        annotation_rows=agents.annotation_rows[rows],
        instance_tokens=tuple(agents.instance_tokens[row] for row in rows),
        sample_tokens=tuple(agents.sample_tokens[row] for row in rows),
        is_official=agents.is_official,
    )
    modes = list(speaking.trajectories[:, :, :NUM_STEPS])
    answers = MotionPredictions.of(
        of_found.instance_tokens, of_found.sample_tokens, modes, list(speaking.probabilities)
    )
    return nusc.measure(answers, index, of_found)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundChallengeStatistics:
    """Errors of the named objects that were found, by system and baseline. `scene` counts `scene_names`."""

    task: ClassVar[str] = "motion"

    row: str
    """Name of the system among the errors."""
    scene_names: tuple[str, ...]
    num_named: Int64[np.ndarray, " G"]
    """Objects that the benchmark names, by scene, found or not."""
    errors: dict[str, MotionErrors]

    @classmethod
    def of(
        cls, motion: MotionColumns, row: str, index: DatasetIndex, split: str, sample_tokens: Sequence[str]
    ) -> "FoundChallengeStatistics":
        """Compare forecasts with what happened.

        Args:
            motion: Must have the samples, others are left out.
            row: What to call it.
            index: The data set.
            split: Whose samples they are.
            sample_tokens: The samples.

        Raises:
            ValueError: a sample is missing, or forecasts end before six seconds.
            DatasetError: the list of objects does not fit the tables.
        """
        agents = nusc.agents_to_predict(index, split).of_samples(sample_tokens)
        found = motion.select(sample_tokens)
        scenes = np.unique([int(index["sample_scene"][index.sample_row(token)]) for token in sample_tokens])
        of_agents = [int(index["sample_scene"][index.sample_row(token)]) for token in agents.sample_tokens]
        errors = {name: errors_of(each, index, agents) for name, each in {row: found, **found.baselines()}.items()}
        return cls(
            row=row,
            scene_names=tuple(index.scenes[int(scene)].name for scene in scenes),
            num_named=np.bincount(np.searchsorted(scenes, of_agents).astype(np.int64), minlength=len(scenes)),
            errors={name: replace(each, scene=np.searchsorted(scenes, each.scene)) for name, each in errors.items()},
        )

    def numbers(self, scene_weight: np.ndarray | None = None) -> Numbers:
        """As `TaskStatistics`."""
        if scene_weight is not None:
            return {PROTOCOL: self._scores(self.row, whole_weights(scene_weight))}
        once = np.ones(len(self.scene_names), np.int64)
        return {PROTOCOL: with_baselines({name: self._scores(name, once) for name in self.errors}, self.row)}

    def _scores(self, name: str, scene_weight: np.ndarray) -> dict[str, Any]:
        """Numbers of the forecast objects, with the miss rate over all named ones."""
        scores = asdict(nusc.score(self.errors[name], scene_weight))
        num_named, num_forecast = int((self.num_named * scene_weight).sum()), scores["num_objects"]
        missed = {
            k: (num_forecast * (rate or 0.0) + num_named - num_forecast) / num_named if num_named else None
            for k, rate in scores["miss_rate"].items()
        }
        counts = {"num_objects": num_named, "num_forecast": num_forecast}
        return {**scores, "protocol": PROTOCOL, **counts, "miss_rate": missed}

    @classmethod
    def merge(cls, parts: Sequence["FoundChallengeStatistics"]) -> "FoundChallengeStatistics":
        """As `TaskStatistics`."""
        names = joined_scene_names(parts)
        firsts = np.cumsum([0, *(len(part.scene_names) for part in parts)])
        shifted = {
            name: [
                replace(part.errors[name], scene=part.errors[name].scene + first)
                for part, first in zip(parts, firsts, strict=False)
            ]
            for name in parts[0].errors
        }
        return cls(
            row=parts[0].row,
            scene_names=names,
            num_named=np.concatenate([part.num_named for part in parts]),
            errors={name: MotionErrors.join(each) for name, each in shifted.items()},
        )
