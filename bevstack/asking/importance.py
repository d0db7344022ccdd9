"""Which things matter for the next seconds of driving, with the reasons: a fixed rule, not a learned one."""

from dataclasses import dataclass

import numpy as np

from bevstack.asking.believed import TRAFFIC_ELEMENTS, Belief, Thing
from bevstack.asking.way import Conflict, OnWay, Way, first_conflict, on_way, way_ahead

VULNERABLE = frozenset({"pedestrian", "bicycle", "motorcycle"})
STATIC = frozenset({"traffic_cone", "barrier"})
BESIDE_M = 6.0
"""Who walks or cycles closer to the way than this may step into it."""

_REACH_M, _SOON_S = 20.0, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A thing with its weight for the driver and why."""

    thing: Thing
    weight: float
    reasons: tuple[str, ...]


def ranked(belief: Belief) -> list[Ranked]:
    """All things, what matters most first."""
    way = way_ahead(belief)
    gaps = {each.thing.number: each for each in on_way(belief, way)}
    conflict = first_conflict(belief, way)
    found = [_weighed(thing, way, gaps.get(thing.number), conflict) for thing in belief.things]
    return sorted(found, key=lambda each: -each.weight)


def _weighed(thing: Thing, way: Way, ahead: OnWay | None, conflict: Conflict | None) -> Ranked:
    weight, reasons = float(np.exp(-thing.distance_m / _REACH_M)), []
    along, across = way.coordinates(thing.xy[None])[0]
    if ahead is not None:
        weight += 3 * float(np.exp(-ahead.gap_m / _REACH_M))
        reasons.append(f"on the way, {ahead.gap_m:.0f} m before the bumper")
    if conflict is not None and conflict.thing.number == thing.number:
        weight += 3 * float(np.exp(-conflict.time_s / _SOON_S))
        reasons.append(f"where the vehicle will be in {conflict.time_s:.1f} s")
    if (
        thing.name in VULNERABLE
        and 0 < along < 2 * _REACH_M
        and abs(across) < BESIDE_M
        and thing.has_rider is not False
    ):
        weight += 1.5
        reasons.append(f"unprotected, {abs(across):.0f} m from the middle of the way")
    if thing.name in TRAFFIC_ELEMENTS and along > 0:
        weight += 2.5
        reasons.append("it rules who may go")
    if along > 0:
        weight += 0.5
    if thing.state == "moving":
        weight += 0.7
        reasons.append("moving")
    if thing.state == "parked":
        weight -= 0.5
    if thing.name in STATIC:
        weight -= 0.7
    return Ranked(thing=thing, weight=weight, reasons=tuple(reasons) or (f"{thing.distance_m:.0f} m away",))
