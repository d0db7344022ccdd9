"""The ego vehicle as a kinematic bicycle at its rear axle, with lags, limits and the grip of the road.

x' = v cos(yaw), y' = v sin(yaw), yaw' = v tan(steering) / wheelbase (Rajamani, Vehicle Dynamics and Control, 2nd ed.,
section 2.2). Each piece of time is driven exactly along its arc. The tyres do not slip: where a turn asks for more than
the road gives, the vehicle runs wide, and what a turn takes is not there for braking (Kamm's circle).
"""

import math

import numba
import numpy as np

from bevstack.planning.bicycle import MAX_LATERAL, MAX_SPEED, WHEELBASE, limits_of
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.ego.actuators import ActuatorParams, actuate, next_speed
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


class KinematicBicycle:
    """A vehicle whose tyres follow where they point. Implements `VehicleModel`.

    Args:
        vehicle: Size and limits.
        actuators: How slowly it answers.
    """

    def __init__(self, *, vehicle: VehicleParams = NUSCENES_VEHICLE, actuators: ActuatorParams | None = None) -> None:
        self.vehicle = vehicle
        self.actuators = actuators or ActuatorParams()
        self._limits, self._actuators = limits_of(vehicle), self.actuators.as_row()

    def step(self, state: VehicleState, command: Command, dt_s: float, friction: float = 1.0) -> VehicleState:
        """The state `dt_s` later under one command.

        Raises:
            ValueError: the command is not finite, the time or the friction not positive.
        """
        check_step(command, dt_s, friction)
        count, piece_s = substeps(dt_s)
        row = drive_kinematic(
            state.as_row(), self._limits, self._actuators, command.acceleration_mps2, command.steering_rate_radps,
            friction * GRAVITY_MPS2, count, piece_s,
        )  # fmt: skip
        return VehicleState.of_row(row)


@numba.njit(cache=True, nogil=True)
def drive_kinematic(
    row: np.ndarray,
    limits: np.ndarray,
    actuators: np.ndarray,
    acceleration: float,
    rate: float,
    grip: float,
    count: int,
    dt_s: float,
) -> np.ndarray:
    """A state after `count` pieces of time; `grip` is the greatest acceleration that the road gives."""
    row = row.copy()
    for _ in range(count):
        wheel = row[STEERING]
        before = row[ACCELERATION]
        actuate(row, limits, actuators, acceleration, rate, dt_s)
        follow_wheels(row, limits, 0.5 * (wheel + row[STEERING]), 0.5 * (before + row[ACCELERATION]), grip, dt_s)
    return row


@numba.njit(cache=True, nogil=True)
def follow_wheels(
    row: np.ndarray, limits: np.ndarray, wheel: float, acceleration: float, grip: float, dt_s: float
) -> None:
    """Move along the arc of a wheel angle at a mean acceleration, in place."""
    speed = row[SPEED]
    curvature = math.tan(wheel) / limits[WHEELBASE]
    most = min(limits[MAX_LATERAL], grip) / max(speed * speed, 1e-6)
    curvature = min(max(curvature, -most), most)
    side = curvature * speed * speed
    along = math.sqrt(max(grip * grip - side * side, 0.0))
    row[ACCELERATION] = min(max(row[ACCELERATION], -along), along)
    after, lasting, way = next_speed(speed, min(max(acceleration, -along), along), limits[MAX_SPEED], dt_s)
    if lasting == 0.0:
        row[ACCELERATION] = 0.0
    turn = curvature * way
    chord = way if abs(turn) < 1e-9 else way * math.sin(turn / 2) / (turn / 2)
    row[X] += chord * math.cos(row[YAW] + turn / 2)
    row[Y] += chord * math.sin(row[YAW] + turn / 2)
    row[YAW] += turn
    row[SPEED], row[LATERAL], row[YAW_RATE] = after, 0.0, curvature * after
