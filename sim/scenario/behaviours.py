"""Who decides how an actor moves, besides its manoeuvres."""

from dataclasses import dataclass
from typing import ClassVar

from bevstack.sim.scenario.expressions import Number
from bevstack.sim.scenario.places import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedBehaviour:
    """Nobody: it keeps its speed and lane, and its manoeuvres alone change that. It reacts to nothing."""

    KIND: ClassVar[str] = "scripted"


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticBehaviour:
    """It stands."""

    KIND: ClassVar[str] = "static"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdmBehaviour:
    """A driver who keeps distance (intelligent driver model) and, where it may, changes lanes (MOBIL)."""

    KIND: ClassVar[str] = "idm"
    wished_mps: Number
    headway_s: Number = 1.5
    acceleration_mps2: Number = 1.5
    braking_mps2: Number = 2.0
    standstill_gap_m: Number = 2.0
    changes_lanes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PedestrianBehaviour:
    """Somebody on foot who walks a way and, before stepping on the road, waits for a gap in traffic."""

    KIND: ClassVar[str] = "pedestrian"
    way: tuple[Place, ...]
    walking_mps: Number = 1.4
    accepted_gap_s: Number = 4.0
    """Time until the next vehicle comes; 0 walks without looking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclistBehaviour:
    """Somebody on a bicycle who rides along the lane, at its right edge, and keeps distance."""

    KIND: ClassVar[str] = "cyclist"
    wished_mps: Number = 4.2
    offset_m: Number = -1.0
    """To the left of the lane's centre."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayBehaviour:
    """A recorded track, from a scene of a data set in nuScenes format."""

    KIND: ClassVar[str] = "replay"
    scene: str
    instance: str
    take_over: bool = True
    """Follow the recorded way by the intelligent driver model once the ego vehicle leaves its own record."""


Behaviour = (
    ScriptedBehaviour | StaticBehaviour | IdmBehaviour | PedestrianBehaviour | CyclistBehaviour | ReplayBehaviour
)
