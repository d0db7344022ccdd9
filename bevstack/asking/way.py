"""The way that the vehicle is going to take, and who is on it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevstack.asking.believed import TRAFFIC_ELEMENTS, Belief, Thing
from bevstack.geometry.boxes import footprints
from bevstack.planning.vehicle import VehicleParams
from bevstack.types.boxes import BoxIndex

_VEHICLE = VehicleParams()
FRONT_M, REAR_M, HALF_WIDTH_M = _VEHICLE.front_ahead_m, _VEHICLE.rear_overhang_m, _VEHICLE.width_m / 2
"""Of the vehicle, from its rear axle."""
LANE_HALF_WIDTH_M = 1.4
"""What reaches closer to the middle of the way than this is on it: half the vehicle and a margin to its sides."""
LOOK_AHEAD_M = 80.0
HORIZON_S = 4.0
"""How far ahead conflicts are looked for."""

_STEP_S = 0.25
_MIN_PLAN_M = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A polyline that begins at the rear axle."""

    points: Float[np.ndarray, "P 2"]
    source: str
    """route, plan, or straight where neither is known."""

    @property
    def lengths_m(self) -> Float[np.ndarray, " P"]:
        """Way driven at each point."""
        return np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))))

    def coordinates(self, xy: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """(along, across) of points: metres from the rear axle along the way, metres to its left.

        Points behind the vehicle have a negative way: the first piece goes on backwards, and the last one forwards.
        """
        start, piece = self.points[:-1], np.diff(self.points, axis=0)
        length = np.linalg.norm(piece, axis=1)
        unit = piece / length[:, None]
        offset = xy[:, None] - start[None]
        along = np.einsum("npc,pc->np", offset, unit)
        low = np.where(np.arange(len(length)) == 0, -np.inf, 0.0)
        high = np.where(np.arange(len(length)) == len(length) - 1, np.inf, length)
        inside = along.clip(low, high)
        distance = np.linalg.norm(offset - inside[..., None] * unit, axis=2)
        best = distance.argmin(axis=1)
        rows = np.arange(len(xy))
        across = unit[best, 0] * offset[rows, best, 1] - unit[best, 1] * offset[rows, best, 0]
        side = np.where(across < 0, -1.0, 1.0)
        return np.stack((self.lengths_m[:-1][best] + inside[rows, best], side * distance[rows, best]), axis=1)

    def pose_at(self, along_m: float) -> Float[np.ndarray, "3"]:
        """x, y and heading of the way after some metres."""
        lengths = self.lengths_m
        piece = int(np.clip(np.searchsorted(lengths, along_m, side="right") - 1, 0, len(self.points) - 2))
        step = self.points[piece + 1] - self.points[piece]
        unit = step / np.linalg.norm(step)
        x, y = self.points[piece] + unit * (along_m - lengths[piece])
        return np.array([x, y, np.arctan2(unit[1], unit[0])])


@dataclass(frozen=True, slots=True, kw_only=True)
class OnWay:
    """A thing on the way."""

    thing: Thing
    gap_m: float
    """From the vehicle's front bumper to the nearest part of it along the way; 0 where they are side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A thing that will be where the vehicle will be, if both go on as they do."""

    thing: Thing
    time_s: float


def way_ahead(belief: Belief) -> Way:
    """Along the route, else along the plan, else straight on; `LOOK_AHEAD_M` long at least."""
    points, source = None, "straight"
    if belief.route is not None and len(belief.route.waypoints_ego) > 1:
        ahead = np.asarray(belief.route.waypoints_ego, np.float64)
        points, source = ahead[int(np.argmax(ahead[:, 0] > 0)) :], "route"  # the route may begin behind the vehicle
    elif belief.plan is not None and np.hypot(*belief.plan.trajectory.poses_ego[-1, :2]) > _MIN_PLAN_M:
        points, source = np.asarray(belief.plan.trajectory.poses_ego[:, :2], np.float64), "plan"
    if points is None or not len(points):
        points, source = np.array([[1.0, 0.0]]), "straight"
    points = np.concatenate((np.zeros((1, 2)), points))
    points = points[np.concatenate(([True], np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-3))]
    if len(points) < 2:
        points = np.array([[0.0, 0.0], [1.0, 0.0]])
    last = points[-1] - points[-2]
    missing = LOOK_AHEAD_M - float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    if missing > 0:
        points = np.concatenate((points, points[-1:] + last / np.linalg.norm(last) * missing))
    return Way(points=points, source=source)


def solid(belief: Belief) -> list[Thing]:
    """The things that one can run into."""
    return [thing for thing in belief.things if thing.name not in TRAFFIC_ELEMENTS]


def on_way(belief: Belief, way: Way) -> list[OnWay]:
    """What stands or moves on the way ahead of the vehicle, nearest first."""
    found = []
    for thing in solid(belief):
        corners = way.coordinates(footprints(np.asarray(thing.row, np.float64)[None])[0])
        along, across = corners[:, 0], corners[:, 1]
        reaches = across.min() < LANE_HALF_WIDTH_M and across.max() > -LANE_HALF_WIDTH_M
        if reaches and along.max() > FRONT_M and along.min() < LOOK_AHEAD_M:
            found.append(OnWay(thing=thing, gap_m=float(max(0.0, along.min() - FRONT_M))))
    return sorted(found, key=lambda each: each.gap_m)


def first_conflict(belief: Belief, way: Way, own_speed_mps: float | None = None) -> Conflict | None:
    """The first thing that touches the vehicle's way at the same time as the vehicle within `HORIZON_S`.

    The vehicle goes along the way at `own_speed_mps`, by default as planned, else at its speed; things follow their
    most probable forecast, else go straight on. Who follows behind on the same way is left out: it has to
    brake itself.
    """
    conflicts = []
    for thing in solid(belief):
        behind, aside = way.coordinates(thing.xy[None])[0]
        if behind < -REAR_M and abs(aside) < LANE_HALF_WIDTH_M + _half_width(thing):
            continue
        for time_s in np.arange(_STEP_S, HORIZON_S + 1e-9, _STEP_S):
            place = position_at(thing, float(time_s))
            if place is None:
                break
            at = own_way_m(belief, float(time_s)) if own_speed_mps is None else own_speed_mps * float(time_s)
            along, across = way.coordinates(place[None])[0]
            reach = float(thing.row[BoxIndex.LENGTH]) / 2
            if -REAR_M - reach < along - at < FRONT_M + reach and abs(across) < HALF_WIDTH_M + _half_width(thing):
                conflicts.append(Conflict(thing=thing, time_s=float(time_s)))
                break
    return min(conflicts, key=lambda each: each.time_s, default=None)


def position_at(thing: Thing, time_s: float) -> Float[np.ndarray, "2"] | None:
    """Where a thing is expected after some time; None where its motion is not known."""
    if thing.forecasts is not None:
        path = np.concatenate((thing.xy[None], thing.forecasts[0].astype(np.float64)))
        steps = np.arange(len(path)) * thing.forecast_dt_s
        return np.array([np.interp(time_s, steps, path[:, 0]), np.interp(time_s, steps, path[:, 1])])
    velocity = np.asarray(thing.row[BoxIndex.VX :], np.float64)
    return thing.xy + velocity * time_s if np.isfinite(velocity).all() else None


def own_way_m(belief: Belief, time_s: float) -> float:
    """Metres that the vehicle goes in some time, as planned or at its speed; 0 where neither is known."""
    if belief.plan is not None:
        trajectory = belief.plan.trajectory
        steps = np.arange(len(trajectory.poses_ego) + 1) * trajectory.dt_s
        driven = Way(points=np.concatenate((np.zeros((1, 2)), trajectory.poses_ego[:, :2])), source="plan").lengths_m
        return float(np.interp(time_s, steps, driven))
    speed = np.nan if belief.ego is None else belief.ego.speed_mps
    return 0.0 if not np.isfinite(speed) else max(0.0, float(speed)) * time_s


def _half_width(thing: Thing) -> float:
    return float(thing.row[BoxIndex.WIDTH]) / 2
