"""Tracking by detection: tracks are born from detections, live as long as detections continue them, and die unseen.

State is kept over ground (`global`), so that the vehicle's own motion drops out. Letters: T tracks, D detections.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from bevstack.geometry.boxes import transform_boxes
from bevstack.geometry.transforms import rigid_inverse
from bevstack.perception.tracking.association import Association, Candidates, VelocityGreedy
from bevstack.perception.tracking.motion_filter import MotionNoise, MotionStates
from bevstack.types.boxes import Boxes3D, BoxIndex
from bevstack.types.scene import Detections, Tracks


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackLife:
    """When a track begins to count and when it ends.

    Raises:
        ValueError: a value out of its range.
    """

    min_hits: int = 1
    """Detections before a track is reported."""
    max_unseen_s: float = 1.6
    """A track unseen for longer is forgotten; 1.6 s are three frames at 2 Hz."""
    birth_score: float = 0.0
    """Detections below continue tracks but begin none."""
    reports_unseen: bool = False
    """Also report tracks that this frame did not see, where they should be, with a score that halves every second."""

    def __post_init__(self) -> None:
        if self.min_hits < 1 or self.max_unseen_s < 0 or not 0 <= self.birth_score <= 1:
            raise ValueError(
                f"min_hits={self.min_hits} must be 1 or more, max_unseen_s={self.max_unseen_s} 0 or more, "
                f"birth_score={self.birth_score} in [0, 1]"
            )


@dataclass(slots=True, kw_only=True)
class _Table:
    """All live tracks."""

    identity: Int[np.ndarray, " T"]
    rows: Float[np.ndarray, "T 9"]
    """As last seen, in `global`."""
    class_index: Int[np.ndarray, " T"]
    attribute_index: Int[np.ndarray, " T"]
    score: Float[np.ndarray, " T"]
    hits: Int[np.ndarray, " T"]
    unseen_s: Float[np.ndarray, " T"]
    detection_index: Int[np.ndarray, " T"]
    """Row of the detection of the present frame; -1 where there is none."""
    states: MotionStates

    @classmethod
    def empty(cls) -> "_Table":
        none, nothing = np.zeros(0, np.int64), np.zeros(0)
        states = MotionStates(place_m=np.zeros((0, 2)), velocity_mps=np.zeros((0, 2)), covariance=np.zeros((0, 2, 2)))
        return cls(
            identity=none, rows=np.zeros((0, 9)), class_index=none, attribute_index=none, score=nothing, hits=none,
            unseen_s=nothing, detection_index=none, states=states,
        )  # fmt: skip

    def take(self, rows: np.ndarray) -> "_Table":
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return _Table(**columns, states=self.states.take(rows))

    def joined(self, other: "_Table") -> "_Table":
        columns = {name: np.concatenate((getattr(self, name), getattr(other, name))) for name in _COLUMNS}
        return _Table(**columns, states=self.states.joined(other.states))


_COLUMNS = tuple(name for name in _Table.__slots__ if name != "states")


@dataclass(kw_only=True)
class Tracker:
    """Follows objects from frame to frame of one drive.

    Args:
        association: How detections find their tracks.
        life: Birth and end of tracks.
        noise: Of the motion filter, whose velocity is reported where `smooths_velocity` is set and by which unseen
            tracks move on.
        smooths_velocity: Report the filtered velocity in place of the detector's.
    """

    association: Association = field(default_factory=VelocityGreedy)
    life: TrackLife = field(default_factory=TrackLife)
    noise: MotionNoise = field(default_factory=MotionNoise)
    smooths_velocity: bool = False

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; identities are never used again."""
        self._table = _Table.empty()
        self._timestamp_us: int | None = None
        self._num_born = getattr(self, "_num_born", 0)

    def update(self, detections: Detections, T_global_ego: Float[np.ndarray, "4 4"], timestamp_us: int) -> Tracks:
        """The tracks of this frame, in `ego` at its reference time, best score first.

        Args:
            detections: Of this frame, best first.
            T_global_ego: Pose of the vehicle.
            timestamp_us: Reference time; not before that of the last frame.

        Raises:
            ValueError: time runs backwards.
        """
        dt_s = self._step_s(timestamp_us)
        rows = transform_boxes(T_global_ego, detections.boxes.rows.astype(np.float64))
        table = self._table
        table.detection_index = np.full(len(table.hits), -1)
        table.unseen_s = table.unseen_s + dt_s
        table.states = table.states.after(dt_s, self.noise)
        tracks, seen = self.association(self._candidates(table, rows, detections.boxes.class_index))
        self._continue(table, tracks, rows[seen], detections, seen)
        is_new = np.ones(len(rows), bool)
        is_new[seen] = False
        table = table.joined(self._born(rows, detections, is_new & (detections.scores >= self.life.birth_score)))
        self._table = table.take(np.flatnonzero(table.unseen_s <= self.life.max_unseen_s))
        return self._reported(T_global_ego)

    def _step_s(self, timestamp_us: int) -> float:
        before, self._timestamp_us = self._timestamp_us, timestamp_us
        if before is None:
            return 0.0
        if timestamp_us < before:
            self._timestamp_us = before
            raise ValueError(f"timestamp_us={timestamp_us} is before the last frame's {before}: reset between drives")
        return (timestamp_us - before) * 1e-6

    def _candidates(self, table: _Table, rows: np.ndarray, class_index: np.ndarray) -> Candidates:
        return Candidates(
            track_rows=_moved(table),
            last_place_m=table.rows[:, : BoxIndex.Z],
            unseen_s=table.unseen_s,
            states=table.states,
            track_class=table.class_index,
            rows=rows,
            class_index=class_index,
        )

    def _continue(
        self, table: _Table, tracks: np.ndarray, rows: np.ndarray, detections: Detections, seen: np.ndarray
    ) -> None:
        """Write what was seen into the tracks that it continues."""
        table.states = table.states.updated(tracks, rows[:, : BoxIndex.Z], rows[:, BoxIndex.VX :], self.noise)
        table.rows[tracks] = rows
        table.score[tracks] = detections.scores[seen]
        table.attribute_index[tracks] = detections.attribute_index[seen]
        table.hits[tracks] += 1
        table.unseen_s[tracks] = 0.0
        table.detection_index[tracks] = seen

    def _born(self, rows: np.ndarray, detections: Detections, is_new: Bool[np.ndarray, " D"]) -> _Table:
        own = rows[is_new]
        first = self._num_born
        self._num_born += len(own)
        return _Table(
            identity=np.arange(first, first + len(own)),
            rows=own,
            class_index=detections.boxes.class_index[is_new],
            attribute_index=detections.attribute_index[is_new],
            score=detections.scores[is_new].astype(np.float64),
            hits=np.ones(len(own), np.int64),
            unseen_s=np.zeros(len(own)),
            detection_index=np.flatnonzero(is_new),
            states=MotionStates.of_measurements(own[:, : BoxIndex.Z], own[:, BoxIndex.VX :], self.noise),
        )

    def _reported(self, T_global_ego: np.ndarray) -> Tracks:
        is_due = self._table.hits >= self.life.min_hits
        if not self.life.reports_unseen:
            is_due &= self._table.unseen_s == 0.0
        table = self._table.take(np.flatnonzero(is_due))
        score = table.score * 0.5**table.unseen_s
        order = np.argsort(-score, kind="stable")
        rows = np.where((table.unseen_s > 0)[:, None], _moved(table), table.rows)
        if self.smooths_velocity:
            rows[:, BoxIndex.VX :] = table.states.velocity_mps
        rows = transform_boxes(rigid_inverse(T_global_ego.astype(np.float64)), rows)
        boxes = Boxes3D(rows=rows[order].astype(np.float32), class_index=table.class_index[order])
        return Tracks(
            boxes=boxes,
            scores=score[order].astype(np.float32),
            attribute_index=table.attribute_index[order],
            identity=table.identity[order],
            num_hits=table.hits[order],
            unseen_s=table.unseen_s[order].astype(np.float32),
            detection_index=table.detection_index[order],
        )


def _moved(table: _Table) -> Float[np.ndarray, "T 9"]:
    """The boxes where the filter says that they are by now."""
    rows = table.rows.copy()
    rows[:, : BoxIndex.Z] = table.states.place_m
    rows[:, BoxIndex.VX :] = table.states.velocity_mps
    return rows
