"""Flat areas as triangles: a grid of cells inside, ear clipping (Meisters 1975) where the outline passes."""

import numba
import numpy as np
import shapely
from shapely.geometry import LineString, MultiPolygon, Polygon
from shapely.ops import split

_MIN_PIECE_M2 = 1e-4
_STRAIGHT_M2 = 1e-5
"""Corners that span less (twice their triangle's area) are straight; single precision could turn them over."""


def triangulate(area: shapely.Geometry, cell_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 2) and counter-clockwise triangles (F, 3) that cover an area, none wider than a square cell."""
    area = only_polygons(area)
    if area.is_empty:
        return np.zeros((0, 2)), np.zeros((0, 3), np.int32)
    x_min, y_min, x_max, y_max = area.bounds
    columns = np.arange(np.floor(x_min / cell_m), np.ceil(x_max / cell_m)) * cell_m
    rows = np.arange(np.floor(y_min / cell_m), np.ceil(y_max / cell_m)) * cell_m
    x, y = (values.ravel() for values in np.meshgrid(columns, rows))
    cells = shapely.box(x, y, x + cell_m, y + cell_m)
    outline = area.boundary
    shapely.prepare(outline)
    is_cut = shapely.intersects(outline, cells)
    ends, ring = shapely.get_coordinates(shapely.get_parts(outline), return_index=True)
    full = ~is_cut
    full[full] = _is_inside(x[full] + cell_m / 2, y[full] + cell_m / 2, ends, ring)
    corners = np.stack((x, y, x + cell_m, y, x + cell_m, y + cell_m, x, y + cell_m), 1)[full].reshape(-1, 2)
    squares = (4 * np.arange(full.sum())[:, None, None] + np.array(((0, 1, 2), (0, 2, 3)))).reshape(-1, 3)
    points, faces = _clip_pieces(shapely.get_parts(shapely.intersection(area, cells[is_cut])))
    return np.concatenate((corners, points)), np.concatenate((squares, faces + len(corners))).astype(np.int32)


def only_polygons(area: shapely.Geometry) -> MultiPolygon:
    """An area without the stray lines and points that cutting leaves where outlines touch."""
    return MultiPolygon([part for part in shapely.get_parts(area).tolist() if part.geom_type == "Polygon"])


def _clip_pieces(pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of many small areas."""
    pieces = shapely.get_parts(pieces)
    pieces = pieces[(shapely.get_type_id(pieces) == 3) & (shapely.area(pieces) > _MIN_PIECE_M2)]
    has_holes = shapely.get_num_interior_rings(pieces) > 0
    opened = [simple for piece in pieces[has_holes] for simple in _without_holes(piece)]
    pieces = np.concatenate((pieces[~has_holes], np.array(opened, dtype=object)))
    if not len(pieces):
        return np.zeros((0, 2)), np.zeros((0, 3), np.int64)
    rings = shapely.get_exterior_ring(pieces)
    rings = np.where(shapely.is_ccw(rings), rings, shapely.reverse(rings))
    points, owner = shapely.get_coordinates(rings, return_index=True)
    starts = np.searchsorted(owner, np.arange(len(rings) + 1))
    return points, _ear_clip_all(points, starts)


def _without_holes(piece: Polygon) -> list[Polygon]:
    """The same area cut into polygons without holes."""
    if piece.geom_type != "Polygon" or piece.area < _MIN_PIECE_M2:
        return []
    if not piece.interiors:
        return [piece]
    hole = Polygon(piece.interiors[0]).representative_point()
    _, y_min, _, y_max = piece.bounds
    knife = LineString(((hole.x, y_min - 1.0), (hole.x, y_max + 1.0)))
    return [simple for part in split(piece, knife).geoms for simple in _without_holes(part)]


@numba.njit(cache=True)
def _is_inside(x: np.ndarray, y: np.ndarray, ends: np.ndarray, ring: np.ndarray) -> np.ndarray:  # pragma: no cover
    """Even-odd test of points against the closed rings of an area."""
    inside = np.zeros(len(x), np.bool_)
    for start in range(len(ends) - 1):
        if ring[start] != ring[start + 1]:
            continue
        x_a, y_a, x_b, y_b = ends[start, 0], ends[start, 1], ends[start + 1, 0], ends[start + 1, 1]
        if y_a == y_b:
            continue
        for point in range(len(x)):
            if (y_a > y[point]) != (y_b > y[point]) and x[point] < x_a + (y[point] - y_a) * (x_b - x_a) / (y_b - y_a):
                inside[point] = not inside[point]
    return inside


@numba.njit(cache=True)
def _ear_clip_all(points: np.ndarray, starts: np.ndarray) -> np.ndarray:  # pragma: no cover - compiled
    """Triangles of closed counter-clockwise rings; ring r is points[starts[r] : starts[r + 1]], last equal to first."""
    faces = np.empty((len(points), 3), np.int64)
    count = 0
    for ring in range(len(starts) - 1):
        first, size = starts[ring], starts[ring + 1] - starts[ring] - 1
        left = np.arange(first, first + size)
        position, misses = 0, 0
        while size > 3 and misses <= size:
            position %= size
            a, b, c = left[position - 1 if position else size - 1], left[position], left[(position + 1) % size]
            twice_area = _turn(points, a, b, c)
            if abs(twice_area) < _STRAIGHT_M2 or _is_ear(points, left[:size], a, b, c):
                if abs(twice_area) >= _STRAIGHT_M2:  # a straight corner goes without a triangle
                    faces[count] = (a, b, c)
                    count += 1
                left[position : size - 1] = left[position + 1 : size].copy()
                size -= 1
                misses = 0
            else:
                position += 1
                misses += 1
        if size == 3 and _turn(points, left[0], left[1], left[2]) > _STRAIGHT_M2:
            faces[count] = (left[0], left[1], left[2])
            count += 1
    return faces[:count]


@numba.njit(cache=True)
def _turn(points: np.ndarray, a: int, b: int, c: int) -> float:  # pragma: no cover - compiled
    """Twice the signed area of a triangle."""
    return (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1]) - (points[b, 1] - points[a, 1]) * (
        points[c, 0] - points[a, 0]
    )


@numba.njit(cache=True)
def _is_ear(points: np.ndarray, left: np.ndarray, a: int, b: int, c: int) -> bool:  # pragma: no cover - compiled
    """Whether the corner is convex and no other corner lies in its triangle."""
    if _turn(points, a, b, c) <= 0:
        return False
    for other in left:
        if other in (a, b, c):
            continue
        if _turn(points, a, b, other) >= 0 and _turn(points, b, c, other) >= 0 and _turn(points, c, a, other) >= 0:
            return False
    return True
