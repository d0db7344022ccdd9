"""The vehicle whose tyres slip."""

import math

import numpy as np
import pytest

from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.sim.ego.drift import SingleTrack, SingleTrackParams
from bevstack.sim.ego.kinematic import KinematicBicycle
from bevstack.sim.ego.motion import GRAVITY_MPS2, Command, VehicleState


def turning(speed, wheel):
    rate = speed * math.tan(wheel) / NUSCENES_VEHICLE.wheelbase_m
    return VehicleState(speed_mps=speed, steering_rad=wheel, demanded_steering_rad=wheel, yaw_rate_radps=rate)


def driven(model, state, command, seconds, friction=1.0):
    for _ in range(round(seconds / 0.1)):
        state = model.step(state, command, 0.1, friction)
    return state


def test_straight_on_it_is_the_kinematic_vehicle():
    start, command = VehicleState(speed_mps=15.0), Command(acceleration_mps2=-3.0)
    slipping = driven(SingleTrack(), start, command, 2.0)
    rolling = driven(KinematicBicycle(), start, command, 2.0)
    assert slipping.as_row() == pytest.approx(rolling.as_row(), abs=2e-3)


def test_tyres_of_equal_stiffness_share_make_a_gentle_steady_turn_neutral():
    wheel, speed = 0.02, 15.0
    state = driven(SingleTrack(), turning(speed, wheel), Command(), 3.0)
    assert state.yaw_rate_radps == pytest.approx(state.speed_mps * wheel / NUSCENES_VEHICLE.wheelbase_m, rel=0.02)


@pytest.mark.parametrize("friction", [0.3, 0.8])
def test_side_acceleration_stays_within_friction(friction):
    model, state = SingleTrack(), VehicleState(speed_mps=20.0)
    for _ in range(30):
        before = state
        state = model.step(state, Command(steering_rate_radps=0.2), 0.1, friction)
        turn = math.cos(before.yaw_rad), math.sin(before.yaw_rad)
        moved = np.array((state.x_m - before.x_m, state.y_m - before.y_m)) / 0.1
        assert np.isfinite(moved).all() and np.dot(moved, turn) > -1.0
        assert abs(state.yaw_rate_radps - before.yaw_rate_radps) / 0.1 < 8.0
    # Steered far beyond what the road gives: the path is wider than the wheels say.
    assert state.speed_mps * abs(state.yaw_rate_radps) < 1.3 * friction * GRAVITY_MPS2
    assert abs(state.yaw_rate_radps) < state.speed_mps * math.tan(state.steering_rad) / NUSCENES_VEHICLE.wheelbase_m


def test_on_ice_the_stop_is_as_long_as_friction_says():
    state = driven(SingleTrack(), VehicleState(speed_mps=10.0), Command(acceleration_mps2=-8.0), 12.0, friction=0.15)
    assert state.speed_mps == 0.0
    assert state.x_m == pytest.approx(100 / (2 * 0.15 * GRAVITY_MPS2), rel=0.08)


def test_mirrored_steering_gives_the_mirrored_way():
    left = driven(SingleTrack(), VehicleState(speed_mps=12.0), Command(steering_rate_radps=0.1), 1.5, 0.6)
    right = driven(SingleTrack(), VehicleState(speed_mps=12.0), Command(steering_rate_radps=-0.1), 1.5, 0.6)
    assert (left.x_m, left.y_m, left.yaw_rad) == pytest.approx((right.x_m, -right.y_m, -right.yaw_rad), abs=1e-9)


def test_at_walking_pace_it_is_the_kinematic_bicycle():
    start = turning(1.0, 0.3)
    assert SingleTrack().step(start, Command(), 0.1) == KinematicBicycle().step(start, Command(), 0.1)


def test_energy_never_grows_without_drive():
    model, state = SingleTrack(), turning(18.0, 0.1)
    for _ in range(40):
        after = model.step(state, Command(steering_rate_radps=0.3), 0.1, 0.4)
        arm = (1 - SingleTrackParams().front_arm_share) * NUSCENES_VEHICLE.wheelbase_m
        energy = [
            s.speed_mps**2
            + (s.lateral_mps + arm * s.yaw_rate_radps) ** 2
            + (SingleTrackParams().gyration_share * NUSCENES_VEHICLE.wheelbase_m * s.yaw_rate_radps) ** 2
            for s in (state, after)
        ]
        assert energy[1] <= energy[0] + 1e-6
        state = after


def test_impossible_tyres_are_refused():
    with pytest.raises(ValueError, match="cornering_per_rad=-1"):
        SingleTrackParams(cornering_per_rad=-1.0)
    with pytest.raises(ValueError, match="front_arm_share=1.5"):
        SingleTrackParams(front_arm_share=1.5)
