"""Whether to change lanes: minimise the braking that a change imposes on all (MOBIL).

Kesting, Treiber, Helbing, General lane-changing model MOBIL for car-following models, Transp. Res. Rec. 1999 (2007): a
change pays when own gain plus politeness times the gains of the two followers exceeds a threshold, and it is safe when
the new follower need not brake harder than a limit. The symmetric rule: neither side is preferred.
"""

import math
from dataclasses import dataclass, fields

from bevstack.sim.agents.driver_habits import DriverHabits
from bevstack.sim.agents.view import RoadUser, WorldView
from bevstack.sim.world.roads import RoadNetwork

_LEAST_GAP_M = 2.0
"""Nearer than this to whoever is beside, before or behind it in the other lane nobody changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MobilParams:
    """How readily lanes are changed; the defaults are those of the paper.

    Raises:
        ValueError: a value is negative or not finite.
    """

    politeness: float = 0.3
    threshold_mps2: float = 0.1
    safe_braking_mps2: float = 4.0
    duration_s: float = 4.0
    """Of a change."""
    pause_s: float = 3.0
    """Between two changes."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < math.inf:
                raise ValueError(f"{field.name}={getattr(self, field.name)} must be 0 or more, and finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Who is before and behind in one lane, each with the free gap between the bumpers; None for nobody."""

    leader: tuple[RoadUser, float] | None
    follower: tuple[RoadUser, float] | None


def lane_gain(
    own: RoadUser, here: Neighbours, there: Neighbours, habits: DriverHabits, allowed: float, params: MobilParams
) -> float | None:
    """By how much a change pays beyond the threshold, in m/s2; None where it is not safe.

    Args:
        own: The driver.
        here: In the lane now.
        there: In the other lane.
        habits: Taken to be everybody's.
        allowed: Highest speed of the road.
        params: Of the rule.
    """
    if any(side is not None and side[1] < _LEAST_GAP_M for side in (there.leader, there.follower)):
        return None
    before, after = _behind(own, here.leader, habits, allowed), _behind(own, there.leader, habits, allowed)
    if after < -params.safe_braking_mps2:
        return None
    gain = after - before
    if there.follower is not None:
        follower, gap = there.follower
        with_me = _behind(follower, (own, gap), habits, allowed)
        if with_me < -params.safe_braking_mps2:
            return None
        gain += params.politeness * (with_me - _behind(follower, _beyond(there, own), habits, allowed))
    if here.follower is not None:
        follower, gap = here.follower
        without = _behind(follower, _beyond(here, own), habits, allowed)
        gain += params.politeness * (without - _behind(follower, (own, gap), habits, allowed))
    return gain - params.threshold_mps2


def neighbours_in(world: WorldView, lane: int, station_m: float, name: str, own: RoadUser) -> Neighbours:
    """Leader and follower of a place on a lane: on the lane itself, the ones it leads into and those that lead into it.

    Args:
        world: Everybody now.
        lane: Which lane.
        station_m: Of the driver's centre on it.
        name: The driver's, who is no neighbour of itself.
        own: Its body.
    """
    shifts = _lane_shifts(world.roads, lane)
    leader: tuple[RoadUser, float] | None = None
    follower: tuple[RoadUser, float] | None = None
    for other, place in world.places.items():
        if other == name or place.lane not in shifts:
            continue
        user = world.users[other]
        ahead = shifts[place.lane] + place.station_m - station_m
        gap = abs(ahead) - (own.length_m + user.length_m) / 2
        if ahead >= 0 and (leader is None or gap < leader[1]):
            leader = (user, gap)
        if ahead < 0 and (follower is None or gap < follower[1]):
            follower = (user, gap)
    return Neighbours(leader=leader, follower=follower)


def _lane_shifts(roads: RoadNetwork, lane: int) -> dict[int, float]:
    """Where the lanes around a lane begin along it."""
    own = roads.lanes[lane]
    shifts = {index: -roads.lanes[index].length_m for index in own.predecessors}
    shifts |= {index: own.length_m for index in own.successors}
    return shifts | {lane: 0.0}


def _behind(user: RoadUser, leader: tuple[RoadUser, float] | None, habits: DriverHabits, allowed: float) -> float:
    if leader is None:
        return habits.acceleration(user.speed_mps, allowed, math.inf, 0.0)
    return habits.acceleration(user.speed_mps, allowed, max(leader[1], 0.1), leader[0].speed_mps)


def _beyond(lane: Neighbours, own: RoadUser) -> tuple[RoadUser, float] | None:
    """The leader of a lane as its follower sees it with nobody in between."""
    if lane.leader is None or lane.follower is None:
        return None
    return lane.leader[0], lane.leader[1] + own.length_m + lane.follower[1]
