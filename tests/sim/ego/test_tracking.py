"""Plans followed by the regulators, with and without latency."""

import math

import numpy as np
import pytest

from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.sim.agents.transitions import progress
from bevstack.sim.ego.latency import ControlLatency
from bevstack.sim.ego.lqr import LqrParams, LqrTracker
from bevstack.sim.ego.motion import Command, VehicleState
from bevstack.sim.ego.reference import Reference
from bevstack.sim.ego.vehicle import EgoVehicle
from bevstack.types.trajectory import Plan, Trajectory


def plan_of(points, speeds, dt_s=0.1, source="candidate"):
    points = np.asarray(points, np.float64)
    steps = np.diff(np.concatenate((np.zeros((1, 2)), points)), axis=0)
    yaws = np.arctan2(steps[:, 1], steps[:, 0])
    for k in range(len(yaws)):
        if np.hypot(*steps[k]) < 1e-6:
            yaws[k] = yaws[k - 1] if k else 0.0
    trajectory = Trajectory(
        poses_ego=np.column_stack((points, yaws)), speeds_mps=np.asarray(speeds, np.float64), dt_s=dt_s
    )
    return Plan(trajectory=trajectory, source=source, reasons=())


def lane_change(speed, seconds=8.0, width=3.5, over_s=4.0):
    times = np.arange(1, round(seconds / 0.1) + 1) * 0.1
    sides = [width * progress("cubic", (t - 1.0) / over_s) for t in times]
    return plan_of(np.column_stack((speed * times, sides)), np.full(len(times), speed))


def braking(speed, deceleration, seconds=6.0, source="fallback_stop"):
    times = np.arange(1, round(seconds / 0.1) + 1) * 0.1
    speeds = np.maximum(speed - deceleration * times, 0.0)
    ways = (speed**2 - speeds**2) / (2 * deceleration)
    return plan_of(np.column_stack((ways, np.zeros(len(times)))), speeds, source=source)


@pytest.mark.parametrize("speed", [8.0, 15.0, 22.0])
def test_a_lane_change_is_followed_to_two_decimetres_and_ends_in_its_lane(speed):
    ego = EgoVehicle(VehicleState(speed_mps=speed))
    ego.follow(lane_change(speed))
    errors = []
    for k in range(1, 81):
        state = ego.advance()
        errors.append(state.y_m - 3.5 * progress("cubic", (k * 0.1 - 1.0) / 4.0))
    assert np.abs(errors).max() < 0.2
    assert abs(errors[-1]) < 0.05
    assert abs(ego.state.yaw_rad) < 0.01


def test_a_steady_bend_is_followed_without_lasting_error():
    radius, speed = 20.0, 7.0
    angles = speed / radius * 0.1 * np.arange(1, 81)
    points = np.column_stack((radius * np.sin(angles), radius * (1 - np.cos(angles))))
    plan = plan_of(points, np.full(80, speed))
    wheel = math.atan(NUSCENES_VEHICLE.wheelbase_m / radius)
    ego = EgoVehicle(VehicleState(speed_mps=speed, steering_rad=wheel, demanded_steering_rad=wheel))
    ego.follow(plan)
    for _ in range(60):
        state = ego.advance()
    assert math.hypot(state.x_m, state.y_m - radius) == pytest.approx(radius, abs=0.1)


def test_an_error_to_the_side_is_taken_back():
    ego = EgoVehicle(VehicleState(speed_mps=10.0, y_m=1.0))
    straight = plan_of(np.column_stack((np.arange(1, 81), np.zeros(80))), np.full(80, 10.0))
    ego.follow(straight, planned_from=VehicleState(speed_mps=10.0))
    for _ in range(70):
        ego.advance()
    assert abs(ego.state.y_m) < 0.05


def test_a_speed_step_is_followed_as_the_first_order_answer_of_the_regulator():
    points = np.column_stack((12.0 * 0.1 * np.arange(1, 101), np.zeros(100)))
    command = LqrTracker().command(
        VehicleState(speed_mps=10.0),
        Reference.of(plan_of(points, np.full(100, 12.0)).trajectory, VehicleState(speed_mps=12.0)),
        0.0,
    )
    assert command.acceleration_mps2 == pytest.approx(10 / 11 * 2.0)
    assert command.steering_rate_radps == pytest.approx(0.0, abs=1e-12)


def stop_way(speed, deceleration, params):
    ego = EgoVehicle(VehicleState(speed_mps=speed), tracker=LqrTracker(params=params))
    ego.follow(braking(speed, deceleration))
    for _ in range(120):
        ego.advance()
    assert ego.state.speed_mps == 0.0
    return ego.state.x_m


