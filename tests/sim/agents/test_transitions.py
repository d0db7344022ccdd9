"""Shapes of changes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.agents.transitions import PEAK_SLOPE, SHAPES, Transition, duration_of, progress, slope

SMOOTH = ("linear", "cubic", "sinusoidal")


@pytest.mark.parametrize(
    ("shape", "quarter"),
    [("linear", 0.25), ("cubic", 0.15625), ("sinusoidal", 0.5 - math.sqrt(0.125)), ("step", 1.0)],
)
def test_a_quarter_of_the_way_has_its_known_progress(shape, quarter):
    assert progress(shape, 0.25) == pytest.approx(quarter, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_has_changed_before_the_begin_and_all_after_the_end(shape):
    assert progress(shape, -0.01) == 0.0
    assert progress(shape, 1.0) == progress(shape, 7.0) == 1.0
    assert slope(shape, -0.01) == slope(shape, 1.0) == 0.0


@given(st.sampled_from(SMOOTH), st.floats(0.01, 0.98))
def test_the_slope_is_the_derivative_of_the_progress(shape, share):
    step = 1e-6
    assert slope(shape, share) == pytest.approx(
        (progress(shape, share + step) - progress(shape, share - step)) / (2 * step), abs=1e-6
    )


@given(st.sampled_from(SMOOTH), st.floats(0, 0.999))
def test_no_shape_is_steeper_than_its_peak_and_each_reaches_it_half_way(shape, share):
    assert slope(shape, share) <= PEAK_SLOPE[shape] + 1e-12
    assert slope(shape, 0.5) == pytest.approx(PEAK_SLOPE[shape])


@given(st.sampled_from(SMOOTH), st.floats(-50, 50), st.floats(0.1, 10))
def test_a_change_of_the_duration_for_a_rate_has_that_rate_at_its_steepest(shape, change, rate):
    duration = duration_of(shape, change, rate)
    if duration > 1e-6:
        made = Transition(shape=shape, first=0.0, last=change, duration=duration)
        assert abs(made.rate(duration / 2)) == pytest.approx(rate)


def test_a_transition_without_duration_jumps_at_its_begin():
    made = Transition(shape="cubic", first=3.0, last=5.0, duration=0.0)
    assert [made.value(-0.1), made.value(0.0), made.value(1.0)] == [3.0, 5.0, 5.0]
    assert made.is_done(0.0) and not made.is_done(-0.1)
    assert made.rate(0.0) == 0.0


def test_a_lane_change_is_half_done_after_half_its_time():
    made = Transition(shape="sinusoidal", first=0.0, last=-3.5, duration=4.0)
    assert made.value(2.0) == pytest.approx(-1.75)
    assert not made.is_done(3.99) and made.is_done(4.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"shape": "quintic"}, "quintic"),
        ({"duration": -1.0}, "duration=-1.0"),
        ({"duration": math.inf}, "duration=inf"),
        ({"duration": math.nan}, "NaN"),
    ],
)
def test_a_transition_that_cannot_be_is_refused_by_its_value(values, words):
    with pytest.raises((ValueError, TypeError), match=words):
        Transition(**({"shape": "linear", "first": 0.0, "last": 1.0, "duration": 1.0} | values))


def test_a_rate_must_be_positive():
    with pytest.raises(ValueError, match="peak_rate=0"):
        duration_of("linear", 1.0, 0.0)
