"""`SynchronizeAction`: arriving somewhere just when another does, with a speed that was steady for a while before."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Approach:
    """How to arrive: wait (or keep the speed), change it within a way, and stay at the last speed."""

    wait_s: float
    change_m: float
    is_exact: bool
    """False where the speeds do not allow to arrive in time."""


def approach(*, way_m: float, time_s: float, speed_mps: float, last_mps: float, steady_m: float) -> Approach:
    """The approach with one even change of speed.

    Args:
        way_m: To the place.
        time_s: Until the other arrives at its place.
        speed_mps: Now.
        last_mps: At the place.
        steady_m: Way before the place on which the last speed holds.

    Raises:
        ValueError: the last speed is not positive.
    """
    if not last_mps > 0:
        raise ValueError(f"the speed at the end, {last_mps:g} m/s, must be positive")
    steady_m = min(max(steady_m, 0.0), way_m)
    before_m, before_s = way_m - steady_m, time_s - steady_m / last_mps
    mean = (speed_mps + last_mps) / 2
    late = before_s - before_m / mean
    # Keep the speed for a while, then change over the rest of the way.
    slower = 1.0 - speed_mps / mean
    wait = late / slower if abs(slower) > 1e-9 else 0.0
    if wait >= 0 and speed_mps * wait <= before_m and abs(late - wait * slower) < 1e-6:
        return Approach(wait_s=wait, change_m=before_m - speed_mps * wait, is_exact=True)
    # Change at once, within a shorter way, and go on with the last speed.
    gained = 1.0 / mean - 1.0 / last_mps
    change = (before_s - before_m / last_mps) / gained if abs(gained) > 1e-9 else 0.0
    if 0 <= change <= before_m:
        return Approach(wait_s=0.0, change_m=change, is_exact=abs(gained) > 1e-9 or abs(late) < 1e-6)
    return Approach(wait_s=0.0, change_m=before_m if change > before_m else 0.0, is_exact=False)
