"""Vehicles that follow lanes: intelligent driver model, one junction connector at a time, pedestrians first.

Car following is the intelligent driver model (Treiber, Hennecke, Helbing, Phys. Rev. E 62, 2000). At junctions a
vehicle enters a connector only while nobody holds one that crosses or joins it, and a connector that must yield also
waits for a gap in the traffic that has priority.
"""

from dataclasses import dataclass, field

import numpy as np

from bevstack.sim.world.actors import ActorModel
from bevstack.sim.world.drive_paths import PATH_STEP_M, DrivePath
from bevstack.sim.world.roads import RoadNetwork
from bevstack.sim.world.traffic_kernels import HORIZON_M, footprint_circles, free_gap

STEP_S = 0.05
ACCELERATION_MPS2 = 1.5
BRAKING_MPS2 = 2.0
EMERGENCY_BRAKING_MPS2 = 7.0
HEADWAY_S = 1.2
STANDSTILL_GAP_M = 1.6
STOP_BEFORE_LINE_M = 0.8
PRIORITY_GAP_S = 4.0
LATERAL_MARGIN_M = 0.15


@dataclass(slots=True, kw_only=True, eq=False)
class Vehicle:
    """One vehicle on its path. Stations are those of the rear axle."""

    model: ActorModel | None
    """None for the ego vehicle."""
    path: DrivePath
    rear_m: float
    speed_mps: float
    length_m: float
    width_m: float
    wheelbase_m: float
    rear_overhang_m: float
    speed_factor: float = 1.0
    trailer: ActorModel | None = None
    hold_until_s: float = -1e9
    """Stands still until then (a stop for no visible reason, as vehicles make)."""
    hold_braking_mps2: float = BRAKING_MPS2
    """How it brakes for that."""
    held: set[int] = field(default_factory=set)
    """Junction connectors that it may be on."""
    driven_pose: tuple[float, float, float] | None = None
    """Box centre and yaw of a vehicle that is driven from outside and need not be on its path; None on the path."""
    has_left: bool = False
    poses: list[tuple[float, float, float]] = field(default_factory=list)
    trailer_poses: list[tuple[float, float, float]] = field(default_factory=list)
    states: list[tuple[float, float]] = field(default_factory=list)
    """Speed and acceleration per step."""

    @property
    def front_m(self) -> float:
        """Station of the front bumper."""
        return self.rear_m - self.rear_overhang_m + self.length_m

    @property
    def tail_m(self) -> float:
        """Station of the rear end, trailer included."""
        tail = self.rear_m - self.rear_overhang_m
        return tail - (TOW_GAP_M + self.trailer.size_lwh[0] if self.trailer else 0.0)

    def pose(self) -> tuple[float, float, float]:
        """Box centre x, y and yaw."""
        if self.driven_pose is not None:
            return self.driven_pose
        return self.path.pose(self.rear_m, self.wheelbase_m, self.length_m / 2 - self.rear_overhang_m)

    def trailer_pose(self) -> tuple[float, float, float]:
        """Box centre and yaw of the towed trailer: its nose and its axles follow the path."""
        assert self.trailer is not None
        length = self.trailer.size_lwh[0]
        nose = self.rear_m - self.rear_overhang_m - TOW_GAP_M
        axle_ahead = 0.2 * length
        return self.path.pose(nose - length + axle_ahead, length - axle_ahead, length / 2 - axle_ahead)


TOW_GAP_M = 1.3
"""Length of a drawbar between lorry and trailer."""

WHEELBASE_SHARE = {"car": 0.59, "truck": 0.58, "bus": 0.52, "construction_vehicle": 0.45}


def make_vehicle(
    model: ActorModel, path: DrivePath, rear_m: float, speed_mps: float, *, speed_factor: float = 1.0
) -> Vehicle:
    """A vehicle of some model; axles at the usual places of its class."""
    length, width, _ = model.size_lwh
    wheelbase = WHEELBASE_SHARE.get(model.class_name, 0.62) * length
    overhang = (length - wheelbase) * (0.55 if model.class_name != "bus" else 0.6)
    return Vehicle(
        model=model, path=path, rear_m=rear_m, speed_mps=speed_mps, length_m=length, width_m=width,
        wheelbase_m=wheelbase, rear_overhang_m=overhang, speed_factor=speed_factor,
    )  # fmt: skip


