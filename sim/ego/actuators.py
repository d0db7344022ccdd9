"""What engine, brakes and steering make of a command: first-order lags inside the vehicle's limits.

The time constants are those of NAVSIM's simulation (Dauner et al., NAVSIM, NeurIPS 2024): 0.2 s for the acceleration,
0.05 s for the steering. Here the lags are solved exactly for each piece of time, and a steering rate moves the wheels'
demanded angle, so that none of a commanded turn is lost in the lag.
"""

import math
from dataclasses import dataclass, fields

import numba
import numpy as np
from jaxtyping import Float

from bevstack.planning.bicycle import MAX_ACCELERATION, MAX_BRAKING, MAX_JERK, MAX_RATE, MAX_STEERING
from bevstack.sim.ego.motion import ACCELERATION, BRAKING_FOR, DEMAND, STEERING

ACCELERATION_LAG, STEERING_LAG, BRAKE_BUILD_UP, COASTING = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActuatorParams:
    """How slowly the actuators answer.

    Raises:
        ValueError: a value is negative or not finite.
    """

    acceleration_lag_s: float = 0.2
    steering_lag_s: float = 0.05
    brake_build_up_s: float = 0.1
    """From the demand until the brakes bite; before, the vehicle only coasts."""
    coasting_mps2: float = 0.5
    """Deceleration that needs no brakes."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < math.inf:
                raise ValueError(f"{field.name}={getattr(self, field.name)} must be 0 or more, and finite")

    def as_row(self) -> Float[np.ndarray, "4"]:
        """The numbers as the kernels read them."""
        return np.array([getattr(self, field.name) for field in fields(self)], np.float64)


@numba.njit(cache=True, nogil=True)
def lagged(value: float, wanted: float, lag_s: float, dt_s: float, max_rate: float) -> float:
    """A value after `dt_s` of a first-order lag, changing no faster than a rate."""
    share = 1.0 if lag_s <= 0.0 else 1.0 - math.exp(-dt_s / lag_s)
    most = max_rate * dt_s
    return value + min(max((wanted - value) * share, -most), most)


@numba.njit(cache=True, nogil=True)
def actuate(
    row: np.ndarray, limits: np.ndarray, actuators: np.ndarray, acceleration: float, rate: float, dt_s: float
) -> None:
    """Advance acceleration, steering and what is demanded of them, in place."""
    turn = min(max(rate, -limits[MAX_RATE]), limits[MAX_RATE]) * dt_s
    row[DEMAND] = min(max(row[DEMAND] + turn, -limits[MAX_STEERING]), limits[MAX_STEERING])
    wheel = lagged(row[STEERING], row[DEMAND], actuators[STEERING_LAG], dt_s, limits[MAX_RATE])
    row[STEERING] = min(max(wheel, -limits[MAX_STEERING]), limits[MAX_STEERING])
    wanted = min(max(acceleration, -limits[MAX_BRAKING]), limits[MAX_ACCELERATION])
    row[BRAKING_FOR] = row[BRAKING_FOR] + dt_s if wanted < -actuators[COASTING] else 0.0
    if row[BRAKING_FOR] <= actuators[BRAKE_BUILD_UP] + 1e-9:
        wanted = max(wanted, -actuators[COASTING])
    row[ACCELERATION] = lagged(row[ACCELERATION], wanted, actuators[ACCELERATION_LAG], dt_s, limits[MAX_JERK])


@numba.njit(cache=True, nogil=True)
def next_speed(speed: float, acceleration: float, top: float, dt_s: float) -> tuple[float, float, float]:
    """Speed and acceleration after `dt_s`, and the way meanwhile; a vehicle that brakes stops, and stays."""
    after = speed + acceleration * dt_s
    if after <= 0.0 and acceleration <= 0.0:
        way = 0.0 if acceleration == 0.0 else speed * speed / (-2.0 * acceleration)
        return 0.0, 0.0, way
    if after > max(top, speed):
        after, acceleration = max(top, speed), 0.0
    return after, acceleration, 0.5 * (speed + after) * dt_s
