"""The way that something moves along: the middle of its lanes or any line, straight on beyond both ends."""

import bisect
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from bevstack.sim.world.polylines import arc_lengths
from bevstack.sim.world.roads import Lane

_SAME_POINT_M = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """A line with distances along it."""

    points: Float[np.ndarray, "P 2"]
    """At least two, all different."""
    lanes: tuple[int, ...] = ()
    """Lanes that it runs along, if any."""
    lane_starts_m: tuple[float, ...] = ()
    """Station at which each of them begins."""
    lane_width_m: float = 3.5

    @classmethod
    def along(cls, lanes: tuple[Lane, ...]) -> "Way":
        """The centrelines of lanes that follow each other."""
        points = np.concatenate([lanes[0].centerline[:1], *(lane.centerline for lane in lanes)])
        lengths = np.cumsum([0.0, *(lane.length_m for lane in lanes)])
        return cls(
            points=_distinct(points),
            lanes=tuple(lane.index for lane in lanes),
            lane_starts_m=tuple(float(length) for length in lengths[:-1]),
            lane_width_m=lanes[0].width_m,
        )

    @classmethod
    def through(cls, points: Float[np.ndarray, "P 2"]) -> "Way":
        """Straight lines from point to point; equal neighbours count once.

        Raises:
            ValueError: there are fewer than two different points.
        """
        line = _distinct(points)
        if len(line) < 2:
            raise ValueError(f"a way needs two different points, not {len(line)}")
        return cls(points=line)

    @classmethod
    def ahead(cls, x: float, y: float, yaw: float) -> "Way":
        """The half line that begins at a pose."""
        return cls(points=np.array([(x, y), (x + math.cos(yaw), y + math.sin(yaw))]))

    @property
    def length_m(self) -> float:
        """Of the line without what lies beyond its ends."""
        return self._stations[-1]

    def pose(self, station_m: float, left_m: float = 0.0) -> tuple[float, float, float]:
        """x, y and direction at a distance along the way, `left_m` to the left of it."""
        stations, points, yaws = self._stations, self._rows, self._yaws
        low = min(max(bisect.bisect_right(stations, station_m) - 1, 0), len(stations) - 2)
        share = (station_m - stations[low]) / (stations[low + 1] - stations[low])
        (x0, y0), (x1, y1) = points[low], points[low + 1]
        inside = min(max(share, 0.0), 1.0)
        yaw = yaws[low] + inside * (yaws[low + 1] - yaws[low])
        x, y = x0 + inside * (x1 - x0), y0 + inside * (y1 - y0)
        beyond = (share - inside) * (stations[low + 1] - stations[low])
        c, s = math.cos(yaw), math.sin(yaw)
        return x + beyond * c - left_m * s, y + beyond * s + left_m * c, yaw

    def curvature(self, station_m: float) -> float:
        """Change of direction per metre, left positive; 0 beyond the ends."""
        stations, yaws = self._stations, self._yaws
        if not 0 <= station_m < stations[-1]:
            return 0.0
        low = min(bisect.bisect_right(stations, station_m) - 1, len(stations) - 2)
        return (yaws[low + 1] - yaws[low]) / (stations[low + 1] - stations[low])

    def station_of(self, x: float, y: float) -> tuple[float, float]:
        """Distance along the way of its point nearest to (x, y), and how far left it is; also beyond the ends."""
        starts, steps = self.points[:-1], np.diff(self.points, axis=0)
        to_point = np.array((x, y)) - starts
        squares = (steps**2).sum(1)
        share = (to_point * steps).sum(1) / squares
        inside = np.clip(share, 0.0, 1.0)
        gaps = to_point - inside[:, None] * steps
        nearest = int(np.argmin((gaps**2).sum(1)))
        is_end = (nearest == 0 and share[nearest] < 0) or (nearest == len(steps) - 1 and share[nearest] > 1)
        taken = share[nearest] if is_end else inside[nearest]
        length = math.sqrt(squares[nearest])
        left = (steps[nearest, 0] * to_point[nearest, 1] - steps[nearest, 1] * to_point[nearest, 0]) / length
        return float(self._stations[nearest] + taken * length), float(left)

    @cached_property
    def _stations(self) -> list[float]:
        return arc_lengths(self.points).tolist()

    @cached_property
    def _rows(self) -> list[list[float]]:
        return self.points.tolist()

    @cached_property
    def _yaws(self) -> list[float]:
        """Direction at each point: between its two neighbours, where both lie about equally near."""
        steps = np.diff(self.points, axis=0)
        segment = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        length = np.hypot(*steps.T)
        # A point between a long and a short step lies where a straight meets a bend: the long step has the direction.
        weight = np.where(length[:-1] > 2 * length[1:], 1.0, np.where(length[1:] > 2 * length[:-1], 0.0, 0.5))
        inner = weight * segment[:-1] + (1 - weight) * segment[1:]
        return np.concatenate((segment[:1], inner, segment[-1:])).tolist()


def _distinct(points: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, "D 2"]:
    keep = np.concatenate(([True], np.hypot(*np.diff(points, axis=0).T) > _SAME_POINT_M))
    return points[keep]
