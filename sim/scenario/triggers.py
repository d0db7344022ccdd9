"""When a manoeuvre begins. Who and to are names of actors, or "ego"."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from bevstack.sim.scenario.expressions import Number
from bevstack.sim.scenario.places import Place

Rule = Literal["below", "above"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeTrigger:
    """At a time of the scenario."""

    KIND: ClassVar[str] = "time"
    at_s: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachTrigger:
    """Somebody comes near a place."""

    KIND: ClassVar[str] = "reach"
    place: Place
    who: str = "ego"
    within_m: Number = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StationTrigger:
    """Somebody has come so far along a lane, or beyond it."""

    KIND: ClassVar[str] = "station"
    lane: str
    station_m: Number
    who: str = "ego"


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceTrigger:
    """Two are nearer (or further) than a distance."""

    KIND: ClassVar[str] = "distance"
    to: str
    distance_m: Number
    who: str = "ego"
    rule: Rule = "below"
    measure: Literal["gap", "centres", "along", "across"] = "gap"
    """Between the outlines, between reference points, or only along or across the direction of `who`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TtcTrigger:
    """Time until the outlines of two would touch at their present velocities."""

    KIND: ClassVar[str] = "ttc"
    to: str
    time_s: Number
    who: str = "ego"
    rule: Rule = "below"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadwayTrigger:
    """Gap along the direction of `who`, divided by its speed."""

    KIND: ClassVar[str] = "headway"
    to: str
    time_s: Number
    who: str = "ego"
    rule: Rule = "below"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedTrigger:
    """Somebody is slower (or faster) than a speed."""

    KIND: ClassVar[str] = "speed"
    speed_mps: Number
    who: str = "ego"
    rule: Rule = "above"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandstillTrigger:
    """Somebody has stood for a time."""

    KIND: ClassVar[str] = "standstill"
    for_s: Number
    who: str = "ego"


@dataclass(frozen=True, slots=True, kw_only=True)
class TravelledTrigger:
    """Somebody has travelled a distance since the scenario began."""

    KIND: ClassVar[str] = "travelled"
    distance_m: Number
    who: str = "ego"


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterTrigger:
    """Another manoeuvre, of any actor, has ended."""

    KIND: ClassVar[str] = "after"
    maneuver: str
    delay_s: Number = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AllTrigger:
    """All of them hold at once."""

    KIND: ClassVar[str] = "all"
    of: tuple["Trigger", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyTrigger:
    """One of them holds."""

    KIND: ClassVar[str] = "any"
    of: tuple["Trigger", ...]


Trigger = (
    TimeTrigger
    | ReachTrigger
    | StationTrigger
    | DistanceTrigger
    | TtcTrigger
    | HeadwayTrigger
    | SpeedTrigger
    | StandstillTrigger
    | TravelledTrigger
    | AfterTrigger
    | AllTrigger
    | AnyTrigger
)
