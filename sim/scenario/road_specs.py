"""What road a scenario takes place on. `roads.build_roads` turns each kind into lanes.

A further source of roads is one more dataclass in `RoadSpec` and one more builder.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from bevstack.sim.scenario.expressions import Number

TownKind = Literal["straight", "curve", "t_junction", "crossroads", "roundabout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StraightRoad:
    """A test track along x. Lanes: ahead_1, ahead_2 ..., oncoming_1 ..., with 1 beside the middle of the road."""

    KIND: ClassVar[str] = "straight"
    length_m: Number = 300.0
    lanes_ahead: int = 1
    lanes_oncoming: int = 1
    lane_width_m: Number = 3.5
    shoulder_m: Number = 0.5
    """Asphalt beyond the outer lanes."""
    speed_limit_mps: Number = 13.89


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvedRoad:
    """A test track that begins along x, bends with one radius and goes on straight; lanes as on a straight one."""

    KIND: ClassVar[str] = "curved"
    radius_m: Number
    """Of the line between the directions; positive to the left."""
    angle_rad: Number = 1.0
    """By how much it bends, positive."""
    before_m: Number = 100.0
    after_m: Number = 100.0
    lanes_ahead: int = 1
    lanes_oncoming: int = 1
    lane_width_m: Number = 3.5
    shoulder_m: Number = 0.5
    speed_limit_mps: Number = 13.89


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossingRoads:
    """Two roads that cross at right angles around (0, 0), one lane per direction.

    Lanes: south_in, south_out and so on for north, east, west, and the connectors south_to_north, south_to_west ...
    Ways through are exact: straight, or quarter circles of radius `half_m` + and - half a lane width.
    """

    KIND: ClassVar[str] = "crossing"
    arm_m: Number = 150.0
    """Length of each arm up to the junction."""
    half_m: Number = 8.0
    """From the middle to where the arms end."""
    lane_width_m: Number = 3.5
    shoulder_m: Number = 0.5
    speed_limit_mps: Number = 13.89
    has_zebras: bool = False
    """Zebra crossings over all arms, their middle `half_m` + 3 m from the middle of the junction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TownRoads:
    """A town of the world generator; lanes are named by their index: "0", "1" ..."""

    KIND: ClassVar[str] = "town"
    town: TownKind
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherLane:
    """A lane that no file has, such as the trajectory that the ego vehicle of an imported scenario takes."""

    name: str
    x_m: tuple[Number, ...]
    """Of its middle, in the direction of travel."""
    y_m: tuple[Number, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDriveRoads:
    """The roads of an OpenDRIVE file; lanes are named "road/section/lane", the section counted from 0: "0/0/-1"."""

    KIND: ClassVar[str] = "opendrive"
    file: str
    """Path of the .xodr, absolute or from the working folder."""
    further_lanes: tuple[FurtherLane, ...] = ()


RoadSpec = StraightRoad | CurvedRoad | CrossingRoads | TownRoads | OpenDriveRoads
