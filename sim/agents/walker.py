"""Somebody on foot, or on a bicycle across the road, who sets off when triggered and follows a way.

As in the crossing tests of Euro NCAP, the trigger is the time that the ego vehicle needs to the point where the ways
cross; careful people also wait for a gap in traffic.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from bevstack.sim.agents.driver_habits import advanced
from bevstack.sim.agents.view import EGO, RoadUser, WorldView
from bevstack.sim.world.polylines import arc_lengths, at_stations

_BODY_CLEARANCE_M = 0.4
"""Vehicles that pass further beside somebody's way than this do not meet it."""
_MEETING_STEP_M = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalTrigger:
    """Fires once the ego vehicle's front is within a time (at its present speed) or a distance of a point.

    Raises:
        ValueError: a threshold is negative.
    """

    point: tuple[float, float]
    within_s: float = 0.0
    """0 never fires by time."""
    within_m: float = 0.0
    """0 never fires by distance."""

    def __post_init__(self) -> None:
        if not self.within_s >= 0 or not self.within_m >= 0:
            raise ValueError(f"within_s={self.within_s} and within_m={self.within_m} must be 0 or more")

    def fires(self, world: WorldView) -> bool:
        """Whether that is so now; never where there is no ego vehicle or it has passed the point."""
        ego = world.users.get(EGO)
        if ego is None:
            return False
        ahead, _ = _seen_from(ego, np.array([self.point]))
        way = float(ahead[0]) - ego.length_m / 2
        if way < 0:
            return False
        return (way <= self.within_s * ego.speed_mps and self.within_s > 0) or 0 < way <= self.within_m


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkerState:
    """Somebody now."""

    user: RoadUser
    station_m: float = 0.0
    """Along the way."""
    is_off: bool = False
    """Whether it has set off; it never waits again."""


class Walker:
    """Waits, sets off, walks to the end of its way and stands there. Implements `Agent`.

    Args:
        way: The line that it walks, (x, y).
        speed_mps: Its wished speed.
        acceleration_mps2: How fast it gets there.
        trigger: What it waits for; None for nothing.
        accepted_gap_s: It also waits until no vehicle comes to its way sooner than this; 0 does not look.
        start_s: It waits at least until this time.

    Raises:
        ValueError: the way has no length, or a number is not positive.
    """

    def __init__(
        self,
        *,
        way: Float[np.ndarray, "P 2"],
        speed_mps: float = 1.4,
        acceleration_mps2: float = 2.0,
        trigger: ArrivalTrigger | None = None,
        accepted_gap_s: float = 0.0,
        start_s: float = 0.0,
    ) -> None:
        self.way = np.asarray(way, np.float64)
        if len(self.way) < 2 or not arc_lengths(self.way)[-1] > 0:
            raise ValueError(f"a way needs two different points, not {self.way.tolist()}")
        if not speed_mps > 0 or not acceleration_mps2 > 0 or not accepted_gap_s >= 0:
            raise ValueError(
                f"speed_mps={speed_mps} and acceleration_mps2={acceleration_mps2} must be positive, "
                f"accepted_gap_s={accepted_gap_s} 0 or more"
            )
        self.length_m = float(arc_lengths(self.way)[-1])
        self.speed_mps, self.acceleration_mps2 = speed_mps, acceleration_mps2
        self.trigger, self.accepted_gap_s, self.start_s = trigger, accepted_gap_s, start_s

    def begin(
        self, *, length_m: float = 0.5, width_m: float = 0.5, class_name: str = "pedestrian", is_off: bool = False
    ) -> WalkerState:
        """At the begin of the way; `is_off` walks at full speed already."""
        user = RoadUser(
            x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=self.speed_mps if is_off else 0.0,
            length_m=length_m, width_m=width_m, class_name=class_name,
        )  # fmt: skip
        return self._placed(WalkerState(user=user, is_off=is_off))

    def step(self, state: WalkerState, world: WorldView, dt_s: float) -> WalkerState:
        """The same somebody `dt_s` later."""
        is_off = state.is_off or self._sets_off(world)
        if not is_off:
            return state
        before = state.user.speed_mps
        rest = self.length_m - state.station_m
        if rest <= 0:
            return replace(state, is_off=True, user=replace(state.user, speed_mps=0.0, acceleration_mps2=0.0))
        acceleration = min(self.acceleration_mps2, (self.speed_mps - before) / dt_s)
        speed, way = advanced(before, acceleration, dt_s)
        user = replace(state.user, speed_mps=speed, acceleration_mps2=acceleration)
        return self._placed(WalkerState(user=user, station_m=state.station_m + min(way, rest), is_off=True))

    def _sets_off(self, world: WorldView) -> bool:
        if world.now_s < self.start_s - 1e-9 or (self.trigger is not None and not self.trigger.fires(world)):
            return False
        return self.accepted_gap_s == 0 or time_to_way(self.way, world) > self.accepted_gap_s

    def _placed(self, state: WalkerState) -> WalkerState:
        x, y, yaw = at_stations(self.way, np.array((state.station_m,)))[0]
        return replace(state, user=replace(state.user, x_m=float(x), y_m=float(y), yaw_rad=float(yaw)))


def time_to_way(way: Float[np.ndarray, "P 2"], world: WorldView) -> float:
    """How soon the first vehicle comes to a way, straight on at its present speed; infinite where none does.

    A vehicle that stands on the way is there already.
    """
    points = at_stations(way, np.arange(0.0, arc_lengths(way)[-1] + _MEETING_STEP_M, _MEETING_STEP_M))[:, :2]
    soonest = math.inf
    for user in world.users.values():
        if not user.is_vehicle:
            continue
        ahead, left = _seen_from(user, points)
        meets = (np.abs(left) < user.width_m / 2 + _BODY_CLEARANCE_M) & (ahead > -user.length_m / 2)
        if not meets.any():
            continue
        gap = max(0.0, float(ahead[meets].min()) - user.length_m / 2)
        if gap == 0.0:
            return 0.0
        if user.speed_mps > 0.1:
            soonest = min(soonest, gap / user.speed_mps)
    return soonest


def _seen_from(
    user: RoadUser, points: Float[np.ndarray, "P 2"]
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Distances ahead and to the left of somebody's centre."""
    offset = points - (user.x_m, user.y_m)
    c, s = math.cos(user.yaw_rad), math.sin(user.yaw_rad)
    return offset[:, 0] * c + offset[:, 1] * s, offset[:, 1] * c - offset[:, 0] * s
