import numpy as np
import pytest
from fixtures.drive_logs import drive_log, straight

from bevstack.sim.metrics.comfort import Comfort, RideSignals
from bevstack.sim.metrics.tracks import Tracks


def comfort_of(log):
    return Comfort.of(Tracks.of(log))


def circling(steps, speed, radius):
    t = np.arange(steps) * 0.1
    yaw = speed * t / radius
    return np.stack((radius * np.sin(yaw), radius * (1 - np.cos(yaw)), yaw), axis=1), np.full(steps, float(speed))


def test_even_driving_feels_like_nothing():
    result = comfort_of(drive_log(*straight(50, 12.0)))
    assert (result.comfort, result.history_comfort) == (1.0, 1.0)
    assert result.max_jerk_mps3 == 0.0 and result.max_lateral_mps2 == 0.0


def test_braking_is_measured_and_bounded_at_4_05():
    for braking, comfort in ((4.0, 1.0), (4.1, 0.0)):
        poses, speeds = straight(30, 20.0, acceleration=-braking)
        result = comfort_of(drive_log(poses, speeds, ego_accelerations_mps2=np.full(30, -braking)))
        assert result.min_longitudinal_mps2 == pytest.approx(-braking)
        assert result.max_longitudinal_jerk_mps3 == pytest.approx(0.0, abs=1e-6)
        assert result.comfort == comfort


def test_what_begins_with_a_jolt_shows_in_the_history_only():
    # 4 m/s2 from the first step on: within every bound, but reached from 0 within a step: 40 m/s3 before smoothing.
    poses, speeds = straight(30, 20.0, acceleration=-4.0)
    result = comfort_of(drive_log(poses, speeds, ego_accelerations_mps2=np.full(30, -4.0)))
    assert (result.comfort, result.history_comfort) == (1.0, 0.0)


def test_the_lateral_acceleration_of_a_circle_is_the_square_of_the_speed_over_its_radius():
    for radius, comfort in ((21.0, 1.0), (20.0, 0.0)):  # 100 / 21 = 4.76, 100 / 20 = 5
        result = comfort_of(drive_log(*circling(40, 10.0, radius)))
        assert result.max_lateral_mps2 == pytest.approx(100 / radius)
        assert result.max_yaw_rate_radps == pytest.approx(10 / radius)
        assert result.comfort == comfort


def test_a_steady_rise_of_acceleration_is_its_jerk():
    t = np.arange(40) * 0.1
    signals = RideSignals.of(np.full(40, 5.0), 1.5 * t - 3.0, np.zeros(40))
    np.testing.assert_allclose(
        signals.longitudinal_jerk_mps3[12:-12], 1.5, atol=1e-6
    )  # see the even window at the ends


def test_a_heading_that_passes_half_a_turn_has_no_jump():
    yaw = np.linspace(3.0, 3.4, 40)
    signals = RideSignals.of(np.full(40, 5.0), np.zeros(40), (yaw + np.pi) % (2 * np.pi) - np.pi)
    np.testing.assert_allclose(signals.yaw_rate_radps, 0.4 / 3.9, atol=1e-6)


def test_the_yaw_acceleration_of_a_quadratic_heading_is_its_second_derivative():
    t = np.arange(40) * 0.1
    signals = RideSignals.of(np.full(40, 5.0), np.zeros(40), 0.5 * 0.7 * t**2)
    np.testing.assert_allclose(signals.yaw_acceleration_radps2, 0.7, atol=1e-6)


def test_two_rides_in_one_call_equal_two_calls():
    rng = np.random.default_rng(0)
    speeds, accelerations, yaws = rng.normal(size=(3, 2, 30))
    both = RideSignals.of(speeds, accelerations, yaws)
    for row in range(2):
        one = RideSignals.of(speeds[row], accelerations[row], yaws[row])
        np.testing.assert_array_equal(both.jerk_mps3[row], one.jerk_mps3)


def test_three_steps_are_too_short_to_tell():
    result = comfort_of(drive_log(*straight(3, 10.0)))
    assert np.isnan(result.comfort)
    assert np.isnan(comfort_of(drive_log(*straight(1, 10.0))).history_comfort)
