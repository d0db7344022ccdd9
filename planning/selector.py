"""The planner around a learned one: the first proposal that the vehicle can drive and that hits nothing, else rules.

Proposals come most wanted first, by a network that need not know how fast the vehicle is. What it costs to begin one at
the present speed is taken off its score, so that of two ways as good the smoother one is driven. One that breaks a
limit of the vehicle only a little is driven as well as the vehicle can (`snapped`). One that leaves the route is not
what the navigation asked for. Where none is left, the rules plan, and where they find nothing, the vehicle stops: every
step down is named in the reasons.
"""

import time
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float64

from bevstack.planning.bicycle import (
    ACCELERATION,
    PLAN_STEP_S,
    SPEED,
    X,
    Y,
    advance,
    as_trajectory,
    limits_of,
    nearest_index,
    pursuit_steering,
    state_of,
)
from bevstack.planning.fallback import fallback_stop
from bevstack.planning.obstacles import SceneObstacles
from bevstack.planning.paths import PATH_STEP_M, Path
from bevstack.planning.resampling import states_at
from bevstack.planning.rule_planner import RulePlanner, StopGoal
from bevstack.planning.safety import check_plan
from bevstack.planning.time_budget import Clock, TimeBudget
from bevstack.planning.vehicle import VehicleParams
from bevstack.types.errors import PlanningError
from bevstack.types.frame import EgoState
from bevstack.types.scene import PlanProposals, SceneEstimate
from bevstack.types.trajectory import Plan, Route, Trajectory

_MIN_WAY_M = 2.5
"""A shorter proposal has no shape to follow: it is driven straight on."""


class LearnedPlanner:
    """Chooses among the proposals of a learned planner.

    Args:
        rules: Takes over where no proposal can be used; its vehicle, margins and beliefs hold for proposals too.
        max_snap_m: A proposal that the vehicle can only follow with a larger distance is not driven.
        max_off_route_m: A proposal that goes further from the route is not driven; from where the vehicle is.
        max_proposals: No more are looked at.
        comfort_weight: What a mean squared acceleration of 1 (m/s2)^2 from the present speed on takes off a score; 0
            leaves the order to the network.
        budget_s: Time to think, the rules included.
        clock: What it is measured by.

    Raises:
        ValueError: a value is not positive.
    """

    def __init__(
        self,
        *,
        rules: RulePlanner | None = None,
        max_snap_m: float = 1.0,
        max_off_route_m: float = 5.0,
        max_proposals: int = 64,
        comfort_weight: float = 0.5,
        budget_s: float = 0.1,
        clock: Clock = time.monotonic,
    ) -> None:
        if not (max_snap_m > 0 and max_off_route_m > 0 and max_proposals > 0 and comfort_weight >= 0):
            raise ValueError(
                f"max_snap_m={max_snap_m}, max_off_route_m={max_off_route_m} and max_proposals={max_proposals} must be "
                f"positive, comfort_weight={comfort_weight} at least 0"
            )
        self.rules = rules or RulePlanner()
        self.max_snap_m, self.max_off_route_m, self.max_proposals = max_snap_m, max_off_route_m, max_proposals
        self.comfort_weight = comfort_weight
        self.budget_s, self.clock = budget_s, clock
        TimeBudget(budget_s, clock)

    def plan(self, scene: SceneEstimate, ego: EgoState, route: Route, *, stop_goal_ego: StopGoal | None = None) -> Plan:
        """Always a plan. A stop goal is the rules' business: learned proposals know of none."""
        budget = TimeBudget(self.budget_s, self.clock)
        obstacles = SceneObstacles.of(scene, self.rules.vehicle, self.rules.belief)
        reasons = obstacles.notes
        if stop_goal_ego is None:
            plan, rejected = self._chosen(scene.proposals, obstacles, ego, route, budget)
            if plan is not None:
                return plan
            reasons = (*reasons, *rejected)
        if budget.is_spent:
            words = (*reasons, budget.words("a proposal passed"))
            return fallback_stop(ego, self.rules.vehicle, words, obstacles=obstacles, rules=self.rules.safety)
        return self.rules.plan_among(obstacles, ego, route, budget, reasons, stop_goal_ego=stop_goal_ego)

    def _chosen(
        self,
        proposals: PlanProposals | None,
        obstacles: SceneObstacles,
        ego: EgoState,
        route: Route,
        budget: TimeBudget,
    ) -> tuple[Plan | None, tuple[str, ...]]:
        """The first proposal without a fault; else the first whose only fault is a warning; else the reasons."""
        if proposals is None or not len(proposals):
            return None, ("there are no proposals",)
        rejected: list[str] = []
        second: Plan | None = None
        for row in self._order(proposals, ego)[: self.max_proposals]:
            name = f"{proposals.planner} {row}"
            if budget.is_spent:
                rejected.append(budget.words(f"{name} was looked at"))
                break
            trajectory, fault, notes = self._drivable(proposals, row, ego, route)
            if trajectory is None:
                rejected.append(f"{name} {fault}")
                continue
            verdict = check_plan(trajectory, obstacles, ego, self.rules.vehicle, self.rules.safety)
            if not verdict.is_safe:
                rejected.append(f"{name} {verdict.violations[0]}")
                continue
            words = (*obstacles.notes, *rejected, *notes, *verdict.warnings)
            plan = Plan(trajectory=trajectory, source="learned", reasons=words)
            if not verdict.warnings:
                return plan, ()
            rejected.append(f"{name} {verdict.warnings[0]}")
            second = second or plan
        return second, tuple(rejected)

    def _order(self, proposals: PlanProposals, ego: EgoState) -> list[int]:
        """Rows of the proposals, best first: by score and comfort. What is not finite comes last."""
        worth = proposals.scores.astype(np.float64) - self.comfort_weight * mean_square_acceleration(proposals, ego)
        return np.argsort(-np.nan_to_num(worth, nan=-np.inf), kind="stable").tolist()

    def _drivable(
        self, proposals: PlanProposals, row: int, ego: EgoState, route: Route
    ) -> tuple[Trajectory | None, str, tuple[str, ...]]:
        """The proposal inside the vehicle's limits, or what keeps it from being driven; and what was changed."""
        vehicle = self.rules.vehicle
        proposed = Trajectory(
            poses_ego=proposals.poses_ego[row].astype(np.float64),
            speeds_mps=proposals.speeds_mps[row].astype(np.float64),
            dt_s=proposals.dt_s,
        )
        broken = vehicle.limits_broken(proposed, ego)
        if broken and (broken[0] in ("is not finite", "has no steps") or broken[0].startswith("drives backwards")):
            return None, broken[0], ()
        away = off_route_m(proposed, route)
        if away > self.max_off_route_m:
            return None, f"leaves the route by {away:.1f} m", ()
        if not broken:
            return proposed, "", ()
        near, distance = snapped(proposed, ego, vehicle)
        still = vehicle.limits_broken(near, ego)
        if distance > self.max_snap_m or still:
            return None, (still or broken)[0], ()
        return near, "", (f"{proposals.planner} {row} {broken[0]}: followed within {distance:.2f} m",)


