"""The plan of last resort: stop, along the way, with the wheels as they are or straight on; gently if that will do.

It is always there and always inside the limits of the vehicle. Where even this hits something, it is the stop that hits
last and slowest.
"""

from collections.abc import Iterator
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float

from bevstack.planning.bicycle import (
    ACCELERATION,
    PLAN_STEP_S,
    SPEED,
    STEERING,
    advance,
    as_trajectory,
    limits_of,
    nearest_index,
    pursuit_steering,
    state_of,
)
from bevstack.planning.obstacles import SceneObstacles
from bevstack.planning.paths import PATH_STEP_M, Path
from bevstack.planning.safety import SafetyRules, check_plan
from bevstack.planning.vehicle import VehicleParams
from bevstack.types.frame import EgoState
from bevstack.types.trajectory import Plan, Trajectory

COMFORTABLE_STOP_MPS2 = 2.5
_MIN_STEPS, _MAX_STEPS = 30, 80
_AT_REST_S = 0.5
_NO_POINTS = np.zeros((0, 2))


def fallback_stop(
    ego: EgoState,
    vehicle: VehicleParams,
    reasons: tuple[str, ...],
    *,
    obstacles: SceneObstacles | None = None,
    path: Path | None = None,
    rules: SafetyRules | None = None,
) -> Plan:
    """A stop. An unknown speed counts as standing: the plan asks for standstill at once.

    Args:
        ego: The vehicle now.
        vehicle: Its limits.
        reasons: Why nothing better is left; kept.
        obstacles: The scene; None where it is of no use: then the gentlest stop is taken.
        path: The way that the vehicle was on.
        rules: Margins of the check.
    """
    if not np.isfinite(ego.speed_mps):
        reasons = (*reasons, "the speed of the vehicle is not known: standstill is asked for")
    best: tuple[float, float] | None = None
    chosen: tuple[Trajectory, str] | None = None
    for trajectory, words in _stops(ego, vehicle, path):
        if obstacles is None:
            return Plan(trajectory=trajectory, source="fallback_stop", reasons=(*reasons, words))
        verdict = check_plan(trajectory, obstacles, ego, vehicle, rules or SafetyRules())
        if verdict.is_safe:
            return Plan(trajectory=trajectory, source="fallback_stop", reasons=(*reasons, words))
        if verdict.contact_s == np.inf:
            continue
        # The milder impact; of equally mild ones the later.
        rank = (round(verdict.contact_mps, 1), -verdict.contact_s)
        if best is None or rank < best:
            best, chosen = rank, (trajectory, f"{words}, which {verdict.violations[0]}")
    if chosen is None:
        chosen = next(_stops(ego, vehicle, None))
    return Plan(trajectory=chosen[0], source="fallback_stop", reasons=(*reasons, chosen[1]))


def _stops(ego: EgoState, vehicle: VehicleParams, path: Path | None) -> Iterator[tuple[Trajectory, str]]:
    """The gentlest first; each with its name."""
    state = state_of(ego, vehicle)
    state[ACCELERATION] = min(state[ACCELERATION], 0.0)
    ways = [(path.points, state[STEERING], path.words)] if path is not None else []
    ways += [(_NO_POINTS, float(state[STEERING]), "with the wheels held"), (_NO_POINTS, 0.0, "straight on")]
    for braking, words in (
        (min(COMFORTABLE_STOP_MPS2, vehicle.max_braking_mps2), "stops"),
        (vehicle.max_braking_mps2, "stops as hard as possible"),
    ):
        for points, steering, way in ways:
            yield stop_along(points, float(steering), state, vehicle, braking), f"{words} {way}"


def stop_along(
    points: Float[np.ndarray, "P 2"],
    steering_rad: float,
    state: Float[np.ndarray, "6"],
    vehicle: VehicleParams,
    braking_mps2: float,
) -> Trajectory:
    """A stop along a path, or, where it has no points, with the wheels at an angle."""
    until_stop = state[SPEED] / braking_mps2 + braking_mps2 / vehicle.max_jerk_mps3 + _AT_REST_S
    steps = int(np.clip(np.ceil(until_stop / PLAN_STEP_S), _MIN_STEPS, _MAX_STEPS))
    states = _stop(points, PATH_STEP_M, steering_rad, state, limits_of(vehicle), braking_mps2, steps, PLAN_STEP_S)
    return as_trajectory(states, PLAN_STEP_S)


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _stop(
    points: np.ndarray,
    step_m: float,
    steering: float,
    state: np.ndarray,
    limits: np.ndarray,
    braking: float,
    steps: int,
    dt_s: float,
) -> np.ndarray:
    out = np.empty((steps, 6))
    nearest = 0
    for t in range(steps):
        wheel = steering
        if len(points) > 0:
            nearest = nearest_index(points, step_m, state, nearest)
            wheel = pursuit_steering(points, step_m, state, nearest, limits)
        state = advance(state, limits, -braking, wheel, dt_s)
        out[t] = state
    return out
