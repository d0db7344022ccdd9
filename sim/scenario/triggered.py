"""Whether a trigger holds in a situation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bevstack.sim.scenario.motion import STANDING_MPS, Body, along_and_across, gap_between, time_to_collision
from bevstack.sim.scenario.placing import pose_of
from bevstack.sim.scenario.roads import ScenarioRoads
from bevstack.sim.scenario.triggers import (
    AfterTrigger,
    AllTrigger,
    AnyTrigger,
    DistanceTrigger,
    HeadwayTrigger,
    ReachTrigger,
    Rule,
    SpeedTrigger,
    StandstillTrigger,
    StationTrigger,
    TimeTrigger,
    Trigger,
    TtcTrigger,
)
from bevstack.sim.scenario.ways import Way

_SOON_S = 1e-9
"""Times are sums of steps."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Situation:
    """What triggers look at."""

    time_s: float
    bodies: Mapping[str, Body]
    """Everybody who is in the world."""
    ended: Mapping[str, float]
    """Name of a manoeuvre -> when it ended."""
    roads: ScenarioRoads
    ways: Mapping[str, Way]

    def standing(self) -> dict[str, tuple[Way, float, float]]:
        """Where everybody is along their ways, for relative places."""
        return {name: (self.ways[name], *self.ways[name].station_of(*b.reference)) for name, b in self.bodies.items()}


def is_triggered(trigger: Trigger, situation: Situation) -> bool:
    """Whether it holds now; one that looks at somebody who is not in the world does not."""
    if isinstance(trigger, AllTrigger):
        return all(is_triggered(part, situation) for part in trigger.of)
    if isinstance(trigger, AnyTrigger):
        return any(is_triggered(part, situation) for part in trigger.of)
    if isinstance(trigger, TimeTrigger):
        return situation.time_s >= float(trigger.at_s) - _SOON_S
    if isinstance(trigger, AfterTrigger):
        ended = situation.ended.get(trigger.maneuver, math.inf)
        return situation.time_s >= ended + float(trigger.delay_s) - _SOON_S
    who = situation.bodies.get(trigger.who)
    if who is None:
        return False
    if isinstance(trigger, DistanceTrigger | TtcTrigger | HeadwayTrigger):
        to = situation.bodies.get(trigger.to)
        return to is not None and _relates(trigger, who, to)
    if isinstance(trigger, StationTrigger):
        way = Way.along((situation.roads.lane(trigger.lane),))
        return way.station_of(*who.reference)[0] >= float(trigger.station_m)
    if isinstance(trigger, ReachTrigger):
        x, y, _ = pose_of(trigger.place, situation.roads, situation.standing())
        return math.hypot(who.reference[0] - x, who.reference[1] - y) <= float(trigger.within_m)
    if isinstance(trigger, SpeedTrigger):
        return _compares(who.speed_mps, trigger.rule, float(trigger.speed_mps))
    if isinstance(trigger, StandstillTrigger):
        return who.speed_mps < STANDING_MPS and who.standing_s >= float(trigger.for_s) - _SOON_S
    return who.travelled_m >= float(trigger.distance_m)


def _relates(trigger: DistanceTrigger | TtcTrigger | HeadwayTrigger, who: Body, to: Body) -> bool:
    if isinstance(trigger, TtcTrigger):
        return _compares(time_to_collision(who, to), trigger.rule, float(trigger.time_s))
    if isinstance(trigger, HeadwayTrigger):
        ahead, _ = along_and_across(who, to)
        headway = ahead / who.speed_mps if who.speed_mps > STANDING_MPS and ahead >= 0 else math.inf
        return _compares(headway, trigger.rule, float(trigger.time_s))
    if trigger.measure == "gap":
        distance = gap_between(who, to)
    elif trigger.measure == "centres":
        distance = math.dist(who.reference, to.reference)
    else:
        along, across = along_and_across(who, to)
        distance = abs(along) if trigger.measure == "along" else across
    return _compares(distance, trigger.rule, float(trigger.distance_m))


def _compares(value: float, rule: Rule, limit: float) -> bool:
    return value <= limit if rule == "below" else value >= limit
