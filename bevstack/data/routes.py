"""The way that the navigation asks for: what of a route file lies ahead of the vehicle, and the command for it.

`can_bus/SCENE_route.json` of nuScenes' CAN bus expansion is a list of (x, y) in metres on the map: the path that the
vehicle was told to follow, known before it set off (`sim/can_bus.py` writes the same for worlds). It is the only source
of a route here. The command that released planners are given is made from the *future trajectory* instead and tells a
network part of the answer (`evaluation/planning/ego_future.py`).

The place on the route is found anew in every frame, from position and heading: a route may cross itself or come back on
the other side of the road. Where it passes the same lane twice in the same direction, the first time is taken.

A route of nuScenes ends some 50 m after the last pose of its scene. A look-ahead beyond that would see its end come
near and so tell a network how far the vehicle still drives: `LOOK_AHEAD_M` stays below.
"""

from pathlib import Path

import numpy as np
import orjson
from jaxtyping import Float, Float64

from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.types.errors import DatasetError
from bevstack.types.trajectory import ROUTE_STEP_M, Route, RouteCommand

LOOK_AHEAD_M = 50.0
ROUTE_WAYPOINTS = round(LOOK_AHEAD_M / ROUTE_STEP_M)
"""Waypoints of a route of full length."""
MAX_OFFSET_M = 10.0
"""A vehicle further from its route does not follow it. (nuscenes-devkit leaves out scenes from 5 m on; a vehicle three
lanes beside its route still follows it.)"""
COMMAND_REACH_M = 30.0
"""The next turn counts from this far ahead."""
TURN_RAD = float(np.radians(30.0))
"""A change of direction by this much within `COMMAND_REACH_M` is a turn: a bend of less than 57 m radius."""

_SPACING_M = 1.0
"""Distance of the points among which the place on the route is looked for."""
_HEADING_WEIGHT_M = 5.0
"""A branch that leads across the vehicle's heading counts as this much further away, an opposite one as twice that."""


class SceneRoutes:
    """The routes of a data set. Each file is read once.

    Args:
        root: Folder of the data set, with `can_bus/` in it; without it no frame has a route.
        look_ahead_m: How far routes reach.
        max_offset_m: Distance from the route beyond which the vehicle does not follow it.

    Raises:
        ValueError: a number is not positive.
    """

    def __init__(self, root: Path, *, look_ahead_m: float = LOOK_AHEAD_M, max_offset_m: float = MAX_OFFSET_M) -> None:
        if look_ahead_m <= 0 or max_offset_m <= 0:
            raise ValueError(f"look_ahead_m={look_ahead_m} and max_offset_m={max_offset_m} must be positive")
        self.root, self.look_ahead_m, self.max_offset_m = Path(root), look_ahead_m, max_offset_m
        self.num_off_route = 0
        """Frames so far that had a route but did not follow it (of this process: workers count for themselves)."""
        self._routes: dict[str, Float64[np.ndarray, "P 2"] | None] = {}

    def route(self, scene_name: str, T_global_ego: Float[np.ndarray, "4 4"]) -> Route | None:
        """What lies ahead of the vehicle; None without a route file, or where the vehicle does not follow it.

        Raises:
            DatasetError: the file is damaged.
        """
        if scene_name not in self._routes:
            self._routes[scene_name] = read_route(route_path(self.root, scene_name))
        points = self._routes[scene_name]
        if points is None:
            return None
        ahead = route_ahead(points, T_global_ego, look_ahead_m=self.look_ahead_m, max_offset_m=self.max_offset_m)
        self.num_off_route += ahead is None
        return ahead


def route_path(root: Path, scene_name: str) -> Path:
    """Where the route of a scene is; there need not be such a file."""
    return root / "can_bus" / f"{scene_name}_route.json"


