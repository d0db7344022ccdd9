"""What the ego vehicle has to achieve, and what would happen to one that does not react."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from bevstack.sim.scenario.expressions import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCollision:
    """It touches nobody."""

    KIND: ClassVar[str] = "no_collision"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactSpeedBelow:
    """If it collides, then slower than this."""

    KIND: ClassVar[str] = "impact_speed_below"
    speed_mps: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class StopDistance:
    """It ends standing, its front end so far from an actor."""

    KIND: ClassVar[str] = "stop_distance"
    to: str
    least_m: Number = 0.5
    most_m: Number = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MinTtc:
    """Its time to collision with anybody never falls below this."""

    KIND: ClassVar[str] = "min_ttc"
    least_s: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class StaysInLane:
    """Its outline stays within the lanes of its route."""

    KIND: ClassVar[str] = "stays_in_lane"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachesGoal:
    """It gets to the goal before the time is up."""

    KIND: ClassVar[str] = "reaches_goal"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopsAtRed:
    """It passes no red light."""

    KIND: ClassVar[str] = "stops_at_red"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepsSpeedLimit:
    """It is never faster than the limit and this tolerance."""

    KIND: ClassVar[str] = "speed_limit"
    tolerance_mps: Number = 1.0


Expectation = (
    NoCollision | ImpactSpeedBelow | StopDistance | MinTtc | StaysInLane | ReachesGoal | StopsAtRed | KeepsSpeedLimit
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollisionDanger:
    """An ego vehicle that keeps its speed and lane collides."""

    KIND: ClassVar[str] = "collision"
    actor: str
    point: Literal["centre", "front", "rear"] = "centre"
    """Of the actor: its middle or the middle of an end. Where this point is across or along the ego vehicle at first
    contact is the impact location."""
    face: Literal["front", "left", "right", "rear"] = "front"
    """Side of the ego vehicle that is hit."""
    share: Number | None = None
    """Impact location: share of the ego's width, from the side that the actor comes from (`measured_from`); on the left
    or right face share of its length from the front. None where the standard names none."""
    measured_from: Literal["left", "right"] = "right"
    holds_if: bool | str = True
    """A comparison: for which values of the parameters this is claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherTest:
    """No collision is meant to happen to an ego vehicle that keeps its speed and lane; something else is tested.

    With an empty `what`, as in files that say nothing of it, nothing is claimed.
    """

    KIND: ClassVar[str] = "other"
    what: str


Danger = CollisionDanger | OtherTest
