"""The ego vehicle with tyres that slip: a dynamic single-track model, for roads that a plan overrates.

Linear tyres, each axle held inside the circle of its friction (Althoff, Koschi, Manzinger, CommonRoad, IV 2017; Althoff
and Wuersching, CommonRoad: Vehicle Models, 2020, section on the single-track model). The tyres, the place of the centre
of mass and the inertia are those of its vehicle 2, a BMW 320i, scaled to the wheelbase here; the load does not move
between the axles. At walking pace slip angles have no meaning: there the vehicle is the kinematic bicycle.
"""

import math
from dataclasses import dataclass, fields

import numba
import numpy as np
from jaxtyping import Float

from bevstack.planning.bicycle import MAX_SPEED, WHEELBASE, limits_of
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.ego.actuators import ActuatorParams, actuate
from bevstack.sim.ego.kinematic import follow_wheels
from bevstack.sim.ego.motion import (
    ACCELERATION,
    GRAVITY_MPS2,
    LATERAL,
    SPEED,
    STEERING,
    YAW,
    YAW_RATE,
    Command,
    VehicleState,
    X,
    Y,
    check_step,
    substeps,
)

_PIECES = 10
"""Of each substep: 1 ms, well below the time constant of the tyres at `_DYNAMIC_FROM_MPS`."""
_DYNAMIC_FROM_MPS = 2.0
FRONT_SHARE, GYRATION, STIFFNESS, DRIVEN_FRONT = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleTrackParams:
    """Mass and tyres, free of the vehicle's size.

    Raises:
        ValueError: a value is not positive and finite, or a share not below 1.
    """

    front_arm_share: float = 0.44832
    """Of the wheelbase, from the centre of mass to the front axle: 1.1562 m of 2.5789 m."""
    gyration_share: float = 0.49638
    """Radius of gyration about the vertical axis over the wheelbase: sqrt(1791.6 kg m2 / 1093.3 kg) of 2.5789 m."""
    cornering_per_rad: float = 20.898
    """Side force per slip angle, over friction and load: 21.92 / 1.0489."""
    front_drive_share: float = 1.0
    """Of the driving force; brakes act on both axles by their load."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf or (value == 0 and field.name != "front_drive_share"):
                raise ValueError(f"{field.name}={value} must be positive and finite")
        if self.front_arm_share >= 1 or self.front_drive_share > 1:
            raise ValueError(f"front_arm_share={self.front_arm_share} must be below 1, front_drive_share at most 1")

    def as_row(self) -> Float[np.ndarray, "4"]:
        """The numbers as the kernels read them."""
        return np.array([getattr(self, field.name) for field in fields(self)], np.float64)


class SingleTrack:
    """A vehicle whose tyres slip. Implements `VehicleModel`.

    `VehicleParams.max_lateral_mps2` does not bind it: the friction of the road does.

    Args:
        vehicle: Size and limits.
        actuators: How slowly it answers.
        params: Mass and tyres.
    """

    def __init__(
        self,
        *,
        vehicle: VehicleParams = NUSCENES_VEHICLE,
        actuators: ActuatorParams | None = None,
        params: SingleTrackParams | None = None,
    ) -> None:
        self.vehicle = vehicle
        self.actuators, self.params = actuators or ActuatorParams(), params or SingleTrackParams()
        self._rows = limits_of(vehicle), self.actuators.as_row(), self.params.as_row()

    def step(self, state: VehicleState, command: Command, dt_s: float, friction: float = 1.0) -> VehicleState:
        """The state `dt_s` later under one command.

        Raises:
            ValueError: the command is not finite, the time or the friction not positive.
        """
        check_step(command, dt_s, friction)
        count, piece_s = substeps(dt_s)
        row = _drive(
            state.as_row(), *self._rows, command.acceleration_mps2, command.steering_rate_radps,
            friction * GRAVITY_MPS2, count, piece_s,
        )  # fmt: skip
        return VehicleState.of_row(row)


@numba.njit(cache=True, nogil=True)
def _drive(
    row: np.ndarray,
    limits: np.ndarray,
    actuators: np.ndarray,
    track: np.ndarray,
    acceleration: float,
    rate: float,
    grip: float,
    count: int,
    dt_s: float,
) -> np.ndarray:
    row = row.copy()
    for _ in range(count):
        wheel, before = row[STEERING], row[ACCELERATION]
        actuate(row, limits, actuators, acceleration, rate, dt_s)
        mean, turned = 0.5 * (before + row[ACCELERATION]), 0.5 * (wheel + row[STEERING])
        if math.hypot(row[SPEED], row[LATERAL]) < _DYNAMIC_FROM_MPS:
            follow_wheels(row, limits, turned, mean, grip, dt_s)
        else:
            _slide(row, limits, track, turned, mean, grip, dt_s)
    return row


@numba.njit(cache=True, nogil=True)
def _slide(
    row: np.ndarray, limits: np.ndarray, track: np.ndarray, wheel: float, acceleration: float, grip: float, dt_s: float
) -> None:
    """Fourth-order Runge-Kutta over x, y, yaw and the three speeds at the centre of mass, in place."""
    back = (1.0 - track[FRONT_SHARE]) * limits[WHEELBASE]
    now = np.empty(6)
    now[0] = row[X] + back * math.cos(row[YAW])
    now[1] = row[Y] + back * math.sin(row[YAW])
    now[2], now[3], now[5] = row[YAW], row[SPEED], row[YAW_RATE]
    now[4] = row[LATERAL] + back * row[YAW_RATE]
    h = dt_s / _PIECES
    for _ in range(_PIECES):
        wish = acceleration if acceleration < 0.0 or now[3] < limits[MAX_SPEED] else 0.0
        k1 = _rates(now, limits, track, wheel, wish, grip)
        k2 = _rates(now + 0.5 * h * k1, limits, track, wheel, wish, grip)
        k3 = _rates(now + 0.5 * h * k2, limits, track, wheel, wish, grip)
        k4 = _rates(now + h * k3, limits, track, wheel, wish, grip)
        now = now + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        now[3] = max(now[3], 0.0)
    row[X] = now[0] - back * math.cos(now[2])
    row[Y] = now[1] - back * math.sin(now[2])
    row[YAW], row[SPEED], row[YAW_RATE] = now[2], now[3], now[5]
    row[LATERAL] = now[4] - back * now[5]


@numba.njit(cache=True, nogil=True)
def _rates(
    now: np.ndarray, limits: np.ndarray, track: np.ndarray, wheel: float, acceleration: float, grip: float
) -> np.ndarray:
    """What x, y, yaw, forward speed, side speed and yaw rate change by; forces are per mass."""
    front, back = track[FRONT_SHARE] * limits[WHEELBASE], (1.0 - track[FRONT_SHARE]) * limits[WHEELBASE]
    load_front, load_back = grip * back / limits[WHEELBASE], grip * front / limits[WHEELBASE]
    ahead, side, turn = now[3], now[4], now[5]
    share = track[DRIVEN_FRONT] if acceleration > 0.0 else load_front / grip
    pull_front = min(max(acceleration * share, -load_front), load_front)
    pull_back = min(max(acceleration * (1.0 - share), -load_back), load_back)
    slip_front = wheel - math.atan2(side + front * turn, max(ahead, 0.5))
    slip_back = -math.atan2(side - back * turn, max(ahead, 0.5))
    push_front = _side_force(slip_front, load_front, pull_front, track[STIFFNESS])
    push_back = _side_force(slip_back, load_back, pull_back, track[STIFFNESS])
    c, s = math.cos(wheel), math.sin(wheel)
    front_ahead, front_side = pull_front * c - push_front * s, push_front * c + pull_front * s
    inertia = (track[GYRATION] * limits[WHEELBASE]) ** 2
    out = np.empty(6)
    cy, sy = math.cos(now[2]), math.sin(now[2])
    out[0], out[1], out[2] = ahead * cy - side * sy, ahead * sy + side * cy, turn
    out[3] = front_ahead + pull_back + turn * side
    out[4] = front_side + push_back - turn * ahead
    out[5] = (front * front_side - back * push_back) / inertia
    return out


@numba.njit(cache=True, nogil=True)
def _side_force(slip: float, load: float, pull: float, stiffness: float) -> float:
    """Linear in the slip angle, inside what the pull along the wheel leaves of the friction circle."""
    most = math.sqrt(max(load * load - pull * pull, 0.0))
    return min(max(stiffness * load * slip, -most), most)
