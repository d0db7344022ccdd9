"""How smooth a run was: the six bounds of nuPlan and NAVSIM, on signals smoothed by Savitzky-Golay filters.

The bounds are the same in both. nuPlan smooths with windows of 8 (acceleration) and 15 steps (derivatives); NAVSIM with
one window over its whole four seconds, which no longer run could be compared with, so the windows here are nuPlan's. An
even window, as its 8, gives the signal half a step late except at both ends: that too is kept.
The lateral acceleration is speed times yaw rate at the rear axle; nuPlan reads it from the simulator's state.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float
from scipy.signal import savgol_filter

from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.metrics.tracks import Tracks

ACCELERATION_WINDOW, DERIVATIVE_WINDOW = 8, 15
HISTORY_STEPS = 15
"""NAVSIM v2 looks at the 1.5 s before the plan too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComfortBounds:
    """What passengers bear; the extremes of human drivers in nuPlan."""

    max_longitudinal_mps2: float = 2.40
    min_longitudinal_mps2: float = -4.05
    max_lateral_mps2: float = 4.89
    max_jerk_mps3: float = 8.37
    """Of the length of the acceleration."""
    max_longitudinal_jerk_mps3: float = 4.13
    max_yaw_rate_radps: float = 0.95
    max_yaw_acceleration_radps2: float = 1.93


COMFORT_BOUNDS = ComfortBounds()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RideSignals:
    """What the passengers feel: (..., T) each. NaN where a run is too short for the filter."""

    longitudinal_mps2: Float[np.ndarray, "*N T"]
    lateral_mps2: Float[np.ndarray, "*N T"]
    jerk_mps3: Float[np.ndarray, "*N T"]
    longitudinal_jerk_mps3: Float[np.ndarray, "*N T"]
    yaw_rate_radps: Float[np.ndarray, "*N T"]
    yaw_acceleration_radps2: Float[np.ndarray, "*N T"]

    @classmethod
    def of(
        cls,
        speeds_mps: Float[np.ndarray, "*N T"],
        accelerations_mps2: Float[np.ndarray, "*N T"],
        yaws_rad: Float[np.ndarray, "*N T"],
        step_s: float = DRIVE_STEP_S,
    ) -> "RideSignals":
        """Smooth and derive.

        Args:
            speeds_mps: Along the vehicle's axis.
            accelerations_mps2: Along the vehicle's axis.
            yaws_rad: Headings; may jump by whole turns.
            step_s: Between two values.
        """
        yaws = np.unwrap(yaws_rad, axis=-1)
        yaw_rate = _smooth(yaws, DERIVATIVE_WINDOW, order=2, derivative=1, step_s=step_s)
        lateral = speeds_mps * yaw_rate
        longitudinal = _smooth(accelerations_mps2, ACCELERATION_WINDOW)
        length = _smooth(np.hypot(accelerations_mps2, lateral), ACCELERATION_WINDOW)
        return cls(
            longitudinal_mps2=longitudinal,
            lateral_mps2=_smooth(lateral, ACCELERATION_WINDOW),
            jerk_mps3=_smooth(length, DERIVATIVE_WINDOW, derivative=1, step_s=step_s),
            longitudinal_jerk_mps3=_smooth(longitudinal, DERIVATIVE_WINDOW, derivative=1, step_s=step_s),
            yaw_rate_radps=yaw_rate,
            yaw_acceleration_radps2=_smooth(yaws, DERIVATIVE_WINDOW, order=3, derivative=2, step_s=step_s),
        )

    @property
    def acceleration_mps2(self) -> Float[np.ndarray, "*N T"]:
        """Length of the acceleration."""
        return np.hypot(self.longitudinal_mps2, self.lateral_mps2)

    @property
    def is_known(self) -> bool:
        """Whether the run was long enough."""
        return all(np.isfinite(getattr(self, field.name)).all() for field in fields(self))

    def within(self, bounds: ComfortBounds = COMFORT_BOUNDS) -> float:
        """1 where every signal stays inside its bounds, else 0; NaN where the run was too short."""
        if not self.is_known:
            return np.nan
        return float(
            (self.longitudinal_mps2 < bounds.max_longitudinal_mps2).all()
            and (self.longitudinal_mps2 > bounds.min_longitudinal_mps2).all()
            and (np.abs(self.lateral_mps2) < bounds.max_lateral_mps2).all()
            and (np.abs(self.jerk_mps3) < bounds.max_jerk_mps3).all()
            and (np.abs(self.longitudinal_jerk_mps3) < bounds.max_longitudinal_jerk_mps3).all()
            and (np.abs(self.yaw_rate_radps) < bounds.max_yaw_rate_radps).all()
            and (np.abs(self.yaw_acceleration_radps2) < bounds.max_yaw_acceleration_radps2).all()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comfort:
    """Comfort of a run; NaN where it is too short for the filters (four steps)."""

    comfort: float
    """C of NAVSIM v1, `ego_is_comfortable` of nuPlan."""
    history_comfort: float
    """HC of NAVSIM v2: the same with the 1.5 s before the run, in which the vehicle drove on evenly."""
    max_longitudinal_mps2: float
    min_longitudinal_mps2: float
    max_lateral_mps2: float
    max_jerk_mps3: float
    max_longitudinal_jerk_mps3: float
    max_yaw_rate_radps: float
    max_yaw_acceleration_radps2: float

    @classmethod
    def of(cls, tracks: Tracks) -> "Comfort":
        """Of a run of one step or more."""
        log = tracks.log
        values = (log.ego_speeds_mps, log.ego_accelerations_mps2, log.ego_poses[:, 2])
        signals = RideSignals.of(*values)
        before = (values[0][0], 0.0, values[2][0])
        padded = (np.concatenate((np.full(HISTORY_STEPS, start), value)) for start, value in zip(before, values))
        return cls(
            comfort=signals.within(),
            history_comfort=RideSignals.of(*padded).within() if len(values[0]) > 1 else np.nan,
            max_longitudinal_mps2=float(signals.longitudinal_mps2.max()),
            min_longitudinal_mps2=float(signals.longitudinal_mps2.min()),
            max_lateral_mps2=float(np.abs(signals.lateral_mps2).max()),
            max_jerk_mps3=float(np.abs(signals.jerk_mps3).max()),
            max_longitudinal_jerk_mps3=float(np.abs(signals.longitudinal_jerk_mps3).max()),
            max_yaw_rate_radps=float(np.abs(signals.yaw_rate_radps).max()),
            max_yaw_acceleration_radps2=float(np.abs(signals.yaw_acceleration_radps2).max()),
        )


def _smooth(
    values: np.ndarray, window: int, *, order: int = 2, derivative: int = 0, step_s: float = DRIVE_STEP_S
) -> np.ndarray:
    """Polynomial fit in a moving window, shorter where there are fewer values; NaN where the order does not fit."""
    window = min(window, values.shape[-1])
    if window <= order:
        return np.full(values.shape, np.nan)
    smoothed = savgol_filter(values, window, order, deriv=derivative, delta=step_s, axis=-1)
    return np.round(smoothed, 8)  # as the sources do: a bound is not broken by the last bits
