"""Rings and lines cut off at a rectangle, against shapely."""

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, Polygon

from bevstack.geometry.clip import clip_line, clip_ring

WIDTH, HEIGHT = 20.0, 10.0
BOX = shapely.box(0.0, 0.0, WIDTH, HEIGHT)
coordinates = st.floats(-30.0, 40.0).map(lambda value: round(value, 2))
points = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9, unique=True)


@settings(max_examples=200)
@given(points)
def test_the_area_of_a_clipped_ring_is_that_of_shapelys_intersection(corners: list[tuple[float, float]]) -> None:
    polygon = Polygon(corners)
    assume(polygon.is_valid)
    ring, entries = clip_ring(np.array(corners), WIDTH, HEIGHT)
    clipped = Polygon(ring) if len(ring) >= 3 else Polygon()
    expected = polygon.intersection(BOX)
    assert clipped.area == pytest.approx(expected.area, abs=1e-6)
    if entries <= 1 and expected.area > 1e-6:
        assert clipped.buffer(0).symmetric_difference(expected).area < 1e-6


@settings(max_examples=200)
@given(points)
def test_the_pieces_of_a_line_are_those_of_shapely(corners: list[tuple[float, float]]) -> None:
    assume(LineString(corners).is_simple)
    pieces = clip_line(np.array(corners), WIDTH, HEIGHT)
    expected = LineString(corners).intersection(BOX)
    assert sum(LineString(piece).length for piece in pieces) == pytest.approx(expected.length, abs=1e-6)
    assert all((piece >= -1e-9).all() and (piece <= (WIDTH + 1e-9, HEIGHT + 1e-9)).all() for piece in pieces)


def test_a_ring_inside_stays_as_it_is_and_never_enters() -> None:
    ring = np.array([(1.0, 1.0), (5.0, 1.0), (5.0, 4.0)])
    clipped, entries = clip_ring(ring, WIDTH, HEIGHT)
    assert entries == 0
    np.testing.assert_array_equal(np.sort(clipped, axis=0), np.sort(ring, axis=0))


def test_a_comb_of_two_teeth_enters_twice() -> None:
    comb = np.array([(-5.0, 0.0), (5.0, 1.0), (5.0, 2.0), (-4.0, 2.5), (5.0, 4.0), (5.0, 6.0), (-5.0, 7.0)])
    assert clip_ring(comb, WIDTH, HEIGHT)[1] == 2


def test_a_line_that_leaves_and_comes_back_has_two_pieces() -> None:
    line = np.array([(1.0, 1.0), (1.0, 20.0), (8.0, 20.0), (8.0, 1.0)])
    first, second = clip_line(line, WIDTH, HEIGHT)
    np.testing.assert_allclose(first, [(1.0, 1.0), (1.0, 10.0)])
    np.testing.assert_allclose(second, [(8.0, 10.0), (8.0, 1.0)])


def test_what_lies_outside_leaves_nothing() -> None:
    far = np.array([(30.0, 1.0), (35.0, 2.0), (33.0, 6.0)])
    assert len(clip_ring(far, WIDTH, HEIGHT)[0]) == 0
    assert clip_line(far, WIDTH, HEIGHT) == []
