"""From predictions to a results folder: metrics, submission files, per-frame counts, and frames for the report.

The results folder holds `metrics.json` (every number, with protocol, data and checkpoint), `curves.json` (precision and
error curves), `frame_counts.json` (matched, missed and false boxes of every frame), `scene_statistics.npz` (by what
runs are compared, resampled and sliced), `submission_<modality>.json` (the official file) and `frames/` (what the
report shows). Without objects there are no curves, counts and submission.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import bevstack
from bevstack.data.labels import Labeller
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.comparison.scene_statistics import (
    STATISTICS_FILE,
    Gathering,
    SceneStatistics,
    write_statistics,
)
from bevstack.evaluation.dense.frame_counts import FrameCount, FrameCounts, FrameHits
from bevstack.evaluation.dense.frame_store import ShownBoxes
from bevstack.evaluation.dense.tasks import DenseResults
from bevstack.evaluation.detection.boxes import DetectionTruth, ScoredBoxes, read_truth
from bevstack.evaluation.detection.protocol import PROTOCOL, DetectionScores, score
from bevstack.evaluation.detection.ranks import score_over_ranks
from bevstack.evaluation.motion.columns import MotionColumns
from bevstack.evaluation.planning.file import PlanColumns
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.submission import SubmissionMeta, write_json, write_submission
from bevstack.evaluation.protocols import PROTOCOLS
from bevstack.evaluation.ranks import Ranks
from bevstack.evaluation.shown_frames import (
    ShownRow,
    boxes_of_frames,
    choose_frames,
    forecasts_of_frames,
    least_alike,
    plans_of_frames,
    save_frames,
    tracks_of_frames,
)
from bevstack.evaluation.task_statistics import TaskStatistics

METRICS_FILE = "metrics.json"
CURVES_FILE = "curves.json"
COUNTS_FILE = "frame_counts.json"
FRAMES_FOLDER = "frames"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToScore:
    """One set of predictions: boxes of all samples of this process, the sensors that they rest on, and other tasks."""

    boxes: Callable[[], BoxColumns] | None
    """Makes the boxes; called once, so that only one set is in memory. None where no objects are found."""
    meta: SubmissionMeta | None
    """None does not write a submission file; several processes write none either, since none of them has all boxes."""
    seconds_per_frame: float | None = None
    dense: DenseResults = field(default_factory=DenseResults)
    tasks: Mapping[str, TaskStatistics] = field(default_factory=dict)
    """Kind of predictions -> their statistics, for every task but detection, map and occupancy."""
    forecasts: Callable[[], MotionColumns] | None = None
    """Reads where found objects may go, for the shown frames; None without forecasts."""
    tracks: Callable[[], BoxColumns] | None = None
    """Reads boxes with identities, for the shown frames; None without tracks."""
    plans: Callable[[], PlanColumns] | None = None
    """Reads plans, for the shown frames; None without plans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured, as it is written to `metrics.json`; without content on all processes but the first."""

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
    ranks: Ranks | None = None,
) -> Evaluation:
    """Score predictions and write the results folder. The first entry of `to_score` decides which frames are worst.

    Args:
        to_score: Name of the row (a modality) -> its predictions, of the share of this process.
        frames: The split that they belong to; reads the shown frames again.
        tokens: The samples to score, those of all processes.
        out: Results folder; files of an earlier evaluation are replaced.
        provenance: Checkpoint, versions and whatever else identifies the run; goes into `metrics.json` unchanged.
        num_shown: Frames to keep for the report.
        labellers: What adds the labels that the shown frames do not carry by themselves.
        without_labels: "map" or "occupancy" -> why the data has no labels of it.
        ranks: This process among those that share the samples; all must call with the same rows. The first one writes.

    Raises:
        ValueError: the predictions are incomplete or malformed, see `score`.
    """
    out, ranks = Path(out), ranks or Ranks()
    own = ranks.share(frames.index, tokens)
    has_boxes = any(item.boxes is not None for item in to_score.values())
    annotated = read_truth(frames.index, own) if has_boxes else None
    rows: dict[str, _Row] = {}
    gathering = Gathering(frames.index, own)
    shown: list[tuple[int, FrameCount]] = []
    for name, item in to_score.items():
        scores, boxes = _detection(item, annotated, tokens, out / f"submission_{name}.json", ranks)
        counts = None
        if boxes is not None:
            gathering.add(name, boxes)
            counts = _counts(boxes, ranks)
        gathering.add_tasks(name, item.tasks)
        dense = _dense(item.dense, ranks)
        if not rows:
            first = choose_frames(counts, num_shown) if counts else least_alike(dense, tokens, num_shown)
            shown = ranks.from_first(first)
        found = ranks.gathered({} if boxes is None else boxes_of_frames(boxes, frames, shown)) or []
        rows[name] = _Row(
            scores=scores,
            counts=counts,
            dense=dense,
            seconds_per_frame=_mean_seconds(item.seconds_per_frame, len(own), ranks),
            boxes={token: of for part in found for token, of in part.items()},
            layers={
                "forecasts": _layer(item.forecasts, forecasts_of_frames, frames, shown, ranks),
                "tracks": _layer(item.tracks, tracks_of_frames, frames, shown, ranks),
                "plans": _layer(item.plans, plans_of_frames, frames, shown, ranks),
            },
        )
    statistics = _statistics(gathering, rows, ranks)
    scores_of = {name: row.scores for name, row in rows.items() if row.scores is not None}
    if statistics is None:
        return Evaluation(folder=out, scores=scores_of, content={})
    shown_rows = {
        name: ShownRow(boxes=row.boxes, rasters=row.dense.rasters, layers=row.layers) for name, row in rows.items()
    }
    save_frames(out / FRAMES_FOLDER, frames, labellers, shown, shown_rows)
    content = _content(rows, statistics, frames, tokens, without_labels or {}, provenance)
    counts_of = {name: asdict(row.counts) for name, row in rows.items() if row.counts is not None}
    write_json(out / CURVES_FILE, {name: scores.curves for name, scores in scores_of.items()})
    write_json(out / COUNTS_FILE, counts_of)
    write_statistics(out / STATISTICS_FILE, statistics)
    write_json(out / METRICS_FILE, content)
    return Evaluation(folder=out, scores=scores_of, content=content)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What is kept of one set of predictions after it is scored."""

    scores: DetectionScores | None
    counts: FrameCounts | None
    dense: DenseResults
    seconds_per_frame: float | None
    boxes: dict[str, tuple[ShownBoxes, ShownBoxes]]
    """Annotated and predicted boxes of the shown frames, by sample token."""
    layers: dict[str, dict[str, Any]]
    """See `ShownRow`."""

    def content(self, tasks: Mapping[str, TaskStatistics]) -> dict[str, Any]:
        """The row as it is written to `metrics.json`."""
        content: dict[str, Any] = {}
        if self.scores is not None and self.counts is not None:
            content = asdict(self.scores)
            del content["curves"]
            content["score_threshold"], content["f1"] = self.counts.score_threshold, self.counts.f1
            for kind in ("matched", "missed", "false"):
                content[kind] = sum(getattr(frame, kind) for frame in self.counts.frames)
        content |= self.dense.scores()
        for of_task in tasks.values():
            content[of_task.task] = {**content.get(of_task.task, {}), **of_task.numbers()}
        return {**content, "seconds_per_frame": self.seconds_per_frame}


