"""The vehicle: its outline, its motion, and which plans it cannot drive."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Polygon, box

from bevstack.planning.bicycle import PLAN_STEP_S, roll_out
from bevstack.planning.resampling import plan_poses, states_at
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.types import EgoState, Plan, Trajectory

NAN = float("nan")


def moving(speed: float = NAN, acceleration: float = NAN, yaw_rate: float = NAN) -> EgoState:
    return EgoState(T_global_ego=np.eye(4), speed_mps=speed, acceleration_mps2=acceleration, yaw_rate_radps=yaw_rate)


def straight(speeds: list[float], dt_s: float = 0.5, start: float | None = None) -> Trajectory:
    known = np.array([speeds[0] if start is None else start, *speeds])
    x = np.cumsum((known[1:] + known[:-1]) / 2 * dt_s)
    poses = np.stack((x, np.zeros_like(x), np.zeros_like(x)), axis=1)
    return Trajectory(poses_ego=poses, speeds_mps=np.array(speeds, float), dt_s=dt_s)


def circle(radius: float, speed: float, steps: int = 6, dt_s: float = 0.5) -> Trajectory:
    angle = speed / radius * dt_s * np.arange(1, steps + 1)
    poses = np.stack((radius * np.sin(angle), radius * (1 - np.cos(angle)), angle), axis=1)
    return Trajectory(poses_ego=poses, speeds_mps=np.full(steps, float(speed)), dt_s=dt_s)


def test_the_outline_of_a_vehicle_at_the_origin_reaches_from_its_tail_to_its_nose() -> None:
    (corners,) = NUSCENES_VEHICLE.footprints(np.zeros((1, 3)))
    np.testing.assert_allclose(corners, [(3.342, 0.925), (-0.742, 0.925), (-0.742, -0.925), (3.342, -0.925)])


def test_footprints_turn_with_the_vehicle_and_are_the_same_rectangles_in_both_forms() -> None:
    poses = np.array([(3.0, -2.0, 0.7), (0.0, 0.0, np.pi / 2)])
    for corners, rectangle in zip(
        NUSCENES_VEHICLE.footprints(poses, 0.3), NUSCENES_VEHICLE.rectangles(poses, 0.3), strict=True
    ):
        x, y, length, width, yaw = rectangle
        along, across = np.array((np.cos(yaw), np.sin(yaw))), np.array((-np.sin(yaw), np.cos(yaw)))
        front_left = np.array((x, y)) + along * length / 2 + across * width / 2
        np.testing.assert_allclose(corners[0], front_left)
        assert Polygon(corners).exterior.is_ccw
        assert Polygon(corners).area == pytest.approx(4.684 * 2.45)
    nose_up = Polygon(NUSCENES_VEHICLE.footprints(poses)[1])
    assert nose_up.equals_exact(box(-0.925, -0.742, 0.925, 3.342).normalize(), 1e-9) or nose_up.symmetric_difference(
        box(-0.925, -0.742, 0.925, 3.342)
    ).area == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width_m": 0.0}, "width_m=0.0 must be positive"),
        ({"max_braking_mps2": NAN}, "max_braking_mps2=nan"),
        ({"wheelbase_m": 4.0}, "must fit into length_m"),
        ({"max_steering_rad": 1.6}, "below pi / 2"),
    ],
)
def test_a_vehicle_that_cannot_be_is_refused_by_the_name_of_the_value(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VehicleParams(**change)


def test_an_ordinary_drive_breaks_no_limit() -> None:
    ego = moving(5.0, 0.0, 0.0)
    assert NUSCENES_VEHICLE.limits_broken(straight([5.0, 5.5, 6.0, 6.0, 5.0, 4.0], start=5.0), ego) == ()
    assert NUSCENES_VEHICLE.limits_broken(circle(12.0, 5.0), moving(5.0, 0.0, 5.0 / 12)) == ()
    assert NUSCENES_VEHICLE.limits_broken(circle(-12.0, 5.0)) == ()


@pytest.mark.parametrize(
    ("trajectory", "ego", "words"),
    [
        (straight([30.0] * 4), None, "drives at 30.0 m/s at 0.5 s"),
        (straight([-1.0] * 4), None, "drives backwards at -1.0 m/s"),
        (straight([5.0, 5.0, 8.0]), None, "accelerates by 6.0 m/s2 at 1.5 s"),
        (straight([5.0, 5.0], start=10.0), moving(10.0), "brakes by 10.0 m/s2 at 0.5 s"),
        (straight([5.0, 6.5, 2.5], dt_s=0.5), None, "jerks by 22.0 m/s3 at 1.5 s"),
        (circle(3.0, 2.0), None, "steers by"),
        (circle(12.0, 10.0), None, "corners with 8.3 m/s2 at 0.5 s"),
        (circle(6.0, 4.0), moving(4.0, 0.0, -0.66), "turns the wheels by"),
    ],
)
def test_each_limit_is_named_with_its_time(trajectory: Trajectory, ego: EgoState | None, words: str) -> None:
    assert any(words in reason for reason in NUSCENES_VEHICLE.limits_broken(trajectory, ego))


def test_sideways_motion_and_speeds_that_do_not_fit_the_way_are_named() -> None:
    poses = np.array([(1.0, 0.5, 0.0), (2.0, 1.0, 0.0)])
    sideways = Trajectory(poses_ego=poses, speeds_mps=np.array((2.0, 2.0)), dt_s=0.5)
    assert NUSCENES_VEHICLE.limits_broken(sideways)[0].startswith("moves 0.50 m sideways at 0.5 s")
    poses = np.array([(5.0, 0.0, 0.0), (10.0, 0.0, 0.0)])
    dishonest = Trajectory(poses_ego=poses, speeds_mps=np.array((2.0, 2.0)), dt_s=0.5)
    assert "speeds that differ from its way by 8.0 m/s" in NUSCENES_VEHICLE.limits_broken(dishonest)[0]


def test_a_plan_with_nan_or_without_rows_is_not_drivable() -> None:
    broken = Trajectory(poses_ego=np.full((2, 3), NAN), speeds_mps=np.ones(2), dt_s=0.5)
    assert NUSCENES_VEHICLE.limits_broken(broken) == ("is not finite",)
    none = Trajectory(poses_ego=np.zeros((0, 3)), speeds_mps=np.zeros(0), dt_s=0.5)
    assert NUSCENES_VEHICLE.limits_broken(none) == ("has no steps",)


@given(
    speed=st.floats(0, 25),
    acceleration=st.floats(-20, 20),
    yaw_rate=st.floats(-2, 2),
    wishes=st.lists(st.tuples(st.floats(-30, 30), st.floats(-3, 3)), min_size=1, max_size=40),
    braking=st.booleans(),
)
def test_a_vehicle_asked_for_anything_stays_inside_its_limits(speed, acceleration, yaw_rate, wishes, braking) -> None:
    asked = np.array(wishes)
    if braking or speed > 3:  # cornering at its limit leaves no room to speed up
        asked[:, 0] = -np.abs(asked[:, 0])
    ego = moving(speed, min(acceleration, 0.0), yaw_rate)
    driven = roll_out(NUSCENES_VEHICLE, ego, asked[:, 0], asked[:, 1] if speed <= 3 or not braking else asked[:, 1] * 0)
    broken = [r for r in NUSCENES_VEHICLE.limits_broken(driven, moving(speed)) if "turns the wheels" not in r]
    assert broken == []


def test_a_held_wheel_drives_the_circle_of_the_bicycle() -> None:
    steering = 0.2
    radius = NUSCENES_VEHICLE.wheelbase_m / np.tan(steering)
    ego = moving(4.0, 0.0, 4.0 / radius)
    driven = roll_out(NUSCENES_VEHICLE, ego, np.zeros(30), np.full(30, steering))
    centre = np.array((0.0, radius))
    np.testing.assert_allclose(np.linalg.norm(driven.poses_ego[:, :2] - centre, axis=1), radius, rtol=1e-9)
    np.testing.assert_allclose(driven.poses_ego[-1, 2], 4.0 / radius * 3.0)


def test_poses_at_the_rows_of_a_plan_are_its_rows_and_between_them_lie_on_its_circle() -> None:
    turn = circle(10.0, 5.0)
    rows, speeds = states_at(turn, 0.5 * np.arange(1, 7))
    np.testing.assert_allclose(rows, turn.poses_ego, atol=1e-12)
    np.testing.assert_allclose(speeds, 5.0)
    between, _ = states_at(turn, np.linspace(0, 3, 61))
    np.testing.assert_allclose(np.hypot(between[:, 0], between[:, 1] - 10.0), 10.0, atol=0.01)


def test_a_plan_is_compared_at_half_seconds_and_drives_on_where_it_is_short() -> None:
    fine = straight([4.0] * 20, dt_s=PLAN_STEP_S)
    plan = Plan(trajectory=fine, source="candidate", reasons=())
    np.testing.assert_allclose(plan_poses(plan)[:, 0], [2, 4, 6, 8, 10, 12])
    with pytest.raises(ValueError, match="without rows"):
        states_at(Trajectory(poses_ego=np.zeros((0, 3)), speeds_mps=np.zeros(0), dt_s=0.1), np.ones(1))
