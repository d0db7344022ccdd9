"""Oriented boxes, against hand-made numbers and against shapely."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Point, Polygon

from bevstack.geometry.boxes import (
    bev_iou,
    box_iou,
    box_of_points,
    corners,
    footprints,
    points_in_boxes,
    rotated_nms,
    transform_boxes,
)
from bevstack.geometry.transforms import from_quaternion, from_xy_yaw, inverse, transform_points

CAR = np.array([[10.0, 3.0, 1.0, 4.0, 2.0, 1.5, np.pi / 2, 0.0, 5.0]], np.float32)


def rows_of(draw: st.DrawFn, position_m: float = 4.0) -> np.ndarray:
    values = [draw(st.floats(-position_m, position_m)) for _ in range(3)]
    values += [draw(st.floats(0.3, 6)) for _ in range(3)]
    values += [draw(st.floats(-3.1, 3.1)), draw(st.floats(-10, 10)), draw(st.floats(-10, 10))]
    return np.array(values, np.float32)


@st.composite
def box_sets(draw: st.DrawFn, smallest: int = 1) -> np.ndarray:
    count = draw(st.integers(smallest, 4))
    return np.stack([rows_of(draw) for _ in range(count)]) if count else np.zeros((0, 9), np.float32)


def rectangle(row: np.ndarray) -> Polygon:
    """The ground rectangle made the long way round, without the functions under test."""
    x, y, length, width, yaw = row[[0, 1, 3, 4, 6]].astype(float)
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return Polygon(
        [
            (
                x + a * length / 2 * np.cos(yaw) - b * width / 2 * np.sin(yaw),
                y + a * length / 2 * np.sin(yaw) + b * width / 2 * np.cos(yaw),
            )
            for a, b in signs
        ]
    )


def test_the_corners_of_a_car_that_looks_left_are_where_they_must_be() -> None:
    bottom, top = corners(CAR)[0, :4], corners(CAR)[0, 4:]
    np.testing.assert_allclose(bottom, [[9, 5, 0.25], [11, 5, 0.25], [11, 1, 0.25], [9, 1, 0.25]], atol=1e-5)
    np.testing.assert_allclose(top - bottom, [[0, 0, 1.5]] * 4, atol=1e-6)


@given(box_sets())
def test_footprints_run_counter_clockwise_around_the_area_of_the_box(rows: np.ndarray) -> None:
    for row, points in zip(rows, footprints(rows), strict=True):
        polygon = Polygon(points)
        assert polygon.exterior.is_ccw
        assert polygon.area == pytest.approx(float(row[3] * row[4]), rel=1e-4)


@given(box_sets(), st.floats(-3, 3), st.floats(-20, 20), st.floats(-20, 20))
def test_moving_a_box_moves_its_corners_and_turns_its_velocity(
    rows: np.ndarray, yaw_rad: float, x_m: float, y_m: float
) -> None:
    T_target_source = from_xy_yaw(x_m, y_m, yaw_rad, 0.7)
    moved = transform_boxes(T_target_source, rows)
    assert moved.dtype == rows.dtype
    np.testing.assert_allclose(
        corners(moved), transform_points(T_target_source, corners(rows).astype(np.float64)), atol=1e-4
    )
    np.testing.assert_allclose(moved[:, 7:], rows[:, 7:] @ T_target_source[:2, :2].T, atol=1e-4)
    np.testing.assert_array_equal(moved[:, 3:6], rows[:, 3:6])


@given(box_sets(), st.tuples(*[st.floats(-0.05, 0.05)] * 2), st.floats(-3, 3))
def test_a_box_returns_from_another_frame_even_over_uneven_ground(
    rows: np.ndarray, tilt: tuple[float, float], yaw_rad: float
) -> None:
    q = np.array((np.cos(yaw_rad / 2), *tilt, np.sin(yaw_rad / 2)))
    T_global_ego = from_quaternion(q, np.array((600.0, 1600.0, 1.0)))
    rows = rows.astype(np.float64)
    back = transform_boxes(inverse(T_global_ego), transform_boxes(T_global_ego, rows))
    np.testing.assert_allclose(back[:, :6], rows[:, :6], atol=1e-6)
    # The heading and velocity lie in the ground plane of each frame: a tilt of 0.1 rad costs its square.
    assert np.abs(np.angle(np.exp(1j * (back[:, 6] - rows[:, 6])))).max() < 0.02
    np.testing.assert_allclose(back[:, 7:], rows[:, 7:], atol=0.4)


def test_an_unknown_velocity_stays_unknown() -> None:
    rows = CAR.copy()
    rows[0, 7:] = np.nan
    moved = transform_boxes(from_xy_yaw(1.0, 2.0, 0.5), rows)
    assert np.isnan(moved[0, 7:]).all()
    assert np.isfinite(moved[0, :7]).all()


@given(box_sets(), st.lists(st.tuples(*[st.floats(-8, 8)] * 3), min_size=1, max_size=8))
def test_points_are_inside_where_shapely_and_the_height_say_so(
    rows: np.ndarray, points: list[tuple[float, ...]]
) -> None:
    found = points_in_boxes(np.array(points), rows)
    for i, row in enumerate(rows):
        polygon = rectangle(row)
        for j, (x, y, z) in enumerate(points):
            to_faces = (polygon.exterior.distance(Point(x, y)), abs(abs(z - row[2]) - row[5] / 2))
            if min(to_faces) < 1e-4:
                continue  # on a face: rounding decides
            assert found[i, j] == (polygon.contains(Point(x, y)) and abs(z - row[2]) < row[5] / 2)


@given(box_sets())
def test_every_box_holds_its_corners_when_grown_a_little_and_not_when_shrunk(rows: np.ndarray) -> None:
    for i, points in enumerate(corners(rows)):
        assert points_in_boxes(points, rows, margin_m=1e-3)[i].all()
        assert not points_in_boxes(points, rows, margin_m=-1e-3)[i].any()


@given(box_sets(), box_sets())
def test_overlaps_equal_those_of_shapely(a: np.ndarray, b: np.ndarray) -> None:
    found = bev_iou(a, b)
    for i, first in enumerate(map(rectangle, a)):
        for j, second in enumerate(map(rectangle, b)):
            shared = first.intersection(second).area
            expected = shared / (first.area + second.area - shared)
            assert found[i, j] == pytest.approx(expected, abs=1e-4)


@given(box_sets())
def test_a_box_overlaps_itself_completely_and_others_symmetrically(rows: np.ndarray) -> None:
    found = bev_iou(rows, rows)
    np.testing.assert_allclose(np.diag(found), 1.0, atol=1e-5)
    np.testing.assert_allclose(found, found.T, atol=1e-5)


def test_known_overlaps() -> None:
    square = np.array([[0, 0, 0, 2, 2, 1, 0, 0, 0]], np.float32)
    others = np.repeat(square, 5, axis=0)
    others[1, 0] = 1.0  # half of it beside
    others[2, 0] = 2.0  # touching
    others[3, 6] = np.pi / 4  # an octagon of 8 (sqrt(2) - 1) in common
    others[4, 3:5] = 1.0  # inside
    octagon = 8 * (np.sqrt(2) - 1)
    np.testing.assert_allclose(bev_iou(square, others)[0], [1, 1 / 3, 0, octagon / (8 - octagon), 0.25], atol=1e-5)


def test_turning_a_box_around_does_not_change_its_overlap() -> None:
    turned = CAR.copy()
    turned[0, 6] -= np.pi
    assert bev_iou(CAR, turned)[0, 0] == pytest.approx(1.0, abs=1e-5)


def test_a_box_without_area_overlaps_nothing() -> None:
    flat = CAR.copy()
    flat[0, 3] = 0.0
    assert bev_iou(flat, CAR)[0, 0] == 0.0
    assert bev_iou(flat, flat)[0, 0] == 0.0


def test_no_boxes_give_empty_results() -> None:
    none = np.zeros((0, 9), np.float32)
    assert corners(none).shape == (0, 8, 3)
    assert footprints(none).shape == (0, 4, 2)
    assert transform_boxes(np.eye(4), none).shape == (0, 9)
    assert points_in_boxes(np.zeros((5, 3)), none).shape == (0, 5)
    assert points_in_boxes(np.zeros((0, 3)), CAR).shape == (1, 0)
    assert bev_iou(none, CAR).shape == (0, 1)
    assert rotated_nms(none, np.zeros(0, np.float32), 0.5).shape == (0,)


@given(box_sets(), st.randoms(use_true_random=False), st.floats(0.05, 0.9))
def test_suppression_keeps_the_best_of_every_heap(rows: np.ndarray, random: object, threshold: float) -> None:
    scores = np.array([random.random() for _ in rows])
    kept = rotated_nms(rows, scores, threshold)
    expected: list[int] = []
    for i in np.argsort(-scores):
        if all(bev_iou(rows[[i]], rows[[j]])[0, 0] <= threshold for j in expected):
            expected.append(int(i))
    assert kept.tolist() == expected


def test_overlap_of_volumes_is_that_of_the_ground_times_that_of_the_heights() -> None:
    raised, above = CAR.copy(), CAR.copy()
    raised[0, 2] += 0.5  # one of 1.5 m shared two times
    above[0, 2] += 1.5
    assert box_iou(CAR, CAR)[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert box_iou(CAR, raised)[0, 0] == pytest.approx(1.0 / 2.0, abs=1e-5)
    assert box_iou(CAR, above)[0, 0] == 0.0
    beside = raised.copy()
    beside[0, 0] += 1.0  # half the width: 4 of 12 square metres, 1 of 1.5 m
    assert box_iou(CAR, beside)[0, 0] == pytest.approx(4.0 / (24.0 - 4.0), abs=1e-5)


@given(box_sets(0), box_sets())
def test_overlap_of_volumes_of_boxes_at_one_height_is_that_of_their_ground(a: np.ndarray, b: np.ndarray) -> None:
    for rows in (a, b):
        rows[:, 2], rows[:, 5] = 1.0, 2.0
    np.testing.assert_allclose(box_iou(a, b), bev_iou(a, b), atol=1e-5)


@given(box_sets(smallest=0), st.integers(0, 1000))
def test_box_of_points_is_the_first_box_with_the_point_inside(rows, seed):
    points = np.random.default_rng(seed).uniform(-6, 6, (50, 5)).astype(np.float32)
    inside = points_in_boxes(points, rows, margin_m=0.2)
    expected = np.where(inside.any(axis=0), inside.argmax(axis=0), -1) if len(rows) else np.full(50, -1)
    # Points within rounding of a face may go either way.
    clear = (points_in_boxes(points, rows, 0.2001) == points_in_boxes(points, rows, 0.1999)).all(axis=0)
    assert (box_of_points(points, rows, margin_m=0.2) == expected)[clear].all()
