"""Planning by rules, without anything learned: along the route, with distance, and braking where it must be.

A handful of drives along the way (and half a metre beside it, where something stands in it) are made inside the
vehicle's limits, each checked by `safety.py`; the one that gets furthest without discomfort is taken. What the rules do
not know: traffic lights, priority, overtaking. A speed that is not known (the first frame of a drive) makes any drive a
guess: then the plan is `fallback_stop`.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bevstack.planning.agent_futures import BeliefRules
from bevstack.planning.bicycle import PLAN_STEP_S, as_trajectory, limits_of, state_of
from bevstack.planning.corridor import Corridor, corridor_along
from bevstack.planning.emergency_brake import BrakeRules, emergency
from bevstack.planning.fallback import fallback_stop, stop_along
from bevstack.planning.idm import IdmParams, drive_along
from bevstack.planning.lane_following import allowed_speeds, stop_station, wished_speed
from bevstack.planning.obstacles import SceneObstacles
from bevstack.planning.paths import Path, path_ahead
from bevstack.planning.safety import SafetyRules, Verdict, check_plan
from bevstack.planning.time_budget import Clock, TimeBudget
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.types.errors import PlanningError
from bevstack.types.frame import EgoState
from bevstack.types.scene import SceneEstimate
from bevstack.types.trajectory import Plan, Route, Trajectory

StopGoal = tuple[float, float]
"""A point (x, y) in `ego`, beside or on the way, at which to stop."""

_SIDESTEPS_M = (0.5, -0.5)
_FADE_S, _MIN_FADE_M = 1.5, 8.0
_OFFSET_COST, _WARNING_COST_M, _BRAKING_COST, _ORDER_COST_M = 4.0, 5.0, 2.0, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A way to drive."""

    name: str
    speed_factor: float
    yields: bool
    """Waits from now on for what will be on the way later."""


