"""Lane centrelines as the arc-line paths of nuScenes maps.

A path is up to three parts, each a straight or an arc of one radius, named by its shape such as LSL (left, straight,
left). A curve becomes a chain of single arcs that pass through the points of the centreline.
"""

import numpy as np
from jaxtyping import Float

from bevstack.sim.world.polylines import arc_lengths, headings

_TOLERANCE_M = 0.03
_STRAIGHT_RADIUS_M = 999.999


def arcline_path(points: Float[np.ndarray, "P 2"]) -> list[dict]:
    """The records of `arcline_path_3` for one lane; their arcs stay within 3 cm of the points."""
    stations = arc_lengths(points)
    yaws = np.unwrap(headings(points))
    chain = []
    start = 0
    while start < len(points) - 1:
        end = len(points) - 1
        while True:
            arc = _Arc(points[start], points[end], float(yaws[end] - yaws[start]))
            between = (stations[start : end + 1] - stations[start]) / (stations[end] - stations[start])
            gaps = np.hypot(*(arc.points_at(between) - points[start : end + 1]).T)
            if end == start + 1 or gaps.max() < _TOLERANCE_M:
                break
            end = start + max((end - start) * 2 // 3, 1)
        chain.append(arc.record())
        start = end
    return chain


class _Arc:
    """The circular arc through two points that turns by a given angle."""

    def __init__(self, start: np.ndarray, end: np.ndarray, turn_rad: float) -> None:
        chord = end - start
        self.start, self.end = start, end
        self.turn = turn_rad if abs(turn_rad) > 1e-5 else 0.0
        self.yaw = float(np.arctan2(chord[1], chord[0])) - self.turn / 2
        half = self.turn / 2
        self.length = float(np.hypot(*chord)) * (half / float(np.sin(half)) if half else 1.0)

    def points_at(self, shares: np.ndarray) -> np.ndarray:
        """Points (N, 2) at shares of the length."""
        travelled = shares * self.length
        middle = self.yaw + shares * self.turn / 2
        # The chord to a point of an arc points half of its turn away from the start.
        chord = travelled * np.sinc(shares * self.turn / 2 / np.pi)
        return self.start + chord[:, None] * np.stack((np.cos(middle), np.sin(middle)), axis=1)

    def record(self) -> dict:
        """One entry of `arcline_path_3`."""
        is_straight = self.turn == 0.0
        return {
            "start_pose": [float(self.start[0]), float(self.start[1]), self.yaw],
            "end_pose": [float(self.end[0]), float(self.end[1]), self.yaw + self.turn],
            "shape": "LSR" if is_straight else "LSL" if self.turn > 0 else "RSR",
            "radius": _STRAIGHT_RADIUS_M if is_straight else self.length / abs(self.turn),
            "segment_length": [0.0, self.length, 0.0] if is_straight else [self.length, 0.0, 0.0],
        }