def idm_acceleration(speed: float, desired: float, gap: float, lead_speed: float) -> float:
    """Acceleration of the intelligent driver model; gap in metres, speeds in metres per second."""
    desired = max(desired, 0.5)
    free = 1.0 - (speed / desired) ** 4
    closing = speed * (speed - lead_speed) / (2 * np.sqrt(ACCELERATION_MPS2 * BRAKING_MPS2))
    wanted_gap = STANDSTILL_GAP_M + max(0.0, speed * HEADWAY_S + closing)
    following = (wanted_gap / max(gap, 0.1)) ** 2
    return float(np.clip(ACCELERATION_MPS2 * (free - following), -EMERGENCY_BRAKING_MPS2, ACCELERATION_MPS2))


class Junctions:
    """Who may be on which connector."""

    def __init__(self, roads: RoadNetwork, red_until_s: dict[int, float]) -> None:
        """`red_until_s`: approach lanes that are stopped, as by a signal, until some time."""
        self._roads = roads
        self._conflicts = [set(row) for row in roads.conflicts]
        self._red_until_s = red_until_s

    def release(self, vehicle: Vehicle) -> None:
        """Give back the connectors that a vehicle's tail has left."""
        for k, lane in enumerate(vehicle.path.lanes):
            if lane in vehicle.held and vehicle.tail_m > vehicle.path.lane_starts_m[k + 1]:
                vehicle.held.discard(lane)

    def claim_underneath(self, vehicle: Vehicle) -> None:
        """Mark the connectors that a vehicle stands on as its own."""
        starts = vehicle.path.lane_starts_m
        for k, lane in enumerate(vehicle.path.lanes):
            if self._roads.lanes[lane].is_connector and starts[k] < vehicle.front_m and vehicle.tail_m < starts[k + 1]:
                vehicle.held.add(lane)

    def next_connector(self, vehicle: Vehicle) -> tuple[int, float] | None:
        """The next connector that the vehicle does not hold yet, and the station where it has to wait for it."""
        starts = vehicle.path.lane_starts_m
        for k, lane in enumerate(vehicle.path.lanes):
            if starts[k + 1] < vehicle.front_m or not self._roads.lanes[lane].is_connector or lane in vehicle.held:
                continue
            stop = starts[k]
            before = self._roads.lanes[vehicle.path.lanes[k - 1]] if k else None
            if before is not None and before.stop_station_m is not None:
                stop = starts[k - 1] + before.stop_station_m
            return lane, stop - STOP_BEFORE_LINE_M
        return None

    def wait_station(self, vehicle: Vehicle, others: list[Vehicle], now_s: float) -> float | None:
        """Where the vehicle has to stop, or None when it may drive on; grants the next connector when it is free."""
        ahead = self.next_connector(vehicle)
        if ahead is None:
            return None
        connector, stop = ahead
        distance = stop - vehicle.front_m
        if distance > vehicle.speed_mps**2 / (2 * BRAKING_MPS2) + 12.0:
            return None
        if self._may_enter(vehicle, connector, distance, others, now_s):
            vehicle.held.add(connector)
            return None
        return stop

    def _may_enter(
        self, vehicle: Vehicle, connector: int, distance_m: float, others: list[Vehicle], now_s: float
    ) -> bool:
        if distance_m < -3.0:
            return True  # already past its line: getting out of the way is best
        approach = vehicle.path.lanes[max(vehicle.path.lanes.index(connector) - 1, 0)]
        if now_s < self._red_until_s.get(approach, -np.inf):
            return False
        conflicts = self._conflicts[connector]
        lane = self._roads.lanes[connector]
        for other in others:
            if other is vehicle or other.has_left:
                continue
            if other.held & conflicts:
                return False
            if lane.must_yield and self._has_priority_soon(other, conflicts, now_s):
                return False
        return True

    def _has_priority_soon(self, other: Vehicle, conflicts: set[int], now_s: float) -> bool:
        ahead = self.next_connector(other)
        if ahead is None or ahead[0] not in conflicts or self._roads.lanes[ahead[0]].must_yield:
            return False
        position = other.path.lanes.index(ahead[0])
        if position and now_s < self._red_until_s.get(other.path.lanes[position - 1], -np.inf):
            return False
        distance = ahead[1] - other.front_m
        return distance < max(other.speed_mps, 3.0) * PRIORITY_GAP_S


