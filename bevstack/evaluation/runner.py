"""From predictions to a results folder: metrics, submission files, per-frame counts, and frames for the report.

The results folder holds `metrics.json` (every number, with protocol, data and checkpoint), `curves.json` (precision and
error curves), `frame_counts.json` (matched, missed and false boxes of every frame), `scene_statistics.npz` (by what
runs are compared, resampled and sliced), `submission_<modality>.json` (the official file) and `frames/` (what the
report shows). Without objects there are no curves, counts and submission.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import bevstack
from bevstack.data.labels import Labeller, labelled
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.comparison.scene_statistics import STATISTICS_FILE, Gathering, write_statistics
from bevstack.evaluation.dense.frame_counts import FrameCount, FrameCounts, count_frames
from bevstack.evaluation.dense.frame_store import TRUTH, ShownBoxes, save_frame
from bevstack.evaluation.dense.tasks import DenseResults, Rasters, true_rasters
from bevstack.evaluation.detection.boxes import ScoredBoxes, read_truth
from bevstack.evaluation.detection.nuscenes import to_detections
from bevstack.evaluation.detection.protocol import PROTOCOL, DetectionScores, score
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.submission import SubmissionMeta, write_json, write_submission
from bevstack.types.errors import DatasetError
from bevstack.types.frame import Annotations
from bevstack.types.scene import Detections

_LOG = logging.getLogger(__name__)

METRICS_FILE = "metrics.json"
CURVES_FILE = "curves.json"
COUNTS_FILE = "frame_counts.json"
FRAMES_FOLDER = "frames"

MAX_SHOWN_BOXES = 150
MIN_SHOWN_SCORE = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class ToScore:
    """One set of predictions: boxes of all samples, the sensors that they rest on, and map and occupancy."""

    boxes: Callable[[], BoxColumns] | None
    """Makes the boxes; called once, so that only one set is in memory. None where no objects are found."""
    meta: SubmissionMeta | None
    """None does not write a submission file."""
    seconds_per_frame: float | None = None
    dense: DenseResults = field(default_factory=DenseResults)
    other: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Task -> protocol -> numbers that are scored already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured, as it is written to `metrics.json`."""

    folder: Path
    scores: dict[str, DetectionScores]
    content: dict[str, Any]


