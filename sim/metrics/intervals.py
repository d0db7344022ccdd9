"""How sure a difference between agents is: pass rates with Wilson intervals, and agents compared on the same seeds.

A scenario that is hard for one agent is hard for the other, so runs of the same scenario and seed are compared pair by
pair: what both passed or both failed says nothing about which is better.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRate:
    """Share of passed runs with its interval; NaN of nothing without runs."""

    passed: int
    runs: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedPasses:
    """How much more often the second agent passes, on the same runs."""

    runs: int
    only_first: int
    """Runs that the first passes and the second fails."""
    only_second: int
    difference: float
    """Pass rate of the second minus that of the first."""
    low: float
    high: float
    p_value: float
    """Exact McNemar test, two-sided: 1 where both pass the same runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedScores:
    """How much higher the second agent scores, on the same runs."""

    runs: int
    """Those that both have a score of."""
    difference: float
    low: float
    high: float
    p_value: float
    """Student's t test of the differences, two-sided; NaN below two runs."""


def pass_rate(passed: int, runs: int, *, confidence: float = 0.95) -> PassRate:
    """Wilson's score interval (1927): inside [0, 1], and not of zero width when all runs pass.

    Raises:
        ValueError: counts that cannot be, or a confidence outside (0, 1).
    """
    _check(confidence)
    if not 0 <= passed <= runs:
        raise ValueError(f"passed={passed} must be in [0, runs={runs}]")
    if runs == 0:
        return PassRate(passed=0, runs=0, rate=math.nan, low=math.nan, high=math.nan)
    rate, z = passed / runs, float(stats.norm.ppf(0.5 + confidence / 2))
    middle, spread = rate + z**2 / (2 * runs), z * math.sqrt(rate * (1 - rate) / runs + z**2 / (4 * runs**2))
    scale = 1 + z**2 / runs
    low = 0.0 if passed == 0 else (middle - spread) / scale
    high = 1.0 if passed == runs else (middle + spread) / scale
    return PassRate(passed=passed, runs=runs, rate=rate, low=low, high=high)


def paired_passes(
    first: Sequence[bool] | np.ndarray, second: Sequence[bool] | np.ndarray, *, confidence: float = 0.95
) -> PairedPasses:
    """Compare passes and fails of two agents, run by run.

    The interval is the tenth method of Newcombe (Statistics in Medicine 17, 1998): the Wilson intervals of both rates,
    joined with the correlation of the pairs.

    Args:
        first: Whether the first agent passed each run.
        second: The same of the second agent, in the same order.
        confidence: Share of such intervals that hold the true difference.

    Raises:
        ValueError: the numbers of runs differ or are 0, or a confidence outside (0, 1).
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"both agents need the same runs, one or more: got {len(first)} and {len(second)}")
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    runs, only_first, only_second = len(a), int((a & ~b).sum()), int((~a & b).sum())
    one = pass_rate(int(a.sum()), runs, confidence=confidence)
    other = pass_rate(int(b.sum()), runs, confidence=confidence)
    together = _correlation(a, b)
    difference = other.rate - one.rate
    down, up = (other.rate - other.low, one.high - one.rate), (other.high - other.rate, one.rate - one.low)
    tried = only_first + only_second
    return PairedPasses(
        runs=runs,
        only_first=only_first,
        only_second=only_second,
        difference=difference,
        low=difference - _joined(*down, together),
        high=difference + _joined(*up, together),
        p_value=float(stats.binomtest(only_first, tried).pvalue) if tried else 1.0,
    )


def paired_scores(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, *, confidence: float = 0.95
) -> PairedScores:
    """Compare scores of two agents, run by run, by Student's t interval of the differences; runs without a score of
    both (NaN) are left out.

    Raises:
        ValueError: the numbers of runs differ, or a confidence outside (0, 1).
    """
    _check(confidence)
    if len(first) != len(second):
        raise ValueError(f"both agents need the same runs: got {len(first)} and {len(second)}")
    gains = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    gains = gains[np.isfinite(gains)]
    runs, mean = len(gains), float(gains.mean()) if len(gains) else math.nan
    if runs < 2:
        return PairedScores(runs=runs, difference=mean, low=-math.inf, high=math.inf, p_value=math.nan)
    error = float(gains.std(ddof=1)) / math.sqrt(runs)
    half_width = float(stats.t.ppf(0.5 + confidence / 2, runs - 1)) * error
    # Differences without any spread leave no doubt, or nothing to doubt.
    t_value = abs(mean) / error if error > 0 else (math.inf if mean else 0.0)
    p_value = float(2 * stats.t.sf(t_value, runs - 1))
    return PairedScores(runs=runs, difference=mean, low=mean - half_width, high=mean + half_width, p_value=p_value)


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must be in (0, 1)")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of the passes of both (phi), with Newcombe's correction towards 0; 0 where one passes or fails every run."""
    alike, unlike = int((a & b).sum() * (~a & ~b).sum()), int((a & ~b).sum() * (~a & b).sum())
    counts = [int(row.sum()) for row in (a, ~a, b, ~b)]
    if not all(counts):
        return 0.0
    more = alike - unlike
    return (more if more < 0 else max(more - len(a) / 2, 0.0)) / math.sqrt(math.prod(counts))


def _joined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0))
