"""The vehicle moved step by step inside its limits: what a plan made here asks for, the vehicle can do.

The kernels work on plain numbers (numba): a state is x, y, yaw, speed, acceleration, steering; `limits` are those of
`limits_of`. Steering follows a path by pure pursuit (Coulter, CMU-RI-TR-92-01, 1992): the circle through a point of the
path some way ahead.
"""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float

from bevstack.planning.vehicle import VehicleParams
from bevstack.types.frame import EgoState
from bevstack.types.trajectory import Trajectory

PLAN_STEP_S = 0.1
"""Between two rows of the plans made here."""

X, Y, YAW, SPEED, ACCELERATION, STEERING = range(6)
WHEELBASE, MAX_SPEED, MAX_ACCELERATION, MAX_BRAKING, MAX_LATERAL, MAX_JERK, MAX_STEERING, MAX_RATE = range(8)

_MIN_LOOK_AHEAD_M, _MAX_LOOK_AHEAD_M, _LOOK_AHEAD_S = 3.0, 14.0, 0.7
_SEARCH_M = 4.0
"""How far along its path a vehicle may come in one step."""


def limits_of(vehicle: VehicleParams) -> Float[np.ndarray, "8"]:
    """The limits as the kernels read them."""
    return np.array(
        (
            vehicle.wheelbase_m, vehicle.max_speed_mps, vehicle.max_acceleration_mps2, vehicle.max_braking_mps2,
            vehicle.max_lateral_mps2, vehicle.max_jerk_mps3, vehicle.max_steering_rad, vehicle.max_steering_rate_radps,
        )
    )  # fmt: skip


def state_of(ego: EgoState, vehicle: VehicleParams) -> Float[np.ndarray, "6"]:
    """The vehicle now, at its own origin. Unknown speed, acceleration and yaw rate count as 0; a measured acceleration
    or steering beyond the limits as the limit.
    """
    speed = float(np.nan_to_num(ego.speed_mps, nan=0.0, posinf=0.0, neginf=0.0))
    acceleration = float(np.nan_to_num(ego.acceleration_mps2, nan=0.0, posinf=0.0, neginf=0.0))
    acceleration = min(max(acceleration, -vehicle.max_braking_mps2), vehicle.max_acceleration_mps2)
    return np.array((0.0, 0.0, 0.0, max(speed, 0.0), acceleration, vehicle.steering_of(ego)))


def roll_out(
    vehicle: VehicleParams,
    ego: EgoState,
    accelerations_mps2: Float[np.ndarray, " T"],
    steering_rad: Float[np.ndarray, " T"],
    dt_s: float = PLAN_STEP_S,
) -> Trajectory:
    """Where the vehicle comes when it is asked for these accelerations and wheel angles; it obeys within its limits.

    Raises:
        ValueError: the numbers of accelerations and angles differ.
    """
    if len(accelerations_mps2) != len(steering_rad):
        raise ValueError(f"{len(accelerations_mps2)} accelerations need as many wheel angles, not {len(steering_rad)}")
    rows = _roll_out(
        state_of(ego, vehicle), limits_of(vehicle), accelerations_mps2.astype(float), steering_rad.astype(float), dt_s
    )
    return as_trajectory(rows, dt_s)


def as_trajectory(states: Float[np.ndarray, "T 6"], dt_s: float) -> Trajectory:
    """States of the kernels as a plan."""
    poses = states[:, : YAW + 1].copy()
    poses[:, YAW] = (poses[:, YAW] + np.pi) % (2 * np.pi) - np.pi
    return Trajectory(poses_ego=poses, speeds_mps=states[:, SPEED].copy(), dt_s=dt_s)


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def advance(state: np.ndarray, limits: np.ndarray, acceleration: float, steering: float, dt_s: float) -> np.ndarray:
    """The state one step later: the wishes are cut to what jerk, steering rate and the other limits allow."""
    jerk = limits[MAX_JERK] * dt_s
    a = min(max(acceleration, state[ACCELERATION] - jerk), state[ACCELERATION] + jerk)
    a = min(max(a, -limits[MAX_BRAKING]), limits[MAX_ACCELERATION])
    before = state[SPEED]
    speed = min(before + a * dt_s, max(limits[MAX_SPEED], before))
    if speed <= 0.0:
        speed, a = 0.0, 0.0
    middle = 0.5 * (before + speed)
    turn = limits[MAX_RATE] * dt_s
    wheel = min(max(steering, state[STEERING] - turn), state[STEERING] + turn)
    lateral = np.arctan(limits[WHEELBASE] * limits[MAX_LATERAL] / max(middle, 0.1) ** 2)
    most = min(lateral, limits[MAX_STEERING])
    wheel = min(max(wheel, -most), most)
    way = middle * dt_s
    yaw = way * np.tan(wheel) / limits[WHEELBASE]
    chord = way if abs(yaw) < 1e-9 else way * np.sin(yaw / 2) / (yaw / 2)
    out = np.empty(6)
    out[0] = state[X] + chord * np.cos(state[YAW] + yaw / 2)
    out[1] = state[Y] + chord * np.sin(state[YAW] + yaw / 2)
    out[2], out[3], out[4], out[5] = state[YAW] + yaw, speed, a, wheel
    return out


@numba.njit(cache=True, nogil=True)
@no_type_check
def nearest_index(points: np.ndarray, step_m: float, state: np.ndarray, first: int) -> int:
    """The path point nearest to the rear axle, looked for from `first` on."""
    best, least = first, np.inf
    for k in range(first, min(len(points), first + int(_SEARCH_M / step_m) + 1)):
        gap = (points[k, 0] - state[X]) ** 2 + (points[k, 1] - state[Y]) ** 2
        if gap < least:
            best, least = k, gap
    return best


@numba.njit(cache=True, nogil=True)
@no_type_check
def pursuit_steering(points: np.ndarray, step_m: float, state: np.ndarray, nearest: int, limits: np.ndarray) -> float:
    """Angle of the wheels that leads on a circle to the path some way ahead of its point `nearest`."""
    look_ahead = min(max(_LOOK_AHEAD_S * state[SPEED], _MIN_LOOK_AHEAD_M), _MAX_LOOK_AHEAD_M)
    target = min(len(points) - 1, nearest + int(np.ceil(look_ahead / step_m)))
    dx, dy = points[target, 0] - state[X], points[target, 1] - state[Y]
    c, s = np.cos(state[YAW]), np.sin(state[YAW])
    ahead, left = c * dx + s * dy, c * dy - s * dx
    square = dx * dx + dy * dy
    if square < 0.25 or ahead <= 0.0:
        return state[STEERING]
    return np.arctan(limits[WHEELBASE] * 2 * left / square)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _roll_out(
    state: np.ndarray, limits: np.ndarray, accelerations: np.ndarray, steering: np.ndarray, dt_s: float
) -> np.ndarray:
    out = np.empty((len(accelerations), 6))
    for k in range(len(accelerations)):
        state = advance(state, limits, accelerations[k], steering[k], dt_s)
        out[k] = state
    return out
