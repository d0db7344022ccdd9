"""What a system says of some samples, for every task: what prediction files hold and what protocols score.

Boxes, motions and plans are columns over all samples; a map and an occupancy grid are one large array for each sample,
so that files with them are read a few samples at a time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.evaluation.detection.nuscenes import to_columns
from bevstack.evaluation.motion.columns import MotionColumns
from bevstack.evaluation.motion.forecasts import to_motion_columns
from bevstack.evaluation.motion.predictions import MotionPredictions
from bevstack.evaluation.planning.file import PlanColumns, plan_columns
from bevstack.evaluation.planning.origin import joined_origins
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.box_records import TRACKING_CLASSES
from bevstack.types.boxes import Boxes3D
from bevstack.types.scene import Detections, MapSegmentation, Occupancy, SceneEstimate, Tracks
from bevstack.types.trajectory import Route

Task = Literal["detection", "tracking", "motion", "found_motion", "planning", "map", "occupancy"]
TASKS: tuple[Task, ...] = get_args(Task)
"""What prediction files may hold, named as in `bevstack.evaluation.protocols`; each is a field of `Predicted`. Motion
comes in two kinds: of objects that the benchmark names, and of boxes that a system has found itself."""
DENSE_TASKS: tuple[Task, ...] = ("map", "occupancy")
"""Those with an array of a fixed size for each sample."""

_TRACKED = np.array([name in TRACKING_CLASSES for name in DETECTION_CLASSES])


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """S samples; None for tasks of which nothing is said. All parts have the samples in the same order."""

    sample_tokens: tuple[str, ...]
    detection: BoxColumns | None = None
    tracking: BoxColumns | None = None
    """Boxes with identities."""
    motion: MotionPredictions | None = None
    """Of named objects, sorted by sample; a sample may have none."""
    found_motion: MotionColumns | None = None
    """Of boxes that were found."""
    planning: PlanColumns | None = None
    map: tuple[MapSegmentation, ...] | None = None
    """One for each sample, all on one grid."""
    occupancy: tuple[Occupancy, ...] | None = None
    """One for each sample, all on one grid."""

    def __post_init__(self) -> None:
        moving = None if self.found_motion is None else self.found_motion.boxes
        ordered = {"detection": self.detection, "tracking": self.tracking, "found_motion": moving}
        for task, part in (ordered | {"planning": self.planning}).items():
            if part is not None and part.sample_tokens != self.sample_tokens:
                raise ValueError(f"the samples of field '{task}' are not those of the whole, or in another order")
        for task in DENSE_TASKS:
            part = getattr(self, task)
            if part is not None and len(part) != len(self.sample_tokens):
                raise ValueError(f"field '{task}' has {len(part)} grids for {len(self.sample_tokens)} samples")
        if self.tracking is not None and self.tracking.track_index is None and len(self.tracking):
            raise ValueError("field 'tracking' has boxes without identities")

    def __len__(self) -> int:
        return len(self.sample_tokens)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is said something of."""
        return tuple(task for task in TASKS if getattr(self, task) is not None)

    @classmethod
    def of_estimate(
        cls,
        estimate: SceneEstimate,
        T_global_ego: Float[np.ndarray, "4 4"],
        route: Route | None = None,
        *,
        uses_ego_status: bool = True,
    ) -> "Predicted":
        """What a model says of one frame.

        Args:
            estimate: Of the frame.
            T_global_ego: Pose of the vehicle.
            route: What its planner was asked for.
            uses_ego_status: Whether its planner knew the vehicle's own motion.

        Raises:
            ValueError: a box is not finite, or has no size.
        """
        tokens = (estimate.token,)
        found, tracks, ways = estimate.detections, estimate.tracks, estimate.motion
        return cls(
            sample_tokens=tokens,
            detection=None if found is None else to_columns(estimate.token, found, T_global_ego),
            tracking=None if tracks is None else _tracked(estimate.token, tracks, T_global_ego),
            found_motion=(
                None if found is None or ways is None else to_motion_columns(estimate.token, found, ways, T_global_ego)
            ),
            planning=(
                None
                if estimate.plan is None
                else plan_columns(estimate.token, estimate.plan, route, uses_ego_status=uses_ego_status)
            ),
            map=None if estimate.map is None else (estimate.map,),
            occupancy=None if estimate.occupancy is None else (estimate.occupancy,),
        )

    def select(self, sample_tokens: Sequence[str]) -> "Predicted":
        """Some samples, in the order given.

        Raises:
            ValueError: a sample is missing.
        """
        tokens = tuple(sample_tokens)
        if tokens == self.sample_tokens:
            return self
        row_of = {token: row for row, token in enumerate(self.sample_tokens)}
        missing = [token for token in tokens if token not in row_of]
        if missing:
            raise ValueError(f"the predictions lack {len(missing)} of {len(tokens)} samples, the first is {missing[0]}")
        rows = [row_of[token] for token in tokens]
        return Predicted(
            sample_tokens=tokens,
            detection=None if self.detection is None else self.detection.select(tokens),
            tracking=None if self.tracking is None else self.tracking.select(tokens),
            motion=None if self.motion is None else motions_of_samples(self.motion, tokens)[0],
            found_motion=None if self.found_motion is None else self.found_motion.select(tokens),
            planning=None if self.planning is None else self.planning.take(rows),
            map=None if self.map is None else tuple(self.map[row] for row in rows),
            occupancy=None if self.occupancy is None else tuple(self.occupancy[row] for row in rows),
        )

    @classmethod
    def concatenate(cls, parts: Iterable["Predicted"]) -> "Predicted":
        """Several sets of samples one after the other.

        Raises:
            ValueError: they are of different tasks, or share a sample.
        """
        parts = list(parts)
        if not parts:
            return cls(sample_tokens=())
        if len({part.tasks for part in parts}) > 1:
            raise ValueError(f"parts are of different tasks: {sorted({part.tasks for part in parts})}")
        tokens = tuple(token for part in parts for token in part.sample_tokens)
        if len(set(tokens)) < len(tokens):
            raise ValueError("parts share a sample")
        joined: dict[str, Any] = {
            task: _JOIN.get(task, _joined_grids)([getattr(part, task) for part in parts]) for task in parts[0].tasks
        }
        return cls(sample_tokens=tokens, **joined)


