import math

import pytest
import torch

from bevstack.planning.rollout import Ways, clothoid_slope_per_m2, rolled_out
from bevstack.planning.vehicle import NUSCENES_VEHICLE


def drive(speed: float, acceleration: float = 0.0, curvature: float = 0.0, slope: float = 0.0, steps: int = 6) -> Ways:
    return rolled_out(*(torch.tensor([value]) for value in (speed, acceleration, curvature, slope)), steps=steps)


def test_a_steady_drive_straight_on_moves_half_its_speed_each_step() -> None:
    ways = drive(4.0)
    torch.testing.assert_close(ways.poses[0, :, 0], 2.0 * torch.arange(1.0, 7.0))
    assert ways.poses[0, :, 1:].abs().max() == 0
    torch.testing.assert_close(ways.speeds_mps, torch.full((1, 6), 4.0))


def test_braking_ends_at_standstill_after_the_way_that_physics_says() -> None:
    ways = drive(3.0, acceleration=-3.0)
    assert ways.poses[0, -1, 0] == pytest.approx(3.0**2 / (2 * 3.0), abs=0.01)
    assert ways.speeds_mps[0, 1:].abs().max() < 1e-6
    assert ways.speeds_mps[0, 0] == pytest.approx(1.5)


def test_an_arc_lies_on_its_circle() -> None:
    poses = drive(5.0, curvature=0.1).poses[0]
    angle = 0.25 * torch.arange(1.0, 7.0)
    expected = torch.stack((10 * angle.sin(), 10 * (1 - angle.cos()), angle), dim=1)
    torch.testing.assert_close(poses, expected, atol=2e-3, rtol=0)


def test_the_heading_of_a_clothoid_grows_with_the_square_of_the_way() -> None:
    poses = drive(4.0, slope=0.01).poses[0]
    way = 2.0 * torch.arange(1.0, 7.0)
    torch.testing.assert_close(poses[:, 2], 0.005 * way.square(), atol=1e-3, rtol=0)
    assert clothoid_slope_per_m2(torch.tensor(10.0)) == pytest.approx(math.pi / 100)


def test_a_curve_that_would_be_too_fast_is_driven_at_the_limit() -> None:
    poses = drive(10.0, curvature=0.2).poses[0]
    turns = torch.diff(poses[:, 2]) / 0.5
    torch.testing.assert_close(turns, torch.full((5,), NUSCENES_VEHICLE.max_lateral_mps2 / 10), atol=1e-4, rtol=0)


def test_nothing_is_faster_than_the_vehicle_unless_it_is_so_already() -> None:
    assert drive(20.0, acceleration=5.0).speeds_mps.max() == NUSCENES_VEHICLE.max_speed_mps
    assert drive(30.0, acceleration=5.0).speeds_mps.unique().tolist() == [30.0]


def test_a_turn_beyond_half_a_circle_keeps_its_heading_in_range() -> None:
    yaw = drive(5.0, curvature=0.2, steps=12).poses[0, :, 2]
    assert yaw.min() >= -math.pi
    assert yaw.max() < math.pi
    assert yaw[-1] == pytest.approx(6.0 - 2 * math.pi, abs=1e-3)
