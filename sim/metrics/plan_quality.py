"""What the plans of a run were worth: their steadiness (NAVSIM's EC) and HUGSIM's score of each of them."""

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
import shapely
from jaxtyping import Bool, Float

from bevstack.geometry.rectangles import rectangles_touch
from bevstack.geometry.transforms import wrap_angle
from bevstack.planning.resampling import states_at
from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.metrics.comfort import COMFORT_BOUNDS, RideSignals
from bevstack.sim.metrics.tracks import Tracks
from bevstack.types.trajectory import Trajectory

PLAN_PAIR_STEPS = 5
"""NAVSIM compares plans that are half a second apart, HUGSIM scores a plan each half second."""
HD_STEP_S, HD_STEPS = 0.5, 6
_HD_AHEAD_S = (0.5, 1.0)
_EC_HORIZON_S, _EC_LEAST_STEPS = 4.0, 4
_EC_MAX_RMS = {
    "acceleration_mps2": 0.7, "jerk_mps3": 0.5, "yaw_rate_radps": 0.1, "yaw_acceleration_radps2": 0.1,
}  # fmt: skip
_PER_STEP = round(HD_STEP_S / DRIVE_STEP_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanQuality:
    """Means over the plans of a run."""

    extended_comfort: float
    """EC of NAVSIM v2: share of pairs of plans, half a second apart, that ask for nearly the same ride in the time they
    have in common; NaN without a pair."""
    hd_mean: float
    """HUGSIM's mean over time of NC * DAC * (5 TTC + 2 C) / 7, see `hd_scores`; NaN for a run below two steps."""

    @classmethod
    def of(cls, tracks: Tracks) -> "PlanQuality":
        """Score the plans of a run."""
        scores = hd_scores(tracks)
        return cls(extended_comfort=extended_comfort(tracks), hd_mean=float(scores.mean()) if len(scores) else np.nan)


def extended_comfort(tracks: Tracks) -> float:
    """Share of the pairs of plans whose accelerations, jerks, yaw rates and yaw accelerations differ by root mean
    squares of no more than 0.7 m/s2, 0.5 m/s3, 0.1 rad/s and 0.1 rad/s2. NAVSIM compares what a controller makes of the
    plans; here the plans themselves are compared.
    """
    plans = tracks.log.plans
    rides: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for one, other in zip(plans[::PLAN_PAIR_STEPS], plans[PLAN_PAIR_STEPS::PLAN_PAIR_STEPS]):
        if one is None or other is None:
            continue
        earlier, later = one.trajectory, other.trajectory
        steps = int((min(_end_s(earlier) - HD_STEP_S, _end_s(later), _EC_HORIZON_S)) / DRIVE_STEP_S + 1e-6)
        if steps >= _EC_LEAST_STEPS:
            times = DRIVE_STEP_S * np.arange(1, steps + 1)
            rides.setdefault(steps, []).append((_ride(earlier, times + HD_STEP_S), _ride(later, times)))
    steady = [is_steady for pairs in rides.values() for is_steady in _are_steady(np.array(pairs))]
    return float(np.mean(steady)) if steady else np.nan


def _end_s(trajectory: Trajectory) -> float:
    return trajectory.dt_s * len(trajectory.speeds_mps)


def _ride(trajectory: Trajectory, times: np.ndarray) -> Float[np.ndarray, "3 T"]:
    """Speed, acceleration and heading."""
    poses, speeds = states_at(trajectory, times)
    return np.stack((speeds, np.gradient(speeds, DRIVE_STEP_S), poses[:, 2]))


def _are_steady(pairs: Float[np.ndarray, "N 2 3 T"]) -> Bool[np.ndarray, " N"]:
    signals = RideSignals.of(pairs[:, :, 0], pairs[:, :, 1], pairs[:, :, 2])
    out = np.ones(len(pairs), dtype=bool)
    for name, limit in _EC_MAX_RMS.items():
        values = getattr(signals, name)
        out &= np.sqrt(np.mean((values[:, 0] - values[:, 1]) ** 2, axis=-1)) <= limit
    return out


def hd_scores(tracks: Tracks) -> Float[np.ndarray, " K"]:
    """HUGSIM's NC * DAC * (5 TTC + 2 C) / 7 of the plan at every half second (Zhou et al., 2024, and its code).

    A plan is looked at for 3 s in steps of 0.5 s against where the others really were, as long as the run knows.
    NC: 0 when its outline touches anybody, whoever is at fault. DAC: 0 with less than a fifth of the outline on the
    drivable area, 0.5 with less than half. TTC: NC of the plan moved ahead by 0.5 and 1 s at its speed. C: bounds of
    `ComfortBounds` on finite differences; the published code sets the lateral acceleration to zero before it tests
    its bound, so it never fails there. Here it is speed times yaw rate, and fails. A controller without plans is
    judged by what it drove.
    """
    starts = np.arange(0, len(tracks.ego) - 1, PLAN_PAIR_STEPS)
    scores, plans = np.zeros(len(starts)), []
    for row, start in enumerate(starts):
        poses = _planned_poses(tracks, int(start))
        others = np.ascontiguousarray(tracks.actors[:, start + _PER_STEP * np.arange(len(poses))])
        outlines = tracks.log.vehicle.rectangles(poses)
        plans.append(outlines)
        if not _any_touch(outlines, others):
            ttc = not any(_any_touch(_ahead(outlines, seconds), others) for seconds in _HD_AHEAD_S)
            scores[row] = (5 * ttc + 2 * _is_comfortable(poses)) / 7
    return scores * _on_road(tracks, plans)


def _planned_poses(tracks: Tracks, start: int) -> Float[np.ndarray, "K 3"]:
    """The vehicle now and each half second as planned, else as driven, in the town frame; as far as the run goes."""
    log = tracks.log
    rest = (len(tracks.ego) - 1 - start) // _PER_STEP
    steps = min(HD_STEPS, rest)
    plan = log.plans[start] if start < len(log.plans) else None
    if plan is None or not len(plan.trajectory.speeds_mps):
        return log.ego_poses[start + _PER_STEP * np.arange(steps + 1)]
    ego, _ = states_at(plan.trajectory, HD_STEP_S * np.arange(steps + 1))
    x, y, yaw = log.ego_poses[start]
    c, s = np.cos(yaw), np.sin(yaw)
    return np.stack(
        (x + c * ego[:, 0] - s * ego[:, 1], y + s * ego[:, 0] + c * ego[:, 1], wrap_angle(ego[:, 2] + yaw)), axis=1
    )


def _ahead(outlines: Float[np.ndarray, "K 5"], seconds: float) -> Float[np.ndarray, "K 5"]:
    """Moved on by the velocity into each step; the first step has that of the second."""
    if len(outlines) < 2:
        return outlines
    velocity = np.diff(outlines[:, :2], axis=0) / HD_STEP_S
    moved = outlines.copy()
    moved[:, :2] += seconds * np.concatenate((velocity[:1], velocity))
    return moved


def _is_comfortable(poses: Float[np.ndarray, "K 3"]) -> bool:
    if len(poses) < 4:
        return True  # as published: too short to tell
    speed = np.hypot(*np.diff(poses[:, :2], axis=0).T) / HD_STEP_S
    yaw_rate = wrap_angle(np.diff(poses[:, 2])) / HD_STEP_S
    acceleration, yaw_acceleration = np.diff(speed) / HD_STEP_S, np.diff(yaw_rate) / HD_STEP_S
    bounds = COMFORT_BOUNDS
    return bool(
        (np.abs(speed * yaw_rate) <= bounds.max_lateral_mps2).all()
        and (acceleration <= bounds.max_longitudinal_mps2).all()
        and (acceleration >= bounds.min_longitudinal_mps2).all()
        and (np.abs(np.diff(acceleration)) / HD_STEP_S <= bounds.max_jerk_mps3).all()
        and (np.abs(yaw_acceleration) <= bounds.max_yaw_acceleration_radps2).all()
        and (np.abs(yaw_rate) <= bounds.max_yaw_rate_radps).all()
    )


_PATTERN = np.stack(np.meshgrid((np.arange(10) + 0.5) / 10 - 0.5, (np.arange(5) + 0.5) / 5 - 0.5), axis=-1).reshape(
    -1, 2
)
"""Fifty points of an outline, as shares of its length and width."""


def _on_road(tracks: Tracks, plans: list[Float[np.ndarray, "_ 5"]]) -> Float[np.ndarray, " K"]:
    """HUGSIM's DAC from the share of the points of each outline that are on the road; 1 in a world without roads."""
    area = tracks.log.roads.drivable
    if area.is_empty or not plans:
        return np.ones(len(plans))
    outlines = np.concatenate(plans)
    c, s = np.cos(outlines[:, 4:]), np.sin(outlines[:, 4:])
    along, across = outlines[:, 2:3] * _PATTERN[:, 0], outlines[:, 3:4] * _PATTERN[:, 1]
    shapely.prepare(area)
    is_on: Bool[np.ndarray, "N 50"] = shapely.intersects_xy(
        area, outlines[:, :1] + c * along - s * across, outlines[:, 1:2] + s * along + c * across
    )
    starts = np.cumsum([0, *(len(plan) for plan in plans[:-1])])
    least = np.minimum.reduceat(is_on.mean(axis=1), starts)
    return np.where(least < 0.2, 0.0, np.where(least < 0.5, 0.5, 1.0))


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _any_touch(outlines: np.ndarray, others: np.ndarray) -> bool:
    """Whether any outline (K, 5) touches anybody (A, K, 5) at its step."""
    for a in range(len(others)):
        for k in range(len(outlines)):
            if not np.isnan(others[a, k, 0]) and rectangles_touch(outlines[k], others[a, k]):
                return True
    return False
