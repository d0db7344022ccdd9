"""Where the vehicle is asked to go, where it intends to go, and how that intention came about."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
from jaxtyping import Float


class RouteCommand(Enum):
    """What the navigation asks for at the next junction."""

    LEFT = "left"
    STRAIGHT = "straight"
    RIGHT = "right"


COMMANDS = (RouteCommand.RIGHT, RouteCommand.LEFT, RouteCommand.STRAIGHT)
"""Meaning of a command index, in the order that released planners use."""

ROUTE_STEP_M = 2.0
"""Distance between two waypoints of a route that a network reads."""

FUTURE_STEP_S = 0.5
"""Time between two steps of a future, of agents and of the vehicle: nuScenes key frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The navigation's request; never derived from the future trajectory."""

    command: RouteCommand
    waypoints_ego: Float[np.ndarray, "P 2"]
    """Lane-level way ahead, (x, y) in metres, nearest first; may be empty."""
    speed_limit_mps: float
    """NaN where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Future states of the rear-axle centre, in `ego` at reference time."""

    poses_ego: Float[np.ndarray, "T 3"]
    """x [m], y [m], yaw [rad], counter-clockwise from x, in [-pi, pi). Row 0 is `dt_s` after the reference time."""
    speeds_mps: Float[np.ndarray, " T"]
    dt_s: float

    def __post_init__(self) -> None:
        if len(self.poses_ego) != len(self.speeds_mps):
            raise ValueError(f"{len(self.poses_ego)} poses but {len(self.speeds_mps)} speeds")
        if self.dt_s <= 0:
            raise ValueError(f"dt_s={self.dt_s} must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One planning result."""

    trajectory: Trajectory
    source: Literal["learned", "candidate", "fallback_stop"]
    reasons: tuple[str, ...]
    """Why candidates were rejected or the fallback was taken; goes to the log and to diagnostics unchanged."""
