"""Polygons and lines in metres onto a BEV grid, exact at the cell centres.

A cell belongs to a polygon if its centre lies inside, and to a line if its centre lies within half the line's width.
(OpenCV's drawing functions round to whole rows and paint outlines: their masks are up to two cells off.)
"""

from collections.abc import Sequence
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float

from bevstack.types.bev import BevGrid


def fill_polygon(mask: np.ndarray, grid: BevGrid, rings_m: Sequence[Float[np.ndarray, "_ 2"]]) -> None:
    """Set the cells of a (Y, X) uint8 mask whose centre lies in the polygon to 1; other cells keep their value.

    Args:
        mask: (Y, X) uint8, changed in place.
        grid: where the cells are.
        rings_m: (x, y) in metres of the outer ring, then of its holes; each may or may not repeat its first point.

    Raises:
        ValueError: the mask is not one of this grid.
    """
    _check_mask(mask, grid)
    rings = [_to_centers(grid, ring) for ring in rings_m if len(ring) >= 3]
    if rings:
        ends = np.cumsum([len(ring) for ring in rings])
        _fill_even_odd(mask, np.concatenate(rings), ends)


def draw_line(mask: np.ndarray, grid: BevGrid, points_m: Float[np.ndarray, "P 2"], width_cells: float = 1.0) -> None:
    """Set the cells of a (Y, X) uint8 mask whose centre lies within half of `width_cells` of a polyline to 1.

    From a width of 1 on, the cells of a line hang together.

    Raises:
        ValueError: the mask is not one of this grid.
    """
    _check_mask(mask, grid)
    _draw_segments(mask, _to_centers(grid, points_m), 0.5 * float(width_cells))


def polygons_mask(grid: BevGrid, polygons_m: Sequence[Sequence[np.ndarray]]) -> Bool[np.ndarray, "Y X"]:
    """Cells covered by any of the polygons, each given as its rings (P, 2): the outer one first, then its holes.

    A hole removes only what its own polygon fills, never what another polygon has there.
    """
    mask = np.zeros(grid.shape_yx, np.uint8)
    for rings in polygons_m:
        fill_polygon(mask, grid, rings)
    return mask.astype(bool)


@numba.njit(nogil=True, cache=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _fill_even_odd(mask: np.ndarray, points: np.ndarray, ends: np.ndarray) -> None:
    """Scan lines through cell centres; between odd and even crossings lies the inside. Rings end at `ends`."""
    num_rows, num_columns = mask.shape
    crossings = np.empty(len(points))
    low = max(0, int(np.ceil(points[:, 1].min())))
    high = min(num_rows - 1, int(np.floor(points[:, 1].max())))
    for row in range(low, high + 1):
        count, start = 0, 0
        for end in ends:
            for k in range(start, end):
                following = k + 1 if k + 1 < end else start
                y0, y1 = points[k, 1], points[following, 1]
                if (y0 <= row) != (y1 <= row):  # half open: a corner on the scan line counts once
                    x0, x1 = points[k, 0], points[following, 0]
                    crossings[count] = x0 + (row - y0) / (y1 - y0) * (x1 - x0)
                    count += 1
            start = end
        ordered = np.sort(crossings[:count])
        for pair in range(0, count - 1, 2):
            first = max(0, int(np.ceil(ordered[pair])))
            last = min(num_columns - 1, int(np.ceil(ordered[pair + 1])) - 1)
            for column in range(first, last + 1):
                mask[row, column] = 1


@numba.njit(nogil=True, cache=True)
@no_type_check
def _draw_segments(mask: np.ndarray, points: np.ndarray, reach: float) -> None:
    num_rows, num_columns = mask.shape
    for k in range(max(1, len(points) - 1)):
        x0, y0 = points[k]
        x1, y1 = points[min(k + 1, len(points) - 1)]
        dx, dy = x1 - x0, y1 - y0
        squared = dx * dx + dy * dy
        for row in range(max(0, int(np.ceil(min(y0, y1) - reach))), min(num_rows, int(max(y0, y1) + reach) + 1)):
            first = max(0, int(np.ceil(min(x0, x1) - reach)))
            last = min(num_columns - 1, int(np.floor(max(x0, x1) + reach)))
            for column in range(first, last + 1):
                along = ((column - x0) * dx + (row - y0) * dy) / squared if squared > 0 else 0.0
                along = min(1.0, max(0.0, along))
                if (column - x0 - along * dx) ** 2 + (row - y0 - along * dy) ** 2 <= reach * reach:
                    mask[row, column] = 1


def _to_centers(grid: BevGrid, points_m: np.ndarray) -> np.ndarray:
    """Metres to cells, counted so that cell centres lie at whole numbers."""
    origin = np.array((grid.x_range_m[0], grid.y_range_m[0]))
    return (np.asarray(points_m, np.float64) - origin) / grid.cell_m - 0.5


def _check_mask(mask: np.ndarray, grid: BevGrid) -> None:
    if mask.shape != grid.shape_yx or mask.dtype != np.uint8:
        raise ValueError(f"a mask of this grid is uint8 of shape {grid.shape_yx}, not {mask.dtype} of {mask.shape}")
