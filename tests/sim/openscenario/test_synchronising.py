"""Arriving somewhere just in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.openscenario.synchronising import approach


def test_somebody_who_stands_waits_and_then_speeds_up():
    # 1 m to speed up (1 s at a mean of 1 m/s) and 3 m at 2 m/s (1.5 s): 2.5 s of 6.
    plan = approach(way_m=4.0, time_s=6.0, speed_mps=0.0, last_mps=2.0, steady_m=3.0)
    assert (plan.wait_s, plan.change_m, plan.is_exact) == (pytest.approx(3.5), pytest.approx(1.0), True)


def test_who_has_little_time_speeds_up_within_a_shorter_way():
    # 100 m in 12 s with 10 m/s at the end: 20 m of speeding up (4 s) and 80 m at 10 m/s.
    plan = approach(way_m=100.0, time_s=12.0, speed_mps=0.0, last_mps=10.0, steady_m=50.0)
    assert (plan.wait_s, plan.change_m, plan.is_exact) == (0.0, pytest.approx(20.0), True)


def test_who_cannot_arrive_in_time_changes_at_once():
    plan = approach(way_m=100.0, time_s=5.0, speed_mps=0.0, last_mps=10.0, steady_m=50.0)
    assert (plan.wait_s, plan.is_exact) == (0.0, False)


def test_who_has_the_speed_already_keeps_it():
    plan = approach(way_m=50.0, time_s=5.0, speed_mps=10.0, last_mps=10.0, steady_m=20.0)
    assert (plan.wait_s, plan.is_exact) == (0.0, True)


@given(st.floats(0, 20), st.floats(1, 20), st.floats(5, 200), st.floats(0, 1), st.floats(1, 60))
def test_an_exact_plan_arrives_in_time(speed, last, way, steady, time):
    plan = approach(way_m=way, time_s=time, speed_mps=speed, last_mps=last, steady_m=steady * way)
    if plan.is_exact:
        change_s = plan.change_m / ((speed + last) / 2)
        rest_m = way - speed * plan.wait_s - plan.change_m
        assert rest_m >= steady * way - 1e-6
        assert plan.wait_s + change_s + rest_m / last == pytest.approx(time, abs=1e-5)


def test_a_final_speed_of_zero_is_refused():
    with pytest.raises(ValueError, match="must be positive"):
        approach(way_m=1.0, time_s=1.0, speed_mps=1.0, last_mps=0.0, steady_m=0.0)
