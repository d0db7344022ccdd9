"""People on foot: along sidewalks, across crossings and, near the ego vehicle, across the open road."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from bevstack.sim.world.actor_people import GAIT_PHASES
from bevstack.sim.world.actors import ActorModel, is_walker
from bevstack.sim.world.polylines import arc_lengths, at_stations, headings
from bevstack.sim.world.vehicles import BRAKING_MPS2, Vehicle, gap_ahead

STRIDE_M = 1.45
"""Distance of one full gait cycle of an adult 1.76 m tall."""
SIDEWALK_HEIGHT_M = 0.15
BODY_RADIUS_M = 0.45


@dataclass(slots=True, kw_only=True, eq=False)
class Walker:
    """Someone who walks along a line, or stands."""

    model: ActorModel
    line: Float[np.ndarray, "P 2"]
    station_m: float
    speed_mps: float
    height_m: float = SIDEWALK_HEIGHT_M
    crosses_road: bool = False
    start_at_s: float = 0.0
    """A crossing begins at this time at the earliest, and then as soon as all vehicles can still stop."""
    trigger_distance_m: float = 0.0
    """A crossing also waits until the ego vehicle is this close; 0 for no such wait."""
    expected_braking_mps2: float = BRAKING_MPS2
    """A crossing begins when all vehicles can stop for it with this deceleration."""
    is_walking: bool = True
    travelled_m: float = 0.0
    poses: list[tuple[float, float, float]] = field(default_factory=list)
    heights_m: list[float] = field(default_factory=list)
    phases: list[int] = field(default_factory=list)
    moving: list[bool] = field(default_factory=list)
    _own: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def length_m(self) -> float:
        """Length of the line."""
        return float(self._stations()[0][-1])

    def pose(self) -> tuple[float, float, float]:
        """x, y, yaw."""
        own, yaws = self._stations()
        k = int(np.clip(np.searchsorted(own, self.station_m, side="right") - 1, 0, len(own) - 2))
        share = min(max((self.station_m - own[k]) / (own[k + 1] - own[k]), 0.0), 1.0)
        x, y = self.line[k] + share * (self.line[k + 1] - self.line[k])
        return float(x), float(y), float(yaws[k] + share * (yaws[k + 1] - yaws[k]))

    def _stations(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances along the line and headings of its points."""
        if self._own is None:
            self._own = arc_lengths(self.line), np.unwrap(headings(self.line))
        return self._own

    def way_ahead(self) -> np.ndarray:
        """Rows x, y, radius, vx, vy, owner that cover the rest of a crossing: what drivers keep clear of."""
        stations = np.arange(self.station_m, self.length_m + 0.4, 0.7)
        points = at_stations(self.line, stations)[:, :2]
        rows = np.zeros((len(points), 6))
        rows[:, :2], rows[:, 2], rows[:, 5] = points, BODY_RADIUS_M, -1.0
        return rows


def can_all_stop(walker: Walker, vehicles: list[Vehicle]) -> bool:
    """Whether every vehicle that is to cross the walker's way can brake before it as the walker expects."""
    way = walker.way_ahead()
    for index, vehicle in enumerate(vehicles):
        if vehicle.has_left:
            continue
        tail_clear = np.hypot(*(way[:, :2] - np.array(vehicle.pose()[:2])).T).min() > vehicle.length_m / 2 + 0.8
        if not tail_clear:
            return False
        gap, _ = gap_ahead(vehicle, index, way)
        if gap < vehicle.speed_mps**2 / (2 * walker.expected_braking_mps2) + 3.0 + vehicle.speed_mps * 0.3:
            return False
    return True


def step_walkers(walkers: list[Walker], vehicles: list[Vehicle], ego: Vehicle, now_s: float, step_s: float) -> None:
    """Advance all walkers; crossings begin when their trigger fires and the road can be crossed."""
    ego_xy = np.array(ego.pose()[:2])
    for walker in walkers:
        if walker.crosses_road and not walker.is_walking:
            if walker.station_m > 0 or now_s < walker.start_at_s:
                continue
            here = np.array(walker.pose()[:2])
            if walker.trigger_distance_m and np.hypot(*(here - ego_xy)) > walker.trigger_distance_m:
                continue
            walker.is_walking = can_all_stop(walker, vehicles)
        if walker.is_walking and walker.speed_mps > 0:
            step = walker.speed_mps * step_s
            walker.station_m += step
            walker.travelled_m += step
            if walker.station_m >= walker.length_m:
                walker.is_walking = False


def record_walkers(walkers: list[Walker]) -> None:
    """Append the present pose, height of the ground and gait phase to every walker's track."""
    for walker in walkers:
        walker.poses.append(walker.pose())
        on_road = walker.crosses_road and 0.4 < walker.station_m < walker.length_m - 0.4
        walker.heights_m.append(0.0 if on_road else walker.height_m)
        is_moving = walker.is_walking and walker.speed_mps > 0
        walker.moving.append(is_moving)
        stride = STRIDE_M * walker.model.size_lwh[2] / 1.76
        gait = int(walker.travelled_m / stride * GAIT_PHASES) % GAIT_PHASES
        walker.phases.append(gait if is_moving and is_walker(walker.model) else walker.model.standing_phase)


def crossing_rows(walkers: list[Walker]) -> np.ndarray:
    """What drivers keep clear of now: the rest of the way of everyone who is crossing."""
    rows = [walker.way_ahead() for walker in walkers if walker.crosses_road and walker.is_walking]
    return np.concatenate([np.zeros((0, 6)), *rows])
