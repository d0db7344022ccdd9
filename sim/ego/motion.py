"""What a moving vehicle is and what it can be asked for; the one interface of all models of the ego vehicle."""

import math
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from jaxtyping import Float

from bevstack.geometry.transforms import from_xy_yaw, wrap_angle
from bevstack.types.frame import EgoState

GRAVITY_MPS2 = 9.81
SUBSTEP_S = 0.01
"""Actuators and motion are advanced in pieces no longer than this."""

X, Y, YAW, SPEED, ACCELERATION, STEERING, DEMAND, BRAKING_FOR, LATERAL, YAW_RATE = range(10)
"""Columns of a state as the kernels read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleState:
    """The vehicle at one instant. Origin: rear-axle centre; x east, y north, yaw counter-clockwise from x.

    Raises:
        ValueError: a number is not finite, or the vehicle would drive backwards.
    """

    x_m: float = 0.0
    y_m: float = 0.0
    yaw_rad: float = 0.0
    speed_mps: float = 0.0
    """Along the vehicle's axis, 0 or more."""
    acceleration_mps2: float = 0.0
    steering_rad: float = 0.0
    """Of the front wheels, left positive."""
    demanded_steering_rad: float = 0.0
    """Where the wheels are on their way to."""
    braking_for_s: float = 0.0
    """How long the brakes have been asked for without a break."""
    lateral_mps: float = 0.0
    """Of the rear axle, to the left: 0 where the tyres do not slip."""
    yaw_rate_radps: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise ValueError(f"{field.name}={getattr(self, field.name)} must be finite")
        if self.speed_mps < 0:
            raise ValueError(f"speed_mps={self.speed_mps} must be 0 or more: the vehicle does not reverse")

    @property
    def pose(self) -> tuple[float, float, float]:
        """x, y, yaw of the rear axle."""
        return self.x_m, self.y_m, self.yaw_rad

    def as_row(self) -> Float[np.ndarray, "10"]:
        """The numbers in the order of the kernels."""
        return np.array([getattr(self, field.name) for field in fields(self)], np.float64)

    @classmethod
    def of_row(cls, row: Float[np.ndarray, "10"]) -> "VehicleState":
        """The state of a kernel's row; yaw comes back into [-pi, pi)."""
        values = {field.name: float(value) for field, value in zip(fields(cls), row, strict=True)}
        return cls(**values | {"yaw_rad": float(wrap_angle(row[YAW]))})

    def as_ego(self) -> EgoState:
        """The same as sensors, models and planners know it."""
        return EgoState(
            T_global_ego=from_xy_yaw(*self.pose),
            speed_mps=self.speed_mps,
            acceleration_mps2=self.acceleration_mps2,
            yaw_rate_radps=self.yaw_rate_radps,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a controller asks of the actuators until its next command."""

    acceleration_mps2: float = 0.0
    steering_rate_radps: float = 0.0


class VehicleModel(Protocol):
    """Anything that moves the vehicle."""

    def step(self, state: VehicleState, command: Command, dt_s: float, friction: float = 1.0) -> VehicleState:
        """The state `dt_s` later under one command; friction 1 is a dry road, 0.1 ice."""
        ...


def check_step(command: Command, dt_s: float, friction: float) -> None:
    """Refuse a step that has no meaning.

    Raises:
        ValueError: a command is not finite, the time or the friction not positive and finite.
    """
    if not (math.isfinite(command.acceleration_mps2) and math.isfinite(command.steering_rate_radps)):
        raise ValueError(f"{command} must be finite")
    for name, value in (("dt_s", dt_s), ("friction", friction)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value} must be positive and finite")


def substeps(dt_s: float) -> tuple[int, float]:
    """Into how many pieces a step is cut, and how long each is."""
    count = max(1, math.ceil(dt_s / SUBSTEP_S - 1e-9))
    return count, dt_s / count
