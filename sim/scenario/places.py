"""Where something is in a scenario: on a lane, relative to somebody, or at coordinates of the world.

A place means the rear axle of the ego vehicle and the box centre of everybody else. Yaw is counter-clockwise.
"""

from dataclasses import dataclass
from typing import ClassVar

from bevstack.sim.scenario.expressions import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class LanePlace:
    """On a lane of the road, by the lane's name (`roads.ScenarioRoads.lane_names`)."""

    KIND: ClassVar[str] = "lane"
    lane: str
    station_m: Number
    """Along the lane in its direction of travel."""
    offset_m: Number = 0.0
    """To the left of the lane's centre; may lie outside of the lane."""
    yaw_rad: Number = 0.0
    """Added to the direction of travel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelativePlace:
    """Where somebody is, moved along and across the lanes that it is going to take."""

    KIND: ClassVar[str] = "relative"
    to: str = "ego"
    """Name of an actor, or "ego" (its rear axle)."""
    ahead_m: Number = 0.0
    left_m: Number = 0.0
    yaw_rad: Number = 0.0
    """Added to the direction of those lanes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldPlace:
    """In the frame of the road network."""

    KIND: ClassVar[str] = "world"
    x_m: Number
    y_m: Number
    yaw_rad: Number = 0.0


Place = LanePlace | RelativePlace | WorldPlace
