"""What the ego vehicle is asked to do: where it begins, its way, how fast, how far, and the lights on the way."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from bevstack.data.routes import LOOK_AHEAD_M, command_ahead
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.agents.places import place_on_path
from bevstack.sim.drive_log import RedLight
from bevstack.sim.ego.motion import VehicleState
from bevstack.sim.world.drive_paths import PATH_STEP_M
from bevstack.sim.world.roads import RoadNetwork
from bevstack.types.trajectory import ROUTE_STEP_M, Route

DRIVEN_VEHICLE = replace(NUSCENES_VEHICLE, max_speed_mps=38.9)
"""The vehicle of the worlds with its real top speed of 140 km/h: official tests go up to 130 km/h."""
BEHIND_M, BEYOND_M = 10.0, 150.0
"""How much of the way is drawn before the start, and beyond where the vehicle may get."""
_LOOK_AHEAD_S = 7.0
_BRAKING_AHEAD_M = 30.0
"""Routes reach as far as a planner needs to keep its speed: one that sees its way end brakes for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LightAhead:
    """A red light on the way."""

    station_m: float
    """Of its stop line along the course."""
    light: RedLight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """The ego vehicle's task in one run. Letters: P points."""

    roads: RoadNetwork
    line: Float[np.ndarray, "P 2"]
    """The way of the rear axle, `PATH_STEP_M` apart, from `BEHIND_M` before the start."""
    lanes: tuple[int, ...]
    """That the way runs along; empty where that is not known."""
    start: VehicleState
    wished_mps: float
    """To be driven where nothing hinders it."""
    speed_limit_mps: float
    """The law's."""
    duration_s: float
    goal_m: float | None = None
    """Way from the start to the goal; None for none."""
    red_lights: tuple[RedLight, ...] = ()
    lights_ahead: tuple[LightAhead, ...] = ()
    vehicle: VehicleParams = DRIVEN_VEHICLE

    def station_of(self, ego: VehicleState, near_m: float) -> float:
        """Station of the point of the line nearest to the rear axle, looked for around an earlier one."""
        return place_on_path(self.line, ego.x_m, ego.y_m, near_m)[0]

    def route(self, ego: VehicleState, station_m: float) -> Route:
        """What the navigation asks for at a state; the first waypoint is abeam of the rear axle."""
        stations = station_m + ROUTE_STEP_M * np.arange(round(_reach_m(ego.speed_mps) / ROUTE_STEP_M))
        own = PATH_STEP_M * np.arange(len(self.line))
        points = np.stack([np.interp(stations, own, self.line[:, axis]) for axis in (0, 1)], axis=1)
        offset, c, s = points - (ego.x_m, ego.y_m), np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
        waypoints = np.stack((c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]), axis=1)
        return Route(command=command_ahead(waypoints), waypoints_ego=waypoints, speed_limit_mps=self.wished_mps)

    def red_line(self, station_m: float, time_s: float, speed_mps: float = 0.0) -> tuple[float, float] | None:
        """Where the next stop line is whose light is red now, as far as the route reaches; None without one."""
        front = station_m + self.vehicle.front_ahead_m
        near = station_m + _reach_m(speed_mps) - 2 * ROUTE_STEP_M
        for ahead in sorted(self.lights_ahead, key=lambda ahead: ahead.station_m):
            if front - 1.0 < ahead.station_m < near and ahead.light.from_s <= time_s < ahead.light.until_s:
                row = min(int(ahead.station_m / PATH_STEP_M), len(self.line) - 1)
                return float(self.line[row, 0]), float(self.line[row, 1])
        return None


def _reach_m(speed_mps: float) -> float:
    """Length of a route at a speed."""
    return max(LOOK_AHEAD_M, _LOOK_AHEAD_S * speed_mps + _BRAKING_AHEAD_M)