PROFILES = (
    Profile(name="keeps its distance", speed_factor=1.0, yields=False),
    Profile(name="gives way", speed_factor=1.0, yields=True),
    Profile(name="goes slowly", speed_factor=0.5, yields=True),
    Profile(name="comes to a stop", speed_factor=0.0, yields=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A drive that the vehicle is able to do."""

    name: str
    trajectory: Trajectory
    verdict: Verdict
    utility_m: float
    """Way made good, less its discomforts."""


class RulePlanner:
    """Lane following, distance and emergency braking.

    Args:
        vehicle: Whose limits are kept.
        idm: How it is driven.
        safety: What is kept away from, and how far.
        belief: Which parts of a scene count.
        brake: When it brakes as hard as it can.
        horizon_s: Length of a plan.
        cruise_mps: Where the route gives no speed limit, the speed to reach.
        budget_s: Time to think.
        clock: What it is measured by.

    Raises:
        ValueError: a value out of its range.
        PlanningError: the driver brakes or speeds up harder than the vehicle can.
    """

    def __init__(
        self,
        *,
        vehicle: VehicleParams = NUSCENES_VEHICLE,
        idm: IdmParams | None = None,
        safety: SafetyRules | None = None,
        belief: BeliefRules | None = None,
        brake: BrakeRules | None = None,
        horizon_s: float = 5.0,
        cruise_mps: float = 8.0,
        budget_s: float = 0.1,
        clock: Clock = time.monotonic,
    ) -> None:
        if not 3.0 <= horizon_s <= 7.0 or not cruise_mps > 0:
            raise ValueError(f"horizon_s={horizon_s} must be in [3, 7], cruise_mps={cruise_mps} positive")
        self.vehicle, self.idm = vehicle, idm or IdmParams()
        self.safety, self.belief, self.brake = safety or SafetyRules(), belief or BeliefRules(), brake or BrakeRules()
        self.cruise_mps, self.budget_s, self.clock = cruise_mps, budget_s, clock
        self._steps = round(horizon_s / PLAN_STEP_S)
        self._limits = limits_of(vehicle)
        TimeBudget(budget_s, clock)
        for ours, limit in (
            ("comfortable_braking_mps2", "max_braking_mps2"),
            ("acceleration_mps2", "max_acceleration_mps2"),
            ("comfortable_lateral_mps2", "max_lateral_mps2"),
        ):
            if getattr(self.idm, ours) > getattr(vehicle, limit):
                raise PlanningError(
                    f"limits contradict each other: {ours}={getattr(self.idm, ours)} of the driver is more than "
                    f"{limit}={getattr(vehicle, limit)} of the vehicle"
                )

    def plan(self, scene: SceneEstimate, ego: EgoState, route: Route, *, stop_goal_ego: StopGoal | None = None) -> Plan:
        """Always a plan: the best candidate, or `fallback_stop` with the reasons.

        Args:
            scene: In `ego` at reference time; any part may be absent or wrong.
            ego: The vehicle now.
            route: Without waypoints the vehicle follows the road of the map on the side of the command.
            stop_goal_ego: Where to stop, if anywhere.
        """
        budget = TimeBudget(self.budget_s, self.clock)
        obstacles = SceneObstacles.of(scene, self.vehicle, self.belief)
        return self.plan_among(obstacles, ego, route, budget, obstacles.notes, stop_goal_ego=stop_goal_ego)

    def plan_among(
        self,
        obstacles: SceneObstacles,
        ego: EgoState,
        route: Route,
        budget: TimeBudget,
        reasons: tuple[str, ...],
        *,
        stop_goal_ego: StopGoal | None = None,
    ) -> Plan:
        """`plan` where the obstacles are known already; `reasons` are those found so far."""
        if not np.isfinite(ego.speed_mps):
            return fallback_stop(ego, self.vehicle, reasons, obstacles=obstacles, rules=self.safety)
        try:
            path = path_ahead(route, obstacles.road, max(ego.speed_mps, 0.0), self.vehicle)
            stop_m = np.inf if stop_goal_ego is None else stop_station(path, stop_goal_ego, self.vehicle)
        except PlanningError as error:
            return fallback_stop(ego, self.vehicle, (*reasons, str(error)), obstacles=obstacles, rules=self.safety)
        best: Candidate | None = None
        rejected: tuple[str, ...] = ()
        for candidate in self._candidates(path, obstacles, ego, route, stop_m):
            if not candidate.verdict.is_safe:
                rejected = (*rejected, f"{candidate.name}: {candidate.verdict.violations[0]}")
            elif best is None or candidate.utility_m > best.utility_m:
                best = candidate
            if budget.is_spent:
                rejected = (*rejected, budget.words("all candidates were made"))
                break
        if best is not None:
            words = (*reasons, *rejected, best.name, *best.verdict.warnings)
            return Plan(trajectory=best.trajectory, source="candidate", reasons=words)
        return fallback_stop(
            ego, self.vehicle, (*reasons, *rejected), obstacles=obstacles, path=path, rules=self.safety
        )

    def _candidates(
        self, path: Path, obstacles: SceneObstacles, ego: EgoState, route: Route, stop_m: float
    ) -> Iterator[Candidate]:
        """The likeliest first; where nothing is in the way, only that one."""
        corridor = corridor_along(path, obstacles, self.vehicle, self.safety.min_cells)
        start = state_of(ego, self.vehicle)
        reason = emergency(corridor, float(start[3]), self.brake)
        if reason is not None:
            stop = stop_along(path.points, 0.0, _pressed(start), self.vehicle, self.vehicle.max_braking_mps2)
            verdict = check_plan(stop, obstacles, ego, self.vehicle, self.safety)
            yield Candidate(
                name=f"brakes as hard as possible, {path.words}, since {reason}",
                trajectory=stop,
                verdict=verdict,
                utility_m=np.inf,
            )
            if verdict.is_safe:
                return
        is_free = not np.isfinite(corridor.begins_m).any() and corridor.static_m == np.inf
        ways = [(path, corridor, 0.0)]
        if not is_free:
            ways += list(self._beside(path, obstacles, float(start[3])))
        wished = wished_speed(route, float(start[3]), self.cruise_mps, self.vehicle)
        for way, blocked, offset in ways:
            for order, profile in enumerate(PROFILES):
                candidate = self._drive(way, blocked, profile, wished, stop_m, obstacles, ego, start)
                cost = _OFFSET_COST * abs(offset) + _ORDER_COST_M * order
                yield replace(candidate, utility_m=candidate.utility_m - cost)
                if is_free and candidate.verdict.is_safe and not candidate.verdict.warnings:
                    return

    def _beside(
        self, path: Path, obstacles: SceneObstacles, speed_mps: float
    ) -> Iterator[tuple[Path, Corridor, float]]:
        for offset in _SIDESTEPS_M:
            way = path.beside(offset, max(_MIN_FADE_M, _FADE_S * speed_mps))
            yield way, corridor_along(way, obstacles, self.vehicle, self.safety.min_cells), offset

    def _drive(
        self,
        path: Path,
        corridor: Corridor,
        profile: Profile,
        wished_mps: float,
        stop_m: float,
        obstacles: SceneObstacles,
        ego: EgoState,
        start: np.ndarray,
    ) -> Candidate:
        states = drive_along(
            path,
            allowed_speeds(path, wished_mps * profile.speed_factor, self.idm),
            _foreseen(corridor) if profile.yields else corridor,
            start,
            self._limits,
            self.idm,
            stop_m=stop_m,
            max_braking_mps2=self.vehicle.max_braking_mps2,
            steps=self._steps,
        )
        trajectory = as_trajectory(states, PLAN_STEP_S)
        verdict = check_plan(trajectory, obstacles, ego, self.vehicle, self.safety)
        way = float(trajectory.speeds_mps.sum()) * PLAN_STEP_S
        hardest = float(np.maximum(-states[:, 4].min(initial=0.0) - self.idm.comfortable_braking_mps2, 0.0))
        utility = way - _BRAKING_COST * hardest - _WARNING_COST_M * len(verdict.warnings)
        name = f"{profile.name}, {path.words}"
        return Candidate(name=name, trajectory=trajectory, verdict=verdict, utility_m=utility)


def _foreseen(corridor: Corridor) -> Corridor:
    """The corridor of a driver who waits now for what will be in the way later: it blocks from now on, standing."""
    ahead = np.where(corridor.begins_m > 0, corridor.begins_m, np.inf)
    least = np.minimum.accumulate(ahead[:, ::-1], axis=1)[:, ::-1]
    is_later = least < ahead
    return replace(
        corridor,
        begins_m=np.where(is_later, least, corridor.begins_m),
        speeds_mps=np.where(is_later, 0.0, corridor.speeds_mps),
    )


def _pressed(state: np.ndarray) -> np.ndarray:
    """The state with the foot off the accelerator."""
    out = state.copy()
    out[4] = min(out[4], 0.0)
    return out
