"""How things move in a scenario: what a manoeuvre's trigger looks at and what its action changes."""

import math
from dataclasses import dataclass, replace

import shapely

from bevstack.planning.vehicle import VehicleParams
from bevstack.sim.scenario.ways import Way

STANDING_MPS = 0.05
"""Slower than this is standing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoMotion:
    """The ego vehicle now, as the script needs it; the pose is that of its rear axle."""

    x: float
    y: float
    yaw: float
    speed_mps: float
    travelled_m: float = 0.0
    """Since the begin."""
    standing_s: float = 0.0
    """For how long it has stood."""

    def later(self, seconds: float) -> "EgoMotion":
        """Straight on at the same speed."""
        way = self.speed_mps * seconds
        return replace(
            self,
            x=self.x + way * math.cos(self.yaw),
            y=self.y + way * math.sin(self.yaw),
            travelled_m=self.travelled_m + abs(way),
            standing_s=self.standing_s + seconds if abs(self.speed_mps) < STANDING_MPS else 0.0,
        )

    def body(self, vehicle: VehicleParams) -> "Body":
        """Its outline and velocity."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return Body(
            x=self.x + vehicle.center_ahead_m * c,
            y=self.y + vehicle.center_ahead_m * s,
            yaw=self.yaw,
            length_m=vehicle.length_m,
            width_m=vehicle.width_m,
            vx=self.speed_mps * c,
            vy=self.speed_mps * s,
            reference=(self.x, self.y),
            travelled_m=self.travelled_m,
            standing_s=self.standing_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A rectangle with a velocity."""

    x: float
    """Of the middle."""
    y: float
    yaw: float
    length_m: float
    width_m: float
    vx: float
    vy: float
    reference: tuple[float, float]
    """What "place" means for it: the rear axle of the ego vehicle, else the middle."""
    travelled_m: float
    standing_s: float

    @property
    def speed_mps(self) -> float:
        """Of the middle."""
        return math.hypot(self.vx, self.vy)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActorMotion:
    """One actor now."""

    way: Way
    station_m: float
    """Of the box centre along the way."""
    left_m: float
    speed_mps: float
    """Along the way."""
    left_rate_mps: float = 0.0
    yaw_rad: float = 0.0
    """Added to the direction of motion."""
    is_present: bool = True
    travelled_m: float = 0.0
    standing_s: float = 0.0

    @property
    def pose(self) -> tuple[float, float, float]:
        """x, y, yaw of the box centre; in a lane change it faces where it goes."""
        x, y, yaw = self.way.pose(self.station_m, self.left_m)
        turned = math.atan2(self.left_rate_mps, self.speed_mps) if self.speed_mps > STANDING_MPS else 0.0
        return x, y, yaw + turned + self.yaw_rad

    @property
    def velocity(self) -> tuple[float, float]:
        """vx, vy."""
        _, _, yaw = self.way.pose(self.station_m)
        c, s = math.cos(yaw), math.sin(yaw)
        return self.speed_mps * c - self.left_rate_mps * s, self.speed_mps * s + self.left_rate_mps * c

    def body(self, size_lwh: tuple[float, float, float]) -> Body:
        """Its outline and velocity."""
        (x, y, yaw), (vx, vy) = self.pose, self.velocity
        return Body(
            x=x,
            y=y,
            yaw=yaw,
            length_m=size_lwh[0],
            width_m=size_lwh[1],
            vx=vx,
            vy=vy,
            reference=(x, y),
            travelled_m=self.travelled_m,
            standing_s=self.standing_s,
        )

    def moved(
        self, station_m: float, left_m: float, speed_mps: float, left_rate_mps: float, dt_s: float
    ) -> "ActorMotion":
        """The same after a time."""
        return replace(
            self,
            station_m=station_m,
            left_m=left_m,
            speed_mps=speed_mps,
            left_rate_mps=left_rate_mps,
            travelled_m=self.travelled_m + abs(station_m - self.station_m),
            standing_s=self.standing_s + dt_s if abs(speed_mps) < STANDING_MPS else 0.0,
        )


def gap_between(one: Body, other: Body) -> float:
    """Least distance between two outlines; 0 where they touch."""
    return float(shapely.distance(shapely.Polygon(corners_of(one)), shapely.Polygon(corners_of(other))))


def time_to_collision(one: Body, other: Body) -> float:
    """Seconds until the outlines touch at the present velocities and headings; infinite where they never do.

    Rectangles that slide without turning touch when no separating axis is left: each axis gives a span of times.
    """
    vx, vy = other.vx - one.vx, other.vy - one.vy
    first, last = 0.0, math.inf
    for axis in (one.yaw, one.yaw + math.pi / 2, other.yaw, other.yaw + math.pi / 2):
        c, s = math.cos(axis), math.sin(axis)
        apart = (other.x - one.x) * c + (other.y - one.y) * s
        closing = vx * c + vy * s
        reach = _reach(one, axis) + _reach(other, axis)
        if abs(closing) < 1e-9:
            if abs(apart) > reach:
                return math.inf
            continue
        enter, leave = sorted(((-reach - apart) / closing, (reach - apart) / closing))
        first, last = max(first, enter), min(last, leave)
    return first if first <= last else math.inf


def along_and_across(one: Body, other: Body) -> tuple[float, float]:
    """Gaps between the outlines along and across the direction of the first; negative along where the other is behind.

    A gap across is 0 where the outlines overlap in that direction.
    """
    c, s = math.cos(one.yaw), math.sin(one.yaw)
    dx, dy = other.x - one.x, other.y - one.y
    ahead, left = dx * c + dy * s, dy * c - dx * s
    long = max(0.0, abs(ahead) - one.length_m / 2 - _reach(other, one.yaw))
    wide = max(0.0, abs(left) - one.width_m / 2 - _reach(other, one.yaw + math.pi / 2))
    return math.copysign(long, ahead), wide


def _reach(body: Body, axis: float) -> float:
    """Half of the extent along a direction."""
    turn = body.yaw - axis
    return (body.length_m * abs(math.cos(turn)) + body.width_m * abs(math.sin(turn))) / 2


def corners_of(body: Body) -> list[tuple[float, float]]:
    """Front-left, back-left, back-right, front-right."""
    c, s = math.cos(body.yaw), math.sin(body.yaw)
    half_l, half_w = body.length_m / 2, body.width_m / 2
    local = ((half_l, half_w), (-half_l, half_w), (-half_l, -half_w), (half_l, -half_w))
    return [(body.x + c * u - s * v, body.y + s * u + c * v) for u, v in local]
