"""Answers by scene: the numbers of `driving-qa/deterministic` for any choice of scenes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from bevstack.data.index import DatasetIndex
from bevstack.evaluation.language.driving_qa import Answered, join_answers, score
from bevstack.evaluation.language.driving_qa_files import read_answers, read_questions
from bevstack.evaluation.task_statistics import Numbers, joined_scene_names, whole_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivingQaStatistics:
    """The answered questions of G scenes."""

    task: ClassVar[str] = "driving-qa"

    scene_names: tuple[str, ...]
    answered: tuple[tuple[Answered, ...], ...]
    """Of each scene; a scene may have none."""

    @classmethod
    def of(
        cls, answers: str | Path, questions: str | Path, index: DatasetIndex, sample_tokens: Sequence[str]
    ) -> "DrivingQaStatistics":
        """Join a file of answers with a file of questions, whose scenes and key frames are those of the data set.

        Args:
            answers: The file of answers, to all questions.
            questions: The file of questions with true answers.
            index: The data set.
            sample_tokens: Samples of whole scenes; questions about others are left out.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is malformed, an answer is missing or one too many, or no question is about the data
                set.
        """
        joined = join_answers(read_questions(questions), read_answers(answers), source=str(answers))
        name_of = {scene.token: scene.name for scene in index.scenes} | {
            scene.name: scene.name for scene in index.scenes
        }
        if not any(each.question.scene in name_of for each in joined):
            raise ValueError(
                f"{questions}: scene {joined[0].question.scene} is not in {index.folder}, nor is any other: give the "
                "data set that the questions are about with --data and --version"
            )
        names = dict.fromkeys(index.scene_of_sample(index.sample_row(token)).name for token in sample_tokens)
        of_scene: dict[str, list[Answered]] = {name: [] for name in names}
        for each in joined:
            name = name_of.get(each.question.scene)
            if name in of_scene:
                of_scene[name].append(each)
        return cls(scene_names=tuple(names), answered=tuple(tuple(own) for own in of_scene.values()))

    def numbers(self, scene_weight: np.ndarray | None = None) -> Numbers:
        """As `TaskStatistics`."""
        weight = whole_weights(np.ones(len(self.scene_names)) if scene_weight is None else scene_weight)
        drawn = [each for own, count in zip(self.answered, weight.tolist(), strict=True) for each in own * count]
        scores = score(drawn)
        return {scores.protocol: asdict(scores)}

    @classmethod
    def merge(cls, parts: Sequence["DrivingQaStatistics"]) -> "DrivingQaStatistics":
        """As `TaskStatistics`."""
        names = joined_scene_names(parts)
        return cls(scene_names=names, answered=tuple(own for part in parts for own in part.answered))
