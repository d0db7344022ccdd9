"""Routes through a town's lanes and the smooth path that a vehicle follows along one."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from bevstack.sim.world.roads import RoadNetwork

PATH_STEP_M = 0.5
RUN_OUT_M = 24.0
"""Straight continuation before the first and after the last lane, so that long vehicles fit on the path at its ends."""
LATERAL_ACCELERATION_MPS2 = 2.0
COMFORT_BRAKING_MPS2 = 1.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrivePath:
    """A lane sequence as a curve sampled every `PATH_STEP_M`."""

    lanes: tuple[int, ...]
    lane_starts_m: tuple[float, ...]
    """Station at which each lane begins; one more for the end of the last."""
    points: Float[np.ndarray, "P 2"]
    speeds_mps: Float[np.ndarray, " P"]
    """Highest comfortable speed: speed limit and curvature, with braking ahead of bends."""

    @property
    def end_m(self) -> float:
        """Station at which the last lane ends; vehicles leave the town there."""
        return self.lane_starts_m[-1]

    def at(self, station_m: float) -> Float[np.ndarray, " 2"]:
        """Point at a station; clamped to the ends."""
        position = min(max(station_m / PATH_STEP_M, 0.0), len(self.points) - 1.001)
        low = int(position)
        return self.points[low] + (position - low) * (self.points[low + 1] - self.points[low])

    def speed_at(self, station_m: float) -> float:
        """Comfortable speed at a station."""
        return float(self.speeds_mps[min(max(int(station_m / PATH_STEP_M), 0), len(self.speeds_mps) - 1)])

    def pose(self, rear_m: float, wheelbase_m: float, center_ahead_m: float) -> tuple[float, float, float]:
        """x, y, yaw of the box centre of a vehicle with its rear axle at a station and both axles on the path."""
        rear, front = self.at(rear_m), self.at(rear_m + wheelbase_m)
        yaw = float(np.arctan2(front[1] - rear[1], front[0] - rear[0]))
        return rear[0] + center_ahead_m * np.cos(yaw), rear[1] + center_ahead_m * np.sin(yaw), yaw


def random_route(roads: RoadNetwork, rng: np.random.Generator, *, straight_only: bool = False) -> tuple[int, ...]:
    """A lane sequence from an edge of the town to another, turns drawn at random."""
    entries = [lane.index for lane in roads.lanes if not lane.predecessors and not lane.is_connector]
    for _ in range(12):
        route = [int(rng.choice(entries))]
        while len(route) < 14:
            options = roads.lanes[route[-1]].successors
            if straight_only:
                options = tuple(k for k in options if roads.lanes[k].turn == "straight")
            if not options:
                break
            route.append(int(rng.choice(options)))
        if not roads.lanes[route[-1]].successors:
            break
    return tuple(route)


def make_path(
    roads: RoadNetwork, route: tuple[int, ...], *, offset_m: float = 0.0, speed_factor: float = 1.0
) -> DrivePath:
    """The curve along a route, `offset_m` to the left of the centrelines, with its speed profile."""
    lines = [roads.lanes[index].centerline for index in route]
    joined = np.concatenate([lines[0], *(line[1:] for line in lines[1:])])
    keep = np.concatenate(([True], np.hypot(*np.diff(joined, axis=0).T) > 1e-3))
    joined = joined[keep]
    before = joined[0] - (joined[1] - joined[0]) / np.hypot(*(joined[1] - joined[0])) * RUN_OUT_M
    after = joined[-1] + (joined[-1] - joined[-2]) / np.hypot(*(joined[-1] - joined[-2])) * RUN_OUT_M
    first = np.linspace(before, joined[0], 13)[:-1]
    last = np.linspace(joined[-1], after, 13)[1:]
    points = np.concatenate((first, joined, last))
    stations = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))))
    spline = CubicSpline(stations, points)
    grid = np.arange(0.0, stations[-1], PATH_STEP_M)
    curve, slope, bend = spline(grid), spline(grid, 1), spline(grid, 2)
    if offset_m:
        curve = curve + offset_m * np.stack((-slope[:, 1], slope[:, 0]), -1) / np.hypot(*slope.T)[:, None]
    curvature = np.abs(slope[:, 0] * bend[:, 1] - slope[:, 1] * bend[:, 0]) / np.hypot(*slope.T) ** 3
    curvature = np.convolve(curvature, np.ones(5) / 5, mode="same")
    starts = [RUN_OUT_M]
    for line in lines:
        starts.append(starts[-1] + float(np.hypot(*np.diff(line, axis=0).T).sum()))
    limits = np.array([roads.lanes[index].speed_limit_mps for index in route]) * speed_factor
    which = np.clip(np.searchsorted(np.array(starts), grid, side="right") - 1, 0, len(route) - 1)
    speeds = np.minimum(limits[which], np.sqrt(LATERAL_ACCELERATION_MPS2 / np.maximum(curvature, 1e-4)))
    for k in range(len(speeds) - 2, -1, -1):
        speeds[k] = min(speeds[k], np.sqrt(speeds[k + 1] ** 2 + 2 * COMFORT_BRAKING_MPS2 * PATH_STEP_M))
    return DrivePath(lanes=route, lane_starts_m=tuple(starts), points=curve, speeds_mps=speeds)
