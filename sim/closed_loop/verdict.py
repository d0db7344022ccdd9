"""Whether a run met what its scenario expects, expectation by expectation, with the reason where it did not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from bevstack.sim.drive_log import DriveLog
from bevstack.sim.metrics.summary import DriveScores
from bevstack.sim.metrics.tracks import corners_of
from bevstack.sim.scenario.expectations import (
    Expectation,
    ImpactSpeedBelow,
    KeepsSpeedLimit,
    MinTtc,
    NoCollision,
    ReachesGoal,
    StaysInLane,
    StopDistance,
    StopsAtRed,
)

BROKEN_ENDINGS = ("agent_error", "diverged", "timeout", "impossible")
"""Endings that fail every expectation: what was not driven was not met."""
_STANDING_MPS = 0.2
_LINE_WIDTH_M = 0.05
"""Of an outline on the paint nobody says that it has left the lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One expectation of a run."""

    kind: str
    """As in the scenario's YAML."""
    passed: bool
    words: str
    """What was measured; with broken runs why they were."""


def judge(
    expectations: tuple[Expectation, ...], log: DriveLog, scores: DriveScores | None, lanes: tuple[int, ...]
) -> tuple[Verdict, ...]:
    """Every expectation, in the scenario's order.

    Args:
        expectations: Of the concrete scenario.
        log: The run.
        scores: Its measures; None where nothing was driven.
        lanes: Of the route.
    """
    if log.ending in BROKEN_ENDINGS or scores is None:
        why = f"{log.ending}: {log.remark}"
        return tuple(Verdict(kind=wanted.KIND, passed=False, words=why) for wanted in expectations)
    return tuple(_judged(wanted, log, scores, lanes) for wanted in expectations)


def _judged(wanted: Expectation, log: DriveLog, scores: DriveScores, lanes: tuple[int, ...]) -> Verdict:
    passed, words = _RULES[type(wanted)](wanted, log, scores, lanes)
    return Verdict(kind=wanted.KIND, passed=bool(passed), words=words)


def _no_collision(wanted: NoCollision, log: DriveLog, scores: DriveScores, lanes: tuple[int, ...]) -> tuple[bool, str]:
    first = scores.collisions.first
    if first is None:
        return True, "touched nobody"
    return False, f"touched {first.name} after {first.time_s:.2f} s at {first.impact_speed_mps:.1f} m/s"


def _impact(wanted: ImpactSpeedBelow, log: DriveLog, scores: DriveScores, lanes: tuple[int, ...]) -> tuple[bool, str]:
    first = scores.collisions.first
    if first is None:
        return True, "touched nobody"
    return first.impact_speed_mps < float(wanted.speed_mps), f"impact at {first.impact_speed_mps:.1f} m/s"


def _stop_distance(
    wanted: StopDistance, log: DriveLog, scores: DriveScores, lanes: tuple[int, ...]
) -> tuple[bool, str]:
    actor = next((actor for actor in log.actors if actor.name == wanted.to), None)
    if actor is None or not np.isfinite(actor.poses[-1]).all():
        return False, f"{wanted.to} is not there at the end"
    corners = corners_of(log.ego_rectangles[-1])
    x, y, yaw = actor.poses[-1]
    other = corners_of(np.array((x, y, *actor.size_lwh[:2], yaw)))
    front = shapely.LineString(corners[[0, 3]])
    gap = float(shapely.distance(front, shapely.Polygon(other)))
    speed = float(log.ego_speeds_mps[-1])
    stands = speed < _STANDING_MPS
    is_right = float(wanted.least_m) <= gap <= float(wanted.most_m)
    return stands and is_right, f"{gap:.2f} m from {wanted.to} at the end, at {speed:.1f} m/s"


def _min_ttc(wanted: MinTtc, log: DriveLog, scores: DriveScores, lanes: tuple[int, ...]) -> tuple[bool, str]:
    least = scores.criticality.min_ttc_s
    return not least < float(wanted.least_s), f"least time to collision {least:.2f} s"


def _stays_in_lane(wanted: StaysInLane, log: DriveLog, scores: DriveScores, lanes: tuple[int, ...]) -> tuple[bool, str]:
    if not lanes:
        return False, "the route runs along no lanes"
    area = shapely.union_all([log.roads.lanes[lane].polygon for lane in lanes]).buffer(_LINE_WIDTH_M)
    corners = corners_of(log.ego_rectangles)
    outside = ~shapely.intersects_xy(area, corners[..., 0], corners[..., 1])
    if not outside.any():
        return True, "kept its lane"
    step = int(np.argmax(outside.any(axis=1)))
    furthest = float(shapely.distance(area, shapely.points(corners[outside])).max())
    return False, f"left its lane after {log.times_s[step]:.1f} s, by {furthest:.2f} m at most"


def _reaches_goal(wanted: ReachesGoal, log: DriveLog, scores: DriveScores, lanes: tuple[int, ...]) -> tuple[bool, str]:
    return log.ending == "goal", f"ended by {log.ending} after {log.times_s[-1]:.1f} s"


def _stops_at_red(wanted: StopsAtRed, log: DriveLog, scores: DriveScores, lanes: tuple[int, ...]) -> tuple[bool, str]:
    run = scores.compliance.red_lights_run
    return run == 0, f"{run} red lights run"


def _speed_limit(
    wanted: KeepsSpeedLimit, log: DriveLog, scores: DriveScores, lanes: tuple[int, ...]
) -> tuple[bool, str]:
    fastest = float(log.ego_speeds_mps.max())
    allowed = log.speed_limit_mps + float(wanted.tolerance_mps)
    return fastest <= allowed, f"{fastest:.1f} m/s at most, {allowed:.1f} allowed"


_RULES: dict[type, Callable[[Any, DriveLog, DriveScores, tuple[int, ...]], tuple[bool, str]]] = {
    NoCollision: _no_collision,
    ImpactSpeedBelow: _impact,
    StopDistance: _stop_distance,
    MinTtc: _min_ttc,
    StaysInLane: _stays_in_lane,
    ReachesGoal: _reaches_goal,
    StopsAtRed: _stops_at_red,
    KeepsSpeedLimit: _speed_limit,
}

EXPECTATION_KINDS: tuple[str, ...] = tuple(kind.KIND for kind in _RULES)  # type: ignore[attr-defined]
"""All kinds of expectations."""
