"""Somebody who does what a recording says, until that would mean driving into an ego vehicle that does not.

A recorded driver saw the recorded ego vehicle, not this one. Once the ego vehicle has left its own record and is in the
way ahead, the intelligent driver model takes over, along the recorded way, and keeps it for good.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from bevstack.planning.idm import IdmParams
from bevstack.sim.agents.driver_habits import DriverHabits, advanced
from bevstack.sim.agents.places import place_on_path
from bevstack.sim.agents.recording import RECORDING_STEP_S, RecordedTrack, Recording
from bevstack.sim.agents.view import EGO, RoadUser, WorldView
from bevstack.sim.world.drive_paths import PATH_STEP_M
from bevstack.sim.world.polylines import at_stations, resample
from bevstack.sim.world.traffic_kernels import free_gap
from bevstack.sim.world.vehicles import LATERAL_MARGIN_M

_HORIZON_M = 80.0
_RUN_OUT_M = 60.0
"""Straight on after the end of the record, so that who was taken over has somewhere to go."""
_LEAST_WAY_M = 3.0
"""Who moves less in the whole record stands, and nobody takes over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOver:
    """When the driver model takes over.

    Raises:
        ValueError: a value is not positive.
    """

    deviation_m: float = 2.0
    """The ego vehicle is further from where its own record has it."""
    within_s: float = 4.0
    """The recorded motion would reach it so soon."""

    def __post_init__(self) -> None:
        if not self.deviation_m > 0 or not self.within_s > 0:
            raise ValueError(f"deviation_m={self.deviation_m} and within_s={self.within_s} must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayState:
    """Somebody recorded, now."""

    user: RoadUser | None
    """None while it is not there."""
    station_m: float | None = None
    """Of its centre along its recorded way, once it has been taken over; None before."""

    @property
    def is_taken_over(self) -> bool:
        """Whether the driver model moves it."""
        return self.station_m is not None


class ReplayedUser:
    """Follows its track in time. Implements `Agent`.

    Args:
        recording: The whole scene: the ego vehicle's own record belongs to it.
        track: Which of its tracks.
        take_over: When to leave the track; None for never.
        habits: Of the driver that takes over; its wished speed is the highest of the record.
    """

    def __init__(
        self,
        *,
        recording: Recording,
        track: RecordedTrack,
        take_over: TakeOver | None = None,
        habits: DriverHabits | None = None,
    ) -> None:
        self.recording, self.track, self.take_over = recording, track, take_over
        known = track.poses[np.isfinite(track.poses).all(axis=1)]
        steps = np.hypot(*np.diff(known[:, :2], axis=0).T) if len(known) > 1 else np.zeros(0)
        self.way = _way_of(known) if steps.sum() >= _LEAST_WAY_M and track.class_name != "pedestrian" else None
        fastest = float(steps.max(initial=0.0) / RECORDING_STEP_S)
        self.habits = habits or DriverHabits(idm=IdmParams(headway_s=1.5), wished_mps=max(fastest, 1.0))

    def begin(self) -> ReplayState:
        """Where the record begins."""
        return ReplayState(user=self._recorded(0.0))

    def step(self, state: ReplayState, world: WorldView, dt_s: float) -> ReplayState:
        """The same somebody `dt_s` later."""
        if state.station_m is None:
            if state.user is None or not self._must_leave_track(state.user, world):
                return ReplayState(user=self._recorded(world.now_s + dt_s))
            assert self.way is not None
            station, _ = place_on_path(self.way, state.user.x_m, state.user.y_m, 0.0, math.inf)
            state = replace(state, station_m=station)
        return self._driven(state, world, dt_s)

    def _recorded(self, time_s: float) -> RoadUser | None:
        """The body at a time of the record, between two of its rows linearly."""
        position = time_s / RECORDING_STEP_S
        low = math.floor(position + 1e-6)
        if low < 0 or low >= len(self.track.poses):
            return None
        high = min(low + 1, len(self.track.poses) - 1)
        one, two = self.track.poses[low], self.track.poses[high]
        share = max(0.0, position - low)
        if not np.isfinite(two).all():
            two, share = one, 0.0
        if not np.isfinite(one).all():
            return None
        turn = (two[2] - one[2] + np.pi) % (2 * np.pi) - np.pi
        moved = two[:2] - one[:2]
        yaw = float(one[2] + share * turn)
        along = float(moved[0] * math.cos(yaw) + moved[1] * math.sin(yaw)) / RECORDING_STEP_S
        return RoadUser(
            x_m=float(one[0] + share * moved[0]), y_m=float(one[1] + share * moved[1]), yaw_rad=yaw, speed_mps=along,
            length_m=self.track.size_lwh[0], width_m=self.track.size_lwh[1], class_name=self.track.class_name,
        )  # fmt: skip

    def _must_leave_track(self, user: RoadUser, world: WorldView) -> bool:
        ego = world.users.get(EGO)
        if self.take_over is None or self.way is None or ego is None or user.speed_mps <= 0:
            return False
        row = min(round(world.now_s / RECORDING_STEP_S), len(self.recording.ego_poses) - 1)
        x, y, yaw = self.recording.ego_poses[row]
        recorded = RoadUser.ego_vehicle((float(x), float(y), float(yaw)), 0.0)
        if math.hypot(ego.x_m - recorded.x_m, ego.y_m - recorded.y_m) <= self.take_over.deviation_m:
            return False
        station, _ = place_on_path(self.way, user.x_m, user.y_m, 0.0, math.inf)
        circles = world.circles[world.circles[:, 5] == world.owner(EGO)]
        gap, lead_speed = self._gap(user, station, circles, -2)
        closing = user.speed_mps - lead_speed
        return gap < self.habits.idm.standstill_gap_m or gap < closing * self.take_over.within_s

    def _driven(self, state: ReplayState, world: WorldView, dt_s: float) -> ReplayState:
        user, station = state.user, state.station_m
        if user is None or station is None or self.way is None:
            return state
        gap, lead_speed = self._gap(user, station, world.circles, world.owner(self.track.name))
        gap = math.inf if gap >= _HORIZON_M else gap + user.width_m / 2
        acceleration = self.habits.acceleration(max(user.speed_mps, 0.0), math.inf, gap, lead_speed)
        speed, way = advanced(max(user.speed_mps, 0.0), acceleration, dt_s)
        station += way
        if station > (len(self.way) - 1) * PATH_STEP_M:
            return ReplayState(user=None, station_m=station)
        x, y, yaw = at_stations(self.way, np.array((station,)))[0]
        body = replace(
            user, x_m=float(x), y_m=float(y), yaw_rad=float(yaw), speed_mps=speed, acceleration_mps2=acceleration
        )
        return ReplayState(user=body, station_m=station)

    def _gap(self, user: RoadUser, station_m: float, circles: np.ndarray, owner: int) -> tuple[float, float]:
        assert self.way is not None
        half_width = user.width_m / 2 + LATERAL_MARGIN_M
        front = station_m + user.length_m / 2
        return free_gap(self.way, PATH_STEP_M, front, half_width, circles, owner, _HORIZON_M)


def _way_of(poses: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "P 2"]:
    """The recorded way with a straight run-out, sampled evenly; points where it stands are left out."""
    kept = [poses[0, :2]]
    for point in poses[1:, :2]:
        if np.hypot(*(point - kept[-1])) > PATH_STEP_M:
            kept.append(point)
    if len(kept) == 1:
        kept.append(poses[-1, :2])
    ahead = kept[-1] - kept[-2]
    kept.append(kept[-1] + ahead / np.hypot(*ahead) * _RUN_OUT_M)
    line = np.array(kept)
    length = float(np.hypot(*np.diff(line, axis=0).T).sum())
    # Whole steps: what reads the way takes its points to be exactly one step apart.
    return resample(line, length / max(round(length / PATH_STEP_M), 1))
