"""Polygons and lines on the grid, against shapely at the cell centres."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import contains_xy, distance
from shapely import points as shapely_points
from shapely.geometry import LineString, MultiPoint, Point, Polygon

from bevstack.geometry.raster import draw_line, fill_polygon, polygons_mask
from bevstack.types import BevGrid

GRID = BevGrid(x_range_m=(-10.0, 14.0), y_range_m=(-8.0, 8.0), z_range_m=(-3.0, 3.0), cell_m=0.5)
CENTERS = GRID.centers_m().numpy().astype(np.float64)


def rectangle(x_low: float, x_high: float, y_low: float, y_high: float) -> np.ndarray:
    return np.array([(x_low, y_low), (x_high, y_low), (x_high, y_high), (x_low, y_high)], np.float64)


hulls = (
    st.lists(st.tuples(st.floats(-14, 18), st.floats(-12, 12)), min_size=3, max_size=8)
    .map(lambda points: MultiPoint(points).convex_hull)
    .filter(lambda hull: hull.geom_type == "Polygon" and hull.area > 1.0)
)


def centers_in(polygon: Polygon) -> np.ndarray:
    return contains_xy(polygon, CENTERS[..., 0], CENTERS[..., 1])


def test_a_rectangle_ahead_and_left_fills_high_rows_and_columns() -> None:
    mask = polygons_mask(GRID, [[rectangle(1.01, 2.99, 3.01, 3.99)]])
    rows, columns = np.nonzero(mask)
    # x from 1 to 3 is columns 22 to 25, y from 3 to 4 is rows 22 and 23.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (22, 23, 22, 25)
    assert mask.sum() == 8


@given(hulls)
def test_filled_cells_are_exactly_those_whose_centre_lies_inside(hull: Polygon) -> None:
    mask = polygons_mask(GRID, [[np.array(hull.exterior.coords)]])
    # A centre within rounding of the outline may fall on either side.
    assert mask[centers_in(hull.buffer(-1e-6))].all()
    assert not mask[~centers_in(hull.buffer(1e-6))].any()


def test_a_polygon_that_is_not_convex_is_filled_like_shapely_does() -> None:
    star = np.array([(r * np.cos(a), 0.7 * r * np.sin(a)) for a, r in zip(np.arange(14) * np.pi / 7, [9.3, 3.1] * 7)])
    np.testing.assert_array_equal(polygons_mask(GRID, [[star]]), centers_in(Polygon(star)))


def test_a_hole_stays_empty_but_does_not_erase_what_another_polygon_fills() -> None:
    ring_road = [rectangle(-6, 6, -6, 6), rectangle(-3, 3, -3, 3)]
    island = [rectangle(-1, 1, -1, 1)]
    for polygons in ([ring_road, island], [island, ring_road]):
        mask = polygons_mask(GRID, polygons)
        assert mask[16, 10]  # on the ring
        assert not mask[16, 15]  # in its hole
        assert mask[16, 20]  # on the island


def test_polygons_partly_or_wholly_outside_the_grid_are_cut() -> None:
    mask = polygons_mask(GRID, [[rectangle(-100, 100, 0.01, 100)]])
    np.testing.assert_array_equal(mask, CENTERS[..., 1] > 0)
    assert not polygons_mask(GRID, [[rectangle(50, 60, 50, 60)]]).any()


def test_nothing_gives_an_empty_mask() -> None:
    mask = polygons_mask(GRID, [])
    assert mask.shape == GRID.shape_yx
    assert mask.dtype == bool
    assert not mask.any()


def test_filling_adds_to_what_is_there() -> None:
    mask = np.zeros(GRID.shape_yx, np.uint8)
    fill_polygon(mask, GRID, [rectangle(-5, -3, -5, -3)])
    before = mask.copy()
    fill_polygon(mask, GRID, [rectangle(3, 5, 3, 5)])
    assert (mask >= before).all()
    assert mask.sum() == 2 * before.sum()


@given(
    points=st.lists(st.tuples(st.integers(-120, 160), st.integers(-100, 100)), min_size=1, max_size=5, unique=True).map(
        lambda points: [(0.1 * x, 0.1 * y) for x, y in points]
    ),
    width_cells=st.floats(1, 5),
)
def test_a_line_covers_the_centres_within_half_its_width(points: list[tuple[float, float]], width_cells: float) -> None:
    mask = np.zeros(GRID.shape_yx, np.uint8)
    draw_line(mask, GRID, np.array(points), width_cells)
    line = LineString(points) if len(points) > 1 else Point(points[0])
    distance_cells = distance(shapely_points(CENTERS), line) / GRID.cell_m
    assert mask[distance_cells < 0.5 * width_cells - 1e-6].all()
    assert not mask[distance_cells > 0.5 * width_cells + 1e-6].any()


def test_a_slanted_line_one_cell_wide_has_no_gaps() -> None:
    mask = np.zeros(GRID.shape_yx, np.uint8)
    draw_line(mask, GRID, np.array([(-8.0, -5.0), (11.0, 6.3)]))
    columns = np.flatnonzero(mask.any(axis=0))
    np.testing.assert_array_equal(columns, np.arange(columns[0], columns[-1] + 1))


def test_a_mask_of_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8 of shape"):
        fill_polygon(np.zeros((10, 10), np.uint8), GRID, [rectangle(0, 1, 0, 1)])
    with pytest.raises(ValueError, match="uint8 of shape"):
        draw_line(np.zeros(GRID.shape_yx), GRID, rectangle(0, 1, 0, 1))
