"""Where beliefs come from: a file of predictions, a model that runs now, or, where that is asked for, annotations.

Pictures, poses and routes are read from the data set; annotations are taken off every frame before anything looks at
it, but for `AnnotationBeliefs`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bevstack.asking.believed import MIN_SCORE, Belief, believe, believe_annotations
from bevstack.data.class_names import CAMERA_NAMES
from bevstack.data.images import ImageSize
from bevstack.data.index import DatasetIndex, open_index
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.engine import Session
from bevstack.evaluation.detection.nuscenes import to_detections
from bevstack.evaluation.full_session import PlannerChoice
from bevstack.evaluation.modality import Modality, restrict
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.files import PredictionFile
from bevstack.evaluation.predictions.predicted import Predicted, Task
from bevstack.evaluation.splits import choose_split
from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.types.frame import Frame
from bevstack.types.scene import Detections, MotionForecasts, SceneEstimate, Tracks
from bevstack.types.trajectory import FUTURE_STEP_S, Plan, Trajectory

HISTORY_FRAMES = 4
"""Key frames that a model sees before the one that is asked about: tracks and memory need a past."""

_SAME_OBJECT_M = 2.0
_COLUMN_TASKS: tuple[Task, ...] = ("detection", "tracking", "found_motion", "planning")


class Beliefs(Protocol):
    """What gives the belief of a frame of a data set."""

    @property
    def frames(self) -> NuScenesFrames:
        """The frames that can be asked about."""

    def belief(self, token: str) -> Belief:
        """What is believed of a sample."""


class FileBeliefs:
    """Beliefs from a file of predictions.

    Args:
        file: The open file.
        frames: The data set that it was made on.
        min_score: Objects below it are not spoken of.
    """

    def __init__(self, file: PredictionFile, frames: NuScenesFrames, *, min_score: float = MIN_SCORE) -> None:
        self.file, self.frames, self.min_score = file, frames, min_score
        self._columns = file.read(*(task for task in _COLUMN_TASKS if task in file.tasks))

    def belief(self, token: str) -> Belief:
        """What the file says of a sample.

        Raises:
            ValueError: the file does not have it.
        """
        if token not in self.file.sample_tokens:
            raise ValueError(f"{self.file.path} has no predictions of sample {token}; 'bevstack predict' makes them")
        frame = bare(self.frames[self.frames.index_of(token)])
        estimate = estimate_of(self._columns.select([token]), frame)
        if "map" in self.file.tasks:
            for part in self.file.parts("map"):
                if token in part.sample_tokens and part.map is not None:
                    estimate = replace(estimate, map=part.map[part.sample_tokens.index(token)])
        return believe(estimate, frame, min_score=self.min_score, picture_size=native_size(self.frames.index))


class ModelBeliefs:
    """Beliefs of a model that runs now, over the frame and those before it in its scene.

    Args:
        session: A fresh session of the model.
        frames: Frames as the model reads them.
        modality: Which sensors it gets.
        min_score: Objects below it are not spoken of.
        history: Key frames that it sees first.
    """

    def __init__(
        self,
        session: Session,
        frames: NuScenesFrames,
        modality: Modality,
        *,
        min_score: float = MIN_SCORE,
        history: int = HISTORY_FRAMES,
    ) -> None:
        if history < 0:
            raise ValueError(f"history={history} must be 0 or more")
        self.session, self.frames, self.modality = session, frames, modality
        self.min_score, self.history = min_score, history

    def belief(self, token: str) -> Belief:
        """What the model believes of a sample."""
        index = self.frames.index_of(token)
        first = next(s.start for s in self._scenes() if index in s)
        self.session.reset()
        for each in range(max(first, index - self.history), index):
            self.session.step(restrict(bare(self.frames[each]), self.modality))
        frame = bare(self.frames[index])
        estimate = self.session.step(restrict(frame, self.modality))
        return believe(estimate, frame, min_score=self.min_score, picture_size=native_size(self.frames.index))

    def _scenes(self) -> list[range]:
        return [self.frames.frames_of_scene(scene.name) for scene in self.frames.scenes]


class AnnotationBeliefs:
    """Beliefs made of ground truth: an upper bound of the answerer."""

    def __init__(self, frames: NuScenesFrames) -> None:
        self.frames = frames

    def belief(self, token: str) -> Belief:
        """What is annotated in a sample."""
        frame = self.frames[self.frames.index_of(token)]
        return believe_annotations(frame, picture_size=native_size(self.frames.index))


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRun:
    """A run that can be asked, with its name for the record."""

    beliefs: Beliefs
    name: str


def open_run(
    run: str | None,
    root: str | Path,
    *,
    version: str | None = None,
    split: str | None = None,
    device: str | None = None,
    min_score: float = MIN_SCORE,
    planner: PlannerChoice | None = None,
    from_annotations: bool = False,
) -> AskedRun:
    """Open what is to be asked.

    Args:
        run: A file of predictions, a folder of `bevstack eval` with one in it, or a checkpoint; not looked at with
            `from_annotations`.
        root: Folder of the data set.
        version: Version folder; may be left out where there is only one.
        split: Split; by default the one that the file was made on, else the only one.
        device: Where a model runs.
        min_score: Objects below it are not spoken of.
        planner: Who plans around a model that runs now; None is the model where it has learned to, else the rules.
        from_annotations: Use ground truth instead.

    Raises:
        DatasetError: the data set is not usable.
        ValueError: there is no run, or it is none that can be asked.
    """
    if from_annotations:
        return AskedRun(beliefs=AnnotationBeliefs(_frames_to_ask(root, version, split)), name="annotations (oracle)")
    if run is None:
        raise ValueError("name a RUN: a file of predictions, a folder of 'bevstack eval', or a checkpoint such as demo")
    path = predictions_in(run)
    if path is not None:
        from bevstack.evaluation.predictions.files import open_predictions

        file = open_predictions(path)
        index = open_index(root, version, progress=True)
        made_on = file.meta.data.get("split")
        frames = _frames_to_ask(root, index.version, split or (made_on if made_on in index.splits() else None))
        return AskedRun(beliefs=FileBeliefs(file, frames, min_score=min_score), name=str(path))
    from bevstack.evaluation.checkpoint import choose_device, open_checkpoint
    from bevstack.evaluation.full_session import full_session

    checkpoint = open_checkpoint(run)
    (modality,) = checkpoint.modalities(None)
    session = full_session(checkpoint, choose_device(device), is_whole=True, planner=planner)
    frames = checkpoint.frames(root, version, split)
    return AskedRun(beliefs=ModelBeliefs(session, frames, modality, min_score=min_score), name=run)


def predictions_in(run: str) -> Path | None:
    """The file of predictions that a run stands for; None where it is a checkpoint."""
    path = Path(run)
    if path.is_dir():
        found = sorted(path.glob("predictions_*.parquet")) or sorted(path.glob("*.parquet"))
        first = [file for file in found if file.stem.endswith("fusion")] or found
        return first[0] if first else None
    return path if path.is_file() and path.suffix in (".parquet", ".json") else None


def estimate_of(predicted: Predicted, frame: Frame) -> SceneEstimate:
    """What a file says of one sample, in `ego`.

    Args:
        predicted: Of this sample only.
        frame: Its pose; plans in the frame of the LiDAR are left out.
    """
    T_ego_global = rigid_inverse(frame.ego.T_global_ego)
    detections = None if predicted.detection is None else to_detections(predicted.detection, frame.ego.T_global_ego)
    motion = None
    if predicted.found_motion is not None:
        moving = predicted.found_motion
        detections = to_detections(moving.boxes, frame.ego.T_global_ego)
        motion = MotionForecasts(
            trajectories_ego=_planar(T_ego_global, moving.trajectories).astype(np.float32),
            probabilities=moving.probabilities.astype(np.float32),
            dt_s=FUTURE_STEP_S,
        )
    tracks = None if predicted.tracking is None else _tracks(predicted.tracking, detections, frame)
    return SceneEstimate(
        token=frame.token,
        timestamp_us=frame.timestamp_us,
        detections=detections,
        tracks=tracks,
        motion=motion,
        plan=_plan(predicted),
    )


def bare(frame: Frame) -> Frame:
    """A frame without ground truth."""
    return replace(frame, annotations=None, description="")


def native_size(index: DatasetIndex) -> ImageSize | None:
    """Size of the pictures on disk; None where the tables do not say."""
    for name in CAMERA_NAMES:
        if name in index.channels and (row := index.key_data_row(0, name)) >= 0 and index["data_size"][row, 0] > 0:
            width, height = (int(side) for side in index["data_size"][row])
            return ImageSize(height, width)
    return None


def _frames_to_ask(root: str | Path, version: str | None, split: str | None) -> NuScenesFrames:
    """Whole pictures in their own size, no LiDAR: what answers need."""
    index = open_index(root, version, progress=True)
    return NuScenesFrames(
        root=root,
        version=index.version,
        split=choose_split(index, split),
        image_size=native_size(index) or ImageSize(900, 1600),
        num_sweeps=0,
        cameras=[name for name in CAMERA_NAMES if name in index.channels],
        missing="mask",
    )


def _tracks(boxes: BoxColumns, detections: Detections | None, frame: Frame) -> Tracks:
    own = to_detections(boxes, frame.ego.T_global_ego)
    index = np.full(len(own), -1, np.int64)
    attributes = own.attribute_index.copy()
    if detections is not None and len(detections) and len(own):
        apart = np.linalg.norm(own.boxes.centers[:, None, :2] - detections.boxes.centers[None, :, :2], axis=2)
        apart[own.boxes.class_index[:, None] != detections.boxes.class_index[None]] = np.inf
        nearest = apart.argmin(axis=1)
        close = apart[np.arange(len(own)), nearest] < _SAME_OBJECT_M
        index[close] = nearest[close]
        attributes[close] = detections.attribute_index[nearest[close]]
    identity = np.arange(len(own)) if boxes.track_index is None else boxes.track_index
    number = {name: int(name) if name.isdigit() else place for place, name in enumerate(boxes.track_ids)}
    names = [number[boxes.track_ids[int(each)]] if boxes.track_ids else int(each) for each in identity]
    return Tracks(
        boxes=own.boxes,
        scores=own.scores,
        attribute_index=attributes,
        identity=np.array(names, np.int64),
        num_hits=np.ones(len(own), np.int64),
        unseen_s=np.zeros(len(own), np.float32),
        detection_index=index,
    )


def _plan(predicted: Predicted) -> Plan | None:
    plans: Any = predicted.planning
    if plans is None or plans.frame != "ego":
        return None
    poses = np.nan_to_num(plans.poses[0])
    steps = np.diff(np.concatenate((np.zeros((1, 2)), poses[:, :2])), axis=0)
    speeds = np.linalg.norm(steps, axis=1) / FUTURE_STEP_S
    trajectory = Trajectory(poses_ego=poses, speeds_mps=speeds, dt_s=FUTURE_STEP_S)
    return Plan(trajectory=trajectory, source="learned", reasons=())


def _planar(T_ego_global: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) on the ground of the global frame, seen from the vehicle."""
    flat = np.concatenate((points, np.zeros((*points.shape[:-1], 1))), axis=-1).reshape(-1, 3)
    return transform_points(T_ego_global, flat)[:, :2].reshape(points.shape)
