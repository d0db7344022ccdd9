import numpy as np
import pytest
from fixtures.drive_logs import actor, drive_log, moving, straight

from bevstack.sim.metrics.following import Following, RouteGaps, required_deceleration, safety_time_deceleration
from bevstack.sim.metrics.route import RoutePlaces
from bevstack.sim.metrics.rss import Rss, RssParams, safe_behind, safe_beside, safe_towards
from bevstack.sim.metrics.tracks import Tracks


def gaps_of(log):
    tracks = Tracks.of(log)
    return tracks, RouteGaps.of(tracks, RoutePlaces.of(tracks))


def single(formula, *numbers, **more):
    """A formula for arrays, of single numbers."""
    return float(formula(*(np.array([number]) for number in numbers), **more)[0])


def behind(speed, lead_speed, x, *, y=0.0, steps=2, yaw=0.0):
    lead = moving("lead", steps, lead_speed, x=x, y=y, yaw=yaw)
    return gaps_of(drive_log(*straight(steps, speed), actors=[lead]))


def test_headway_is_the_gap_over_the_speed():
    result = Following.of(*behind(10.0, 10.0, 23.0))  # gap 23 - 2 - 3 = 18
    assert result.min_headway_s == pytest.approx(1.8)
    assert result.max_required_deceleration_mps2 == 0.0


def test_required_deceleration_uses_up_the_gap():
    result = Following.of(*behind(10.0, 4.0, 23.0))
    assert result.required_deceleration_mps2[0] == pytest.approx(36 / 36)  # (10 - 4)^2 / (2 * 18)
    assert result.max_required_deceleration_mps2 == pytest.approx(36 / (2 * 17.4))  # a step later 0.6 m less
    assert result.max_brake_threat == pytest.approx(36 / (2 * 17.4) / 8)


def test_required_deceleration_behind_one_who_brakes_to_a_stop():
    def required(*numbers):
        return single(required_deceleration, *numbers)

    # Both at 10, he brakes by 8 and stands after 6.25 m; 5 m of gap: 100 / (2 * 11.25).
    assert required(10.0, 10.0, -8.0, 5.0) == pytest.approx(100 / 22.5)
    # He at 10 brakes by 1 only: 20 meets 10 long before he stands: 1 + 100 / 20.
    assert required(20.0, 10.0, -1.0, 10.0) == pytest.approx(6.0)
    # Faster than the vehicle he still has to be stopped for: 25 / (2 * (5 + 6.25)).
    assert required(5.0, 10.0, -8.0, 5.0) == pytest.approx(25 / 22.5)
    assert required(5.0, 10.0, 0.0, 5.0) == 0.0
    assert np.isnan(required(5.0, 10.0, 0.0, np.nan))


@pytest.mark.parametrize("numbers", [(10.0, 10.0, -8.0, 5.0), (20.0, 10.0, -1.0, 10.0), (12.0, 6.0, -3.0, 8.0)])
def test_required_deceleration_just_avoids_the_collision_when_simulated(numbers):
    own, other, acceleration, gap = numbers
    t = np.arange(0, 30, 1e-3)

    def way(speed, braking):
        moving_s = np.minimum(t, speed / braking)
        return speed * moving_s - braking * moving_s**2 / 2

    needed = single(required_deceleration, *numbers)
    for braking, is_free in ((needed * 1.01, True), (needed * 0.99, False)):
        least = (gap + way(other, -acceleration) - way(own, braking)).min()
        assert (least >= -1e-3) == is_free


def test_dst_ends_a_second_behind():
    result = Following.of(*behind(10.0, 4.0, 23.0))
    # 36 / (2 * (18 - 4)) at first, 36 / (2 * (17.4 - 4)) a step later.
    assert result.max_safety_time_deceleration_mps2 == pytest.approx(36 / 26.8)
    values = safety_time_deceleration(np.array((4.0, 10.0)), np.array((5.0, 5.0)), np.array((20.0, 5.0)))
    assert np.isnan(values).all()