# ---------------------------------------------------------------- what processes put together


def _detection(
    item: ToScore, annotated: DetectionTruth | None, tokens: Sequence[str], submission: Path, ranks: Ranks
) -> tuple[DetectionScores | None, ScoredBoxes | None]:
    """The figures of all samples and the boxes of those of this process, None without objects; writes the official
    file where one process has all boxes.
    """
    if item.boxes is None or annotated is None:
        return None, None
    predictions = item.boxes()
    if ranks.count > 1:
        boxes = ScoredBoxes.of(predictions.select(annotated.sample_tokens), annotated)
        return score_over_ranks(predictions, annotated, tokens), boxes
    scores, boxes = score(predictions, annotated)
    if item.meta is not None:
        write_submission(submission, item.meta, predictions.to_records())
    return scores, boxes


def _layer(
    read: Callable[[], Any] | None,
    of_frames: Callable[[Any, NuScenesFrames, Sequence[tuple[int, FrameCount]]], dict[str, Any]],
    frames: NuScenesFrames,
    shown: Sequence[tuple[int, FrameCount]],
    ranks: Ranks,
) -> dict[str, Any]:
    """What a layer shows of the frames of all processes, by sample token; empty where there is nothing to read."""
    parts = ranks.gathered({} if read is None or not shown else of_frames(read(), frames, shown))
    return {token: of for part in parts or [] for token, of in part.items()}


def _counts(boxes: ScoredBoxes, ranks: Ranks) -> FrameCounts | None:
    """Counts of all frames; None on all processes but the first."""
    parts = ranks.gathered(FrameHits.of(boxes))
    return None if parts is None else FrameHits.merge(parts).counts()


def _dense(dense: DenseResults, ranks: Ranks) -> DenseResults:
    """Map and occupancy of all frames; those of this process on all but the first."""
    if ranks.count == 1:
        return dense
    first, *others = ranks.gathered(replace(dense, lidar=None)) or [dense]
    for other in others:
        first.merge(other)
    return first


def _mean_seconds(seconds: float | None, num_frames: int, ranks: Ranks) -> float | None:
    """Time of the model for a frame, over the frames of all processes."""
    parts = ranks.gathered((seconds, num_frames)) or []
    known = [(of * count, count) for of, count in parts if of is not None]
    return sum(of for of, _ in known) / max(1, sum(count for _, count in known)) if known else None


def _statistics(gathering: Gathering, rows: Mapping[str, _Row], ranks: Ranks) -> SceneStatistics | None:
    """What is kept of all scenes; None on all processes but the first."""
    parts = ranks.gathered(gathering.statistics())
    if parts is None:
        return None
    statistics = SceneStatistics.merge(parts)
    for name, row in rows.items():
        statistics = statistics.with_dense(name, row.dense.by_scene)
    return statistics


def _content(
    rows: Mapping[str, _Row],
    statistics: SceneStatistics,
    frames: NuScenesFrames,
    tokens: Sequence[str],
    without_labels: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    results = {name: row.content(statistics.tasks[name]) for name, row in rows.items()}
    first, numbers = next(iter(rows.items()))[1], next(iter(results.values()))
    protocols = [PROTOCOL] if first.scores is not None else []
    protocols += [
        name for of_task in numbers.values() if isinstance(of_task, Mapping) for name in of_task if name in PROTOCOLS
    ]
    unsaid = {"map", "occupancy"} - set(first.dense.tasks)
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
