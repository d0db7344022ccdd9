"""What lies on the vehicle's way and when: a path's swept corridor against moving rectangles and occupied cells.

For every future and time the stations (of the rear axle along the path) between which the corridor is blocked. An
object beside the vehicle that the corridor only grazes blocks nothing ahead. Letters: F futures, T times, P points.
"""

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float

from bevstack.data.class_names import OCCUPANCY_CLASSES
from bevstack.geometry.rectangles import rectangles_touch
from bevstack.planning.obstacles import SceneObstacles
from bevstack.planning.paths import PATH_STEP_M, Path
from bevstack.planning.vehicle import VehicleParams

CORRIDOR_MARGIN_M = 0.3
"""On each side of the vehicle."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corridor:
    """What blocks a path. Stations are those of the front end of the vehicle."""

    begins_m: Float[np.ndarray, "F T"]
    """Where an object begins to block the corridor; infinite where it does not, or lies behind the front end."""
    speeds_mps: Float[np.ndarray, "F T"]
    """Along the path."""
    static_m: float
    """Where occupied space begins; infinite where there is none."""
    static_words: str
    names: tuple[str, ...]
    """Of the futures."""

    def nearest(self) -> tuple[float, float, str]:
        """Distance ahead of the front end, speed along the path and name of what blocks it now; infinite where free."""
        first = self.begins_m[:, 0].min(initial=np.inf)
        if self.static_m <= first:
            return self.static_m, 0.0, self.static_words
        row = int(np.argmin(self.begins_m[:, 0]))
        return float(first), float(self.speeds_mps[row, 0]), self.names[row]


def corridor_along(path: Path, obstacles: SceneObstacles, vehicle: VehicleParams, min_cells: int = 2) -> Corridor:
    """What blocks a path, now and as far as it is believed.

    Args:
        path: It begins at the vehicle.
        obstacles: The scene.
        vehicle: Its width, and where its front end is.
        min_cells: Fewer occupied columns are noise.
    """
    width = vehicle.width_m + 2 * CORRIDOR_MARGIN_M
    agents = obstacles.agents
    front = vehicle.front_ahead_m
    extra = path.points[-1] + np.outer(
        np.arange(PATH_STEP_M, front + PATH_STEP_M, PATH_STEP_M), (np.cos(path.yaws[-1]), np.sin(path.yaws[-1]))
    )
    points = np.concatenate((path.points, extra))
    yaws = np.concatenate((path.yaws, np.full(len(extra), path.yaws[-1])))
    begins, station = _blocked(agents.boxes, agents.num_known, points, yaws, width, PATH_STEP_M)
    velocity = np.gradient(agents.boxes[..., :2], 0.2, axis=1) if len(agents) else np.zeros((0, begins.shape[1], 2))
    heading = yaws[station]
    speeds = velocity[..., 0] * np.cos(heading) + velocity[..., 1] * np.sin(heading)
    static, cell = _first_cells(obstacles.cells.centers, points, yaws, width, PATH_STEP_M, front, min_cells)
    words = "" if cell < 0 else f"occupied space ({OCCUPANCY_CLASSES[obstacles.cells.class_index[cell]]})"
    return Corridor(
        begins_m=begins - front,
        speeds_mps=speeds,
        static_m=static - front,
        static_words=words,
        names=tuple(agents.describe(future) for future in range(len(agents))),
    )


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _blocked(
    boxes: np.ndarray, num_known: np.ndarray, points: np.ndarray, yaws: np.ndarray, width: float, step_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Station (F, T) of the first slice of the corridor that each rectangle touches, and the index of its point."""
    futures, times = boxes.shape[0], boxes.shape[1]
    begins, index = np.full((futures, times), np.inf), np.zeros((futures, times), np.int64)
    low_x, high_x = points[:, 0].min() - width, points[:, 0].max() + width
    low_y, high_y = points[:, 1].min() - width, points[:, 1].max() + width
    slice_ = np.empty(5)
    slice_[2], slice_[3] = step_m, width
    for f in range(futures):
        reach = 0.5 * np.hypot(boxes[f, 0, 2], boxes[f, 0, 3])
        near = reach + 0.5 * width + step_m
        for t in range(num_known[f]):
            x, y = boxes[f, t, 0], boxes[f, t, 1]
            if x + reach < low_x or x - reach > high_x or y + reach < low_y or y - reach > high_y:
                continue
            p = 0
            while p < len(points):
                gap = np.hypot(x - points[p, 0], y - points[p, 1])
                if gap > near:
                    # No nearer than `near` before the path has covered the difference.
                    p += max(1, int((gap - near) / (1.5 * step_m)))
                    continue
                slice_[0], slice_[1], slice_[4] = points[p, 0], points[p, 1], yaws[p]
                if rectangles_touch(slice_, boxes[f, t]):
                    begins[f, t], index[f, t] = p * step_m, p
                    break
                p += 1
    return begins, index


@numba.njit(cache=True, nogil=True)
@no_type_check
def _first_cells(
    cells: np.ndarray, points: np.ndarray, yaws: np.ndarray, width: float, step_m: float, front: float, min_cells: int
) -> tuple[float, int]:
    """Station ahead of the front end at which the corridor holds `min_cells` cells, and the last of them."""
    count = 0
    for p in range(int(front / step_m), len(points)):
        c, s = np.cos(yaws[p]), np.sin(yaws[p])
        for m in range(len(cells)):
            dx, dy = cells[m, 0] - points[p, 0], cells[m, 1] - points[p, 1]
            if abs(dx) > width or abs(dy) > width:
                continue
            along, across = c * dx + s * dy, c * dy - s * dx
            if -0.5 * step_m <= along < 0.5 * step_m and abs(across) <= 0.5 * width:
                count += 1
                if count >= min_cells:
                    return p * step_m, m
    return np.inf, -1
