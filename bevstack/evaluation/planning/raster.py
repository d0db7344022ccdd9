"""The collision test of ST-P3, UniAD and VAD: the vehicle's cells on a raster of drawn boxes, flaws included.

Reproduced as released, because published collision rates rest on it: 200 x 200 cells of 0.5 m; boxes drawn with their
corners rounded to cell indices and the rim filled; the vehicle is 32 cells, those whose centres lie in a box of 4.084 x
1.85 m half a metre ahead of the point, moved by the plan in whole cells towards smaller indices; beyond the raster its
rim cells are tested.

What follows from that, and why `plan/polygon` exists:

* **The vehicle is never turned.** A car that has turned by 90 degrees is tested as if it were 1.85 m long and 4.08 m
  wide: contact beside it is invented, contact ahead of and behind it is missed.
* Contact of less than half a metre appears or vanishes with rounding; boxes are drawn up to half a cell too far.
* Steps at which the *expert* touches a drawn box are struck from the hits, not from the number of tests.
* ST-P3 draws boxes around the rear axle but moves the vehicle along the LiDAR's way: its vehicle is tested about a
  metre behind where it is.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float64

from bevstack.evaluation.planning.ego_future import PLAN_STEPS
from bevstack.evaluation.planning.obstacles import BoxesByStep
from bevstack.evaluation.planning.placement import EGO_CENTER_AHEAD_OF_LIDAR_M, EGO_LENGTH_M, EGO_WIDTH_M

CELL_M = 0.5
CELLS = 200
HALF_EXTENT_M = 50.0
_FIRST_CENTER_M = -HALF_EXTENT_M + CELL_M / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterRule:
    """How one code base lays its raster. The vehicle's row grows with the way forward, except where it is flipped."""

    boxes_in_ego: bool
    """Boxes come in `ego` (x forward, y left: columns run to the left) and not in the LiDAR's frame (x right)."""
    is_flipped: bool
    """Rows are counted from the front."""


RASTER_RULES = {
    "plan/uniad": RasterRule(boxes_in_ego=False, is_flipped=False),
    "plan/stp3": RasterRule(boxes_in_ego=True, is_flipped=False),
    "plan/vad": RasterRule(boxes_in_ego=False, is_flipped=True),
}


def _cells_inside(low_m: float, high_m: float) -> np.ndarray:
    """Indices of cells whose centres lie strictly between two places."""
    low, high = ((place - _FIRST_CENTER_M) / CELL_M for place in (low_m, high_m))
    return np.arange(int(np.floor(low)) + 1, int(np.ceil(high)))


_ROWS, _COLUMNS = (
    grid.reshape(-1)
    for grid in np.meshgrid(
        _cells_inside(EGO_CENTER_AHEAD_OF_LIDAR_M - EGO_LENGTH_M / 2, EGO_CENTER_AHEAD_OF_LIDAR_M + EGO_LENGTH_M / 2),
        _cells_inside(-EGO_WIDTH_M / 2, EGO_WIDTH_M / 2),
        indexing="ij",
    )
)


def raster_hits(
    paths_lidar: Float64[np.ndarray, "P F 6 2"], obstacles: BoxesByStep, rule: RasterRule
) -> Bool[np.ndarray, "P F 6"]:
    """Whether the vehicle of each of P plans meets a drawn box at each step.

    Args:
        paths_lidar: Ways of the LiDAR's origin, x to the right and y forward, in metres.
        obstacles: Boxes in the frame of the rule.
        rule: One of `RASTER_RULES`.
    """
    rows, columns = _vehicle_cells(paths_lidar, rule)
    corners = _drawn_corners(obstacles.boxes, rule)
    hits = np.zeros(paths_lidar.shape[:3], bool)
    lowest = np.stack((columns.min(axis=(0, 3)), rows.min(axis=(0, 3))), axis=-1).reshape(-1, 2)
    highest = np.stack((columns.max(axis=(0, 3)), rows.max(axis=(0, 3))), axis=-1).reshape(-1, 2)
    slot = np.repeat(np.arange(len(obstacles.first) - 1), np.diff(obstacles.first))
    is_near = (corners.min(axis=1) <= highest[slot]).all(axis=1) & (corners.max(axis=1) >= lowest[slot]).all(axis=1)
    for tested in np.unique(slot[is_near]):  # elsewhere no drawn cell can be one of the vehicle's
        frame, step = divmod(int(tested), PLAN_STEPS)
        drawn = np.zeros((CELLS, CELLS), np.uint8)
        span = np.arange(obstacles.first[tested], obstacles.first[tested + 1])
        for box in span[is_near[span]]:
            cv2.fillPoly(drawn, [corners[box]], (1,))
        hits[:, frame, step] = drawn[rows[:, frame, step], columns[:, frame, step]].any(axis=-1)
    return hits


def _vehicle_cells(paths_lidar: np.ndarray, rule: RasterRule) -> tuple[np.ndarray, np.ndarray]:
    """(P, F, 6, 32) rows and columns; a shift by a part of a cell is cut off, as an integer conversion does."""
    path = paths_lidar.astype(np.float32).astype(np.float64) / CELL_M
    sideways = -path[..., 0] if rule.boxes_in_ego else path[..., 0]
    rows, columns = path[..., 1:] + _ROWS, sideways[..., None] + _COLUMNS
    if rule.is_flipped:
        rows = CELLS - rows
    return tuple(np.clip(np.trunc(index), 0, CELLS - 1).astype(np.int32) for index in (rows, columns))  # type: ignore[return-value]


def _drawn_corners(boxes: np.ndarray, rule: RasterRule) -> np.ndarray:
    """(N, 4, 2): column and row of each corner, rounded to the nearest cell index."""
    half = boxes[:, None, 2:4] / 2 * np.array(((1, 1), (-1, 1), (-1, -1), (1, -1)))
    c, s = np.cos(boxes[:, 4])[:, None], np.sin(boxes[:, 4])[:, None]
    x = half[..., 0] * c - half[..., 1] * s + boxes[:, :1]
    y = half[..., 0] * s + half[..., 1] * c + boxes[:, 1:2]
    columns, rows = (y, x) if rule.boxes_in_ego else (x, -y if rule.is_flipped else y)
    return np.round((np.stack((columns, rows), axis=-1) + HALF_EXTENT_M) / CELL_M).astype(np.int32)
