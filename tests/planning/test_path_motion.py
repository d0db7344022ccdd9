import math

import pytest
import torch
from fixtures.planning_scenes import NAN, driven
from hypothesis import given
from hypothesis import strategies as st

from bevstack.planning.path_motion import headings_along, mean_speeds, speeds_along, wrapped


@given(st.floats(1.0, 15.0), st.floats(-0.05, 0.05))
def test_headings_and_speeds_of_a_circle_are_those_with_which_it_was_driven(speed: float, curvature: float) -> None:
    poses = driven(speed, curvature=curvature)
    headings = headings_along(poses[:, :2])
    assert wrapped(headings - poses[:, 2]).abs().max() < 0.05
    assert (speeds_along(poses[:, :2], headings, 0.5) - speed).abs().max() < 0.02 * speed


def test_a_changing_speed_is_found_at_the_points_and_not_between_them() -> None:
    points = driven(4.0, acceleration=2.0)[:, :2]
    speeds = speeds_along(points, headings_along(points), 0.5)
    torch.testing.assert_close(speeds, 4.0 + torch.arange(1.0, 7.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(mean_speeds(points, headings_along(points), 0.5), speeds - 0.5, atol=1e-3, rtol=0)


def test_what_hardly_moves_keeps_its_heading() -> None:
    points = torch.tensor([[0.05, 0.1], [-0.1, 0.05], [0.0, -0.1]])
    assert headings_along(points).abs().max() == 0
    kept = headings_along(points, start_yaw=torch.tensor(2.0))
    torch.testing.assert_close(kept, torch.full((3,), 2.0))


def test_backing_up_is_a_negative_speed_and_no_turn() -> None:
    points = torch.tensor([[-1.0, 0.0], [-2.0, 0.0], [-3.0, 0.0]])
    headings = headings_along(points)
    assert wrapped(headings).abs().max() < 1e-6
    torch.testing.assert_close(speeds_along(points, headings, 0.5), torch.full((3,), -2.0))


def test_a_stopping_vehicle_does_not_back_up_at_the_end() -> None:
    points = torch.tensor([[2.0, 0.0], [2.4, 0.0], [2.4, 0.0]])
    assert speeds_along(points, headings_along(points), 0.5).min() >= 0


def test_unknown_points_keep_the_heading_before() -> None:
    points = torch.tensor([[1.0, 1.0], [2.0, 2.0], [NAN, NAN], [NAN, NAN]])
    assert headings_along(points).tolist() == pytest.approx([math.pi / 4] * 4)


def test_angles_are_wrapped_into_half_open_range() -> None:
    assert wrapped(torch.tensor([math.pi, -math.pi, 7.0])).tolist() == pytest.approx(
        [-math.pi, -math.pi, 7 - 2 * math.pi], abs=1e-5
    )
