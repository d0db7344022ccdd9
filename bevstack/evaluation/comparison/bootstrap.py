"""How far a figure would be off on other scenes: bootstrap over scenes, paired where two runs are compared.

Frames of one scene resemble each other, so scenes are drawn, not frames (Efron and Tibshirani, *An Introduction to the
Bootstrap*, 1993, chapter 8). A statistic says what a figure is when each scene counts some number of times; nothing is
predicted or matched anew. Two runs are compared on the same draws: what makes a scene hard for both cancels, and the
interval of the difference is far narrower than those of the two figures (`difference`).

Intervals are BCa (chapter 14): the percentiles are shifted for the bias and the skew of the figure. Means of many
scenes hardly need it; AP, IoU and their maxima over thresholds do, and for the few scenes of a small split it is what
keeps an interval from being too narrow. Where BCa is not defined, the plain percentiles are taken.

Below `MIN_SCENES` there is no interval: not even all scenes agreeing could be told from chance at 95 %.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats

Figures = Mapping[str, float | None]
"""Name of a figure -> value; None where it is not defined."""
Statistic = Callable[[np.ndarray], Figures]
"""How often each scene counts (G) -> figures."""

MIN_SCENES = 6
"""G scenes that all speak for the same run do so by chance in 2 ** (1 - G) of the cases: 3 % of six."""
DEFAULT_RESAMPLES = 1000
_MIN_SHARE_DEFINED = 0.9
"""A figure that fewer of the draws define has no interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where the figure of other scenes is expected."""

    low: float
    high: float
    method: Literal["percentile", "bca", "seeds"]
    """"seeds": of scenes and training runs together, see `bevstack.evaluation.comparison.runs`."""

    @property
    def leaves_out_zero(self) -> bool:
        """Whether a difference with this interval is significant."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure of all scenes with its noise."""

    value: float | None
    interval: Interval | None
    """None below `MIN_SCENES`, and where the figure or too many of its draws are not defined."""
    std_error: float | None
    """Standard deviation over the draws."""


def bootstrap(
    statistic: Statistic,
    num_scenes: int,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    confidence: float = 0.95,
    method: Literal["percentile", "bca"] = "bca",
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every figure of a statistic with its interval. The same arguments give the same intervals.

    Args:
        statistic: Figures of weighted scenes.
        num_scenes: How many there are.
        resamples: Draws of `num_scenes` scenes with replacement.
        confidence: Share of such intervals that are to hold the true figure.
        method: How draws become an interval.
        seed: Of the draws.

    Raises:
        ValueError: an argument is out of range.
    """
    if num_scenes < 1 or resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"num_scenes={num_scenes} and resamples={resamples} must be 1 or more, confidence={confidence} in (0, 1)"
        )
    whole = statistic(np.ones(num_scenes))
    if num_scenes < MIN_SCENES:
        return {name: Estimate(value=value, interval=None, std_error=None) for name, value in whole.items()}
    names = list(whole)
    draws = _figures(statistic, names, draw_scenes(num_scenes, resamples, seed).astype(np.float64))
    without_one = _figures(statistic, names, 1.0 - np.eye(num_scenes)) if method == "bca" else None
    estimates = {}
    for column, (name, value) in enumerate(whole.items()):
        jackknife = None if without_one is None else without_one[:, column]
        estimates[name] = _estimate(value, draws[:, column], jackknife, confidence)
    return estimates


def draw_scenes(num_scenes: int, resamples: int, seed: int) -> Int64[np.ndarray, "R G"]:
    """How often each scene is drawn; every row adds up to their number."""
    return np.random.default_rng(seed).multinomial(num_scenes, np.full(num_scenes, 1 / num_scenes), size=resamples)


def difference(first: Statistic, second: Statistic) -> Statistic:
    """What the second has more than the first, on the same scenes: the figures that both define."""

    def figures(weights: np.ndarray) -> Figures:
        before, after = first(weights), second(weights)
        both = ((name, before[name], after[name]) for name in before if name in after)
        return {name: None if a is None or b is None else b - a for name, a, b in both}

    return figures


def mean_of(statistics: list[Statistic]) -> Statistic:
    """Mean over runs of the figures that all of them have; None where one run does not define it."""

    def figures(weights: np.ndarray) -> Figures:
        runs = [statistic(weights) for statistic in statistics]
        means: dict[str, float | None] = {}
        for name in runs[0]:
            values = [run[name] for run in runs if name in run]
            known = [value for value in values if value is not None]
            if len(values) == len(runs):
                means[name] = math.fsum(known) / len(runs) if len(known) == len(runs) else None
        return means

    return figures


def _figures(statistic: Statistic, names: list[str], weights: Float64[np.ndarray, "R G"]) -> np.ndarray:
    """(R, M): NaN where a figure is not defined."""
    values = np.full((len(weights), len(names)), np.nan)
    for row, of_scene in enumerate(weights):
        figures = statistic(of_scene)
        values[row] = [np.nan if (value := figures.get(name)) is None else value for name in names]
    return values


def _estimate(value: float | None, draws: np.ndarray, without_one: np.ndarray | None, confidence: float) -> Estimate:
    defined = draws[np.isfinite(draws)]
    if value is None or len(defined) < _MIN_SHARE_DEFINED * len(draws):
        return Estimate(value=value, interval=None, std_error=None)
    levels = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    moved = None if without_one is None else _bca_levels(value, defined, without_one, levels)
    low, high = np.quantile(defined, levels if moved is None else moved)
    interval = Interval(low=float(low), high=float(high), method="percentile" if moved is None else "bca")
    return Estimate(value=value, interval=interval, std_error=float(defined.std(ddof=1)))


def _bca_levels(value: float, draws: np.ndarray, without_one: np.ndarray, levels: np.ndarray) -> np.ndarray | None:
    """Percentiles corrected for bias and skew; None where all draws lie on one side, or nothing varies."""
    below = (np.mean(draws < value) + np.mean(draws <= value)) / 2  # draws equal to the value are half below it
    known = without_one[np.isfinite(without_one)]
    offsets = known.mean() - known if len(known) else known
    spread = float((offsets**2).sum())
    if not 0 < below < 1 or spread <= np.finfo(np.float64).tiny:
        return None
    bias = stats.norm.ppf(below)
    skew = float((offsets**3).sum()) / (6 * spread**1.5)
    shifted = bias + stats.norm.ppf(levels)
    return stats.norm.cdf(bias + shifted / (1 - skew * shifted))
