"""Learned proposals: the first that can be driven and is safe; else rules; else a stop; with every step down named."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.road_scenes import NAN, cruising, driving, occupied, road, scene, straight_route, turning_route
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.planning.fallback import fallback_stop
from bevstack.planning.resampling import plan_poses
from bevstack.planning.rule_planner import RulePlanner
from bevstack.planning.selector import LearnedPlanner, mean_square_acceleration, off_route_m, snapped
from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.types import EgoState, Planner, PlanProposals, Trajectory

RULES = RulePlanner(budget_s=30.0)
PLANNER = LearnedPlanner(rules=RULES, budget_s=30.0)


def proposing(*ways: Trajectory) -> PlanProposals:
    return PlanProposals(
        poses_ego=np.array([way.poses_ego for way in ways], np.float32).reshape(-1, 6, 3),
        speeds_mps=np.array([way.speeds_mps for way in ways], np.float32).reshape(-1, 6),
        scores=-np.arange(len(ways), dtype=np.float32),
        dt_s=0.5,
        planner="sampled",
    )


def braking(speed: float, by: float) -> Trajectory:
    speeds = np.maximum(speed - by * 0.5 * np.arange(7), 0.0)
    x = np.cumsum((speeds[1:] + speeds[:-1]) / 4)
    poses = np.stack((x, np.zeros(6), np.zeros(6)), axis=1)
    return Trajectory(poses_ego=poses, speeds_mps=speeds[1:], dt_s=0.5)


def shaped(curvature: float, speed: float) -> Trajectory:
    angle = curvature * speed * 0.5 * np.arange(1, 7)
    poses = np.stack((np.sin(angle) / curvature, (1 - np.cos(angle)) / curvature, angle), axis=1)
    return Trajectory(poses_ego=poses, speeds_mps=np.full(6, speed), dt_s=0.5)


def test_the_most_wanted_proposal_leaves_unchanged_when_nothing_is_wrong_with_it() -> None:
    assert isinstance(PLANNER, Planner)
    plan = PLANNER.plan(scene(proposals=proposing(cruising(8.0), braking(8.0, 1.0))), driving(8.0), straight_route())
    assert plan.source == "learned" and plan.reasons == ()
    np.testing.assert_allclose(plan_poses(plan), cruising(8.0).poses_ego, atol=1e-5)


def test_of_two_ways_as_good_the_one_that_begins_at_the_present_speed_is_driven() -> None:
    both = proposing(cruising(8.0), cruising(6.0))
    costs = mean_square_acceleration(both, driving(6.0))
    np.testing.assert_allclose(costs, (16 / 6, 0.0), atol=1e-5)  # 2 m/s more within the first of six half seconds
    planner = LearnedPlanner(rules=RULES, budget_s=30.0, comfort_weight=0.5)  # 1.33 against a lead of 1 in the score
    for speed, driven in ((6.0, 6.0), (8.0, 8.0), (NAN, 8.0)):
        plan = planner.plan(scene(proposals=both), driving(speed), straight_route())
        assert plan.trajectory.speeds_mps[-1] == pytest.approx(driven)
    networks_own = LearnedPlanner(rules=RULES, budget_s=30.0, comfort_weight=0.0)
    plan = networks_own.plan(scene(proposals=both), driving(6.0), straight_route())
    assert plan.trajectory.speeds_mps[-1] > 7.5


def test_an_unsafe_proposal_gives_way_to_the_next_with_the_reason() -> None:
    wall = scene(
        ("car", 27.0, 0.0, 0.0, 0.0, 0.0), proposals=proposing(cruising(8.0), braking(8.0, 2.5), braking(8.0, 4.0))
    )
    plan = PLANNER.plan(wall, driving(8.0), straight_route())
    assert plan.source == "learned"
    assert plan.reasons == ("sampled 0 collides with car 0 at 2.8 s",)
    assert plan.trajectory.speeds_mps[-1] == pytest.approx(0.5)


def test_a_proposal_that_is_nearly_drivable_is_followed_as_well_as_the_vehicle_can() -> None:
    jumpy = replace(cruising(9.2), speeds_mps=np.full(6, 9.2))
    ego = driving(7.0)  # the proposal would take 4.4 m/s2 in its first half second
    plan = PLANNER.plan(scene(proposals=proposing(jumpy)), ego, straight_route())
    assert plan.source == "learned"
    assert "sampled 0 accelerates by 4.4 m/s2 at 0.5 s" in plan.reasons[0] and "followed within" in plan.reasons[0]
    assert NUSCENES_VEHICLE.limits_broken(plan.trajectory, ego) == ()
    assert np.abs(plan_poses(plan)[:, 0] - jumpy.poses_ego[:, 0]).max() < 1.0


def test_a_proposal_that_nobody_could_drive_is_refused() -> None:
    leap = cruising(20.0)
    plan = PLANNER.plan(scene(proposals=proposing(leap)), driving(8.0), straight_route())
    assert plan.source == "candidate"
    assert plan.reasons[0].startswith("sampled 0 accelerates by 24.0 m/s2 at 0.5 s")


def test_a_proposal_against_the_route_is_refused() -> None:
    straight_on, turns = cruising(6.0), shaped(1 / 11.0, 5.0)
    plan = PLANNER.plan(scene(proposals=proposing(turns)), driving(5.0, 0.0, 5.0 / 11), straight_route())
    assert plan.source == "candidate"
    assert plan.reasons[0].startswith("sampled 0 leaves the route by")
    assert off_route_m(straight_on, straight_route()) == 0.0
    assert off_route_m(straight_on, turning_route(1, straight_m=2.0)) > 4.0
    # the route ends before the plan does: nothing is known beyond
    assert off_route_m(straight_on, straight_route(6.0)) == pytest.approx(0.0, abs=1e-9)


def test_a_proposal_off_the_road_is_taken_only_when_no_other_is_left() -> None:
    swerve = shaped(0.015, 8.0)
    narrow = scene(map=road((-40, 40, -3, 2)), proposals=proposing(swerve, cruising(8.0)))
    plan = PLANNER.plan(narrow, driving(8.0, 0.0, 0.12), straight_route())
    assert plan.source == "learned"
    assert plan.reasons[0].startswith("sampled 0 leaves the road at")
    np.testing.assert_allclose(plan.trajectory.poses_ego[:, 1], 0.0, atol=0.5)
    alone = replace(narrow, proposals=proposing(swerve))
    plan = PLANNER.plan(alone, driving(8.0, 0.0, 0.12), straight_route())
    assert plan.source == "learned" and "leaves the road" in plan.reasons[-1]


def test_without_proposals_the_rules_drive_and_without_a_way_the_vehicle_stops() -> None:
    plan = PLANNER.plan(scene(), driving(8.0), straight_route())
    assert plan.source == "candidate" and plan.reasons[0] == "there are no proposals"
    full = scene(occupancy=occupied((-40, 40, -40, 40, 0.2, 3, "manmade")), proposals=proposing(cruising(8.0)))
    plan = PLANNER.plan(full, driving(8.0), straight_route())
    assert plan.source == "fallback_stop"
    assert plan.reasons[0] == "sampled 0 collides with occupied space (manmade) at 0.2 s"


def test_proposals_with_nan_are_refused_and_an_unknown_speed_is_not_held_against_any() -> None:
    broken = proposing(cruising(8.0), cruising(8.0))
    broken.poses_ego[0, 2, 1] = np.nan
    plan = PLANNER.plan(scene(proposals=broken), driving(NAN, NAN, NAN), straight_route())
    assert plan.source == "learned"
    assert plan.reasons == ("sampled 0 is not finite",)


def test_a_stop_goal_is_left_to_the_rules() -> None:
    plan = PLANNER.plan(
        scene(proposals=proposing(cruising(8.0))), driving(8.0), straight_route(), stop_goal_ego=(26.0, 0.0)
    )
    assert plan.source == "candidate" and plan.trajectory.speeds_mps[-1] < 2.0


def test_a_spent_budget_is_said_and_still_gives_a_plan() -> None:
    ticks = iter(np.arange(0.0, 1000.0, 1.0))
    hurried = LearnedPlanner(rules=RULES, budget_s=1.5, clock=lambda: float(next(ticks)))
    wall = scene(("car", 27.0, 0.0, 0.0, 0.0, 0.0), proposals=proposing(*[cruising(8.0)] * 3))
    plan = hurried.plan(wall, driving(8.0), straight_route())
    assert plan.source == "fallback_stop"
    assert "the budget of 1500 ms was spent before sampled 1 was looked at" in plan.reasons
    assert plan.trajectory.poses_ego[-1, 0] < 21.4


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="max_snap_m=0.0"):
        LearnedPlanner(max_snap_m=0.0)
    with pytest.raises(ValueError, match="comfort_weight=-1.0"):
        LearnedPlanner(comfort_weight=-1.0)
    with pytest.raises(ValueError, match="budget_s=-1.0"):
        LearnedPlanner(budget_s=-1.0)


def test_following_a_drivable_proposal_hardly_changes_it() -> None:
    for way, ego in ((cruising(8.0), driving(8.0)), (braking(8.0, 2.0), driving(8.0, -2.0))):
        near, distance = snapped(way, ego, NUSCENES_VEHICLE)
        assert distance < 0.35
        assert NUSCENES_VEHICLE.limits_broken(near, ego) == ()
    turn = shaped(1 / 15.0, 6.0)
    assert snapped(turn, driving(6.0, 0.0, 0.4), NUSCENES_VEHICLE)[1] < 0.4


@settings(max_examples=40)
@given(
    speed=st.floats(0, 18),
    yaw_rate=st.floats(-0.5, 0.5),
    steps=st.lists(st.tuples(st.floats(-1, 9), st.floats(-2, 2), st.floats(-0.6, 0.6)), min_size=6, max_size=6),
)
def test_whatever_is_proposed_the_plan_is_inside_the_limits(speed, yaw_rate, steps) -> None:
    moved = np.cumsum(np.array(steps), axis=0)
    wild = Trajectory(poses_ego=moved, speeds_mps=np.array(steps)[:, 0] * 2, dt_s=0.5)
    ego = driving(speed, 0.0, yaw_rate)
    plan = PLANNER.plan(scene(proposals=proposing(wild)), ego, straight_route())
    assert NUSCENES_VEHICLE.limits_broken(plan.trajectory, ego) == ()


# ---------------------------------------------------------------- the stop of last resort


def test_a_stop_is_gentle_where_that_will_do_and_as_hard_as_possible_where_not() -> None:
    gentle = fallback_stop(driving(8.0), NUSCENES_VEHICLE, ("because",))
    assert gentle.source == "fallback_stop" and gentle.reasons == ("because", "stops with the wheels held")
    assert np.diff(gentle.trajectory.speeds_mps).min() == pytest.approx(-0.25)
    plan = PLANNER.rules.plan(scene(("truck", 11.5, 0.0, 0.0, 0.0, 0.0)), driving(8.0), straight_route())
    assert np.diff(plan.trajectory.speeds_mps).min() == pytest.approx(-0.8)


@given(
    speed=st.one_of(st.floats(-2, 40), st.just(NAN), st.just(float("inf"))),
    acceleration=st.one_of(st.floats(-30, 30), st.just(NAN)),
    yaw_rate=st.one_of(st.floats(-3, 3), st.just(NAN)),
)
def test_a_stop_is_always_there_inside_the_limits_and_ends_at_rest(speed, acceleration, yaw_rate) -> None:
    ego = EgoState(T_global_ego=np.eye(4), speed_mps=speed, acceleration_mps2=acceleration, yaw_rate_radps=yaw_rate)
    plan = fallback_stop(ego, NUSCENES_VEHICLE, ())
    assert NUSCENES_VEHICLE.limits_broken(plan.trajectory, ego) == ()
    assert len(plan.trajectory.speeds_mps) >= 30
    if speed < 18:
        assert plan.trajectory.speeds_mps[-1] == 0.0
