"""The kinematic bicycle with lags and limits."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.ego.actuators import ActuatorParams
from bevstack.sim.ego.kinematic import KinematicBicycle
from bevstack.sim.ego.motion import GRAVITY_MPS2, Command, VehicleState

INSTANT = ActuatorParams(acceleration_lag_s=0.0, steering_lag_s=0.0, brake_build_up_s=0.0, coasting_mps2=0.0)
NIMBLE = VehicleParams(max_jerk_mps3=1e6, max_steering_rate_radps=1e3)


def driven(model, state, command, seconds, friction=1.0):
    for _ in range(round(seconds / 0.1)):
        state = model.step(state, command, 0.1, friction)
    return state


def turning(speed, wheel):
    rate = speed * math.tan(wheel) / NUSCENES_VEHICLE.wheelbase_m
    return VehicleState(speed_mps=speed, steering_rad=wheel, demanded_steering_rad=wheel, yaw_rate_radps=rate)


def test_constant_steering_drives_exactly_around_its_circle():
    wheel, speed = 0.2, 5.0
    radius = NUSCENES_VEHICLE.wheelbase_m / math.tan(wheel)
    around = 2 * math.pi * radius / speed
    state = KinematicBicycle().step(turning(speed, wheel), Command(), around)
    assert state.pose == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
    quarter = KinematicBicycle().step(turning(speed, wheel), Command(), around / 4)
    assert quarter.pose == pytest.approx((radius, radius, math.pi / 2), abs=1e-9)


def test_instant_brakes_stop_after_v_squared_over_twice_the_deceleration_and_do_not_reverse():
    model = KinematicBicycle(vehicle=NIMBLE, actuators=INSTANT)
    start = VehicleState(speed_mps=10.0, acceleration_mps2=-5.0)
    state = driven(model, start, Command(acceleration_mps2=-5.0), 4.0)
    assert state.x_m == pytest.approx(10.0, abs=1e-6)
    assert (state.speed_mps, state.acceleration_mps2) == (0.0, 0.0)


def test_the_acceleration_answers_a_step_as_a_first_order_lag():
    model = KinematicBicycle(vehicle=NIMBLE)
    state = model.step(VehicleState(speed_mps=5.0), Command(acceleration_mps2=2.0), 0.2)
    assert state.acceleration_mps2 == pytest.approx(2.0 * (1 - math.exp(-1)), abs=1e-9)
    gained = 2.0 * (0.2 - 0.2 * (1 - math.exp(-1)))
    assert state.speed_mps - 5.0 == pytest.approx(gained, abs=1e-4)


def test_the_jerk_limit_slows_the_brakes_and_build_up_comes_first():
    state = KinematicBicycle().step(VehicleState(speed_mps=20.0), Command(acceleration_mps2=-8.0), 0.1)
    assert -0.5 <= state.acceleration_mps2 < 0
    later = KinematicBicycle().step(state, Command(acceleration_mps2=-8.0), 0.1)
    slope = (state.acceleration_mps2 - later.acceleration_mps2) / 0.1
    assert slope == pytest.approx(NUSCENES_VEHICLE.max_jerk_mps3, rel=1e-6)


def test_wheels_turn_no_faster_and_no_further_than_they_can():
    state = KinematicBicycle().step(VehicleState(), Command(steering_rate_radps=9.0), 0.1)
    assert 0 < state.steering_rad < 0.1 * NUSCENES_VEHICLE.max_steering_rate_radps
    assert state.demanded_steering_rad == pytest.approx(0.1 * NUSCENES_VEHICLE.max_steering_rate_radps)
    state = driven(KinematicBicycle(), state, Command(steering_rate_radps=9.0), 3.0)
    assert state.steering_rad == pytest.approx(NUSCENES_VEHICLE.max_steering_rad)


def test_none_of_a_commanded_turn_is_lost_in_the_lag():
    model = KinematicBicycle()
    state = model.step(VehicleState(), Command(steering_rate_radps=0.5), 0.2)
    assert driven(model, state, Command(), 1.0).steering_rad == pytest.approx(0.1, abs=1e-6)


def test_a_standing_vehicle_neither_turns_nor_creeps():
    state = driven(KinematicBicycle(), VehicleState(), Command(acceleration_mps2=-3.0, steering_rate_radps=0.3), 2.0)
    assert state.pose == (0.0, 0.0, 0.0)
    assert state.speed_mps == 0.0


@pytest.mark.parametrize("friction", [0.2, 0.4])
def test_a_slippery_road_lengthens_the_stop_as_physics_says(friction):
    model = KinematicBicycle(vehicle=NIMBLE, actuators=INSTANT)
    start = VehicleState(speed_mps=10.0, acceleration_mps2=-friction * GRAVITY_MPS2)
    state = driven(model, start, Command(acceleration_mps2=-8.0), 8.0, friction)
    assert state.x_m == pytest.approx(100 / (2 * friction * GRAVITY_MPS2), rel=1e-3)


def test_on_ice_a_turn_runs_wide_at_the_grip_of_the_road():
    state = KinematicBicycle().step(turning(15.0, 0.3), Command(), 0.1, friction=0.1)
    assert state.yaw_rate_radps * state.speed_mps == pytest.approx(0.1 * GRAVITY_MPS2, rel=1e-6)


def test_what_a_turn_takes_of_the_grip_is_not_there_for_braking():
    model = KinematicBicycle(vehicle=NIMBLE, actuators=INSTANT)
    start = turning(10.0, math.atan(0.03 * NUSCENES_VEHICLE.wheelbase_m))
    straight = model.step(VehicleState(speed_mps=10.0), Command(acceleration_mps2=-8.0), 0.1, friction=0.4)
    turned = model.step(start, Command(acceleration_mps2=-8.0), 0.1, friction=0.4)
    assert turned.speed_mps > straight.speed_mps + 0.05


def test_the_top_speed_holds_but_a_faster_vehicle_is_not_slowed_at_once():
    model = KinematicBicycle()
    top = NUSCENES_VEHICLE.max_speed_mps
    assert driven(model, VehicleState(speed_mps=top - 1), Command(acceleration_mps2=3.0), 3.0).speed_mps == top
    assert driven(model, VehicleState(speed_mps=top + 5), Command(acceleration_mps2=3.0), 1.0).speed_mps == top + 5


@given(
    st.floats(0, 24), st.floats(-8, 3), st.floats(-0.5, 0.5), st.floats(-20, 20), st.floats(-2, 2), st.floats(0.05, 1.2)
)
def test_no_limit_is_ever_broken(speed, acceleration, wheel, wanted, rate, friction):
    model = KinematicBicycle()
    state = dataclasses.replace(turning(speed, wheel), acceleration_mps2=acceleration)
    for _ in range(5):
        after = model.step(state, Command(acceleration_mps2=wanted, steering_rate_radps=rate), 0.1, friction)
        assert 0 <= after.speed_mps <= NUSCENES_VEHICLE.max_speed_mps
        assert abs(after.steering_rad - state.steering_rad) <= 0.1 * NUSCENES_VEHICLE.max_steering_rate_radps + 1e-9
        assert abs(after.steering_rad) <= NUSCENES_VEHICLE.max_steering_rad
        lateral = abs(after.yaw_rate_radps * after.speed_mps)
        assert lateral <= min(friction * GRAVITY_MPS2, NUSCENES_VEHICLE.max_lateral_mps2) * 1.03 + 1e-6
        state = after


def test_one_long_step_equals_ten_short_ones():
    command = Command(acceleration_mps2=-2.0, steering_rate_radps=0.1)
    start = turning(8.0, 0.1)
    long = KinematicBicycle().step(start, command, 0.1)
    short = start
    for _ in range(10):
        short = KinematicBicycle().step(short, command, 0.01)
    assert long.as_row() == pytest.approx(short.as_row(), abs=1e-12)


@pytest.mark.parametrize(
    ("command", "dt_s", "friction", "words"),
    [
        (Command(acceleration_mps2=math.nan), 0.1, 1.0, "finite"),
        (Command(), 0.0, 1.0, "dt_s=0"),
        (Command(), 0.1, 0.0, "friction=0"),
    ],
)
def test_a_step_without_meaning_is_refused(command, dt_s, friction, words):
    with pytest.raises(ValueError, match=words):
        KinematicBicycle().step(VehicleState(), command, dt_s, friction)


def test_a_state_that_is_not_finite_or_reverses_is_refused():
    with pytest.raises(ValueError, match="x_m=nan"):
        VehicleState(x_m=math.nan)
    with pytest.raises(ValueError, match="does not reverse"):
        VehicleState(speed_mps=-1.0)


def test_a_state_is_the_same_after_the_round_trip_through_its_row():
    state = VehicleState(x_m=1.0, y_m=-2.0, yaw_rad=3.0, speed_mps=4.0, steering_rad=0.1, yaw_rate_radps=0.2)
    assert VehicleState.of_row(state.as_row()) == state
    assert state.as_ego().T_global_ego[:2, 3].tolist() == [1.0, -2.0]