def read_route(path: Path) -> Float64[np.ndarray, "P 2"] | None:
    """Points of a route in the `global` frame, about a metre apart; None where there is no file or the file no way.

    (Drivers of some 3 % of the nuScenes scenes followed no route.)

    Raises:
        DatasetError: the file is no list of finite (x, y).
    """
    if not path.is_file():
        return None
    try:
        points = np.array(orjson.loads(path.read_bytes()), np.float64)
    except (ValueError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    if points.size == 0 and points.ndim == 1:
        return None
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise _damaged(path, f"an array of shape {points.shape}, finite: {bool(np.isfinite(points).all())}")
    length_m = _stations(points)[-1]
    if length_m < _SPACING_M:
        return None
    return points_at(points, np.linspace(0.0, length_m, 1 + round(length_m / _SPACING_M)))


def route_ahead(
    points_global: Float64[np.ndarray, "P 2"],
    T_global_ego: Float[np.ndarray, "4 4"],
    *,
    look_ahead_m: float = LOOK_AHEAD_M,
    max_offset_m: float = MAX_OFFSET_M,
) -> Route | None:
    """The part of a route that lies ahead: its first waypoint is abeam of the rear axle, the others follow.

    Args:
        points_global: At least two points, in the order of driving.
        T_global_ego: Pose of the vehicle.
        look_ahead_m: Length of the part; shorter where the route ends.
        max_offset_m: See `SceneRoutes`.

    Returns:
        The route, without a speed limit: route files know none. None where the vehicle is further away than
        `max_offset_m`, or heads against the route.
    """
    raised = np.column_stack((points_global, np.full(len(points_global), T_global_ego[2, 3])))
    points_ego = transform_points(rigid_inverse(np.asarray(T_global_ego, np.float64)), raised)[:, :2]
    starts, steps = points_ego[:-1], np.diff(points_ego, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    share = np.clip(-np.einsum("ij,ij->i", starts, steps) / np.maximum(lengths**2, 1e-12), 0.0, 1.0)
    offsets = np.hypot(*(starts + share[:, None] * steps).T)
    ahead = steps[:, 0] / np.maximum(lengths, 1e-9)  # cosine of the angle between route and vehicle
    nearest = int(np.argmin(offsets + _HEADING_WEIGHT_M * (1.0 - ahead)))
    if offsets[nearest] > max_offset_m or ahead[nearest] < 0:
        return None
    stations = _stations(points_ego)
    first = stations[nearest] + share[nearest] * lengths[nearest]
    # A hair short of the end still counts as there: lengths are sums of rounded numbers.
    wanted = first + ROUTE_STEP_M * np.arange(max(1, round(look_ahead_m / ROUTE_STEP_M)))
    waypoints = points_at(points_ego, wanted[wanted <= stations[-1] + 1e-6])
    return Route(command=command_ahead(waypoints), waypoints_ego=waypoints, speed_limit_mps=float("nan"))


def command_ahead(waypoints: Float[np.ndarray, "P 2"]) -> RouteCommand:
    """What the navigation says: the side of the first turn that begins within `COMMAND_REACH_M`.

    A turn is where the direction differs by `TURN_RAD` from that of the first two waypoints; a bend that goes on is one
    turn, and of a double bend the first counts. Straight where there is no turn, or too few waypoints to tell.
    """
    steps = np.diff(waypoints, axis=0)
    within = np.cumsum(np.hypot(steps[:, 0], steps[:, 1])) <= COMMAND_REACH_M + 1e-6
    headings = np.unwrap(np.arctan2(steps[within, 1], steps[within, 0]))
    turned = headings - headings[:1]
    turns = turned[np.abs(turned) >= TURN_RAD]
    if not len(turns):
        return RouteCommand.STRAIGHT
    return RouteCommand.LEFT if turns[0] > 0 else RouteCommand.RIGHT


def points_at(points: Float64[np.ndarray, "P 2"], stations_m: Float64[np.ndarray, " S"]) -> Float64[np.ndarray, "S 2"]:
    """Points of a polyline at distances along it; clamped to its ends."""
    stations = _stations(points)
    return np.stack([np.interp(stations_m, stations, points[:, axis]) for axis in (0, 1)], axis=-1)


def _stations(points: np.ndarray) -> np.ndarray:
    """Distance along a polyline of each of its points."""
    steps = np.diff(points, axis=0)
    return np.concatenate(([0.0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))))


def _damaged(path: Path, reason: str) -> DatasetError:
    return DatasetError(f"{path} is no list of finite (x, y) ({reason}): unpack can_bus.zip again or remove the file")
