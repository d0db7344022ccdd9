import numpy as np
import pytest
from fixtures.drive_logs import NO_ROADS, drive_log, moving, straight

from bevstack.sim.metrics.plan_quality import PlanQuality, extended_comfort, hd_scores
from bevstack.sim.metrics.tracks import Tracks
from bevstack.types.trajectory import Plan, Trajectory


def plan(speed, acceleration=0.0, yaw_rate=0.0, *, steps=40, dt_s=0.1):
    t = np.arange(1, steps + 1) * dt_s
    way, yaw = speed * t + acceleration * t**2 / 2, yaw_rate * t
    poses = np.stack((way * np.cos(yaw / 2), way * np.sin(yaw / 2), yaw), axis=1)
    return Plan(
        trajectory=Trajectory(poses_ego=poses, speeds_mps=speed + acceleration * t, dt_s=dt_s),
        source="learned",
        reasons=(),
    )


def log_with(plans, *, speed=10.0, **changes):
    return drive_log(*straight(len(plans), speed), plans=tuple(plans), **changes)


def test_plans_that_agree_are_steady_and_plans_that_change_their_mind_are_not():
    assert extended_comfort(Tracks.of(log_with([plan(10.0)] * 21))) == 1.0
    # Half a second later 1 m/s2 is asked for instead of none: more than 0.7 apart.
    minds = [plan(10.0, 1.0 if (step // 5) % 2 else 0.0) for step in range(21)]
    assert extended_comfort(Tracks.of(log_with(minds))) == 0.0
    slight = [plan(10.0, 0.6 if (step // 5) % 2 else 0.0) for step in range(21)]
    assert extended_comfort(Tracks.of(log_with(slight))) == 1.0


def test_one_changed_plan_of_five_spoils_two_pairs_of_four():
    plans = [plan(10.0)] * 21
    plans[10] = plan(10.0, yaw_rate=0.2)
    assert extended_comfort(Tracks.of(log_with(plans))) == 0.5


def test_an_agent_without_plans_has_no_extended_comfort():
    assert np.isnan(extended_comfort(Tracks.of(log_with([None] * 21))))
    assert np.isnan(extended_comfort(Tracks.of(log_with([plan(10.0)] * 4))))


def test_hugsim_scores_a_free_even_plan_one():
    assert PlanQuality.of(Tracks.of(log_with([plan(10.0)] * 41))).hd_mean == 1.0


def test_a_plan_through_somebody_scores_nothing_and_a_plan_that_comes_near_loses_its_five_sevenths():
    steps = 31
    # Standing car, rear at 28: the plan at 0 s ends, as the run, after 3 s with its front at 33.
    scores = hd_scores(Tracks.of(log_with([plan(10.0)] * steps, actors=[moving("lead", steps, 0.0, x=30.0)])))
    assert scores[0] == 0.0
    # Rear at 38: never reached, but 1 s further on (43) it would be.
    scores = hd_scores(Tracks.of(log_with([plan(10.0)] * steps, actors=[moving("lead", steps, 0.0, x=40.0)])))
    assert scores[0] == pytest.approx(2 / 7)
    # Rear at 44: out of reach of everything.
    scores = hd_scores(Tracks.of(log_with([plan(10.0)] * steps, actors=[moving("lead", steps, 0.0, x=46.0)])))
    assert scores[0] == 1.0


def test_the_lateral_bound_of_comfort_holds_which_the_published_code_never_tests():
    # 15 m/s at 0.4 rad/s: 6 m/s2 sideways with every other signal within its bounds.
    plans = [plan(15.0, yaw_rate=0.4, steps=6, dt_s=0.5)] * 41
    arc = np.arange(1, 7) * 0.5
    poses = np.stack((37.5 * np.sin(0.4 * arc), 37.5 * (1 - np.cos(0.4 * arc)), 0.4 * arc), axis=1)
    plans = [
        Plan(
            trajectory=Trajectory(poses_ego=poses, speeds_mps=np.full(6, 15.0), dt_s=0.5), source="learned", reasons=()
        )
    ] * 41
    scores = hd_scores(Tracks.of(log_with(plans, roads=NO_ROADS)))
    assert scores[0] == pytest.approx(5 / 7)


def test_less_than_half_of_the_outline_on_the_road_halves_the_score():
    # The road ends at y = -1.75. At y = -1.9 two fifths of the points are on it, at y = -2.5 one fifth, at -2.6 none.
    for y, score in ((-1.0, 1.0), (-1.9, 0.5), (-2.5, 0.5), (-2.6, 0.0)):
        poses, speeds = straight(31, 10.0, y=y)
        assert hd_scores(Tracks.of(drive_log(poses, speeds, plans=(plan(10.0),) * 31)))[0] == score


def test_an_agent_of_controls_alone_is_judged_by_what_it_drove():
    driven = hd_scores(Tracks.of(log_with([None] * 41, actors=[moving("lead", 41, 0.0, x=30.0)])))
    planned = hd_scores(Tracks.of(log_with([plan(10.0)] * 41, actors=[moving("lead", 41, 0.0, x=30.0)])))
    np.testing.assert_array_equal(driven, planned)


def test_a_run_of_one_step_has_no_score():
    result = PlanQuality.of(Tracks.of(log_with([None])))
    assert np.isnan(result.hd_mean) and np.isnan(result.extended_comfort)
