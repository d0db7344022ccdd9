"""Motion by scene: the numbers of the prediction challenge, and of found objects, for any choice of scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np

from bevstack.data.index import DatasetIndex
from bevstack.evaluation.motion import epa, nusc
from bevstack.evaluation.motion.baselines import EMPTY
from bevstack.evaluation.motion.columns import MotionColumns, read_motion_truth
from bevstack.evaluation.motion.matching import MotionMatches
from bevstack.evaluation.motion.nusc import MotionErrors
from bevstack.evaluation.motion.predictions import MotionPredictions
from bevstack.evaluation.task_statistics import Numbers, joined_scene_names, whole_weights, with_baselines


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeStatistics:
    """Errors of the objects that the benchmark names, by system and baseline. `scene` counts `scene_names`."""

    task: ClassVar[str] = "motion"

    row: str
    """Name of the system among the errors."""
    scene_names: tuple[str, ...]
    errors: dict[str, MotionErrors]

    @classmethod
    def of(
        cls, motion: MotionPredictions, row: str, index: DatasetIndex, split: str, sample_tokens: Sequence[str]
    ) -> "ChallengeStatistics":
        """Compare predictions with what happened.

        Args:
            motion: Of exactly the objects that the split names in the samples.
            row: What to call them.
            index: The data set.
            split: Whose samples they are.
            sample_tokens: All samples of some scenes of the split.

        Raises:
            ValueError: an object is missing, or one is predicted that is not asked for.
            DatasetError: the list of objects does not fit the tables.
        """
        agents = nusc.agents_to_predict(index, split).of_samples(sample_tokens)
        scenes, names = _scenes(index, sample_tokens)
        errors = {
            name: nusc.measure(each, index, agents)
            for name, each in {row: motion, **nusc.baselines(index, agents)}.items()
        }
        return cls(
            row=row,
            scene_names=names,
            errors={name: replace(of, scene=np.searchsorted(scenes, of.scene)) for name, of in errors.items()},
        )

    def numbers(self, scene_weight: np.ndarray | None = None) -> Numbers:
        """As `TaskStatistics`."""
        if scene_weight is not None:
            return {nusc.PROTOCOL: asdict(nusc.score(self.errors[self.row], whole_weights(scene_weight)))}
        scores = {name: nusc.score(errors) for name, errors in self.errors.items()}
        scores[EMPTY] = nusc.nothing_predicted(len(self.errors[self.row].scene))
        return {nusc.PROTOCOL: with_baselines({name: asdict(each) for name, each in scores.items()}, self.row)}

    @classmethod
    def merge(cls, parts: Sequence["ChallengeStatistics"]) -> "ChallengeStatistics":
        """As `TaskStatistics`."""
        names = joined_scene_names(parts)
        firsts = np.cumsum([0, *(len(part.scene_names) for part in parts)])
        return cls(
            row=parts[0].row,
            scene_names=names,
            errors={
                name: MotionErrors.join(
                    [
                        replace(part.errors[name], scene=part.errors[name].scene + first)
                        for part, first in zip(parts, firsts, strict=False)
                    ]
                )
                for name in parts[0].errors
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMotionStatistics:
    """Matches of found objects, under both conventions. `scene` counts `scene_names`."""

    task: ClassVar[str] = "motion"

    row: str
    """Name of the system among the matches."""
    scene_names: tuple[str, ...]
    matches: dict[str, dict[str, MotionMatches]]
    """Protocol -> system or baseline -> its matches."""

    @classmethod
    def of(
        cls, motion: MotionColumns, row: str, index: DatasetIndex, sample_tokens: Sequence[str]
    ) -> "FoundMotionStatistics":
        """Match found objects and annotated ones.

        Args:
            motion: Must have the samples, others are left out.
            row: What to call it.
            index: The data set.
            sample_tokens: The samples.

        Raises:
            ValueError: a sample is missing, or something ends before its convention's time.
            DatasetError: a sample has no LiDAR key frame.
        """
        truth, found = read_motion_truth(index, sample_tokens), motion.select(sample_tokens)
        scenes, names = _scenes(index, sample_tokens)

        def matched(of: Mapping[str, MotionColumns], protocol: str) -> dict[str, MotionMatches]:
            matches = {name: epa.MATCHERS[protocol](each, truth) for name, each in of.items()}
            return {name: replace(each, scene=np.searchsorted(scenes, each.scene)) for name, each in matches.items()}

        systems = {row: found, **found.baselines()}
        return cls(
            row=row,
            scene_names=names,
            matches={protocol: matched(systems, protocol) for protocol in epa.MATCHERS},
        )

    def numbers(self, scene_weight: np.ndarray | None = None) -> Numbers:
        """As `TaskStatistics`."""
        numbers: Numbers = {}
        for protocol, matches in self.matches.items():
            if scene_weight is None:
                scores = {name: asdict(epa.score(each, protocol)) for name, each in matches.items()}
                numbers[protocol] = with_baselines(scores, self.row)
            else:
                drawn = matches[self.row].drawn(whole_weights(scene_weight))
                numbers[protocol] = asdict(epa.score(drawn, protocol))
        return numbers

    @classmethod
    def merge(cls, parts: Sequence["FoundMotionStatistics"]) -> "FoundMotionStatistics":
        """As `TaskStatistics`."""
        names = joined_scene_names(parts)
        firsts = np.cumsum([0, *(len(part.scene_names) for part in parts)])

        def joined(protocol: str, name: str) -> MotionMatches:
            of = [part.matches[protocol][name] for part in parts]
            return MotionMatches.join(
                [replace(each, scene=each.scene + first) for each, first in zip(of, firsts, strict=False)]
            )

        return cls(
            row=parts[0].row,
            scene_names=names,
            matches={
                protocol: {name: joined(protocol, name) for name in of} for protocol, of in parts[0].matches.items()
            },
        )


def _scenes(index: DatasetIndex, sample_tokens: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Rows of the scenes of some samples, ascending, and their names."""
    rows = np.unique([int(index["sample_scene"][index.sample_row(token)]) for token in sample_tokens])
    return rows, tuple(index.scenes[int(row)].name for row in rows)