def mean_square_acceleration(proposals: PlanProposals, ego: EgoState) -> Float64[np.ndarray, " S"]:
    """Of each proposal, along the way, the step from the present speed included where that is known; (m/s2)^2."""
    speeds = proposals.speeds_mps.astype(np.float64)
    if np.isfinite(ego.speed_mps):
        speeds = np.concatenate((np.full((len(speeds), 1), ego.speed_mps), speeds), axis=1)
    return (np.diff(speeds, axis=1) ** 2).mean(axis=1) / proposals.dt_s**2 if speeds.shape[1] > 1 else 0 * speeds[:, 0]


def off_route_m(trajectory: Trajectory, route: Route) -> float:
    """How far a plan goes from the route, beyond how far the vehicle is from it now; 0 without a route."""
    waypoints = route.waypoints_ego
    if len(waypoints) < 2 or not np.isfinite(waypoints).all():
        return 0.0
    starts, steps = waypoints[:-1], np.diff(waypoints, axis=0)
    length = np.maximum((steps**2).sum(axis=1), 1e-9)
    points = np.concatenate((np.zeros((1, 2)), trajectory.poses_ego[:, :2]))
    share = ((points[:, None] - starts) * steps).sum(axis=2) / length
    # The last waypoint is where knowledge ends, not the route: beyond it distance counts sideways only.
    last = np.arange(len(steps)) == len(steps) - 1
    share = np.clip(share, 0.0, np.where(last, np.inf, 1.0))
    gap = points[:, None] - starts - share[..., None] * steps
    nearest = np.hypot(gap[..., 0], gap[..., 1]).min(axis=1)
    return float(max(0.0, nearest[1:].max() - nearest[0]))


def snapped(proposed: Trajectory, ego: EgoState, vehicle: VehicleParams) -> tuple[Trajectory, float]:
    """The drive inside the vehicle's limits that follows a proposal, and its largest distance from it.

    An unknown present speed counts as the one with which the proposal begins.
    """
    times = PLAN_STEP_S * np.arange(1, round(len(proposed.speeds_mps) * proposed.dt_s / PLAN_STEP_S) + 1)
    poses, speeds = states_at(proposed, times)
    start = state_of(ego, vehicle)
    if not np.isfinite(ego.speed_mps):
        start[SPEED] = max(float(proposed.speeds_mps[0]), 0.0)
    way = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(poses[:, :2], axis=0, prepend=0.0).T))))
    try:
        if way[-1] < _MIN_WAY_M:
            raise PlanningError("too short to have a shape")
        # A few metres more along the last heading, so that the end can be looked at from before it.
        beyond = poses[-1, :2] + np.outer(np.arange(2.0, 16.0, 2.0), (np.cos(poses[-1, 2]), np.sin(poses[-1, 2])))
        path = Path.through(np.concatenate((np.zeros((1, 2)), proposed.poses_ego[:, :2], beyond)), "as proposed").points
    except PlanningError:
        path = np.stack((np.arange(0.0, 20.0, PATH_STEP_M), np.zeros(40)), axis=1)
    states = _track(start, limits_of(vehicle), path, PATH_STEP_M, way[1:], speeds, PLAN_STEP_S)
    near = as_trajectory(states, PLAN_STEP_S)
    distance = np.hypot(*(near.poses_ego[:, :2] - poses[:, :2]).T)
    return near, float(distance.max())


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _track(
    state: np.ndarray,
    limits: np.ndarray,
    points: np.ndarray,
    step_m: float,
    way: np.ndarray,
    speeds: np.ndarray,
    dt_s: float,
) -> np.ndarray:
    """States that are at `way` along the path, and as fast as `speeds`, at each step, as well as the limits allow."""
    out = np.empty((len(way), 6))
    driven, nearest = 0.0, 0
    for t in range(len(way)):
        nearest = nearest_index(points, step_m, state, nearest)
        wheel = pursuit_steering(points, step_m, state, nearest, limits)
        wish = (speeds[t] - state[SPEED]) / (2 * dt_s) + (way[t] - driven - state[SPEED] * dt_s) * 1.5
        # Smoothly: half of the way from the present acceleration.
        wish = 0.5 * (wish + state[ACCELERATION])
        before_x, before_y = state[X], state[Y]
        state = advance(state, limits, wish, wheel, dt_s)
        driven += np.hypot(state[X] - before_x, state[Y] - before_y)
        out[t] = state
    return out
