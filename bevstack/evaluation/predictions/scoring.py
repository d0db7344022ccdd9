"""A file of predictions under every protocol that applies to what it holds.

Boxes go to the detection benchmark by way of `runner`, maps and occupancy are scored sample by sample as they are read,
and the other tasks have a scorer each in `SCORERS`. Tasks that cannot be scored here are named with the reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bevstack.data.index import DatasetIndex
from bevstack.data.labels import LabelledFrames
from bevstack.evaluation.checkpoint import LabelledData
from bevstack.evaluation.dense.lidar_frame import LidarFrame
from bevstack.evaluation.dense.lidarseg import score_submission
from bevstack.evaluation.dense.map_vectors_file import score_map_line_file
from bevstack.evaluation.dense.tasks import DenseResults
from bevstack.evaluation.motion import epa, nusc
from bevstack.evaluation.motion.columns import read_motion_truth
from bevstack.evaluation.planning.table import PlanningRow, read_planning_truth, read_training, score_planning
from bevstack.evaluation.predictions.files import LIDARSEG, MAP_LINES, PredictionFile
from bevstack.evaluation.predictions.labels import label_frames
from bevstack.evaluation.predictions.predicted import DENSE_TASKS, Predicted
from bevstack.evaluation.runner import ToScore
from bevstack.evaluation.tracking.protocol import score as score_tracks
from bevstack.evaluation.tracking.tracks import read_tracking_truth
from bevstack.types.scene import SceneEstimate

Numbers = dict[str, dict[str, Any]]
"""Protocol -> its numbers as JSON."""

BASELINES = "baselines"
"""Where the numbers of a protocol keep those of predictions that need no model: name -> numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a scorer may look at beside the predictions."""

    data: LabelledData
    tokens: tuple[str, ...]
    """The samples to score."""

    @property
    def is_whole(self) -> bool:
        """Whether these are all samples of the split."""
        return len(self.tokens) == len(self.data.frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileScores:
    """What `runner.evaluate` needs of a file."""

    to_score: ToScore
    not_scored: dict[str, str]
    """Task -> why."""


def score_file(file: PredictionFile, data: LabelledData, tokens: Sequence[str]) -> FileScores:
    """Score everything but detection, which `runner.evaluate` does; `check_predictions` comes before.

    Raises:
        ValueError: the predictions do not fit the protocol.
        DatasetError: a label is missing or damaged.
    """
    scene = Scene(data=data, tokens=tuple(tokens))
    other, not_scored = score_other_tasks(file, scene)
    boxes = file.read("detection").detection if "detection" in file.tasks else None
    to_score = ToScore(
        boxes=None if boxes is None else lambda: boxes.select(tokens),
        meta=None,
        dense=_dense(file, scene),
        other=other,
    )
    return FileScores(to_score=to_score, not_scored={**data.without_labels, **not_scored})


def score_other_tasks(file: PredictionFile, scene: Scene) -> tuple[dict[str, Numbers], dict[str, str]]:
    """Numbers of all tasks but detection, map and occupancy, by task and protocol; and the tasks left out, with why."""
    numbers: dict[str, Numbers] = {}
    left_out: dict[str, str] = {}
    for task in (task for task in file.tasks if task not in (*DENSE_TASKS, "detection")):
        if task in OF_WHOLE_SPLITS and not scene.is_whole:
            left_out[task] = "it is scored on all samples of a split: leave --limit out"
        elif task in SCORERS:
            found = SCORERS[task](file.read(task), file.meta.row, scene)
            numbers.setdefault(_PROTOCOL_TASK.get(task, task), {}).update(found)
        else:
            left_out[task] = f"there is no scorer of {task}"
    if file.kind == MAP_LINES:
        scores = score_map_line_file(file.path, scene.data.frames.index, scene.tokens)
        numbers["map_lines"] = {scores.protocol: asdict(scores)}
    if file.kind == LIDARSEG:
        frames = scene.data.frames
        points, _ = score_submission(file.path, frames.index, frames.split, scene.tokens)
        numbers["lidarseg"] = {points.protocol: asdict(points)}
    return numbers, left_out


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


# ---------------------------------------------------------------- one scorer for each further task


def _score_tracking(predicted: Predicted, row: str, scene: Scene) -> Numbers:
    assert predicted.tracking is not None
    scores = score_tracks(predicted.tracking, read_tracking_truth(scene.data.frames.index, scene.tokens))
    return {scores.protocol: asdict(scores)}


def _score_motion(predicted: Predicted, row: str, scene: Scene) -> Numbers:
    index = scene.data.frames.index
    agents = nusc.agents_to_predict(index, scene.data.frames.split)
    assert predicted.motion is not None
    scores = nusc.score_with_baselines({row: predicted.motion}, index, agents)
    return {nusc.PROTOCOL: _with_baselines({name: asdict(each) for name, each in scores.items()}, row)}


def _score_found_motion(predicted: Predicted, row: str, scene: Scene) -> Numbers:
    assert predicted.found_motion is not None
    found = predicted.found_motion.select(scene.tokens)
    truth = read_motion_truth(scene.data.frames.index, scene.tokens)
    numbers: Numbers = {}
    for protocol in epa.MATCHERS:
        scores = epa.score_with_baselines({row: found}, truth, protocol)
        numbers[protocol] = _with_baselines({name: asdict(each) for name, each in scores.items()}, row)
    return numbers


def _score_planning(predicted: Predicted, row: str, scene: Scene) -> Numbers:
    assert predicted.planning is not None
    index, split = scene.data.frames.index, scene.data.frames.split
    found = score_planning(read_planning_truth(index, split), {row: predicted.planning}, read_training(index, split))
    numbers: Numbers = {}
    for field in ("uniad", "stp3", "vad", "polygon", "boundary"):
        by_name: dict[str, dict[str, Any]] = {}
        for each in found.rows:
            if getattr(each, field) is not None:
                by_name.setdefault(each.name, {})[each.frames] = _planning_numbers(each, field)
        if row in by_name:
            own = {name: {**of["all"], "turning": of.get("turning")} for name, of in by_name.items()}
            protocol = own[row]["protocol"]
            numbers[protocol] = {**_with_baselines(own, row), "not_reported": list(found.not_reported)}
    return numbers


def _planning_numbers(row: PlanningRow, field: str) -> dict[str, Any]:
    given = {"uses_ego_status": row.uses_ego_status, "command_source": row.command_source}
    return {**asdict(getattr(row, field)), **given}


def _with_baselines(by_name: Mapping[str, dict[str, Any]], row: str) -> dict[str, Any]:
    return {**by_name[row], BASELINES: {name: numbers for name, numbers in by_name.items() if name != row}}


SCORERS: dict[str, Callable[[Predicted, str, Scene], Numbers]] = {
    "tracking": _score_tracking,
    "motion": _score_motion,
    "found_motion": _score_found_motion,
    "planning": _score_planning,
}
"""Field of `Predicted` -> its numbers, protocol by protocol."""

OF_WHOLE_SPLITS = ("tracking", "motion", "planning")
"""Fields whose protocols need all samples of their scenes."""

_PROTOCOL_TASK = {"found_motion": "motion"}
"""Where a field of `Predicted` has another name than the task of its protocols."""