@pytest.mark.parametrize(("speed", "deceleration"), [(5.0, 2.0), (10.0, 4.0), (15.0, 6.0)])
def test_a_stop_plan_ends_at_rest_and_with_feed_forward_close_to_where_it_says(speed, deceleration):
    planned = speed**2 / (2 * deceleration)
    regulated = stop_way(speed, deceleration, LqrParams())
    fed = stop_way(speed, deceleration, LqrParams(feeds_forward=True))
    assert planned - 0.5 < fed < planned + 0.5 + 0.15 * speed
    # Without, the vehicle brakes a tenth weaker and ends on an exponential tail: never early, up to a third too late.
    assert planned < regulated < 1.35 * planned


def test_a_standing_vehicle_with_a_standing_plan_stands():
    ego = EgoVehicle(VehicleState())
    ego.follow(plan_of(np.zeros((30, 2)), np.zeros(30), source="fallback_stop"))
    for _ in range(30):
        ego.advance()
    assert ego.state.pose == (0.0, 0.0, 0.0)


def test_latency_shifts_what_the_vehicle_does_by_exactly_its_time():
    prompt, late = EgoVehicle(VehicleState(speed_mps=10.0)), EgoVehicle(VehicleState(speed_mps=10.0), latency_s=0.25)
    for ego in (prompt, late):
        ego.obey(Command(acceleration_mps2=2.0))
    prompt_speeds = [prompt.advance(0.05).speed_mps for _ in range(20)]
    late_speeds = [late.advance(0.05).speed_mps for _ in range(25)]
    assert late_speeds[:5] == [10.0] * 5
    assert late_speeds[5:] == pytest.approx(prompt_speeds, abs=1e-9)


def test_a_latency_that_is_no_multiple_of_the_step_takes_effect_inside_it():
    ego = EgoVehicle(VehicleState(speed_mps=10.0), latency_s=0.03)
    ego.obey(Command(acceleration_mps2=2.0))
    reference = EgoVehicle(VehicleState(speed_mps=10.0))
    reference.obey(Command(acceleration_mps2=2.0))
    assert ego.advance(0.1).speed_mps == pytest.approx(reference.advance(0.07).speed_mps, abs=1e-9)


def test_commands_never_overtake_each_other_when_the_latency_shrinks():
    queue = ControlLatency(delay_s=0.5)
    first, second = Command(acceleration_mps2=1.0), Command(acceleration_mps2=2.0)
    queue.give(first, 0.0)
    queue.delay_s = 0.0
    queue.give(second, 0.1)
    assert queue.at(0.1) == Command()
    assert queue.at(0.5) == second


def test_the_same_drive_twice_is_bit_equal():
    def drive():
        ego = EgoVehicle(VehicleState(speed_mps=12.0), latency_s=0.1)
        ego.follow(lane_change(12.0))
        return [ego.advance().as_row().tobytes() for _ in range(60)]

    assert drive() == drive()


def test_a_plan_is_set_down_where_it_was_made():
    state = VehicleState(x_m=5.0, y_m=1.0, yaw_rad=math.pi / 2, speed_mps=2.0)
    reference = Reference.of(plan_of([(1.0, 0.0), (2.0, 0.0)], [2.0, 3.0], dt_s=0.5).trajectory, state)
    assert reference.poses_at(np.array((0.0, 0.5, 9.0))) == pytest.approx(
        np.array([(5.0, 1.0, math.pi / 2), (5.0, 2.0, math.pi / 2), (5.0, 3.0, math.pi / 2)])
    )
    assert [reference.speed_at(t) for t in (0.0, 0.75, 9.0)] == [2.0, 2.5, 3.0]


def test_curvature_is_that_of_the_circle_and_kept_where_the_plan_stands():
    angles = 0.1 * np.arange(1, 11)
    points = np.column_stack((10 * np.sin(angles), 10 * (1 - np.cos(angles))))
    trajectory = Trajectory(poses_ego=np.column_stack((points, angles)), speeds_mps=np.full(10, 10.0), dt_s=0.1)
    reference = Reference.of(trajectory, VehicleState(speed_mps=10.0))
    assert reference.curvatures_at(np.array((0.0, 0.4, 5.0)), 0.1) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.full((2, 3), np.nan)], ids=["empty", "not finite"])
def test_a_plan_that_cannot_be_followed_is_refused(rows):
    with pytest.raises(ValueError, match="at least one step"):
        Reference.of(Trajectory(poses_ego=rows, speeds_mps=np.zeros(len(rows)), dt_s=0.1), VehicleState())


def test_impossible_weights_and_delays_are_refused():
    with pytest.raises(ValueError, match="weights"):
        LqrParams(speed_weight=-1.0)
    with pytest.raises(ValueError, match="horizon_steps=0"):
        LqrParams(horizon_steps=0)
    with pytest.raises(ValueError, match="delay_s=-0.1"):
        ControlLatency(delay_s=-0.1)
