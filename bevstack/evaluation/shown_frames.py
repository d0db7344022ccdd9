"""The frames of an evaluation that a report shows: which, and what is kept of them."""

import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.data.labels import Labeller, labelled
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.dense.frame_counts import FrameCount, FrameCounts
from bevstack.evaluation.dense.frame_store import TRUTH, ShownBoxes, save_frame
from bevstack.evaluation.dense.tasks import DenseResults, Rasters, true_rasters
from bevstack.evaluation.detection.boxes import ScoredBoxes
from bevstack.evaluation.detection.nuscenes import to_detections
from bevstack.evaluation.motion.columns import MotionColumns
from bevstack.evaluation.motion.shown import forecast_rows
from bevstack.evaluation.planning.ego_future import read_ego_future
from bevstack.evaluation.planning.file import PlanColumns
from bevstack.evaluation.planning.shown import driven_boxes, plan_rows
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.tracking.shown import TAIL_FRAMES, track_rows
from bevstack.types.errors import DatasetError
from bevstack.types.frame import Annotations
from bevstack.types.scene import Detections

_LOG = logging.getLogger(__name__)

MAX_SHOWN_BOXES = 150
MIN_SHOWN_SCORE = 0.03
LAYERS = ("forecasts", "tracks", "plans")
"""What a row may show beside boxes and rasters: see the modules `shown` of motion, tracking and planning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """What one set of predictions says of the shown frames, by sample token."""

    boxes: Mapping[str, tuple[ShownBoxes, ShownBoxes]]
    """Annotated and predicted."""
    rasters: Mapping[str, Rasters]
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """One of `LAYERS` -> what it shows of each sample token, ready for JSON."""


def choose_frames(counts: FrameCounts, limit: int) -> list[tuple[int, FrameCount]]:
    """Frames to show, with their rank (1 = most mistakes): the worst, and a third spread over the ordinary ones."""
    return _some(counts.worst_first(), limit)


def least_alike(dense: DenseResults, tokens: Sequence[str], limit: int) -> list[tuple[int, FrameCount]]:
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


def boxes_of_frames(
    boxes: ScoredBoxes, frames: NuScenesFrames, shown: Sequence[tuple[int, FrameCount]]
) -> dict[str, tuple[ShownBoxes, ShownBoxes]]:
    """Annotated and predicted boxes of the shown frames, by sample token; those of other processes are left out."""
    place = {token: index for index, token in enumerate(boxes.sample_tokens)}
    of_frames = {}
    for _, count in shown:
        if count.token not in place:
            continue
        sample, T_global_ego = place[count.token], _pose(frames, count.token)
        annotated = np.flatnonzero(boxes.truth.boxes.sample_index == sample)
        scores = boxes.predictions.score
        best = np.flatnonzero((boxes.prediction_sample == sample) & (scores >= MIN_SHOWN_SCORE))
        best = best[np.argsort(-scores[best], kind="stable")][:MAX_SHOWN_BOXES]
        truth = _shown(boxes.truth.boxes, annotated, boxes.truth_counts, T_global_ego)
        found = _shown(boxes.predictions, best, boxes.prediction_counts, T_global_ego)
        of_frames[count.token] = truth, found
    return of_frames


def forecasts_of_frames(
    motion: MotionColumns, frames: NuScenesFrames, shown: Sequence[tuple[int, FrameCount]]
) -> dict[str, list[dict[str, Any]]]:
    """Where the found objects of the shown frames may go, by sample token; those of other processes are left out."""
    there = set(motion.boxes.sample_tokens)
    tokens = [count.token for _, count in shown if count.token in there]
    return {token: forecast_rows(motion, token, _pose(frames, token)) for token in tokens}


def tracks_of_frames(
    tracks: BoxColumns, frames: NuScenesFrames, shown: Sequence[tuple[int, FrameCount]]
) -> dict[str, list[dict[str, Any]]]:
    """The tracks of the shown frames, by sample token, each with where it was before."""
    there, index = set(tracks.sample_tokens), frames.index
    rows = {}
    for token in (count.token for _, count in shown if count.token in there):
        sample = index.sample_row(token)
        before = np.arange(max(0, sample - TAIL_FRAMES), sample)
        before = before[index["sample_scene"][before] == index["sample_scene"][sample]]
        past = [index.sample_tokens[int(row)] for row in before]
        rows[token] = track_rows(tracks, token, past, _pose(frames, token))
    return rows


def plans_of_frames(
    plans: PlanColumns, frames: NuScenesFrames, shown: Sequence[tuple[int, FrameCount]]
) -> dict[str, dict[str, Any]]:
    """The plans of the shown frames, by sample token."""
    there = set(plans.sample_tokens)
    tokens = [count.token for _, count in shown if count.token in there]
    return plan_rows(plans, read_ego_future(frames.index, frames.split), tokens) if tokens else {}


def _driven(frames: NuScenesFrames, shown: Sequence[tuple[int, FrameCount]]) -> dict[str, list[list[float]]]:
    """Where the vehicle itself went after the shown frames; nothing where a sample has no LiDAR to define `ego`."""
    try:
        future = read_ego_future(frames.index, frames.split)
    except DatasetError as error:
        _LOG.warning("the report does not show the vehicle's own drive: %s", error)
        return {}
    return driven_boxes(future, [count.token for _, count in shown])


def _shown(boxes: BoxColumns, rows: np.ndarray, counts: np.ndarray, T_global_ego: np.ndarray) -> ShownBoxes:
    return ShownBoxes(detections=to_detections(boxes.take(rows), T_global_ego), counted=counts[rows])


def _uncounted(truth: Annotations | None) -> ShownBoxes:
    """Annotated boxes of a frame in which no model looked for them."""
    if truth is None:
        return ShownBoxes(detections=Detections.empty(), counted=np.zeros(0, bool))
    scores = np.full(len(truth.boxes), -1.0, np.float32)
    detections = Detections(boxes=truth.boxes, scores=scores, attribute_index=truth.attribute_index)
    return ShownBoxes(detections=detections, counted=np.zeros(len(truth.boxes), bool))


def _of_token(layer: str, token: str, rows: Mapping[str, ShownRow]) -> dict[str, Any]:
    """Row -> what a layer shows of a sample, of the rows that have it."""
    found = {name: row.layers.get(layer, {}) for name, row in rows.items()}
    return {name: of_tokens[token] for name, of_tokens in found.items() if token in of_tokens}


def save_frames(
    folder: Path,
    frames: NuScenesFrames,
    labellers: Sequence[Labeller],
    shown: Sequence[tuple[int, FrameCount]],
    rows: Mapping[str, ShownRow],
) -> None:
    """Write all shown frames to a new folder, then put it in the place of the old one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    driven = _driven(frames, shown) if shown else {}
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
            predicted: dict[str, Rasters] = {name: row.rasters.get(token, {}) for name, row in rows.items()}
            is_dense = any(predicted.values())
            save_frame(
                fresh,
                frame,
                rank=rank,
                count=count,
                truth=next(iter(boxes.values()))[0] if boxes else _uncounted(frame.annotations),
                predictions={name: found for name, (_, found) in boxes.items()},
                rasters={TRUTH: true_rasters(frame.annotations), **predicted} if is_dense else {},
                layers={layer: _of_token(layer, token, rows) for layer in LAYERS},
                driven=driven.get(token),
            )
        if folder.exists():
            shutil.rmtree(folder)
        fresh.chmod(0o755)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
