"""Polygons and lines in metres onto a BEV grid."""

import cv2
import numpy as np
from jaxtyping import Bool, Float

from bevstack.types.bev import BevGrid

_SUBPIXEL_BITS = 8


def fill_polygon(mask: np.ndarray, grid: BevGrid, exterior_m: Float[np.ndarray, "P 2"]) -> None:
    """Set the cells of a (Y, X) uint8 mask whose centre the polygon covers (boundary cells included) to 1."""
    cv2.fillPoly(mask, [_fixed_point(grid, exterior_m)], (1,), shift=_SUBPIXEL_BITS)


def draw_line(mask: np.ndarray, grid: BevGrid, points_m: Float[np.ndarray, "P 2"], width_cells: int = 1) -> None:
    """Set the cells of a (Y, X) uint8 mask under a polyline to 1."""
    cv2.polylines(mask, [_fixed_point(grid, points_m)], False, (1,), thickness=width_cells, shift=_SUBPIXEL_BITS)


def polygons_mask(grid: BevGrid, polygons_m: list[np.ndarray], holes_m: list[np.ndarray]) -> Bool[np.ndarray, "Y X"]:
    """Cells covered by any polygon; a hole removes only what its own exterior filled when they are given together."""
    mask = np.zeros(grid.shape_yx, np.uint8)
    for exterior in polygons_m:
        fill_polygon(mask, grid, exterior)
    for hole in holes_m:
        cv2.fillPoly(mask, [_fixed_point(grid, hole)], (0,), shift=_SUBPIXEL_BITS)
    return mask.astype(bool)


def _fixed_point(grid: BevGrid, points_m: np.ndarray) -> np.ndarray:
    origin = np.array((grid.x_range_m[0], grid.y_range_m[0]))
    cells = (np.asarray(points_m, np.float64) - origin) / grid.cell_m - 0.5  # OpenCV puts pixel centres at integers
    return np.round(cells * (1 << _SUBPIXEL_BITS)).astype(np.int32)
