"""A driver on lanes: keeps distance, gives way at junctions, and may change lanes.

Also a cyclist: slower, beside the lane's centre. The body has both axles on its path; in a lane change the path is that
of the new lane from the first moment, and the body moves over to it smoothly.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from bevstack.sim.agents.driver_habits import DriverHabits, advanced
from bevstack.sim.agents.mobil import MobilParams, lane_gain, neighbours_in
from bevstack.sim.agents.places import place_on_path
from bevstack.sim.agents.right_of_way import stop_station
from bevstack.sim.agents.transitions import Transition
from bevstack.sim.agents.view import RoadUser, WorldView
from bevstack.sim.world.drive_paths import PATH_STEP_M, DrivePath, make_path
from bevstack.sim.world.roads import RoadNetwork
from bevstack.sim.world.traffic_kernels import free_gap
from bevstack.sim.world.vehicles import LATERAL_MARGIN_M, WHEELBASE_SHARE

HORIZON_M = 150.0
"""How far ahead drivers look for others."""
_ROUTE_AHEAD_M = 170.0
_SETTLED = Transition(shape="cubic", first=0.0, last=0.0, duration=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverState:
    """A driver now."""

    user: RoadUser | None
    """None once it has left the road network."""
    lanes: tuple[int, ...]
    """The lanes that it follows; more are added as it goes."""
    rear_m: float
    """Station of its rear axle along the path of these lanes."""
    side: Transition = field(default=_SETTLED)
    """Its distance to the left of that path, over the time since the last change began."""
    side_for_s: float = math.inf

    @property
    def left_m(self) -> float:
        """To the left of its path now."""
        return self.side.last if math.isinf(self.side_for_s) else self.side.value(self.side_for_s)


class LaneDriver:
    """Drives along lanes. Implements `Agent`.

    Args:
        name: Its name in the world.
        roads: Where it drives.
        habits: How it keeps distance and how fast it likes to be.
        lane_changes: Its readiness to change lanes; None for never.
        offset_m: To the left of the lane's centre.
        seed: Decides where it turns, once its route is used up.
    """

    def __init__(
        self,
        *,
        name: str,
        roads: RoadNetwork,
        habits: DriverHabits | None = None,
        lane_changes: MobilParams | None = None,
        offset_m: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.name, self.roads, self.habits = name, roads, habits or DriverHabits()
        self.lane_changes, self.offset_m, self.seed = lane_changes, offset_m, seed
        self._paths: dict[tuple[int, ...], DrivePath] = {}

    def begin(
        self,
        route: tuple[int, ...],
        station_m: float,
        speed_mps: float,
        *,
        length_m: float = 4.5,
        width_m: float = 1.8,
        class_name: str = "car",
    ) -> DriverState:
        """A driver whose box centre is at a station of the first lane of a route.

        Raises:
            ValueError: the route is empty or its lanes do not lead into each other, or the speed is negative.
        """
        links = zip(route, route[1:])
        if not route or any(after not in self.roads.lanes[before].successors for before, after in links):
            raise ValueError(f"route {route} must be lanes that lead into each other")
        if speed_mps < 0:
            raise ValueError(f"speed_mps={speed_mps} must be 0 or more")
        user = RoadUser(
            x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=speed_mps, length_m=length_m, width_m=width_m,
            class_name=class_name,
        )  # fmt: skip
        path = self.path(route)
        rear = path.lane_starts_m[0] + station_m - _center_ahead(user)
        return self._placed(DriverState(user=user, lanes=route, rear_m=rear), user)

    def step(self, state: DriverState, world: WorldView, dt_s: float) -> DriverState:
        """The driver `dt_s` later."""
        user = state.user
        if user is None:
            return state
        state = self._extended(state)
        if self.lane_changes is not None:
            state = self._changing(state, world, user)
        acceleration = self._acceleration(state, world, user)
        speed, way = advanced(user.speed_mps, acceleration, dt_s)
        moved = replace(state, rear_m=state.rear_m + way, side_for_s=state.side_for_s + dt_s)
        if moved.rear_m - _overhang(user) > self.path(state.lanes).end_m:
            return replace(moved, user=None)
        done = 0.0 if speed == 0.0 and acceleration < 0 else acceleration
        return self._placed(moved, replace(user, speed_mps=speed, acceleration_mps2=done))

    def path(self, lanes: tuple[int, ...]) -> DrivePath:
        """The curve along some lanes; made once."""
        if lanes not in self._paths:
            self._paths[lanes] = make_path(self.roads, lanes, offset_m=self.offset_m)
        return self._paths[lanes]

    def _extended(self, state: DriverState) -> DriverState:
        """With more lanes where the route ends soon; turns are drawn from seed, lane and length of the route."""
        lanes = state.lanes
        while self.path(lanes).end_m - state.rear_m < _ROUTE_AHEAD_M:
            options = self.roads.lanes[lanes[-1]].successors
            if not options:
                break
            rng = np.random.default_rng([self.seed, lanes[-1], len(lanes)])
            lanes = (*lanes, int(rng.choice(options)))
        return state if lanes is state.lanes else replace(state, lanes=lanes)

    def _acceleration(self, state: DriverState, world: WorldView, user: RoadUser) -> float:
        path = self.path(state.lanes)
        front = state.rear_m - _overhang(user) + user.length_m
        allowed = path.speed_at(front)
        gap, lead_speed = self._gap(state, world, user, front)
        # The free way ends where discs would touch, half a width before the bumper of who is straight ahead.
        wish = self.habits.acceleration(user.speed_mps, allowed, gap + user.width_m / 2, lead_speed)
        stop = stop_station(
            path,
            world,
            self.name,
            user,
            front,
            state.rear_m - _overhang(user),
            self.habits.idm.comfortable_braking_mps2,
        )
        if stop is None:
            return wish
        # Lines are approached closely; the standstill gap is kept to vehicles.
        line_gap = stop + self.habits.idm.standstill_gap_m - front
        return min(wish, self.habits.acceleration(user.speed_mps, allowed, line_gap, 0.0))

    def _gap(self, state: DriverState, world: WorldView, user: RoadUser, front_m: float) -> tuple[float, float]:
        """Free distance and the speed of who ends it, along the path and, in a lane change, where the body is too."""
        points = self.path(state.lanes).points
        ways = [points]
        if abs(state.left_m) > 0.3:
            steps = np.gradient(points, axis=0)
            normals = np.stack((-steps[:, 1], steps[:, 0]), axis=1) / np.hypot(*steps.T)[:, None]
            ways.append(points + state.left_m * normals)
        half_width, owner = user.width_m / 2 + LATERAL_MARGIN_M, world.owner(self.name)
        found = [free_gap(way, PATH_STEP_M, front_m, half_width, world.circles, owner, HORIZON_M) for way in ways]
        gap, speed = min(found)
        return (math.inf, 0.0) if gap >= HORIZON_M else (gap, speed)

    def _changing(self, state: DriverState, world: WorldView, user: RoadUser) -> DriverState:
        """With a lane change begun where that pays."""
        rule = self.lane_changes
        place = world.places.get(self.name)
        assert rule is not None
        if place is None or state.side_for_s < rule.duration_s + rule.pause_s or user.speed_mps < 2.0:
            return state
        lane = self.roads.lanes[place.lane]
        rest = lane.length_m - place.station_m
        if lane.is_connector or (lane.successors and rest < 1.2 * user.speed_mps * rule.duration_s + 10.0):
            return state
        here = neighbours_in(world, lane.index, place.station_m, self.name, user)
        best: tuple[float, int] | None = None
        for target in (lane.left_neighbor, lane.right_neighbor):
            if target is None:
                continue
            station, _ = self.roads.lanes[target].station_of(user.x_m, user.y_m)
            there = neighbours_in(world, target, station, self.name, user)
            gain = lane_gain(user, here, there, self.habits, lane.speed_limit_mps, rule)
            if gain is not None and gain > 0 and (best is None or gain > best[0]):
                best = (gain, target)
        return state if best is None else self._onto(state, best[1], rule.duration_s)

    def _onto(self, state: DriverState, target: int, duration_s: float) -> DriverState:
        """On the path of another lane, as far beside it as the vehicle is now."""
        assert state.user is not None
        changed = self._extended(replace(state, lanes=(target,), rear_m=0.0))
        path = self.path(changed.lanes)
        x, y = self._axle(state)
        rear, left = place_on_path(path.points, x, y, 0.0, math.inf)
        side = Transition(shape="cubic", first=left, last=0.0, duration=duration_s)
        return replace(changed, rear_m=rear, side=side, side_for_s=0.0)

    def _axle(self, state: DriverState) -> tuple[float, float]:
        user = state.user
        assert user is not None
        ahead = _center_ahead(user)
        return user.x_m - ahead * math.cos(user.yaw_rad), user.y_m - ahead * math.sin(user.yaw_rad)

    def _placed(self, state: DriverState, user: RoadUser) -> DriverState:
        """With the body where the state says."""
        wheelbase = _wheelbase(user)
        x, y, yaw = self.path(state.lanes).pose(state.rear_m, wheelbase, 0.0)
        left = state.left_m
        drift = 0.0 if math.isinf(state.side_for_s) else state.side.rate(state.side_for_s)
        x, y = x - left * math.sin(yaw), y + left * math.cos(yaw)
        yaw += math.atan2(drift, max(user.speed_mps, 1.0))
        ahead = _center_ahead(user)
        body = replace(user, x_m=x + ahead * math.cos(yaw), y_m=y + ahead * math.sin(yaw), yaw_rad=yaw)
        return replace(state, user=body)


def _wheelbase(user: RoadUser) -> float:
    return WHEELBASE_SHARE.get(user.class_name, 0.62) * user.length_m


def _overhang(user: RoadUser) -> float:
    """From the rear end to the rear axle."""
    return (user.length_m - _wheelbase(user)) * (0.55 if user.class_name != "bus" else 0.6)


def _center_ahead(user: RoadUser) -> float:
    return user.length_m / 2 - _overhang(user)
