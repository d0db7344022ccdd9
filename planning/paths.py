"""Smooth ways for the rear axle, and the one that a route or the road ahead asks for.

A route is met from where the vehicle is: the offset between both fades along the way (a smooth step), so that the path
begins at the vehicle. Without waypoints the vehicle looks along arcs, on the side of the command, for the longest way
on the road. Letters: P points.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from bevstack.planning.obstacles import Road
from bevstack.planning.vehicle import VehicleParams
from bevstack.types.errors import PlanningError
from bevstack.types.trajectory import Route, RouteCommand

PATH_STEP_M = 0.5
MAX_ROUTE_OFFSET_M = 10.0
"""A route that begins further away is not that of this vehicle."""

_MIN_LENGTH_M = 2.0
_MIN_SPACING_M = 0.2
_FADE_PER_OFFSET, _MIN_FADE_M, _FADE_S = 8.0, 8.0, 2.0
_ARC_LENGTH_M = 40.0
_ARC_CURVATURES = np.array((0.0, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1, 0.13, 0.16))
_STRAIGHT_ENOUGH_PER_M = 0.03
_MIN_ROAD_M = 3.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Path:
    """Points of the rear axle's way, `PATH_STEP_M` apart."""

    points: Float[np.ndarray, "P 2"]
    yaws: Float[np.ndarray, " P"]
    curvatures: Float[np.ndarray, " P"]
    """1/m, positive to the left."""
    words: str
    """Where it comes from."""

    @property
    def length_m(self) -> float:
        """From the first point to the last."""
        return PATH_STEP_M * (len(self.points) - 1)

    @classmethod
    def through(cls, knots: Float[np.ndarray, "K 2"], words: str) -> "Path":
        """The cubic spline through points.

        Raises:
            PlanningError: the points are too few, not finite, or shorter than the vehicle could follow.
        """
        if len(knots) < 2 or not np.isfinite(knots).all():
            raise PlanningError(f"{words}: {len(knots)} points, finite: {bool(np.isfinite(knots).all())}: no way ahead")
        knots = _spaced(knots)
        gaps = np.hypot(*np.diff(knots, axis=0).T)
        length = float(gaps.sum())
        if length < _MIN_LENGTH_M:
            raise PlanningError(f"{words}: only {length:.1f} m long: no way ahead")
        station = np.concatenate(([0.0], np.cumsum(gaps)))
        spline = CubicSpline(station, knots, axis=0, bc_type="natural")
        fine = np.arange(0.0, length + 1e-9, PATH_STEP_M)
        points = spline(fine)
        tangent, change = spline(fine, 1), spline(fine, 2)
        speed = np.maximum(np.hypot(*tangent.T), 1e-6)
        curvature = (tangent[:, 0] * change[:, 1] - tangent[:, 1] * change[:, 0]) / speed**3
        return cls(points=points, yaws=np.arctan2(tangent[:, 1], tangent[:, 0]), curvatures=curvature, words=words)

    def beside(self, offset_m: float, fade_m: float) -> "Path":
        """The path moved to the left (negative: to the right), fading in along the way."""
        share = _smooth_step(PATH_STEP_M * np.arange(len(self.points)) / fade_m)
        left = np.stack((-np.sin(self.yaws), np.cos(self.yaws)), axis=1)
        side = "left" if offset_m > 0 else "right"
        return Path.through(
            (self.points + offset_m * share[:, None] * left)[::4], f"{self.words}, {abs(offset_m):.1f} m to the {side}"
        )


def path_ahead(route: Route, road: Road | None, speed_mps: float, vehicle: VehicleParams) -> Path:
    """The way that the navigation asks for; where it gives no waypoints, along the road.

    Raises:
        PlanningError: there is neither a usable route nor a road.
    """
    if len(route.waypoints_ego) >= 2:
        return _along_route(route.waypoints_ego, speed_mps)
    return _along_road(route.command, road, vehicle)


