"""Who may drive into a junction: red lights, whoever is on a conflicting way, whoever has priority and comes soon."""

import numpy as np

from bevstack.sim.agents.view import LanePlace, RoadUser, WorldView
from bevstack.sim.world.drive_paths import DrivePath
from bevstack.sim.world.roads import RoadNetwork
from bevstack.sim.world.vehicles import PRIORITY_GAP_S, STOP_BEFORE_LINE_M

_PAST_LINE_M = 3.0
"""Whoever is so far past the line drives on: getting out of the way is best."""
_TIE_M = 8.0
"""Two who both must yield and are so near their lines: the nearer one drives, else the one named first."""


def stop_station(
    path: DrivePath, world: WorldView, name: str, user: RoadUser, front_m: float, tail_m: float, braking_mps2: float
) -> float | None:
    """Station of a path at which a front bumper has to wait, or None where it may drive on.

    Args:
        path: Of the driver.
        world: Everybody now.
        name: The driver's.
        user: Its body.
        front_m: Station of its front bumper.
        tail_m: Station of its rear end.
        braking_mps2: What it likes to brake with; junctions further away than it needs to stop are not looked at.
    """
    roads, starts = world.roads, path.lane_starts_m
    reach = user.speed_mps**2 / (2 * braking_mps2) + 12.0
    for k, index in enumerate(path.lanes):
        lane = roads.lanes[index]
        if not lane.is_connector or starts[k + 1] < front_m or tail_m > starts[k]:
            continue
        line = _line_station(path, roads, k)
        if line - front_m > reach:
            return None
        if line - front_m < -_PAST_LINE_M:
            continue
        before = path.lanes[k - 1] if k else None
        if before in world.stopped_lanes or not _is_free(world, name, index, line - front_m):
            return line
    return None


def _line_station(path: DrivePath, roads: RoadNetwork, k: int) -> float:
    before = roads.lanes[path.lanes[k - 1]] if k else None
    if before is not None and before.stop_station_m is not None:
        return path.lane_starts_m[k - 1] + before.stop_station_m - STOP_BEFORE_LINE_M
    return path.lane_starts_m[k] - STOP_BEFORE_LINE_M


def _is_free(world: WorldView, name: str, connector: int, distance_m: float) -> bool:
    roads = world.roads
    conflicts = set(roads.conflicts[connector])
    must_yield = roads.lanes[connector].must_yield
    rank = world.owner(name)
    for other_rank, (other, user) in enumerate(world.users.items()):
        place = world.places.get(other)
        if other == name or place is None:
            continue
        if place.lane in conflicts and not _has_passed(world, connector, place):
            return False
        if not must_yield:
            continue
        for coming, line_m in _approached(world, place, user):
            if coming not in conflicts:
                continue
            if not roads.lanes[coming].must_yield:
                if line_m < max(user.speed_mps, 3.0) * PRIORITY_GAP_S and user.speed_mps > 0.3:
                    return False
            elif max(line_m, distance_m) < _TIE_M and (line_m, other_rank) < (distance_m, rank):
                return False
    return True


def _has_passed(world: WorldView, connector: int, place: LanePlace) -> bool:
    """Whether somebody on a conflicting connector is beyond the point where the two ways come nearest."""
    other = world.roads.lanes[place.lane]
    gaps = np.hypot(*(other.centerline[:, None] - world.roads.lanes[connector].centerline[None]).transpose(2, 0, 1))
    near = np.flatnonzero(gaps.min(axis=1) < 1.8)
    return bool(len(near)) and place.station_m - 4.0 > float(other.stations_m[near[-1]])


def _approached(world: WorldView, place: LanePlace, user: RoadUser) -> list[tuple[int, float]]:
    """Connectors that somebody may enter next, and how far its front is from the line."""
    lane = world.roads.lanes[place.lane]
    if lane.is_connector or place.lane in world.stopped_lanes:
        return []
    line = lane.stop_station_m if lane.stop_station_m is not None else lane.length_m
    distance = line - STOP_BEFORE_LINE_M - place.station_m - user.length_m / 2
    return [(index, distance) for index in lane.successors if world.roads.lanes[index].is_connector]
