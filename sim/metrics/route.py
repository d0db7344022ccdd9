"""Where the ego vehicle and others are along the route that was asked for: distance along it, distance left of it."""

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float

from bevstack.sim.metrics.tracks import Tracks
from bevstack.sim.world.polylines import arc_lengths

_SLACK_M = 5.0
"""How much further than it moved the vehicle's place on the route may shift within a step."""
_BEHIND_M, _AHEAD_M = 40.0, 150.0
"""The part of the route around the ego vehicle on which others are sought: a route may cross itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoutePlaces:
    """Route coordinates of the centres of all outlines; NaN for who is not there and where there is no route."""

    length_m: float
    stations_m: Float[np.ndarray, " T"]
    """Of the ego vehicle, followed from step to step, so that a route may come back to where it was."""
    offsets_m: Float[np.ndarray, " T"]
    """To the left of the route."""
    yaws_rad: Float[np.ndarray, " T"]
    """Of the route beside the ego vehicle."""
    actor_stations_m: Float[np.ndarray, "A T"]
    actor_offsets_m: Float[np.ndarray, "A T"]
    actor_yaws_rad: Float[np.ndarray, "A T"]
    """Of the route beside each actor."""

    @classmethod
    def of(cls, tracks: Tracks) -> "RoutePlaces":
        """Place everybody on the route of the run."""
        route, steps = np.ascontiguousarray(tracks.log.route, dtype=np.float64), len(tracks.ego)
        shape = (len(tracks.actors), steps)
        if len(route) < 2:
            own, others, length = np.full((steps, 3), np.nan), np.full((*shape, 3), np.nan), np.nan
        else:
            stations = arc_lengths(route)
            length = float(stations[-1])
            own = _follow(route, stations, tracks.ego[:, :2])
            others = np.empty((*shape, 3))
            for row in range(len(tracks.actors)):
                others[row] = _beside(route, stations, tracks.actors[row, :, :2], own[:, 0])
        return cls(
            length_m=length,
            stations_m=own[:, 0],
            offsets_m=own[:, 1],
            yaws_rad=own[:, 2],
            actor_stations_m=others[..., 0],
            actor_offsets_m=others[..., 1],
            actor_yaws_rad=others[..., 2],
        )


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _nearest(route: np.ndarray, stations: np.ndarray, x: float, y: float, low: float, high: float) -> tuple:
    """Station, signed offset and route heading of the point of the route between two stations nearest to x, y."""
    best, nearest, way = np.inf, -1, 0.0
    first, last = np.searchsorted(stations, low), np.searchsorted(stations, high, side="right")
    for k in range(max(first - 1, 0), min(last, len(route) - 1)):
        step_x, step_y = route[k + 1, 0] - route[k, 0], route[k + 1, 1] - route[k, 1]
        length = stations[k + 1] - stations[k]
        if length <= 0.0:
            continue
        to_x, to_y = x - route[k, 0], y - route[k, 1]
        share = min(max((to_x * step_x + to_y * step_y) / (length * length), 0.0), 1.0)
        gap_x, gap_y = to_x - share * step_x, to_y - share * step_y
        gap = gap_x * gap_x + gap_y * gap_y
        if gap < best:
            best, nearest, way = gap, k, share * length
    if nearest < 0:
        return np.nan, np.nan, np.nan
    step_x, step_y = route[nearest + 1, 0] - route[nearest, 0], route[nearest + 1, 1] - route[nearest, 1]
    is_left = step_x * (y - route[nearest, 1]) - step_y * (x - route[nearest, 0]) >= 0
    return stations[nearest] + way, np.sqrt(best) if is_left else -np.sqrt(best), np.arctan2(step_y, step_x)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _follow(route: np.ndarray, stations: np.ndarray, points: np.ndarray) -> np.ndarray:
    out = np.full((len(points), 3), np.nan)
    low, high = -np.inf, np.inf
    for t in range(len(points)):
        if t > 0:
            reach = _SLACK_M + np.hypot(points[t, 0] - points[t - 1, 0], points[t, 1] - points[t - 1, 1])
            low, high = out[t - 1, 0] - reach, out[t - 1, 0] + reach
        out[t, 0], out[t, 1], out[t, 2] = _nearest(route, stations, points[t, 0], points[t, 1], low, high)
    return out


@numba.njit(cache=True, nogil=True)
@no_type_check
def _beside(route: np.ndarray, stations: np.ndarray, points: np.ndarray, around: np.ndarray) -> np.ndarray:
    out = np.full((len(points), 3), np.nan)
    for t in range(len(points)):
        if not np.isnan(points[t, 0]):
            low, high = around[t] - _BEHIND_M, around[t] + _AHEAD_M
            out[t, 0], out[t, 1], out[t, 2] = _nearest(route, stations, points[t, 0], points[t, 1], low, high)
    return out
