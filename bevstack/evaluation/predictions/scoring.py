"""A file of predictions under every protocol that applies to what it holds.

Boxes go to the detection benchmark by way of `runner`, maps and occupancy are scored sample by sample as they are read,
and the other tasks have statistics each in `STATISTICS`. Tasks that cannot be scored here are named with the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bevstack.data.index import DatasetIndex
from bevstack.data.labels import LabelledFrames
from bevstack.evaluation.checkpoint import LabelledData
from bevstack.evaluation.dense.instance_folder import InstanceFolder, count_folder
from bevstack.evaluation.dense.lidar_frame import LidarFrame
from bevstack.evaluation.dense.lidarseg import count_submission
from bevstack.evaluation.dense.lidarseg_statistics import LidarsegStatistics
from bevstack.evaluation.dense.map_line_statistics import MapLineStatistics
from bevstack.evaluation.dense.map_vectors_file import count_map_line_file
from bevstack.evaluation.dense.tasks import DenseResults
from bevstack.evaluation.language.statistics import DrivingQaStatistics
from bevstack.evaluation.motion.columns import MotionColumns
from bevstack.evaluation.motion.named import FoundChallengeStatistics
from bevstack.evaluation.motion.statistics import ChallengeStatistics, FoundMotionStatistics
from bevstack.evaluation.planning.file import PlanColumns
from bevstack.evaluation.planning.statistics import PlanningStatistics
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.files import ANSWERS, LIDARSEG, MAP_LINES, PredictionFile
from bevstack.evaluation.predictions.labels import label_frames
from bevstack.evaluation.predictions.predicted import DENSE_TASKS, Predicted
from bevstack.evaluation.runner import ToScore
from bevstack.evaluation.task_statistics import TaskStatistics
from bevstack.evaluation.tracking.statistics import TrackingStatistics
from bevstack.types.scene import SceneEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a scorer may look at beside the predictions."""

    data: LabelledData
    tokens: tuple[str, ...]
    """The samples to score: all, or whole scenes of them."""
    is_whole: bool
    """Whether all samples of the split are scored, by this process and others."""
    questions: Path | None = None
    """What a file of answers answers."""
    baseline_data: tuple[DatasetIndex, str] | None = None
    """Other data and its split, which teach the planning baseline that learns; None for the training split of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileScores:
    """What `runner.evaluate` needs of a file."""

    to_score: ToScore
    not_scored: dict[str, str]
    """Task -> why."""


def score_file(file: PredictionFile, scene: Scene) -> FileScores:
    """Score everything but detection, which `runner.evaluate` does; `check_predictions` comes before.

    Raises:
        ValueError: the predictions do not fit the protocol.
        DatasetError: a label is missing or damaged.
    """
    tasks, not_scored = statistics_of_tasks(file, scene)
    boxes = file.read("detection").detection if "detection" in file.tasks else None
    to_score = ToScore(
        boxes=None if boxes is None else lambda: boxes.select(scene.tokens),
        meta=None,
        dense=_dense(file, scene),
        tasks=tasks,
        forecasts=forecasts_of(file),
        tracks=tracks_of(file),
        plans=plans_of(file),
    )
    return FileScores(to_score=to_score, not_scored={**scene.data.without_labels, **not_scored})


def statistics_of_tasks(file: PredictionFile, scene: Scene) -> tuple[dict[str, TaskStatistics], dict[str, str]]:
    """Statistics of all tasks but detection, map and occupancy, by kind; and those left out, with why."""
    found: dict[str, TaskStatistics] = {}
    left_out: dict[str, str] = {}
    for task in (task for task in file.tasks if task not in (*DENSE_TASKS, "detection")):
        if task in OF_WHOLE_SPLITS and not scene.is_whole:
            left_out[task] = "it is scored on all samples of a split: leave --limit out"
        else:
            predicted = file.read(task)
            found |= {kind: make(predicted, file.meta.row, scene) for kind, make in STATISTICS[task].items()}
    frames = scene.data.frames
    if file.kind == MAP_LINES:
        found["map_lines"] = MapLineStatistics.of(
            count_map_line_file(file.path, frames.index, scene.tokens), frames.index
        )
    if file.kind == LIDARSEG:
        points, _ = count_submission(file.path, frames.index, frames.split, scene.tokens)
        found["lidarseg"] = LidarsegStatistics.of(points, frames.index)
    if isinstance(file, InstanceFolder):
        found["instance"] = count_folder(file, file.meta.row, frames.index, frames.split, scene.tokens)
    if file.kind == ANSWERS:
        found["driving-qa"] = _answers(file, scene)
    return found, left_out


def _answers(file: PredictionFile, scene: Scene) -> TaskStatistics:
    if scene.questions is None:
        raise ValueError(f"{file.path} holds answers: give the file of questions and true answers with --questions")
    if not scene.is_whole:
        raise ValueError(f"{file.path} answers questions about all samples of a split: leave --limit out")
    return DrivingQaStatistics.of(file.path, scene.questions, scene.data.frames.index, scene.tokens)


def forecasts_of(file: PredictionFile) -> Callable[[], MotionColumns] | None:
    """What reads the forecasts of found objects, for the report; None where the file has none."""

    def read() -> MotionColumns:
        motion = file.read("found_motion").found_motion
        assert motion is not None
        return motion

    return read if "found_motion" in file.tasks else None


def tracks_of(file: PredictionFile) -> Callable[[], BoxColumns] | None:
    """As `forecasts_of`, for boxes with identities."""

    def read() -> BoxColumns:
        tracks = file.read("tracking").tracking
        assert tracks is not None
        return tracks

    return read if "tracking" in file.tasks else None


def plans_of(file: PredictionFile) -> Callable[[], PlanColumns] | None:
    """As `forecasts_of`, for plans."""

    def read() -> PlanColumns:
        plans = file.read("planning").planning
        assert plans is not None
        return plans

    return read if "planning" in file.tasks else None


def provenance_of(file: PredictionFile, index: DatasetIndex) -> dict[str, Any]:
    """What `metrics.json` says of where the predictions come from."""
    meta = file.meta
    made_on = meta.data.get("hash")
    return {
        "checkpoint": {"name": str(file.path), **meta.model},
        "submission_meta": dict(meta.sensors),
        "predictions": {
            "file": str(file.path),
            "kind": file.kind,
            "tasks": list(file.tasks),
            "data": dict(meta.data),
            "same_tables": None if made_on is None else made_on == index.data_hash,
        },
    }


def _dense(file: PredictionFile, scene: Scene) -> DenseResults:
    """Map and occupancy, a few samples at a time."""
    results = DenseResults(lidar=LidarFrame(scene.data.frames.index))
    tasks = [task for task in file.tasks if task in DENSE_TASKS]
    if not tasks:
        return results
    wanted, labels = set(scene.tokens), LabelledFrames(label_frames(scene.data), scene.data.labellers)
    for part in file.parts(*tasks):
        for row, token in enumerate(part.sample_tokens):
            if token in wanted:
                estimate = SceneEstimate(
                    token=token,
                    timestamp_us=0,
                    map=None if part.map is None else part.map[row],
                    occupancy=None if part.occupancy is None else part.occupancy[row],
                )
                results.add(estimate, labels[labels.source.index_of(token)].annotations)
    return results


# ---------------------------------------------------------------- statistics of each further task


def _tracking(predicted: Predicted, row: str, scene: Scene) -> TaskStatistics:
    assert predicted.tracking is not None
    return TrackingStatistics.of(predicted.tracking, scene.data.frames.index, scene.tokens)


def _motion(predicted: Predicted, row: str, scene: Scene) -> TaskStatistics:
    there = set(predicted.sample_tokens)  # a sample without named objects need not be in a file
    own = predicted.select([token for token in scene.tokens if token in there])
    assert own.motion is not None
    frames = scene.data.frames
    return ChallengeStatistics.of(own.motion, row, frames.index, frames.split, scene.tokens)


def _found_motion(predicted: Predicted, row: str, scene: Scene) -> TaskStatistics:
    assert predicted.found_motion is not None
    return FoundMotionStatistics.of(predicted.found_motion, row, scene.data.frames.index, scene.tokens)


def _named_motion(predicted: Predicted, row: str, scene: Scene) -> TaskStatistics:
    assert predicted.found_motion is not None
    frames = scene.data.frames
    return FoundChallengeStatistics.of(predicted.found_motion, row, frames.index, frames.split, scene.tokens)


def _planning(predicted: Predicted, row: str, scene: Scene) -> TaskStatistics:
    plans = predicted.select(scene.tokens).planning
    assert plans is not None
    frames = scene.data.frames
    return PlanningStatistics.of(
        plans, row, frames.index, frames.split, scene.tokens, baseline_data=scene.baseline_data
    )


STATISTICS: dict[str, dict[str, Callable[[Predicted, str, Scene], TaskStatistics]]] = {
    "tracking": {"tracking": _tracking},
    "motion": {"motion": _motion},
    "found_motion": {"found_motion": _found_motion, "named_motion": _named_motion},
    "planning": {"planning": _planning},
}
"""Field of `Predicted` -> kind of statistics -> what makes them."""

OF_WHOLE_SPLITS = ("tracking", "motion", "planning")
"""Fields whose protocols need all samples of their scenes."""
