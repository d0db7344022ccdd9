"""The world as an agent sees it, and what an agent is.

An agent is a pure function: its own state and the world as it is now give its next state. What it knows (habits, a
seed, a way) is in the agent, what changes is in its state; the same arguments always give the same answer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import Float

from bevstack.geometry.transforms import wrap_angle
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.world.roads import RoadNetwork
from bevstack.sim.world.traffic_kernels import footprint_circles

EGO = "ego"
"""Name of the ego vehicle among the users of the road."""
_MAX_TURN_RAD = 1.0
"""Who points further away from a lane's direction is not on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadUser:
    """Anybody or anything on the road, as others see it."""

    x_m: float
    """Of the box centre."""
    y_m: float
    yaw_rad: float
    speed_mps: float
    """Along its axis."""
    length_m: float
    width_m: float
    class_name: str = "car"
    acceleration_mps2: float = 0.0

    @property
    def is_vehicle(self) -> bool:
        """Whether it drives on lanes."""
        return self.class_name in ("car", "truck", "bus", "trailer", "construction_vehicle", "motorcycle", "bicycle")

    @classmethod
    def ego_vehicle(
        cls, pose: tuple[float, float, float], speed_mps: float, vehicle: VehicleParams = NUSCENES_VEHICLE
    ) -> "RoadUser":
        """The ego vehicle with its rear axle at a pose."""
        x, y, yaw = pose
        ahead = vehicle.center_ahead_m
        return cls(
            x_m=x + ahead * math.cos(yaw),
            y_m=y + ahead * math.sin(yaw),
            yaw_rad=yaw,
            speed_mps=speed_mps,
            length_m=vehicle.length_m,
            width_m=vehicle.width_m,
        )


@dataclass(frozen=True, slots=True)
class LanePlace:
    """Where on a lane somebody is."""

    lane: int
    station_m: float
    """Of the box centre."""
    left_m: float


@dataclass(frozen=True, kw_only=True, eq=False)
class WorldView:
    """Everybody on the road at one instant."""

    now_s: float
    users: Mapping[str, RoadUser]
    """By name; the ego vehicle is `EGO`. In the order in which ties are decided."""
    roads: RoadNetwork
    stopped_lanes: frozenset[int] = field(default_factory=frozenset)
    """Lanes that end at a red light now."""

    @cached_property
    def places(self) -> Mapping[str, LanePlace]:
        """The lane that each vehicle is on; who is on none is missing."""
        found = {}
        for name, user in self.users.items():
            if user.is_vehicle and (place := self._place(user)) is not None:
                found[name] = place
        return found

    @cached_property
    def circles(self) -> Float[np.ndarray, "K 6"]:
        """Rows x, y, radius, vx, vy, owner that cover everybody; the owner is the position in `users`."""
        rows = [np.zeros((0, 6))]
        for index, user in enumerate(self.users.values()):
            circles = footprint_circles((user.x_m, user.y_m, user.yaw_rad), user.length_m, user.width_m)
            block = np.empty((len(circles), 6))
            block[:, :3] = circles
            block[:, 3:] = (
                user.speed_mps * math.cos(user.yaw_rad),
                user.speed_mps * math.sin(user.yaw_rad),
                float(index),
            )
            rows.append(block)
        return np.concatenate(rows)

    def owner(self, name: str) -> int:
        """Position of a name in `users`; -1 for nobody."""
        return next((index for index, other in enumerate(self.users) if other == name), -1)

    @cached_property
    def _lane_points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lanes = self.roads.lanes
        return (
            np.concatenate([lane.centerline for lane in lanes]),
            np.concatenate([lane.yaws_rad for lane in lanes]),
            np.concatenate([np.full(len(lane.centerline), lane.index) for lane in lanes]),
        )

    def _place(self, user: RoadUser) -> LanePlace | None:
        points, yaws, owners = self._lane_points
        squared = ((points - (user.x_m, user.y_m)) ** 2).sum(1)
        squared[np.abs(wrap_angle(yaws - user.yaw_rad)) > _MAX_TURN_RAD] = np.inf
        nearest = int(np.argmin(squared))
        if not math.isfinite(squared[nearest]):
            return None
        lane = self.roads.lanes[int(owners[nearest])]
        station, left = lane.station_of(user.x_m, user.y_m)
        if abs(left) > lane.width_m / 2 + 1.0:
            return None
        return LanePlace(lane.index, station, left)


StateT = TypeVar("StateT")


class Agent(Protocol[StateT]):
    """Anybody who acts. A state has `user`, its body as others see it, or None once it has left."""

    def step(self, state: StateT, world: WorldView, dt_s: float) -> StateT:
        """The state `dt_s` later."""
        ...
