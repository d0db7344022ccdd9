"""Intervals are what they claim to be: known on known draws, of the promised coverage, and narrower in pairs."""

import numpy as np
import pytest
from scipy import stats

from bevstack.evaluation.comparison.bootstrap import MIN_SCENES, bootstrap, difference, draw_scenes, mean_of
from bevstack.seed_statistics import Spread, joint_spread, seed_spreads


def mean_figure(values: np.ndarray):
    """The mean over scenes, weighted."""
    return lambda weights: {"mean": float(weights @ values / weights.sum())}


def ratio_figure(found: np.ndarray, counted: np.ndarray):
    """A ratio of sums, as IoU is."""
    return lambda weights: {"ratio": float(weights @ found / (weights @ counted))}


def test_every_draw_has_as_many_scenes_as_there_are() -> None:
    draws = draw_scenes(9, 50, seed=3)
    assert draws.shape == (50, 9)
    assert (draws.sum(axis=1) == 9).all()
    assert np.array_equal(draws, draw_scenes(9, 50, seed=3))


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = stats.norm.ppf((np.arange(400) + 0.5) / 400) * 2 + 5  # symmetrical, standard deviation 2
    estimate = bootstrap(mean_figure(values), 400, resamples=4000)["mean"]
    assert estimate.value == pytest.approx(5)
    assert estimate.std_error == pytest.approx(2 / 20, rel=0.05)
    assert (estimate.interval.low, estimate.interval.high) == pytest.approx((5 - 0.196, 5 + 0.196), abs=0.012)


def test_bca_of_a_skewed_figure_reaches_further_into_the_long_tail() -> None:
    values = np.random.default_rng(0).exponential(size=30)
    of = {
        m: bootstrap(mean_figure(values), 30, resamples=2000, method=m)["mean"].interval for m in ("bca", "percentile")
    }
    assert of["bca"].method == "bca" and of["percentile"].method == "percentile"
    assert of["bca"].high > of["percentile"].high and of["bca"].low > of["percentile"].low


def test_bca_agrees_with_the_implementation_of_scipy() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=40)
    ours = bootstrap(mean_figure(values), 40, resamples=30000)["mean"].interval
    theirs = stats.bootstrap((values,), np.mean, n_resamples=30000, method="BCa", rng=np.random.default_rng(2))
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


@pytest.mark.parametrize("num_scenes", [20, 60])
def test_ninety_five_per_cent_intervals_hold_the_true_ratio_that_often(num_scenes: int) -> None:
    rng = np.random.default_rng(7)
    held = 0
    trials = 200
    for trial in range(trials):
        counted = rng.integers(50, 200, num_scenes)
        found = counted * rng.beta(6, 4, num_scenes)  # scenes differ; the ratio of all scenes is 0.6
        interval = bootstrap(ratio_figure(found, counted), num_scenes, resamples=300, seed=trial)["ratio"].interval
        held += interval.low <= 0.6 <= interval.high
    assert 0.90 <= held / trials <= 0.985


def test_pairs_tell_a_small_difference_that_separate_intervals_cannot() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(0.5, 0.15, 50)
    before, after = hardness, hardness + 0.01 + rng.normal(0, 0.005, 50)
    paired = bootstrap(difference(mean_figure(before), mean_figure(after)), 50)["mean"]
    alone = [bootstrap(mean_figure(values), 50)["mean"].std_error for values in (before, after)]
    assert paired.interval.leaves_out_zero
    assert paired.std_error < 0.1 * np.hypot(*alone)


def test_equal_runs_never_differ_significantly() -> None:
    figure = mean_figure(np.random.default_rng(4).normal(size=12))
    same = bootstrap(difference(figure, figure), 12)["mean"]
    assert (same.value, same.interval.low, same.interval.high) == (0, 0, 0)
    assert not same.interval.leaves_out_zero


def test_too_few_scenes_have_no_interval() -> None:
    values = np.arange(MIN_SCENES - 1.0)
    estimate = bootstrap(mean_figure(values), MIN_SCENES - 1)["mean"]
    assert estimate.value == values.mean()
    assert estimate.interval is None
    assert bootstrap(mean_figure(np.arange(float(MIN_SCENES))), MIN_SCENES)["mean"].interval is not None


def test_a_figure_that_many_draws_do_not_define_has_no_interval() -> None:
    counted = np.array([4.0, 0, 0, 0, 0, 0, 0, 0])

    def figures(weights: np.ndarray):
        total = float(weights @ counted)
        return {"rare": 1.0 if total else None, "never": None, "always": float(weights.sum())}

    found = bootstrap(figures, 8)
    assert found["rare"].value == 1.0 and found["rare"].interval is None
    assert found["never"].value is None and found["never"].interval is None
    assert found["always"].interval.low == 8


def test_runs_of_one_side_are_averaged_and_figures_that_one_lacks_are_left_out() -> None:
    both = mean_of([lambda w: {"a": 1.0, "b": 2.0, "c": None}, lambda w: {"a": 3.0, "c": 1.0}])
    assert both(np.ones(6)) == {"a": 2.0, "c": None}


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="confidence=1.5"):
        bootstrap(mean_figure(np.ones(8)), 8, confidence=1.5)
    with pytest.raises(ValueError, match="num_scenes=0"):
        bootstrap(mean_figure(np.ones(0)), 0)


def test_the_spread_of_two_sides_of_seeds_is_that_of_welch() -> None:
    first, second = [0.50, 0.52, 0.51], [0.55, 0.56, 0.60, 0.57]
    joint = joint_spread(seed_spreads(first, second))
    expected = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    assert joint.half_width() == pytest.approx((expected.high - expected.low) / 2)


def test_a_side_with_one_run_is_given_the_spread_of_the_other() -> None:
    assert seed_spreads([0.5], [0.6]) == ()
    (spread,) = seed_spreads([0.5], [0.6, 0.62, 0.64])
    assert spread.variance == pytest.approx(0.0004 * (1 + 1 / 3))
    assert spread.degrees == 2


def test_a_joint_spread_is_known_no_better_than_its_larger_part() -> None:
    joint = joint_spread([Spread(variance=1.0, degrees=2), Spread(variance=1e-9, degrees=100)])
    assert joint.degrees == pytest.approx(2)
    assert joint_spread([Spread(variance=0.0, degrees=3), Spread(variance=0.0, degrees=5)]).half_width() == 0
