"""What an actor does once its manoeuvre begins. Shapes are those of `bevstack.sim.agents.transitions`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from bevstack.sim.agents.transitions import TransitionShape
from bevstack.sim.scenario.expressions import Number
from bevstack.sim.scenario.places import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedAction:
    """Come to a speed."""

    KIND: ClassVar[str] = "speed"
    speed_mps: Number
    """The speed to come to; where `relative_to` is given, what is added to that one's speed at the begin."""
    relative_to: str | None = None
    shape: TransitionShape = "linear"
    by: Literal["rate", "time", "distance"] = "time"
    """What `amount` is: the steepest m/s2, seconds, or metres."""
    amount: Number = 0.0
    """0 changes at once. Unused by the shape step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneChangeAction:
    """Move across: to a neighbouring lane, or to another offset in the same one."""

    KIND: ClassVar[str] = "lane_change"
    lanes_left: int = 0
    """How many lanes to the left; negative to the right."""
    offset_m: Number = 0.0
    """To the left of the centre of the lane at the end."""
    shape: TransitionShape = "sinusoidal"
    by: Literal["rate", "time", "distance"] = "time"
    """What `amount` is: the steepest lateral m/s, seconds, or metres along the lane."""
    amount: Number = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waypoint:
    """A point of a way."""

    place: Place
    time_s: Number | None = None
    """After the begin of the manoeuvre."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowAction:
    """Take the straight lines from one point to the next: by their times, or where they have none at one's speed."""

    KIND: ClassVar[str] = "follow"
    points: tuple[Waypoint, ...]
    """The way begins where the actor is. Either all have times, increasing, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeleportAction:
    """Be elsewhere at once."""

    KIND: ClassVar[str] = "teleport"
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class AppearAction:
    """Come into the world."""

    KIND: ClassVar[str] = "appear"


@dataclass(frozen=True, slots=True, kw_only=True)
class VanishAction:
    """Leave the world."""

    KIND: ClassVar[str] = "vanish"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAction:
    """Go on as before for a time: what other manoeuvres can wait for."""

    KIND: ClassVar[str] = "hold"
    duration_s: Number


Action = SpeedAction | LaneChangeAction | FollowAction | TeleportAction | AppearAction | VanishAction | HoldAction
