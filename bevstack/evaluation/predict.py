"""A model over the frames of a data set: frames are read ahead in a thread, and only the results are kept."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from bevstack.build import config_yaml
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.engine import Session
from bevstack.evaluation.checkpoint import Checkpoint
from bevstack.evaluation.dense.lidar_frame import LidarFrame
from bevstack.evaluation.dense.tasks import DenseResults
from bevstack.evaluation.detection.nuscenes import to_columns
from bevstack.evaluation.full_session import plans_with_ego_status
from bevstack.evaluation.modality import Modality, restrict
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.predicted import Predicted
from bevstack.evaluation.predictions.store import PredictionMeta
from bevstack.evaluation.predictions.submission import SubmissionMeta
from bevstack.evaluation.predictions.writer import PredictionWriter
from bevstack.types.frame import Frame
from bevstack.types.interfaces import FrameSource
from bevstack.types.scene import Detections

READ_AHEAD = 2
"""Frames in flight: enough to hide reading behind inference, few enough to keep memory flat."""


@dataclass(slots=True)
class Predictions:
    """What was found in each frame, in order; compact, in `ego`."""

    T_global_ego: dict[str, np.ndarray] = field(default_factory=dict)
    detections: dict[str, Detections] = field(default_factory=dict)
    """Empty where the model finds no objects."""
    dense: DenseResults = field(default_factory=DenseResults)
    """Map and occupancy: already scored, since they are too large to keep."""
    model_s: float = 0.0
    """Time spent in the model, in seconds."""

    def boxes(self) -> BoxColumns:
        """The boxes of all frames in the global frame."""
        found = (to_columns(token, one, self.T_global_ego[token]) for token, one in self.detections.items())
        return BoxColumns.concatenate(found)

    def records(self) -> dict[str, list[dict[str, Any]]]:
        """Box records of the benchmark by sample token."""
        return self.boxes().to_records()


def predict(
    sessions: Mapping[Modality, Session],
    frames: FrameSource,
    indices: Sequence[int],
    *,
    lidar: LidarFrame | None = None,
    writers: Mapping[Modality, PredictionWriter] | None = None,
    progress: bool = True,
) -> dict[Modality, Predictions]:
    """Run every session on some frames of a source; each frame is read once and thinned to each session's modality.

    A model with a memory also sees the frames before each of them, so that few frames spread over a data set are
    predicted as well as all of it.

    Args:
        sessions: Modality -> engine.
        frames: Where the frames come from; labels of map and occupancy that they carry are scored at once.
        indices: Which of them, ascending.
        lidar: For the protocols of occupancy that need to know where the LiDAR is; see `DenseResults`.
        writers: Where each session's predictions go as they come.
        progress: Show a bar with rate, time left and the share of time spent waiting for data.

    Raises:
        ValueError: a frame lacks the sensors of a modality, or labels lie on another grid than the prediction.
    """
    found = {modality: Predictions(dense=DenseResults(lidar=lidar)) for modality in sessions}
    waited_s, began = 0.0, time.perf_counter()
    wanted, seen = set(indices), _with_past(indices, max(session.num_past for session in sessions.values()))
    with tqdm(total=len(seen), desc="predict", unit="frame", disable=not progress, leave=False) as bar:
        for index, (frame, wait_s) in zip(seen, read_ahead(frames, seen), strict=True):
            waited_s += wait_s
            for modality, session in sessions.items():
                start = time.perf_counter()
                estimate = session.step(restrict(frame, modality))
                if index not in wanted:
                    continue
                row = found[modality]
                row.model_s += time.perf_counter() - start
                row.T_global_ego[frame.token] = frame.ego.T_global_ego
                if writers is not None:
                    told = plans_with_ego_status(session)
                    pose = frame.ego.T_global_ego
                    writers[modality].add(Predicted.of_estimate(estimate, pose, frame.route, uses_ego_status=told))
                if estimate.detections is not None:
                    row.detections[frame.token] = estimate.detections
                if any(part is not None for part in (estimate.map, estimate.occupancy, estimate.attention)):
                    row.dense.add(estimate, frame.annotations)
            bar.set_postfix_str(f"waiting for data {waited_s / (time.perf_counter() - began):.0%}", refresh=False)
            bar.update()
    return found


def _with_past(indices: Sequence[int], num_past: int) -> list[int]:
    """The frames to look at, ascending: those asked for, and as many before each of them."""
    return sorted({k for index in indices for k in range(max(0, index - num_past), index + 1)})


def meta_of(checkpoint: Checkpoint, frames: NuScenesFrames, modality: Modality) -> PredictionMeta:
    """Where the predictions of a checkpoint with some of its sensors come from."""
    index = frames.index
    return PredictionMeta(
        row=modality,
        sensors=asdict(SubmissionMeta.of_modality(modality)),
        model=checkpoint.description,
        data={"version": index.version, "split": frames.split, "hash": index.data_hash},
        config=config_yaml(checkpoint.config),
    )


def read_ahead(frames: FrameSource, indices: Sequence[int]) -> Iterator[tuple[Frame, float]]:
    """Frames in the order of `indices`, read by a thread, with the seconds that each kept the caller waiting."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as pool:
        pending: deque[Future[Frame]] = deque()
        remaining = iter(indices)
        try:
            while True:
                while len(pending) < READ_AHEAD and (index := next(remaining, None)) is not None:
                    pending.append(pool.submit(frames.__getitem__, index))
                if not pending:
                    return
                start = time.perf_counter()
                frame = pending.popleft().result()
                yield frame, time.perf_counter() - start
        finally:
            for future in pending:
                future.cancel()


def spread(count: int, limit: int | None) -> list[int]:
    """Indices of `limit` frames spread evenly over `count`, or of all.

    Raises:
        ValueError: limit is not positive.
    """
    if limit is None or limit >= count:
        return list(range(count))
    if limit < 1:
        raise ValueError(f"limit={limit} must be at least 1")
    return sorted({round(position) for position in np.linspace(0, count - 1, limit)})
