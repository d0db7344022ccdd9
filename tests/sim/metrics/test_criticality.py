import numpy as np
import pytest
from fixtures.drive_logs import actor, drive_log, moving, straight
from hypothesis import assume, given
from hypothesis import strategies as st

from bevstack.geometry.rectangles import rectangles_touch
from bevstack.sim.metrics.areas import DrivenAreas
from bevstack.sim.metrics.collisions import Collisions
from bevstack.sim.metrics.criticality import Criticality, time_to_touch
from bevstack.sim.metrics.tracks import Tracks


def criticality_of(log):
    tracks = Tracks.of(log)
    areas = DrivenAreas.of(tracks)
    return Criticality.of(tracks, areas, Collisions.of(tracks, areas))


def beside(steps, actors, *, speed=10.0, **of):
    return drive_log(*straight(steps, speed, **of), actors=actors)


def test_ttc_behind_a_standing_car_is_the_gap_over_the_speed_and_its_exposure_adds_up():
    # Gap 20.5 m at 10 m/s: 2.05 s, 0.1 s less at each step. Below 1.5 s at 1.45 ... 1.05: five steps,
    # 0.1 * (0.05 + 0.15 + 0.25 + 0.35 + 0.45) = 0.125.
    result = criticality_of(beside(11, [moving("lead", 11, 0.0, x=25.5)]))
    np.testing.assert_allclose(result.ttc_s, 2.05 - 0.1 * np.arange(11), atol=1e-9)
    assert result.min_ttc_s == pytest.approx(1.05)
    assert result.time_of_min_ttc_s == pytest.approx(1.0)
    assert result.time_exposed_s == pytest.approx(0.5)
    assert result.time_integrated_s2 == pytest.approx(0.125)


def test_ttc_behind_a_slower_car_uses_the_difference_of_speeds():
    assert criticality_of(beside(2, [moving("lead", 2, 4.0, x=25.0)])).ttc_s[0] == pytest.approx(20 / 6)
    assert criticality_of(beside(2, [moving("lead", 2, 12.0, x=25.0)])).ttc_s[0] == np.inf


def test_ttc_with_crossing_traffic_sees_who_passes_in_time():
    # Their x ranges overlap from 0.9 s to 1.5 s; the other comes to y = -1 after 1.4 s or, a metre later, 1.6 s.
    near = moving("cross", 2, 5.0, x=13.0, y=-10.0, yaw=np.pi / 2)
    far = moving("cross", 2, 5.0, x=13.0, y=-11.0, yaw=np.pi / 2)
    assert criticality_of(beside(2, [near])).ttc_s[0] == pytest.approx(1.4)
    assert criticality_of(beside(2, [far])).ttc_s[0] == np.inf


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(-3, 3), st.floats(-3, 3), st.floats(-9, 9), st.floats(-9, 9))
def test_the_exact_time_is_that_of_small_steps(x, y, yaw, other_yaw, vx, vy):
    a, b = np.array((0.0, 0.0, 4.0, 2.0, yaw)), np.array((x, y, 4.5, 1.8, other_yaw))
    assume(not rectangles_touch(a, b))
    exact = time_to_touch(a, b, vx, vy)
    touching = []
    for t in np.arange(0, 4, 0.005):
        moved = b + np.array((vx * t, vy * t, 0, 0, 0))
        if rectangles_touch(a, moved):
            touching.append(t)
    if touching:
        assert touching[0] - 0.005 <= exact <= touching[0] + 1e-9
    else:  # a glance between two small steps is exact only
        moved = b + np.array((vx * min(exact, 4), vy * min(exact, 4), -0.2, -0.2, 0))
        assert exact >= 4 - 0.005 or not rectangles_touch(a, moved)


def test_who_is_behind_and_who_stands_has_no_ttc():
    follower = [moving("follower", 11, 15.0, x=-20.0)]
    assert criticality_of(beside(11, follower)).min_ttc_s == np.inf
    assert criticality_of(beside(11, [moving("lead", 11, -5.0, x=25.0)], speed=0.0)).min_ttc_s == np.inf


