"""Planning by rules: follows the route, keeps its distance, brakes in time, and says why."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.road_scenes import (
    NAN,
    driving,
    forecasts,
    occupied,
    road,
    scene,
    straight_route,
    turning_route,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.planning.agent_futures import BeliefRules
from bevstack.planning.bicycle import SPEED, limits_of, state_of
from bevstack.planning.corridor import corridor_along
from bevstack.planning.idm import IdmParams, drive_along
from bevstack.planning.obstacles import SceneObstacles
from bevstack.planning.paths import path_ahead
from bevstack.planning.resampling import plan_poses, states_at
from bevstack.planning.rule_planner import RulePlanner
from bevstack.planning.safety import SafetyRules, check_plan
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.types import Plan, Planner, Route, RouteCommand, SceneEstimate
from bevstack.types.errors import PlanningError

PLANNER = RulePlanner(budget_s=30.0)
FRONT_M = NUSCENES_VEHICLE.front_ahead_m
EVERYTHING = (-40, 40, -40, 40, 0.2, 3, "manmade")


def no_route(command: RouteCommand = RouteCommand.STRAIGHT) -> Route:
    return Route(command=command, waypoints_ego=np.zeros((0, 2)), speed_limit_mps=NAN)


def front_at_the_end(plan: Plan) -> float:
    return float(plan.trajectory.poses_ego[-1, 0]) + FRONT_M


def test_a_free_road_is_driven_at_the_present_speed_or_the_limit() -> None:
    assert isinstance(PLANNER, Planner)
    plan = PLANNER.plan(scene(), driving(8.0), straight_route())
    assert plan.source == "candidate"
    np.testing.assert_allclose(plan_poses(plan)[:, 0], 8.0 * 0.5 * np.arange(1, 7), atol=0.05)
    slower = PLANNER.plan(scene(), driving(8.0), straight_route(limit=5.0))
    assert slower.trajectory.speeds_mps[-1] == pytest.approx(5.0, abs=0.3)
    starting = PLANNER.plan(scene(), driving(0.0), straight_route())
    assert np.all(np.diff(starting.trajectory.speeds_mps) > 0)


@pytest.mark.parametrize("side", [1, -1])
def test_the_route_is_obeyed_round_a_corner_slowly_enough(side: int) -> None:
    plan = PLANNER.plan(scene(), driving(6.0), turning_route(side))
    poses, speeds = plan.trajectory.poses_ego, plan.trajectory.speeds_mps
    assert side * poses[-1, 2] > 1.2 and side * poses[-1, 1] > 6
    route = turning_route(side).waypoints_ego
    fine = np.concatenate([np.linspace(a, b, 9) for a, b in zip(route[:-1], route[1:], strict=True)])
    gap = np.hypot(*(poses[:, None, :2] - fine).transpose(2, 0, 1)).min(axis=1)
    assert gap.max() < 0.4
    turn = np.diff(np.unwrap(poses[:, 2])) / plan.trajectory.dt_s
    assert np.abs(turn * speeds[1:]).max() < 3.0


def test_left_and_right_are_mirror_images() -> None:
    left, right = (PLANNER.plan(scene(), driving(6.0), turning_route(side)).trajectory for side in (1, -1))
    np.testing.assert_allclose(left.poses_ego, right.poses_ego * (1, -1, -1), atol=1e-6)


def test_a_route_that_begins_beside_the_vehicle_is_met_smoothly() -> None:
    beside = replace(straight_route(), waypoints_ego=straight_route().waypoints_ego + (0.0, 1.5))
    plan = PLANNER.plan(scene(), driving(8.0), beside)
    assert plan.source == "candidate"
    assert plan.trajectory.poses_ego[-1, 1] == pytest.approx(1.5, abs=0.15)
    assert plan.trajectory.poses_ego[:, 1].max() < 1.7


@pytest.mark.parametrize(
    "blocked",
    [
        scene(("car", 26.0, 0.0, 0.0, 0.0, 0.0)),
        scene(("barrier", 24.0, 0.0, 0.0, 0.0, 0.0), ("barrier", 24.0, 2.5, 0.0, 0.0, 0.0)),
        scene(occupancy=occupied((24, 25, -6, 6, 0.2, 3, "manmade"))),
    ],
    ids=["car", "barriers", "wall"],
)
def test_a_blocked_road_is_stopped_for(blocked: SceneEstimate) -> None:
    plan = PLANNER.plan(blocked, driving(8.0), straight_route())
    assert plan.source == "candidate"
    assert front_at_the_end(plan) < 23.7
    assert plan.trajectory.speeds_mps[-1] < 1.5
    assert np.diff(plan.trajectory.speeds_mps).min() > -0.5  # no harder than 5 m/s2


def test_the_end_of_the_road_and_a_stop_goal_are_stopped_for() -> None:
    plan = PLANNER.plan(scene(), driving(8.0), straight_route(), stop_goal_ego=(28.0, -2.0))
    assert front_at_the_end(plan) < 28.5 and plan.trajectory.speeds_mps[-1] < 2.0
    ends = PLANNER.plan(scene(), driving(6.0), straight_route(20.0))
    assert ends.trajectory.poses_ego[-1, 0] < 20.0 and ends.trajectory.speeds_mps[-1] < 2.0
    beside = PLANNER.plan(scene(), driving(6.0), straight_route(), stop_goal_ego=(20.0, 30.0))
    assert beside.source == "fallback_stop"
    assert any("the stop goal (20.0, 30.0) is 30.0 m from the way" in words for words in beside.reasons)


@pytest.mark.parametrize("lead_mps", [0.0, 3.0, 6.0])
def test_a_lead_car_is_never_touched_in_a_closed_loop(lead_mps: float) -> None:
    speed, place, lead, dt_s = 9.0, 0.0, 24.0, 0.5
    gaps = []
    for step in range(24):
        braking = lead_mps if step < 8 else max(0.0, lead_mps - 3.0 * 0.5 * (step - 8))  # the lead brakes to a stop
        seen = scene(("car", lead - place, 0.0, 0.0, braking, 0.0))
        plan = PLANNER.plan(seen, driving(speed), straight_route())
        poses, speeds = states_at(plan.trajectory, np.array([dt_s]))
        place, speed = place + float(poses[0, 0]), float(speeds[0])
        lead += braking * dt_s
        gaps.append(lead - 2.3 - (place + FRONT_M))
    assert min(gaps) > 0.5
    assert speed < 0.5 and gaps[-1] < 6.0  # it comes to stand behind the lead, not far from it


def test_a_lead_car_whose_voxels_reach_behind_its_box_is_followed_not_stopped_for() -> None:
    lead = ("car", 20.0, 0.0, 0.0, 7.0, 0.0)
    halo = occupied((16.8, 22.8, -1.2, 1.2, 0.2, 1.8, "car"))
    plan = PLANNER.plan(scene(lead, occupancy=halo), driving(7.0), straight_route())
    alone = PLANNER.plan(scene(lead), driving(7.0), straight_route())
    np.testing.assert_array_equal(plan_poses(plan), plan_poses(alone))
    assert plan.trajectory.speeds_mps.min() > 4.0


def test_a_vehicle_told_to_stop_stands_and_does_not_creep() -> None:
    path = path_ahead(straight_route(), None, 5.0, NUSCENES_VEHICLE)
    free = corridor_along(path, SceneObstacles.of(scene(), NUSCENES_VEHICLE, BeliefRules()), NUSCENES_VEHICLE)
    for speed in (0.0, 5.0):
        start, limits = state_of(driving(speed), NUSCENES_VEHICLE), limits_of(NUSCENES_VEHICLE)
        states = drive_along(path, np.zeros(len(path.points)), free, start, limits, IdmParams(), steps=70)
        assert np.all(np.diff(states[:, SPEED], prepend=speed) <= 0) and states[-1, SPEED] < 0.01


def test_a_pedestrian_who_will_cross_is_braked_for_and_one_who_walks_along_is_not() -> None:
    crossing = scene(("pedestrian", 22.0, 5.0, -np.pi / 2, 0.0, -1.5))
    plan = PLANNER.plan(crossing, driving(8.0), straight_route())
    assert plan.source == "candidate"
    assert plan.trajectory.speeds_mps[20] < 5.0
    obstacles = SceneObstacles.of(crossing, NUSCENES_VEHICLE, BeliefRules())
    assert check_plan(plan.trajectory, obstacles, driving(8.0), NUSCENES_VEHICLE, SafetyRules()).is_safe
    along = PLANNER.plan(scene(("pedestrian", 22.0, 5.0, 0.0, 1.5, 0.0)), driving(8.0), straight_route())
    np.testing.assert_allclose(along.trajectory.speeds_mps, 8.0, atol=0.05)


def test_a_forecast_of_crossing_is_braked_for_before_the_pedestrian_moves() -> None:
    crosses = [(22.0, 5.0 - 0.75 * k) for k in range(1, 13)]
    waits = scene(("pedestrian", 22.0, 5.0, -np.pi / 2, 0.0, 0.0), motion=forecasts([(1.0, crosses)]))
    plan = PLANNER.plan(waits, driving(8.0), straight_route())
    assert plan.trajectory.speeds_mps[20] < 5.0


def test_traffic_on_the_opposite_lane_does_not_slow_the_vehicle() -> None:
    oncoming = scene(*[("car", 15.0 + 20 * k, 3.4, np.pi, -9.0, 0.0) for k in range(3)])
    plan = PLANNER.plan(oncoming, driving(8.0), straight_route())
    np.testing.assert_allclose(plan.trajectory.speeds_mps, 8.0, atol=0.05)


def test_a_parked_car_that_juts_into_the_lane_is_passed_with_a_small_step_aside() -> None:
    plan = PLANNER.plan(scene(("car", 22.0, 1.9, 0.0, 0.0, 0.0)), driving(8.0), straight_route())
    assert plan.trajectory.poses_ego[-1, 0] > 30
    assert -0.8 < plan.trajectory.poses_ego[:, 1].min() < -0.3
    assert "0.5 m to the right" in plan.reasons[-1]


def test_a_car_close_ahead_makes_the_vehicle_brake_as_hard_as_it_can_with_the_reason() -> None:
    plan = PLANNER.plan(scene(("car", 12.5, 0.0, 0.0, 0.0, 0.0)), driving(8.0), straight_route())
    assert plan.source == "candidate"
    assert "since time to collision with car 0 is" in plan.reasons[-1]
    assert front_at_the_end(plan) < 10.2 and plan.trajectory.speeds_mps[-1] == 0.0


def test_an_unavoidable_collision_is_made_as_mild_as_possible_and_named() -> None:
    plan = PLANNER.plan(scene(("truck", 9.5, 0.0, 0.0, 0.0, 0.0)), driving(10.0), straight_route())
    assert plan.source == "fallback_stop"
    assert any("collides with truck 0" in words for words in plan.reasons)
    assert np.diff(plan.trajectory.speeds_mps).min() == pytest.approx(-0.8, abs=1e-6)


def test_a_world_full_of_obstacles_is_stopped_in_with_reasons() -> None:
    plan = PLANNER.plan(scene(occupancy=occupied(EVERYTHING)), driving(6.0), straight_route())
    assert plan.source == "fallback_stop"
    assert any("occupied space (manmade)" in words for words in plan.reasons)
    assert plan.trajectory.speeds_mps[-1] == 0.0
    assert NUSCENES_VEHICLE.limits_broken(plan.trajectory, driving(6.0)) == ()


def test_a_vehicle_that_stands_in_front_of_a_wall_goes_on_standing() -> None:
    plan = PLANNER.plan(scene(occupancy=occupied(EVERYTHING)), driving(0.0), straight_route())
    np.testing.assert_allclose(plan.trajectory.poses_ego, 0.0, atol=1e-9)


def test_an_unknown_speed_is_no_reason_to_guess() -> None:
    plan = PLANNER.plan(scene(), driving(NAN, NAN, NAN), straight_route())
    assert plan.source == "fallback_stop"
    assert plan.reasons[0] == "the speed of the vehicle is not known: standstill is asked for"
    np.testing.assert_allclose(plan.trajectory.poses_ego, 0.0)


def test_without_a_route_the_road_is_followed_on_the_side_of_the_command() -> None:
    junction = scene(map=road((-40, 40, -4, 4), (10, 20, -40, 40)))
    ends = {
        command: PLANNER.plan(junction, driving(4.0), no_route(command)).trajectory.poses_ego[-1]
        for command in RouteCommand
    }
    assert ends[RouteCommand.LEFT][1] > 2 and ends[RouteCommand.RIGHT][1] < -2
    assert abs(ends[RouteCommand.STRAIGHT][1]) < 0.2
    until_the_end = PLANNER.plan(scene(map=road((-40, 24, -4, 4))), driving(6.0), no_route())
    assert front_at_the_end(until_the_end) < 24.5
    assert "without a route straight along the road, 21 m" in until_the_end.reasons[-1]


@pytest.mark.parametrize(
    ("route", "words"),
    [
        (no_route(), "no route and no map of the road"),
        (replace(straight_route(), waypoints_ego=np.full((5, 2), np.nan)), "not finite"),
        (replace(straight_route(), waypoints_ego=straight_route().waypoints_ego + (0.0, 25.0)), "25 m from the"),
        (replace(straight_route(), waypoints_ego=-straight_route().waypoints_ego), "leads backwards"),
        (replace(straight_route(), waypoints_ego=straight_route().waypoints_ego - (61.0, 0.0)), "ends at the vehicle"),
        (replace(straight_route(), waypoints_ego=np.zeros((3, 2))), "single waypoint"),
    ],
    ids=["none", "nan", "far", "backwards", "behind", "point"],
)
def test_a_route_of_no_use_ends_in_a_stop_that_names_it(route: Route, words: str) -> None:
    plan = PLANNER.plan(scene(), driving(5.0), route)
    assert plan.source == "fallback_stop"
    assert words in plan.reasons[0]
    assert plan.trajectory.speeds_mps[-1] == 0.0


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(PlanningError, match="comfortable_braking_mps2=9.0 of the driver is more than max_braking"):
        RulePlanner(idm=IdmParams(comfortable_braking_mps2=9.0))
    with pytest.raises(ValueError, match="budget_s=0.0"):
        RulePlanner(budget_s=0.0)
    with pytest.raises(ValueError, match="horizon_s=1.0"):
        RulePlanner(horizon_s=1.0)


def test_a_spent_budget_gives_the_best_so_far_or_a_stop_and_says_so() -> None:
    lead = scene(("car", 20.0, 0.0, 0.0, 4.0, 0.0))
    now = iter(np.arange(0.0, 1000.0, 1.0))
    hurried = RulePlanner(budget_s=1.5, clock=lambda: float(next(now)))
    plan = hurried.plan(lead, driving(8.0), straight_route())
    assert plan.source == "candidate"
    assert any("the budget of 1500 ms was spent before" in words for words in plan.reasons)


def test_a_plan_is_made_within_its_budget() -> None:
    import time

    crowd = [("car", x, y, 0.0, 3.0, 0.0) for x in range(-40, 40, 4) for y in (-9.0, -5.0, 5.0, 9.0)]
    busy = scene(*crowd, ("car", 30.0, 0.0, 0.0, 2.0, 0.0), occupancy=occupied((20, 38, 12, 20, 0.2, 3, "manmade")))
    planner = RulePlanner()
    planner.plan(busy, driving(8.0), straight_route())
    spent = []
    for _ in range(5):
        start = time.process_time()
        planner.plan(busy, driving(8.0), straight_route())
        spent.append(time.process_time() - start)
    assert min(spent) < planner.budget_s


@settings(max_examples=40)
@given(
    speed=st.floats(0, 20),
    acceleration=st.floats(-6, 4),
    yaw_rate=st.floats(-0.6, 0.6),
    side=st.sampled_from((1, -1, 0)),
    x=st.floats(5, 35),
    y=st.floats(-6, 6),
    velocity=st.tuples(st.floats(-8, 8), st.floats(-8, 8)),
)
def test_no_plan_is_ever_outside_the_limits_of_the_vehicle(speed, acceleration, yaw_rate, side, x, y, velocity) -> None:
    ego = driving(speed, acceleration, yaw_rate)
    route = turning_route(side) if side else straight_route()
    plan = PLANNER.plan(scene(("car", x, y, 0.3, *velocity)), ego, route)
    assert NUSCENES_VEHICLE.limits_broken(plan.trajectory, ego) == ()
    assert plan.reasons


def test_a_smaller_vehicle_keeps_its_own_limits() -> None:
    slow = VehicleParams(max_speed_mps=5.0, max_acceleration_mps2=1.6)
    plan = RulePlanner(vehicle=slow, budget_s=30.0).plan(scene(), driving(3.0), straight_route())
    assert plan.trajectory.speeds_mps.max() <= 5.01
