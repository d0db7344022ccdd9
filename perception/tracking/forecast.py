"""Forecasts that need no training: objects go on as they move now. For models that detect but do not forecast.

`ConstantVelocityForecaster` knows one way for each object, `ConstantTurnForecaster` a second one: the turn that its
track was in (the two models of Schubert et al., Comparison and Evaluation of Advanced Motion Models, FUSION 2008, that
need no acceleration). Letters: N detections, T steps.
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from bevstack.geometry.transforms import yaw_of
from bevstack.types.boxes import BoxIndex
from bevstack.types.scene import Detections, MotionForecasts, Tracks
from bevstack.types.trajectory import FUTURE_STEP_S


@runtime_checkable
class Forecaster(Protocol):
    """Says where the detections of one frame after the other go next."""

    def reset(self) -> None:
        """Forget the drive."""

    def __call__(
        self,
        detections: Detections,
        tracks: Tracks | None,
        T_global_ego: Float[np.ndarray, "4 4"],
        timestamp_us: int,
    ) -> MotionForecasts:
        """Forecasts in `ego` at reference time; row n belongs to detection n.

        Args:
            detections: Of this frame, in `ego`.
            tracks: Of this frame; None without a tracker.
            T_global_ego: Pose of the vehicle.
            timestamp_us: Reference time.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantVelocityForecaster:
    """Everything moves on at its velocity; what has none that is known stands still.

    Where a detection belongs to a track, the velocity is that of the track, which a tracker may have smoothed.

    Args:
        steps: How far to look.
        dt_s: Between two steps.

    Raises:
        ValueError: no step, or steps that are no time apart.
    """

    steps: int = 12
    dt_s: float = FUTURE_STEP_S

    def __post_init__(self) -> None:
        _check(self.steps, self.dt_s)

    def reset(self) -> None:
        """See `Forecaster`: nothing is remembered."""

    def __call__(
        self,
        detections: Detections,
        tracks: Tracks | None = None,
        T_global_ego: Float[np.ndarray, "4 4"] | None = None,
        timestamp_us: int | None = None,
    ) -> MotionForecasts:
        """See `Forecaster`; pose and time are not needed."""
        times_s = self.dt_s * np.arange(1, self.steps + 1)
        ways = velocities(detections, tracks)[:, None] * times_s[:, None]
        return _forecasts(detections, ways[:, None], np.ones((len(detections), 1)), self.dt_s)


