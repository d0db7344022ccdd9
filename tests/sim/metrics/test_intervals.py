import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.metrics.intervals import paired_passes, paired_scores, pass_rate


def test_wilson_is_the_published_interval():
    # Newcombe 1998 (single proportions), table I: 81 of 263 at 95 %: 0.2553 to 0.3662; 0 of 20: 0 to 0.1611.
    rate = pass_rate(81, 263)
    assert (rate.low, rate.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    none = pass_rate(0, 20)
    assert (none.low, none.high) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.integers(1, 200), st.data())
def test_the_interval_holds_the_rate_and_mirrors(runs, data):
    passed = data.draw(st.integers(0, runs))
    rate, other = pass_rate(passed, runs), pass_rate(runs - passed, runs)
    assert 0 <= rate.low <= rate.rate <= rate.high <= 1
    assert rate.high > rate.low
    assert rate.low == pytest.approx(1 - other.high)


def test_no_run_says_nothing():
    rate = pass_rate(0, 0)
    assert math.isnan(rate.rate) and math.isnan(rate.low)


def test_counts_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="passed=3"):
        pass_rate(3, 2)
    with pytest.raises(ValueError, match="confidence=1"):
        pass_rate(1, 2, confidence=1.0)
    with pytest.raises(ValueError, match="same runs"):
        paired_passes([True], [True, False])
    with pytest.raises(ValueError, match="same runs"):
        paired_scores([1.0], [1.0, 2.0])


def test_mcnemar_counts_only_the_runs_that_differ():
    # Of 20 runs the second alone passes 6, the first alone 1: 2 * (C(7,0) + C(7,1)) / 2^7 = 16 / 128.
    first = [True] * 8 + [False] * 5 + [True] + [False] * 6
    second = [True] * 8 + [False] * 5 + [False] + [True] * 6
    result = paired_passes(first, second)
    assert (result.only_first, result.only_second, result.runs) == (1, 6, 20)
    assert result.p_value == pytest.approx(0.125)
    assert result.difference == pytest.approx(0.25)
    assert result.low < result.difference < result.high


def test_the_paired_interval_is_the_published_one():
    # Newcombe 1998 (paired proportions), table II, example 36 / 12 / 2 / 0, method 10: 0.0569 to 0.3404.
    first = [True] * 36 + [False] * 12 + [True] * 2
    second = [True] * 36 + [True] * 12 + [False] * 2
    result = paired_passes(first, second)
    assert result.difference == pytest.approx(0.2)
    assert (result.low, result.high) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_the_interval_of_a_paired_difference_is_narrower_than_that_of_strangers():
    first = np.arange(100) < 60
    second = np.arange(100) < 70  # passes everything that the first does
    rng = np.random.default_rng(0)
    alike, strange = paired_passes(first, second), paired_passes(first, rng.permutation(second))
    assert alike.high - alike.low < strange.high - strange.low
    assert alike.low > 0
    assert paired_passes(second, first).difference == pytest.approx(-0.1)
    assert paired_passes(second, first).high == pytest.approx(-alike.low)


def test_the_same_passes_are_no_difference():
    result = paired_passes([True, False, True], [True, False, True])
    assert (result.difference, result.p_value) == (0.0, 1.0)
    assert result.low == pytest.approx(-result.high) and result.high > 0  # three runs leave room


def test_paired_scores_use_the_spread_of_the_differences():
    # Differences 1, 2, 3: mean 2, error 1 / sqrt(3), t(0.975, 2) = 4.302653.
    result = paired_scores([10.0, 50.0, 90.0], [11.0, 52.0, 93.0])
    assert result.difference == pytest.approx(2.0)
    assert result.high - result.difference == pytest.approx(4.302653 / np.sqrt(3), abs=1e-5)
    assert result.p_value == pytest.approx(0.0742, abs=1e-4)  # t = 3.4641 with 2 degrees


def test_runs_without_both_scores_are_left_out():
    result = paired_scores([1.0, np.nan, 3.0], [2.0, 5.0, np.nan])
    assert (result.runs, result.difference) == (1, 1.0)
    assert math.isnan(result.p_value) and result.low == -math.inf
    assert paired_scores([1.0, 2.0], [1.0, 2.0]).p_value == 1.0