def evaluate(
    to_score: Mapping[str, ToScore],
    frames: NuScenesFrames,
    tokens: Sequence[str],
    out: str | Path,
    *,
    provenance: Mapping[str, Any],
    num_shown: int = 24,
    labellers: Sequence[Labeller] = (),
    without_labels: Mapping[str, str] | None = None,
) -> Evaluation:
    """Score predictions and write the results folder. The first entry of `to_score` decides which frames are worst.

    Args:
        to_score: Name of the row (a modality) -> its predictions.
        frames: The split that they belong to; reads the shown frames again.
        tokens: The samples to score.
        out: Results folder; files of an earlier evaluation are replaced.
        provenance: Checkpoint, versions and whatever else identifies the run; goes into `metrics.json` unchanged.
        num_shown: Frames to keep for the report.
        labellers: What adds the labels that the shown frames do not carry by themselves.
        without_labels: "map" or "occupancy" -> why the data has no labels of it.

    Raises:
        ValueError: the predictions are incomplete or malformed, see `score`.
    """
    out = Path(out)
    has_boxes = any(item.boxes is not None for item in to_score.values())
    annotated = read_truth(frames.index, tokens) if has_boxes else None
    rows: dict[str, _Row] = {}
    gathering = Gathering(frames.index, tokens)
    shown: list[tuple[int, FrameCount]] = []
    for name, item in to_score.items():
        boxes, scores, counts = None, None, None
        if item.boxes is not None and annotated is not None:
            predictions = item.boxes()
            scores, boxes = score(predictions, annotated)
            gathering.add(name, boxes)
            counts = count_frames(boxes)
            if item.meta is not None:
                write_submission(out / f"submission_{name}.json", item.meta, predictions.to_records())
        gathering.add_dense(name, item.dense.by_scene)
        shown = shown or (choose_frames(counts, num_shown) if counts else _least_alike(item.dense, tokens, num_shown))
        rows[name] = _Row(item=item, scores=scores, counts=counts, boxes=_boxes_of_frames(boxes, frames, shown))
    _save_frames(out / FRAMES_FOLDER, frames, labellers, shown, rows)
    content = _content(rows, frames, tokens, without_labels or {}, provenance)
    scores_of = {name: row.scores for name, row in rows.items() if row.scores is not None}
    counts_of = {name: asdict(row.counts) for name, row in rows.items() if row.counts is not None}
    write_json(out / CURVES_FILE, {name: scores.curves for name, scores in scores_of.items()})
    write_json(out / COUNTS_FILE, counts_of)
    write_statistics(out / STATISTICS_FILE, gathering.statistics())
    write_json(out / METRICS_FILE, content)
    return Evaluation(folder=out, scores=scores_of, content=content)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What is kept of one set of predictions after it is scored."""

    item: ToScore
    scores: DetectionScores | None
    counts: FrameCounts | None
    boxes: dict[str, tuple[ShownBoxes, ShownBoxes]]
    """Annotated and predicted boxes of the shown frames, by sample token."""

    def content(self) -> dict[str, Any]:
        """The row as it is written to `metrics.json`."""
        content: dict[str, Any] = {}
        if self.scores is not None and self.counts is not None:
            content = asdict(self.scores)
            del content["curves"]
            content["score_threshold"], content["f1"] = self.counts.score_threshold, self.counts.f1
            for kind in ("matched", "missed", "false"):
                content[kind] = sum(getattr(frame, kind) for frame in self.counts.frames)
        for scores in (self.item.dense.scores(), self.item.other):
            for task, numbers in scores.items():
                content[task] = {**content.get(task, {}), **numbers}
        return {**content, "seconds_per_frame": self.item.seconds_per_frame}


def choose_frames(counts: FrameCounts, limit: int) -> list[tuple[int, FrameCount]]:
    """Frames to show, with their rank (1 = most mistakes): the worst, and a third spread over the ordinary ones."""
    return _some(counts.worst_first(), limit)


def _least_alike(dense: DenseResults, tokens: Sequence[str], limit: int) -> list[tuple[int, FrameCount]]:
    """As `choose_frames` where there are no boxes to count: ranked by how much of map and occupancy is wrong."""
    ranked = sorted(tokens, key=lambda token: -dense.wrong_share.get(token, 0.0))
    return _some([FrameCount(token=token, matched=0, missed=0, false=0) for token in ranked], limit)


def _some(worst_first: Sequence[FrameCount], limit: int) -> list[tuple[int, FrameCount]]:
    ranked = list(enumerate(worst_first, start=1))
    if len(ranked) <= limit:
        return ranked
    num_worst = limit - limit // 3
    places = np.linspace(num_worst, len(ranked) - 1, limit - num_worst).round().astype(int)
    return ranked[:num_worst] + [ranked[place] for place in places]


def _pose(frames: NuScenesFrames, token: str) -> np.ndarray:
    row = frames.reference_row(frames.index.sample_row(token))
    return frames.index.T_global_ego([row])[0]


def _boxes_of_frames(
    boxes: ScoredBoxes | None, frames: NuScenesFrames, shown: Sequence[tuple[int, FrameCount]]
) -> dict[str, tuple[ShownBoxes, ShownBoxes]]:
    if boxes is None:
        return {}
    place = {token: index for index, token in enumerate(boxes.sample_tokens)}
    of_frames = {}
    for _, count in shown:
        sample, T_global_ego = place[count.token], _pose(frames, count.token)
        annotated = np.flatnonzero(boxes.truth.boxes.sample_index == sample)
        scores = boxes.predictions.score
        best = np.flatnonzero((boxes.prediction_sample == sample) & (scores >= MIN_SHOWN_SCORE))
        best = best[np.argsort(-scores[best], kind="stable")][:MAX_SHOWN_BOXES]
        truth = _shown(boxes.truth.boxes, annotated, boxes.truth_counts, T_global_ego)
        found = _shown(boxes.predictions, best, boxes.prediction_counts, T_global_ego)
        of_frames[count.token] = truth, found
    return of_frames


def _shown(boxes: BoxColumns, rows: np.ndarray, counts: np.ndarray, T_global_ego: np.ndarray) -> ShownBoxes:
    return ShownBoxes(detections=to_detections(boxes.take(rows), T_global_ego), counted=counts[rows])


def _uncounted(truth: Annotations | None) -> ShownBoxes:
    """Annotated boxes of a frame in which no model looked for them."""
    if truth is None:
        return ShownBoxes(detections=Detections.empty(), counted=np.zeros(0, bool))
    scores = np.full(len(truth.boxes), -1.0, np.float32)
    detections = Detections(boxes=truth.boxes, scores=scores, attribute_index=truth.attribute_index)
    return ShownBoxes(detections=detections, counted=np.zeros(len(truth.boxes), bool))


def _save_frames(
    folder: Path,
    frames: NuScenesFrames,
    labellers: Sequence[Labeller],
    shown: Sequence[tuple[int, FrameCount]],
    rows: Mapping[str, _Row],
) -> None:
    """Write all shown frames to a new folder, then put it in the place of the old one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for rank, count in shown:
            token = count.token
            try:
                frame = labelled(frames[frames.index_of(token)], labellers)
            except DatasetError as error:  # tables alone are enough to score a file; a model has read its frames
                _LOG.warning("no frames for the report: %s", error)
                break
            boxes = {name: row.boxes[token] for name, row in rows.items() if token in row.boxes}
            predicted: dict[str, Rasters] = {name: row.item.dense.rasters.get(token, {}) for name, row in rows.items()}
            is_dense = any(predicted.values())
            save_frame(
                fresh,
                frame,
                rank=rank,
                count=count,
                truth=next(iter(boxes.values()))[0] if boxes else _uncounted(frame.annotations),
                predictions={name: found for name, (_, found) in boxes.items()},
                rasters={TRUTH: true_rasters(frame.annotations), **predicted} if is_dense else {},
            )
        if folder.exists():
            shutil.rmtree(folder)
        fresh.chmod(0o755)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _content(
    rows: Mapping[str, _Row],
    frames: NuScenesFrames,
    tokens: Sequence[str],
    without_labels: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    results = {name: row.content() for name, row in rows.items()}
    first = next(iter(rows.values()))
    protocols = [PROTOCOL] if first.scores is not None else []
    for of_tasks in (first.item.dense.scores(), first.item.other):
        protocols += [protocol for scores in of_tasks.values() for protocol in scores]
    unsaid = {"map", "occupancy"} - set(first.item.dense.tasks)
    return {
        "protocol": protocols[0] if protocols else None,
        "protocols": protocols,
        "not_scored": {task: reason for task, reason in without_labels.items() if task not in unsaid},
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "bevstack_version": bevstack.__version__,
        "data": {
            "root": str(frames.index.root),
            "version": frames.index.version,
            "split": frames.split,
            "hash": frames.index.data_hash,
            "num_frames": len(tokens),
            "num_frames_of_split": len(frames),
            "num_scenes": len(frames.scenes),
        },
        **provenance,
        "results": results,
    }
