"""Everybody but the ego vehicle, behind one interface: actors of a scenario, or the traffic of a town."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from bevstack.sim.ego.motion import VehicleState

FORESIGHT_STEP_S = 0.2
FORESIGHT_STEPS = 40
"""The future that is known of scripted actors: 8 s, what planners look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """Another road user or an object: who it is."""

    name: str
    """Unique in the run."""
    class_name: str
    """As in `bevstack.sim.drive_log.ActorLog`."""
    size_lwh: tuple[float, float, float]
    model: str | None = None
    """Shape for rendering; None: drawn from the run's seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorNow:
    """Where one of them is. Frame: the town's."""

    pose: tuple[float, float, float]
    """x, y, yaw of the box centre."""
    velocity: tuple[float, float]
    ground_m: float = 0.0
    """Height of the ground below it."""
    phase: int = 0
    """Mesh of its shape to show."""


class DrivenWorld(Protocol):
    """Everybody else, from time 0 on. Letters: A actors, S steps of `FORESIGHT_STEP_S`."""

    @property
    def participants(self) -> tuple[Participant, ...]:
        """Who takes part, in the order of `now`."""
        ...

    def now(self) -> tuple[ActorNow | None, ...]:
        """Where everybody is; None for who is not in the world."""
        ...

    def step(self, before: VehicleState, after: VehicleState) -> None:
        """Move on by `DRIVE_STEP_S`, while the ego vehicle comes from one state to the other.

        Raises:
            ValueError: something happens that the world has no place for.
        """
        ...

    def foreseen(self) -> Float[np.ndarray, "A S 2"]:
        """Where box centres will be, row k at (k + 1) * `FORESIGHT_STEP_S`; NaN for whom that is not decided yet."""
        ...