def test_nobody_around_has_no_times_but_full_scores():
    result = criticality_of(beside(11, []))
    for value in (result.min_ttc_s, result.time_of_min_ttc_s, result.min_worst_ttc_s, result.min_pet_s):
        assert np.isnan(value)
    assert np.isnan(result.ttc_s).all()
    assert (result.time_exposed_s, result.ttc_within_bound, result.ttc_within_bound_nuplan) == (0.0, 1.0, 1.0)


def test_an_actor_that_appears_late_counts_from_then_on():
    rows = np.tile((25.5, 0.0, 0.0), (11, 1))
    rows[:6] = np.nan
    result = criticality_of(beside(11, [actor("late", rows, velocities=np.where(np.isnan(rows[:, :2]), np.nan, 0.0))]))
    assert np.isnan(result.ttc_s[:6]).all()
    np.testing.assert_allclose(result.ttc_s[6:], 2.05 - 0.1 * np.arange(6, 11), atol=1e-9)


def test_after_a_contact_its_times_end():
    result = criticality_of(beside(31, [moving("lead", 31, 0.0, x=25.5)]))
    assert result.min_ttc_s == 0.0  # touched at 2.05 s, seen at 2.1 s
    assert np.isnan(result.ttc_s[22:]).all()
    assert result.ttc_within_bound_nuplan == 0.0


@pytest.mark.parametrize(("x", "score"), [(24.5, 1.0), (23.9, 0.0)])
def test_navsim_moves_the_outline_on_by_nine_tenths_of_a_second(x, score):
    # After ten steps the front is at 13, 0.9 s later at 22; the rear of the standing car is at x - 2.
    assert criticality_of(beside(11, [moving("lead", 11, 0.0, x=x)])).ttc_within_bound == score


@pytest.mark.parametrize(("y", "score"), [(0.0, 1.0), (1.6, 0.0)])
def test_navsim_counts_those_beside_only_between_lanes(y, score):
    # It moves in at 4 m/s and would touch after 0.3 s, then 50 degrees to the left of where the rear axle is now.
    t = np.arange(5) * 0.1
    rows = np.stack((1.0 + 2.0 * t, y + 3.1 - 4.0 * t, np.zeros(5)), axis=1)
    assert criticality_of(beside(5, [actor("beside", rows)], y=y, speed=2.0)).ttc_within_bound == score


def test_nuplan_wants_95_hundredths_to_those_ahead():
    # 14.1 m of gap, 5 m driven: 0.91 s; half a metre more is enough.
    assert criticality_of(beside(6, [moving("lead", 6, 0.0, x=19.1)])).ttc_within_bound_nuplan == 0.0
    assert criticality_of(beside(6, [moving("lead", 6, 0.0, x=19.7)])).ttc_within_bound_nuplan == 1.0


def test_pet_is_the_time_between_leaving_and_coming():
    # The vehicle's rear leaves x = 31 after (31 + 1 - 0.05) / 10 = 3.195 s, the other's front comes to y = -1 after
    # (24.1 - 1) / 5 = 4.62 s.
    cross = moving("cross", 80, 5.0, x=30.0, y=-26.1, yaw=np.pi / 2)
    assert criticality_of(beside(80, [cross], x=0.05)).min_pet_s == pytest.approx(4.62 - 3.195, abs=0.011)


def test_pet_is_not_for_the_same_way_nor_for_who_stands():
    same = [moving("lead", 60, 10.0, x=20.0), moving("parked", 60, 0.0, x=30.0, y=2.5, yaw=np.pi / 2)]
    assert np.isnan(criticality_of(beside(60, same)).min_pet_s)


def test_the_worst_time_grows_circles_at_the_acceleration_of_gravity():
    radius = 0.5 * (np.hypot(4, 2) + np.hypot(4, 2))
    # Both stand 30 m apart: 30 = radius + 9.81 t^2.
    result = criticality_of(beside(2, [moving("a", 2, 0.0, x=31.0)], speed=0.0))
    assert result.min_worst_ttc_s == pytest.approx(np.sqrt((30 - radius) / 9.81), abs=1e-5)
    # At 10 m/s, one step before the end of the run: 30 - 1 - 10 t = radius + 9.81 t^2.
    result = criticality_of(beside(2, [moving("a", 2, 0.0, x=31.0)]))
    root = (-10 + np.sqrt(100 + 4 * 9.81 * (29 - radius))) / (2 * 9.81)
    assert result.min_worst_ttc_s == pytest.approx(root, abs=1e-5)