def _along_route(waypoints: np.ndarray, speed_mps: float) -> Path:
    if not np.isfinite(waypoints).all():
        raise PlanningError("the route has waypoints that are not finite")
    waypoints = _spaced(waypoints)
    if len(waypoints) < 2:
        raise PlanningError("the route has a single waypoint: no way ahead")
    first, share, offset = _projected(waypoints)
    if np.hypot(*offset) > MAX_ROUTE_OFFSET_M:
        raise PlanningError(f"the route is {np.hypot(*offset):.0f} m from the vehicle")
    start = waypoints[first] + share * (waypoints[first + 1] - waypoints[first])
    ahead = np.concatenate((start[None], waypoints[first + 1 :]))
    ahead = _spaced(ahead)
    if len(ahead) < 2:
        raise PlanningError("the route ends at the vehicle")
    if _heading(ahead) < 0:
        raise PlanningError("the route leads backwards")
    station = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(ahead, axis=0).T))))
    fade = max(_MIN_FADE_M, _FADE_S * speed_mps, _FADE_PER_OFFSET * float(np.hypot(*offset)))
    knots = ahead - (1 - _smooth_step(station / fade))[:, None] * offset
    return Path.through(knots, "along the route")


def _along_road(command: RouteCommand, road: Road | None, vehicle: VehicleParams) -> Path:
    if road is None:
        raise PlanningError("no route and no map of the road: no way ahead is known")
    curvatures = _ARC_CURVATURES[vehicle.max_curvature_per_m >= _ARC_CURVATURES]
    if command is RouteCommand.STRAIGHT:
        gentle = curvatures[curvatures <= _STRAIGHT_ENOUGH_PER_M]
        curvatures = np.concatenate((gentle, -gentle[1:]))
    elif command is RouteCommand.RIGHT:
        curvatures = -curvatures
    lengths = np.array([_road_along(curvature, road, vehicle) for curvature in curvatures])
    # For a turn the sharpest arc that is nearly as long as the longest; straight on, the least bent.
    enough = lengths >= 0.9 * lengths.max()
    bend = np.abs(curvatures)
    wanted = np.where(enough, bend if command is RouteCommand.STRAIGHT else -bend, np.inf)
    if command is not RouteCommand.STRAIGHT and lengths[0] < 0.9 * lengths.max():
        wanted[0] = np.inf
    chosen = int(np.argmin(wanted))
    length = float(lengths[chosen])
    if length < _MIN_ROAD_M:
        raise PlanningError(f"no route, and the road ends {length:.0f} m ahead")
    turn = "straight" if curvatures[chosen] == 0 else f"on a bend of {1 / bend[chosen]:.0f} m"
    return Path.through(_arc(curvatures[chosen], length), f"without a route {turn} along the road, {length:.0f} m")


def _road_along(curvature: float, road: Road, vehicle: VehicleParams) -> float:
    """How far the outline stays on the road along an arc."""
    way = _arc(curvature, _ARC_LENGTH_M)
    yaws = curvature * PATH_STEP_M * np.arange(len(way))
    corners = vehicle.footprints(np.column_stack((way, yaws)), -0.2)
    off = ~road.contains(corners).all(axis=1)
    return PATH_STEP_M * float(np.argmax(off)) if off.any() else _ARC_LENGTH_M


def _arc(curvature: float, length_m: float) -> np.ndarray:
    station = np.arange(0.0, length_m + 1e-9, PATH_STEP_M)
    half = curvature * station / 2
    chord = station * np.sinc(half / np.pi)
    return np.stack((chord * np.cos(half), chord * np.sin(half)), axis=1)


def _projected(waypoints: np.ndarray) -> tuple[int, float, np.ndarray]:
    """Segment nearest to the vehicle, the share of it, and the way from the vehicle to there."""
    steps = np.diff(waypoints, axis=0)
    share = np.clip(-np.einsum("ij,ij->i", waypoints[:-1], steps) / (steps**2).sum(axis=1), 0.0, 1.0)
    places = waypoints[:-1] + share[:, None] * steps
    nearest = int(np.argmin(np.hypot(*places.T)))
    return nearest, float(share[nearest]), places[nearest]


def _heading(ahead: np.ndarray) -> float:
    """Cosine of the first direction against the vehicle's."""
    step = ahead[1] - ahead[0]
    return float(step[0] / np.hypot(*step))


def _spaced(points: np.ndarray) -> np.ndarray:
    """Points without those that hardly differ from the one before."""
    kept = [0]
    for k in range(1, len(points)):
        if np.hypot(*(points[k] - points[kept[-1]])) >= _MIN_SPACING_M:
            kept.append(k)
    return points[kept]


def _smooth_step(share: np.ndarray) -> np.ndarray:
    u = np.clip(share, 0.0, 1.0)
    return u * u * u * (u * (6 * u - 15) + 10)
