import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon, box

from bevstack.sim.world.arclines import arcline_path
from bevstack.sim.world.polylines import arc_lengths, at_stations, clip_to_square, cut, join, offset, resample, strip
from bevstack.sim.world.roads import Lane
from bevstack.sim.world.triangulation import triangulate


def arc(radius_m: float, turn_rad: float, points: int = 60) -> np.ndarray:
    """A left-hand arc from the origin, leaving along x."""
    angles = np.linspace(0.0, turn_rad, points)
    return radius_m * np.stack((np.sin(angles), 1 - np.cos(angles)), axis=1)


def straight_lane(length_m: float = 30.0) -> Lane:
    x = np.arange(0.0, length_m + 0.5)
    return Lane(
        index=0,
        centerline=np.stack((x, np.zeros_like(x)), axis=1),
        width_m=3.5,
        successors=(),
        predecessors=(),
        is_connector=False,
        turn="straight",
        speed_limit_mps=13.9,
        left_divider="NIL",
        right_divider="NIL",
        must_yield=False,
    )


def test_a_resampled_curve_keeps_its_ends_and_never_steps_further_than_asked():
    curve = arc(20.0, 1.5)
    fine = resample(curve, 0.7)
    np.testing.assert_allclose(fine[[0, -1]], curve[[0, -1]])
    assert np.diff(arc_lengths(fine)).max() <= 0.7


def test_a_left_offset_of_a_left_bend_has_the_smaller_radius():
    inner = offset(arc(20.0, 1.5), 5.0)
    np.testing.assert_allclose(np.hypot(inner[:, 0], inner[:, 1] - 20.0)[1:-1], 15.0, atol=0.02)


def test_a_cut_starts_and_ends_at_the_stations():
    line = np.array(((0.0, 0.0), (10.0, 0.0)))
    np.testing.assert_allclose(cut(line, 2.5, 7.0), ((2.5, 0.0), (7.0, 0.0)))


def test_a_strip_is_counter_clockwise_and_as_wide_as_asked():
    band = strip(np.array(((0.0, 0.0), (10.0, 0.0))), 2.0, -1.0)
    assert band.exterior.is_ccw
    assert band.equals(box(0.0, -1.0, 10.0, 2.0))


def test_clipping_keeps_the_longest_run_inside_the_square():
    line = np.stack((np.arange(-30.0, 31.0), np.zeros(61)), axis=1)
    np.testing.assert_allclose(clip_to_square(line, 10.0)[:, 0], np.arange(-10.0, 11.0))


@given(st.floats(-2.4, 2.4), st.floats(8.0, 40.0))
@settings(max_examples=40, deadline=None)
def test_a_joint_leaves_and_arrives_in_the_given_directions(turn: float, distance: float):
    end = np.array((distance * np.cos(turn / 2), distance * np.sin(turn / 2), turn))
    curve = join(np.zeros(3), end, 0.5)
    np.testing.assert_allclose(curve[[0, -1]], (np.zeros(2), end[:2]), atol=1e-9)
    first, last = np.diff(curve[:2], axis=0)[0], np.diff(curve[-2:], axis=0)[0]
    assert abs(np.arctan2(first[1], first[0])) < 0.12
    assert abs((np.arctan2(last[1], last[0]) - turn + np.pi) % (2 * np.pi) - np.pi) < 0.12


def test_a_quarter_turn_joint_is_close_to_the_circle():
    curve = join(np.zeros(3), np.array((10.0, 10.0, np.pi / 2)), 0.5)
    np.testing.assert_allclose(np.hypot(curve[:, 0], curve[:, 1] - 10.0), 10.0, atol=0.03)


def test_a_lane_gives_its_pose_and_the_side_of_a_point():
    lane = straight_lane()
    assert lane.pose_at(12.0) == pytest.approx((12.0, 0.0, 0.0))
    assert lane.station_of(7.25, 1.5) == pytest.approx((7.25, 1.5))
    assert lane.station_of(7.25, -1.5) == pytest.approx((7.25, -1.5))
    assert lane.polygon.area == pytest.approx(30.0 * 3.5)


@pytest.mark.parametrize("turn", [-1.6, -0.4, 0.4, 1.6])
def test_arclines_reproduce_a_bend_with_the_devkit(turn: float):
    from nuscenes.map_expansion.arcline_path_utils import discretize_lane, length_of_lane

    curve = arc(25.0, abs(turn)) * (1.0, np.sign(turn)) + (100.0, 50.0)
    chain = arcline_path(curve)
    poses = np.array(discretize_lane(chain, 0.5))
    center = np.array((100.0, 50.0 + 25.0 * np.sign(turn)))
    np.testing.assert_allclose(np.hypot(*(poses[:, :2] - center).T), 25.0, atol=0.05)
    assert length_of_lane(chain) == pytest.approx(25.0 * abs(turn), rel=1e-3)
    assert len(chain) < 8


def test_a_straight_lane_is_one_arcline():
    chain = arcline_path(straight_lane().centerline)
    assert len(chain) == 1
    assert chain[0]["shape"] == "LSR"
    assert chain[0]["segment_length"] == pytest.approx([0.0, 30.0, 0.0])


def signed_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_triangles_cover_an_area_with_a_hole_exactly(seed: int):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 14))
    radii = rng.uniform(9.0, 30.0, 14)
    outline = Polygon(np.stack((radii * np.cos(angles), radii * np.sin(angles)), axis=1)).buffer(0)
    area = outline.union(box(-8, -8, 8, 8)).difference(box(-2.5, -1.0, 3.5, 2.0))
    vertices, faces = triangulate(area, 5.0)
    areas = signed_areas(vertices, faces)
    assert areas.min() >= -1e-9
    assert areas.sum() == pytest.approx(area.area, rel=1e-4)
    edges = vertices[faces] - np.roll(vertices[faces], 1, axis=1)
    assert np.hypot(edges[..., 0], edges[..., 1]).max() < 5.0 * 2**0.5 + 1e-9


def test_an_empty_area_has_no_triangles():
    vertices, faces = triangulate(Polygon(), 5.0)
    assert len(vertices) == len(faces) == 0


def test_station_interpolation_unwraps_the_heading():
    curve = arc(10.0, 4.0, points=200)
    assert at_stations(curve, np.array((35.0,)))[0, 2] == pytest.approx(3.5, abs=0.01)
