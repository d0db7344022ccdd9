"""From predictions to a results folder: metrics, submission files, per-frame counts, and frames for the report.

The results folder holds `metrics.json` (every number, with protocol, data and checkpoint), `curves.json` (precision and
error curves), `frame_counts.json` (matched, missed and false boxes of every frame), `submission_<modality>.json` (the
official file) and `frames/` (what the report shows).
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import bevstack
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.detection_nuscenes import PROTOCOL, DetectionScores, ScoredBoxes, score, to_boxes_ego
from bevstack.evaluation.frame_counts import FrameCount, FrameCounts, count_frames
from bevstack.evaluation.frame_store import ShownBoxes, save_frame
from bevstack.evaluation.nuscenes_tables import ScoringTables
from bevstack.evaluation.submission import SubmissionMeta, write_json, write_submission

_LOG = logging.getLogger(__name__)

METRICS_FILE = "metrics.json"
CURVES_FILE = "curves.json"
COUNTS_FILE = "frame_counts.json"
FRAMES_FOLDER = "frames"

MAX_SHOWN_BOXES = 150
MIN_SHOWN_SCORE = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class ToScore:
    """One set of predictions: box records by sample token, and the sensors that they rest on."""

    records: Callable[[], Mapping[str, Sequence[dict[str, Any]]]]
    """Makes the records; called once, so that only one set is in memory as records."""
    meta: SubmissionMeta | None
    """None does not write a submission file."""
    seconds_per_frame: float | None = None


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
) -> Evaluation:
    """Score predictions and write the results folder. The first entry of `to_score` decides which frames are worst.

    Args:
        to_score: Name of the row (a modality) -> its predictions.
        frames: The split that they belong to; reads the shown frames again.
        tokens: The samples to score.
        out: Results folder; files of an earlier evaluation are replaced.
        provenance: Checkpoint, versions and whatever else identifies the run; goes into `metrics.json` unchanged.
        num_shown: Frames to keep for the report.

    Raises:
        ValueError: the predictions are incomplete or malformed, see `score`.
    """
    out = Path(out)
    tables = ScoringTables(frames.index)
    scores: dict[str, DetectionScores] = {}
    counts: dict[str, FrameCounts] = {}
    truth: dict[str, ShownBoxes] = {}
    predictions: dict[str, dict[str, ShownBoxes]] = {}
    shown: list[tuple[int, FrameCount]] = []
    for name, item in to_score.items():
        records = item.records()
        scores[name], boxes = score(records, tables, tokens)
        if item.meta is not None:
            write_submission(out / f"submission_{name}.json", item.meta, records)
        counts[name] = count_frames(boxes)
        shown = shown or choose_frames(counts[name], num_shown)
        for _, count in shown:
            T_global_ego = _pose(frames, count.token)
            truth[count.token] = _shown(boxes, boxes.ground_truth[count.token], T_global_ego)
            best = [box for box in boxes.predictions[count.token] if box.detection_score >= MIN_SHOWN_SCORE]
            best = sorted(best, key=lambda box: -box.detection_score)[:MAX_SHOWN_BOXES]
            predictions.setdefault(count.token, {})[name] = _shown(boxes, best, T_global_ego)
    _save_frames(out / FRAMES_FOLDER, frames, shown, truth, predictions)
    content = _content(to_score, frames, tokens, scores, counts, provenance)
    write_json(out / CURVES_FILE, {name: value.curves for name, value in scores.items()})
    write_json(out / COUNTS_FILE, {name: asdict(value) for name, value in counts.items()})
    write_json(out / METRICS_FILE, content)
    return Evaluation(folder=out, scores=scores, content=content)


def choose_frames(counts: FrameCounts, limit: int) -> list[tuple[int, FrameCount]]:
    """Frames to show, with their rank (1 = most mistakes): the worst, and a third spread over the ordinary ones."""
    ranked = list(enumerate(counts.worst_first(), start=1))
    if len(ranked) <= limit:
        return ranked
    num_worst = limit - limit // 3
    places = np.linspace(num_worst, len(ranked) - 1, limit - num_worst).round().astype(int)
    return ranked[:num_worst] + [ranked[place] for place in places]


def _pose(frames: NuScenesFrames, token: str) -> np.ndarray:
    row = frames.reference_row(frames.index.sample_row(token))
    return frames.index.T_global_ego([row])[0]


def _shown(boxes: ScoredBoxes, chosen: Sequence[Any], T_global_ego: np.ndarray) -> ShownBoxes:
    counted = np.array([boxes.is_counted(box) for box in chosen], bool)
    return ShownBoxes(detections=to_boxes_ego(chosen, T_global_ego), counted=counted)


def _save_frames(
    folder: Path,
    frames: NuScenesFrames,
    shown: Sequence[tuple[int, FrameCount]],
    truth: Mapping[str, ShownBoxes],
    predictions: Mapping[str, Mapping[str, ShownBoxes]],
) -> None:
    """Write all shown frames to a new folder, then put it in the place of the old one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for rank, count in shown:
            frame = frames[frames.index_of(count.token)]
            save_frame(
                fresh,
                frame,
                rank=rank,
                count=count,
                truth=truth[count.token],
                predictions=predictions[count.token],
            )
        if folder.exists():
            shutil.rmtree(folder)
        fresh.chmod(0o755)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _content(
    to_score: Mapping[str, ToScore],
    frames: NuScenesFrames,
    tokens: Sequence[str],
    scores: Mapping[str, DetectionScores],
    counts: Mapping[str, FrameCounts],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    results = {}
    for name, value in scores.items():
        row = asdict(value)
        del row["curves"]
        row["score_threshold"], row["f1"] = counts[name].score_threshold, counts[name].f1
        row["matched"] = sum(frame.matched for frame in counts[name].frames)
        row["missed"] = sum(frame.missed for frame in counts[name].frames)
        row["false"] = sum(frame.false for frame in counts[name].frames)
        row["seconds_per_frame"] = to_score[name].seconds_per_frame
        results[name] = row
    return {
        "protocol": PROTOCOL,
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
