"""Whether predicted paths stay on the road, by the rules of the nuScenes prediction challenge.

A path is a smoothing spline through its points (`scipy.interpolate.splprep`, s = 0.1), looked at in 200 places; the
road is the `drivable_area` layer drawn with 10 cells to a metre. Cells are drawn in tiles as they are needed: a whole
city is a gigabyte, the tiles that a split touches are a few megabytes.
"""

import numpy as np
from jaxtyping import Bool, Float64
from scipy import interpolate

from bevstack.data.maps import VectorMap

_CELLS_PER_M = 10
_TILE_M = 400.0
_TILE_CELLS = round(_TILE_M * _CELLS_PER_M)
_NUM_PLACES, _SMOOTHING = 200, 0.1
_MIN_SPLINE_POINTS = 4


class DrivableArea:
    """The drivable area of one location, asked in the map's `global` coordinates.

    Args:
        vector_map: The map of the location.

    Raises:
        ValueError: the map has no layer `drivable_area`.
    """

    def __init__(self, vector_map: VectorMap) -> None:
        self._map = vector_map
        self._map.shapes("drivable_area")
        self._tiles: dict[tuple[int, int], np.ndarray] = {}
        width_m, height_m = vector_map.canvas_edge_m
        self._edge_cells = np.array((round(width_m * _CELLS_PER_M), round(height_m * _CELLS_PER_M)))

    def contains(self, xy_global: Float64[np.ndarray, "P 2"]) -> Bool[np.ndarray, " P"]:
        """Which points lie on the road; those outside the map do not."""
        cells = (xy_global * _CELLS_PER_M).astype(np.int64)  # towards zero, as the devkit rounds
        found = ((cells >= 0) & (cells < self._edge_cells)).all(axis=1)
        tile_of = cells // _TILE_CELLS
        for tile in np.unique(tile_of[found], axis=0):
            own = found & (tile_of == tile).all(axis=1)
            column, row = (cells[own] - tile * _TILE_CELLS).T
            packed = self._tile(int(tile[0]), int(tile[1]))
            found[own] = packed[row, column >> 3] >> (7 - (column & 7)) & 1
        return found

    def off_road_share(self, modes: Float64[np.ndarray, "K T 2"]) -> float:
        """Share of an object's predicted paths that leave the road anywhere."""
        return float(np.mean([not self.contains(path_points(mode)).all() for mode in modes]))

    def _tile(self, column: int, row: int) -> np.ndarray:
        """Cells of a tile, eight to a byte."""
        if (column, row) not in self._tiles:
            center = np.array((column + 0.5, row + 0.5)) * _TILE_M
            mask = self._map.patch_masks(
                ("drivable_area",), center, (_TILE_M, _TILE_M), 0.0, (_TILE_CELLS, _TILE_CELLS), compat="devkit"
            )[0]
            self._tiles[column, row] = np.packbits(mask.astype(bool), axis=1)
        return self._tiles[column, row]


def path_points(mode: Float64[np.ndarray, "T 2"]) -> Float64[np.ndarray, "P 2"]:
    """Where a predicted path is looked at; its own points where fewer than four of them differ."""
    distinct = np.array(list(dict.fromkeys(map(tuple, mode.tolist()))))
    if len(distinct) < _MIN_SPLINE_POINTS:
        return distinct
    spline, _ = interpolate.splprep([distinct[:, 0], distinct[:, 1]], k=3, s=_SMOOTHING)
    return np.stack(interpolate.splev(np.linspace(0, 1, _NUM_PLACES), spline), axis=1)
