"""Whether only hard braking helps: time to collision on the present way, and the braking that it takes."""

from dataclasses import dataclass

import numpy as np

from bevstack.planning.agent_futures import CHECK_TIMES_S
from bevstack.planning.corridor import Corridor

_MIN_CLOSING_MPS = 0.5
_STOP_SHORT_M = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeRules:
    """When to brake as hard as possible.

    Raises:
        ValueError: a value is not positive.
    """

    time_to_collision_s: float = 1.0
    needed_mps2: float = 4.5
    """Braking that keeps the vehicle off what is ahead; more than this is no driver's business."""

    def __post_init__(self) -> None:
        if not (self.time_to_collision_s > 0 and self.needed_mps2 > 0):
            raise ValueError(
                f"time_to_collision_s={self.time_to_collision_s} and needed_mps2={self.needed_mps2} must be positive"
            )


def time_to_collision(corridor: Corridor, speed_mps: float) -> tuple[float, str]:
    """When the front end reaches something at the present speed, and what; infinite where never.

    What begins behind the front end is beside the vehicle and does not count.
    """
    found, name = np.inf, ""
    if speed_mps > 0 and corridor.static_m < np.inf:
        found, name = max(corridor.static_m, 0.0) / speed_mps, corridor.static_words
    way = speed_mps * CHECK_TIMES_S
    for future in range(len(corridor.names)):
        begins = corridor.begins_m[future]
        is_ahead = np.isfinite(begins) & (begins > 0)
        reached = is_ahead & (begins <= way)
        if reached.any() and (at := float(CHECK_TIMES_S[int(np.argmax(reached))])) < found:
            found, name = at, corridor.names[future]
    return found, name


def emergency(corridor: Corridor, speed_mps: float, rules: BrakeRules) -> str | None:
    """The reason to brake as hard as possible, or None."""
    at_s, name = time_to_collision(corridor, speed_mps)
    if at_s <= rules.time_to_collision_s and speed_mps > _MIN_CLOSING_MPS:
        return f"time to collision with {name} is {at_s:.1f} s"
    gap, lead_mps, name = corridor.nearest()
    closing = speed_mps - max(lead_mps, 0.0)
    if not 0 <= gap < np.inf or closing < _MIN_CLOSING_MPS:
        return None
    needed = closing**2 / (2 * max(gap - _STOP_SHORT_M, 0.1))
    return f"{name} in {gap:.1f} m takes braking by {needed:.1f} m/s2" if needed > rules.needed_mps2 else None
