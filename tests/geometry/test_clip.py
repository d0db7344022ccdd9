"""Rings and lines cut off at a rectangle, against shapely."""

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, Polygon

from bevstack.geometry.clip import LocalFrame, Outlines, clip_line, clip_outlines, clip_ring

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


def test_many_outlines_in_one_pass_are_clipped_like_each_alone() -> None:
    rng = np.random.default_rng(3)
    turn = np.array(((0.6, -0.8), (0.8, 0.6)))
    frame = LocalFrame(matrix=turn, shift=np.array((1.0, 2.0)), size=(WIDTH, HEIGHT), rim=0.5)
    shapes = [[rng.uniform(-12, 12, (rng.integers(3, 9), 2)) for _ in range(rng.integers(1, 3))] for _ in range(40)]
    bounds = np.array([[*np.vstack(rings).min(axis=0), *np.vstack(rings).max(axis=0)] for rings in shapes])
    everywhere = (-100.0, -100.0, 100.0, 100.0)
    for is_closed in (True, False):
        outlines = Outlines.of(shapes, bounds, is_closed=is_closed)
        points, starts, of_shapes = clip_outlines(outlines, everywhere, frame)
        assert len(of_shapes) == 41
        for k, rings in enumerate(shapes):
            found = [points[starts[i] : starts[i + 1]] for i in range(of_shapes[k], of_shapes[k + 1])]
            expected = [piece for ring in rings for piece in _clipped_alone(ring @ turn + frame.shift, is_closed)]
            assert len(found) == len(expected)
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-9)


def _clipped_alone(local: np.ndarray, is_closed: bool) -> list[np.ndarray]:
    if not is_closed:
        return clip_line(local, WIDTH, HEIGHT)
    inside, entries = clip_ring(local, WIDTH, HEIGHT)
    return [inside if entries < 2 else clip_ring(local + 0.5, WIDTH + 1, HEIGHT + 1)[0] - 0.5]


def test_outlines_far_away_are_left_out_before_anything_is_clipped() -> None:
    square = np.array(((1.0, 1.0), (2.0, 1.0), (2.0, 2.0)))
    bounds = np.array(((1.0, 1.0, 2.0, 2.0), (51.0, 51.0, 52.0, 52.0)))
    outlines = Outlines.of([[square], [square + 50]], bounds, is_closed=True)
    frame = LocalFrame(matrix=np.eye(2), shift=np.zeros(2), size=(WIDTH, HEIGHT), rim=0.5)
    points, starts, of_shapes = clip_outlines(outlines, (0.0, 0.0, WIDTH, HEIGHT), frame)
    assert of_shapes.tolist() == [0, 1] and starts.tolist() == [0, 3] and len(points) == 3


def test_no_outline_at_all_gives_nothing() -> None:
    outlines = Outlines.of([], np.empty((0, 4)), is_closed=True)
    frame = LocalFrame(matrix=np.eye(2), shift=np.zeros(2), size=(WIDTH, HEIGHT), rim=0.5)
    points, starts, of_shapes = clip_outlines(outlines, (0.0, 0.0, WIDTH, HEIGHT), frame)
    assert len(points) == 0 and starts.tolist() == [0] and of_shapes.tolist() == [0]