@dataclass(slots=True, kw_only=True)
class ConstantTurnForecaster:
    """Two ways for each object: straight on, and on in the turn that its track has been in, equally probable.

    The yaw rate of a track is the change of its box's axis (which end is the front does not matter) over ground since
    it was seen last, halfway drawn to what it was before. An object without a past has two equal ways.

    Args:
        steps: How far to look.
        dt_s: Between two steps.
        max_yaw_rate_radps: Faster turns are taken for noise of the detector and count as this.
        max_lateral_mps2: Likewise, for fast objects.

    Raises:
        ValueError: a number that is not positive.
    """

    steps: int = 12
    dt_s: float = FUTURE_STEP_S
    max_yaw_rate_radps: float = 0.6
    max_lateral_mps2: float = 3.0
    _seen: dict[int, "_Seen"] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self.steps, self.dt_s)
        if min(self.max_yaw_rate_radps, self.max_lateral_mps2) <= 0:
            raise ValueError(
                f"max_yaw_rate_radps={self.max_yaw_rate_radps} and max_lateral_mps2={self.max_lateral_mps2} must be "
                "positive"
            )

    def reset(self) -> None:
        """See `Forecaster`."""
        self._seen = {}

    def __call__(
        self,
        detections: Detections,
        tracks: Tracks | None,
        T_global_ego: Float[np.ndarray, "4 4"],
        timestamp_us: int,
    ) -> MotionForecasts:
        """See `Forecaster`."""
        velocity = velocities(detections, tracks)
        speed = np.linalg.norm(velocity, axis=1)
        limit = np.minimum(self.max_yaw_rate_radps, self.max_lateral_mps2 / np.maximum(speed, 1e-3))
        yaw_rate = np.clip(self._yaw_rates(len(detections), tracks, T_global_ego, timestamp_us), -limit, limit)
        times_s = self.dt_s * np.arange(1, self.steps + 1)
        straight = velocity[:, None] * times_s[:, None]
        half = yaw_rate[:, None] * times_s / 2
        # The chord of an arc: turned by half its angle, and shorter by a sinc.
        turned = np.stack(
            (
                np.cos(half) * straight[..., 0] - np.sin(half) * straight[..., 1],
                np.sin(half) * straight[..., 0] + np.cos(half) * straight[..., 1],
            ),
            axis=-1,
        )
        arc = turned * np.sinc(half / np.pi)[..., None]
        return _forecasts(detections, np.stack((straight, arc), axis=1), np.full((len(speed), 2), 0.5), self.dt_s)

    def _yaw_rates(
        self, count: int, tracks: Tracks | None, T_global_ego: np.ndarray, timestamp_us: int
    ) -> Float[np.ndarray, " N"]:
        """Yaw rate of each detection by its track; 0 without one. Tracks that are gone are forgotten."""
        rates = np.zeros(count)
        if tracks is None:
            return rates
        turned_by = float(yaw_of(T_global_ego))
        alive: dict[int, _Seen] = {}
        for row, identity in enumerate(tracks.identity.tolist()):
            before, detection = self._seen.get(identity), int(tracks.detection_index[row])
            if detection < 0:
                if before is not None:
                    alive[identity] = before
                continue
            now = _Seen(axis_rad=float(tracks.boxes.yaws[row]) + turned_by, timestamp_us=timestamp_us, yaw_rate=0.0)
            alive[identity] = now if before is None else now.after(before)
            rates[detection] = alive[identity].yaw_rate
        self._seen = alive
        return rates


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A track when it was seen last."""

    axis_rad: float
    """Of the box, over ground."""
    timestamp_us: int
    yaw_rate: float
    """In rad/s."""

    def after(self, before: "_Seen") -> "_Seen":
        """With the yaw rate that follows from an earlier sight of the same track."""
        elapsed_s = (self.timestamp_us - before.timestamp_us) * 1e-6
        if elapsed_s <= 0:
            return before
        turned = (self.axis_rad - before.axis_rad + np.pi / 2) % np.pi - np.pi / 2
        yaw_rate = (before.yaw_rate + turned / elapsed_s) / 2 if before.yaw_rate else turned / elapsed_s
        return _Seen(axis_rad=self.axis_rad, timestamp_us=self.timestamp_us, yaw_rate=float(yaw_rate))


def velocities(detections: Detections, tracks: Tracks | None) -> Float[np.ndarray, "N 2"]:
    """Velocity of each detection, of its track where it has one; 0 where it is not known."""
    known = detections.boxes.velocities.astype(np.float64)
    if tracks is not None:
        taken = tracks.detection_index >= 0
        known[tracks.detection_index[taken]] = tracks.boxes.rows[taken, BoxIndex.VX :]
    return np.where(np.isfinite(known).all(axis=1, keepdims=True), known, 0.0)


def _forecasts(
    detections: Detections, ways: Float[np.ndarray, "N K T 2"], probabilities: Float[np.ndarray, "N K"], dt_s: float
) -> MotionForecasts:
    start = detections.boxes.centers[:, None, None, :2]
    return MotionForecasts(
        trajectories_ego=(start + ways).astype(np.float32),
        probabilities=probabilities.astype(np.float32),
        dt_s=dt_s,
    )


def _check(steps: int, dt_s: float) -> None:
    if steps < 1 or dt_s <= 0:
        raise ValueError(f"steps={steps} must be 1 or more and dt_s={dt_s} positive")