def motions_of_samples(motion: MotionPredictions, sample_tokens: Sequence[str]) -> tuple[MotionPredictions, np.ndarray]:
    """Motions sorted by the place of their sample, and the place of each; those of other samples are left out."""
    place_of = {token: place for place, token in enumerate(sample_tokens)}
    places = np.array([place_of.get(token, -1) for token in motion.sample_tokens], np.int64)
    rows = np.argsort(places, kind="stable")
    rows = rows[places[rows] >= 0]
    return (
        replace(
            motion,
            instance_tokens=tuple(motion.instance_tokens[row] for row in rows),
            sample_tokens=tuple(motion.sample_tokens[row] for row in rows),
            trajectories=motion.trajectories[rows],
            probabilities=motion.probabilities[rows],
            num_modes=motion.num_modes[rows],
        ),
        places[rows],
    )


def _tracked(token: str, tracks: Tracks, T_global_ego: np.ndarray) -> BoxColumns:
    """Tracks of the classes that the benchmark tracks."""
    rows = np.flatnonzero(_TRACKED[tracks.boxes.class_index])
    rows = rows[np.argsort(-tracks.scores[rows], kind="stable")]
    chosen = Detections(
        boxes=Boxes3D(rows=tracks.boxes.rows[rows], class_index=tracks.boxes.class_index[rows]),
        scores=tracks.scores[rows],
        attribute_index=tracks.attribute_index[rows],
    )
    columns = to_columns(token, chosen, T_global_ego)
    names, index = np.unique(tracks.identity[rows[: len(columns)]], return_inverse=True)
    return replace(
        columns,
        attribute_index=np.full(len(columns), -1, np.int8),
        track_index=index.astype(np.int64).reshape(-1),
        track_ids=tuple(map(str, names.tolist())),
    )


def _joined_plans(parts: Sequence[PlanColumns]) -> PlanColumns:
    said = {(part.uses_ego_status, part.command_source, part.frame) for part in parts}
    if len(said) > 1:
        raise ValueError(f"plans of different kinds (uses_ego_status, command_source, frame): {sorted(said)}")
    return replace(
        parts[0],
        sample_tokens=tuple(token for part in parts for token in part.sample_tokens),
        poses=np.concatenate([part.poses for part in parts]),
        command_index=np.concatenate([part.command_index for part in parts]),
        origins=joined_origins([(len(part.sample_tokens), part.origins) for part in parts]),
    )


def _joined_motions(parts: Sequence[MotionPredictions]) -> MotionPredictions:
    modes, weights = [], []
    for part in parts:
        modes += [own[:count] for own, count in zip(part.trajectories, part.num_modes, strict=True)]
        weights += [own[:count] for own, count in zip(part.probabilities, part.num_modes, strict=True)]
    return MotionPredictions.of(
        [token for part in parts for token in part.instance_tokens],
        [token for part in parts for token in part.sample_tokens],
        modes,
        weights,
    )


def _joined_found_motions(parts: Sequence[MotionColumns]) -> MotionColumns:
    shapes = {part.trajectories.shape[1:] for part in parts if len(part.boxes)}
    if len(shapes) > 1:
        raise ValueError(f"motions of found boxes have different numbers of modes or steps: {sorted(shapes)}")
    moving = [part for part in parts if len(part.boxes)] or parts[:1]
    return MotionColumns(
        boxes=BoxColumns.concatenate(part.boxes for part in parts),
        trajectories=np.concatenate([part.trajectories for part in moving]),
        probabilities=np.concatenate([part.probabilities for part in moving]),
    )


def _joined_grids(parts: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(grid for grids in parts for grid in grids)


_JOIN: dict[str, Callable[[Any], Any]] = {
    "detection": BoxColumns.concatenate,
    "tracking": BoxColumns.concatenate,
    "motion": _joined_motions,
    "found_motion": _joined_found_motions,
    "planning": _joined_plans,
}
