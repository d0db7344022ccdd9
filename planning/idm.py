"""Keeping distance: the intelligent driver model, and a drive along a path by it.

Treiber, Hennecke, Helbing, Congested traffic states in empirical observations and microscopic simulations, Phys. Rev. E
62 (2000). Above the wished speed the model brakes too hard; there the vehicle follows the speeds of its path instead.
"""

from dataclasses import dataclass, fields
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float

from bevstack.planning.agent_futures import CHECK_STEP_S
from bevstack.planning.bicycle import PLAN_STEP_S, SPEED, X, Y, advance, nearest_index, pursuit_steering
from bevstack.planning.corridor import Corridor
from bevstack.planning.paths import PATH_STEP_M, Path

_CATCH_UP_S = 0.7
_HARDEST_CORRECTION = 1.5
_CREEP_MPS = 0.1
"""Where less than this is allowed the vehicle stands: it would start and stop again in every step."""
_ALONGSIDE_M = -0.5
"""What begins further behind the front end than this is beside the vehicle, not ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdmParams:
    """A driver's habits.

    Raises:
        ValueError: a value is not positive and finite.
    """

    acceleration_mps2: float = 1.5
    comfortable_braking_mps2: float = 2.0
    headway_s: float = 1.2
    standstill_gap_m: float = 2.0
    comfortable_lateral_mps2: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < np.inf:
                raise ValueError(f"{field.name}={getattr(self, field.name)} must be positive and finite")


def drive_along(
    path: Path,
    allowed_mps: Float[np.ndarray, " P"],
    corridor: Corridor,
    start: Float[np.ndarray, "6"],
    limits: Float[np.ndarray, "8"],
    idm: IdmParams,
    *,
    stop_m: float = np.inf,
    max_braking_mps2: float = np.inf,
    steps: int,
) -> Float[np.ndarray, "S 6"]:
    """States every `PLAN_STEP_S` of a vehicle that follows a path and keeps its distance.

    Args:
        path: It begins at the vehicle.
        allowed_mps: The highest speed at each of its points.
        corridor: What blocks the path, and when.
        start: State now.
        limits: Of the vehicle.
        idm: The driver.
        stop_m: Station of the rear axle at which to stop.
        max_braking_mps2: The driver brakes no harder.
        steps: How far ahead.
    """
    habits = np.array(
        (idm.acceleration_mps2, idm.comfortable_braking_mps2, idm.headway_s, idm.standstill_gap_m, max_braking_mps2)
    )
    return _drive(
        start, limits, path.points, path.yaws, allowed_mps.astype(np.float64), corridor.begins_m, corridor.speeds_mps,
        float(corridor.static_m), float(stop_m), habits, steps, PLAN_STEP_S,
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def following(speed: float, gap: float, lead_speed: float, habits: np.ndarray) -> float:
    """What the gap to a leader takes off the acceleration, in m/s2: 0 or less."""
    closing = speed * (speed - lead_speed) / (2 * np.sqrt(habits[0] * habits[1]))
    wanted = habits[3] + max(0.0, speed * habits[2] + closing)
    return -habits[0] * (wanted / max(gap, 0.1)) ** 2


@numba.njit(cache=True, nogil=True)
@no_type_check
def _free(speed: float, allowed: float, slope: float, habits: np.ndarray) -> float:
    """Acceleration on a free road; `slope` is that of a vehicle which follows the allowed speeds exactly."""
    if speed <= allowed and allowed >= _CREEP_MPS:
        return habits[0] * (1.0 - (speed / allowed) ** 4)
    correction = min(slope, 0.0) + (allowed - speed) / _CATCH_UP_S
    return max(correction, -_HARDEST_CORRECTION * habits[1])


@numba.njit(cache=True, nogil=True)
@no_type_check
def _drive(
    state: np.ndarray,
    limits: np.ndarray,
    points: np.ndarray,
    yaws: np.ndarray,
    allowed: np.ndarray,
    begins: np.ndarray,
    lead_speeds: np.ndarray,
    static: float,
    stop: float,
    habits: np.ndarray,
    steps: int,
    dt_s: float,
) -> np.ndarray:
    out = np.empty((steps, 6))
    nearest = 0
    for t in range(steps):
        nearest = nearest_index(points, PATH_STEP_M, state, nearest)
        dx, dy = state[X] - points[nearest, 0], state[Y] - points[nearest, 1]
        station = nearest * PATH_STEP_M + dx * np.cos(yaws[nearest]) + dy * np.sin(yaws[nearest])
        speed = state[SPEED]
        here = min(max(station / PATH_STEP_M, 0.0), len(points) - 1.001)
        low = int(here)
        share = here - low
        may = (1 - share) * allowed[low] + share * allowed[low + 1]
        slope = (allowed[low + 1] ** 2 - allowed[low] ** 2) / (2 * PATH_STEP_M)
        free = _free(speed, may, slope, habits)
        taken = 0.0
        taken = min(taken, following(speed, static - station, 0.0, habits))
        # At a stop goal the front end comes to stand, not one gap before it.
        taken = min(taken, following(speed, max(stop - station, 0.0) + habits[3], 0.0, habits))
        step = min(int(t * dt_s / CHECK_STEP_S), begins.shape[1] - 1)
        for f in range(begins.shape[0]):
            gap = begins[f, step] - station
            if _ALONGSIDE_M <= gap < np.inf:
                taken = min(taken, following(speed, gap, max(lead_speeds[f, step], 0.0), habits))
        wish = max(free + taken, -habits[4])
        wheel = pursuit_steering(points, PATH_STEP_M, state, nearest, limits)
        state = advance(state, limits, wish, wheel, dt_s)
        out[t] = state
    return out