def test_only_what_is_in_the_way_counts():
    for x, y in ((23.0, 2.5), (-20.0, 0.0), (1.0, 0.0)):
        result = Following.of(*behind(10.0, 0.0, x, y=y))
        assert np.isnan(result.min_headway_s) and np.isnan(result.max_brake_threat)
    assert np.isnan(Following.of(*gaps_of(drive_log(*straight(5, 10.0)))).min_headway_s)


def test_an_oncoming_car_has_no_headway_but_wants_a_stop():
    result = Following.of(*behind(10.0, -10.0, 23.0))
    assert np.isnan(result.min_headway_s)
    assert result.required_deceleration_mps2[0] == pytest.approx(100 / 36)


def test_the_gap_follows_the_bend():
    # On a circle of 50 m radius, a quarter of a turn ahead: straight ahead there is nothing.
    angle = np.linspace(0, np.pi, 1000)
    route = 50 * np.stack((np.sin(angle), 1 - np.cos(angle)), axis=1)
    lead = actor("lead", np.array([(50.0, 50.0, np.pi / 2)] * 2), velocities=np.zeros((2, 2)))
    tracks, gaps = gaps_of(drive_log(*straight(2, 10.0, x=-1.0), actors=[lead], route=route))
    assert gaps.along_m[0, 0] == pytest.approx(50 * np.pi / 2 - 4, abs=0.05)
    assert gaps.in_the_way[0, 0]


def test_rss_distances_are_those_of_the_paper():
    # After 1 s at 3.5 m/s2 10 m/s are 13.5: 10 + 1.75 + 13.5^2 / 8 - 10^2 / 16.
    assert single(safe_behind, 10.0, 10.0) == pytest.approx(28.28125)
    assert single(safe_behind, 0.0, 40.0) == 0.0
    # Each: (10 + 13.5) / 2 + 13.5^2 / 8.
    assert single(safe_towards, 10.0, 10.0) == pytest.approx(69.0625)
    # Each swerves (0 + 0.2) / 2 + 0.2^2 / 1.6 = 0.125 m.
    assert single(safe_beside, 0.0, 0.0) == pytest.approx(0.25)
    assert single(safe_beside, 0.0, 0.0, other_moves=False) == pytest.approx(0.125)
    # Towards the other at 1: (1 + 1.2) / 2 + 1.44 / 1.6 = 2.0, the other's 0.125 on top.
    assert single(safe_beside, 1.0, 0.0) == pytest.approx(2.125)
    assert single(safe_beside, 0.0, 5.0) == 0.0
    assert single(safe_beside, 0.0, 0.0, params=RssParams(lateral_margin_m=0.1)) == pytest.approx(0.35)


@pytest.mark.parametrize(("x", "y", "share"), [
    (23.0, 0.0, 1.0),  # 18 m behind instead of 28
    (40.0, 0.0, 0.0),
    (23.0, 3.5, 0.0),  # the next lane: 1.5 m beside instead of 0.25
    (23.0, 2.2, 1.0),
    (-10.0, 0.0, np.nan),  # behind: his to keep
])  # fmt: skip
def test_a_situation_is_dangerous_where_both_distances_are_too_small(x, y, share):
    result = Rss.of(*behind(10.0, 10.0, x, y=y))
    np.testing.assert_equal(result.dangerous_share, share)


def test_rss_margins_are_gaps_minus_safe_distances():
    assert Rss.of(*behind(10.0, 10.0, 23.0)).min_longitudinal_margin_m == pytest.approx(18 - 28.28125)
    beside = Rss.of(*behind(10.0, 10.0, 1.0, y=2.2))
    assert beside.min_lateral_margin_m == pytest.approx(0.2 - 0.25)
    assert np.isnan(beside.min_longitudinal_margin_m)
    oncoming = Rss.of(*behind(10.0, -10.0, 85.0))  # 80 m, a step later 78; safe are 69.06
    assert oncoming.min_longitudinal_margin_m == pytest.approx(78 - 69.0625)