def vehicle_circles(vehicles: list[Vehicle]) -> np.ndarray:
    """Rows x, y, radius, vx, vy, owner of everything that drives; the owner is the index in the list."""
    rows = [np.zeros((0, 6))]
    for index, vehicle in enumerate(vehicles):
        if vehicle.has_left:
            continue
        bodies = [(vehicle.pose(), vehicle.length_m, vehicle.width_m)]
        if vehicle.trailer is not None:
            bodies.append((vehicle.trailer_pose(), *vehicle.trailer.size_lwh[:2]))
        for pose, length, width in bodies:
            circles = footprint_circles(pose, length, width)
            block = np.empty((len(circles), 6))
            block[:, :3] = circles
            block[:, 3:] = vehicle.speed_mps * np.cos(pose[2]), vehicle.speed_mps * np.sin(pose[2]), float(index)
            rows.append(block)
    return np.concatenate(rows)


def gap_ahead(vehicle: Vehicle, owner: int, circles: np.ndarray) -> tuple[float, float]:
    """Free distance ahead of the bumper in metres, and the speed of what ends it."""
    half_width = vehicle.width_m / 2 + LATERAL_MARGIN_M
    return free_gap(vehicle.path.points, PATH_STEP_M, vehicle.front_m, half_width, circles, owner, HORIZON_M)


def step_vehicles(vehicles: list[Vehicle], obstacles: np.ndarray, junctions: Junctions, now_s: float) -> None:
    """Advance everything by `STEP_S`. `obstacles` are further rows as of `vehicle_circles`, with owner -1."""
    circles = np.concatenate((vehicle_circles(vehicles), obstacles))
    accelerations = []
    for index, vehicle in enumerate(vehicles):
        if vehicle.has_left:
            accelerations.append(0.0)
            continue
        junctions.release(vehicle)
        desired = vehicle.path.speed_at(vehicle.front_m) * vehicle.speed_factor
        gap, lead_speed = gap_ahead(vehicle, index, circles)
        acceleration = idm_acceleration(vehicle.speed_mps, desired, gap, lead_speed)
        stop = junctions.wait_station(vehicle, vehicles, now_s)
        if stop is not None:
            # The standstill gap is kept to vehicles; lines are approached closely.
            line_gap = stop + STANDSTILL_GAP_M - vehicle.front_m
            acceleration = min(acceleration, idm_acceleration(vehicle.speed_mps, desired, line_gap, 0.0))
        if now_s < vehicle.hold_until_s:
            acceleration = min(acceleration, -vehicle.hold_braking_mps2)
        accelerations.append(acceleration)
    for vehicle, acceleration in zip(vehicles, accelerations):
        _advance(vehicle, acceleration)


def _advance(vehicle: Vehicle, acceleration: float) -> None:
    if vehicle.has_left:
        return
    speed = max(0.0, vehicle.speed_mps + acceleration * STEP_S)
    vehicle.rear_m += 0.5 * (speed + vehicle.speed_mps) * STEP_S
    vehicle.speed_mps = speed
    if vehicle.model is not None and vehicle.tail_m > vehicle.path.end_m:
        vehicle.has_left = True


def record(vehicles: list[Vehicle]) -> None:
    """Append the present state to the tracks of all vehicles that are still in town."""
    for vehicle in vehicles:
        if vehicle.has_left:
            continue
        vehicle.poses.append(vehicle.pose())
        last = vehicle.states[-1][0] if vehicle.states else vehicle.speed_mps
        vehicle.states.append((vehicle.speed_mps, (vehicle.speed_mps - last) / STEP_S))
        if vehicle.trailer is not None:
            vehicle.trailer_poses.append(vehicle.trailer_pose())
