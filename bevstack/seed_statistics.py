"""What a handful of runs with different seeds say: a mean and how far it can be off, and the same of a difference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedMean:
    """Mean over seeds with its Student t interval: if the runs are normally distributed, it covers the true mean."""

    mean: float
    half_width: float | None
    """Of the interval; None with a single run, which says nothing about the spread."""
    values: tuple[float, ...]
    """One for each seed."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.half_width is not None and abs(self.mean) > self.half_width


def seed_mean(values: Sequence[float], *, confidence: float = 0.95) -> SeedMean:
    """Mean and interval of one number from several runs.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("a mean needs one run or more, got none")
    array = np.asarray(values, np.float64)
    half_width = None
    if len(array) > 1:
        quantile = stats.t.ppf(0.5 + confidence / 2, len(array) - 1)
        half_width = float(quantile * array.std(ddof=1) / np.sqrt(len(array)))
    return SeedMean(mean=float(array.mean()), half_width=half_width, values=tuple(array.tolist()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A squared standard error with the degrees of freedom that it is known with."""

    variance: float
    degrees: float

    def half_width(self, confidence: float = 0.95) -> float:
        """Of the Student t interval."""
        return float(stats.t.ppf(0.5 + confidence / 2, self.degrees) * np.sqrt(self.variance))


def joint_spread(parts: Sequence[Spread]) -> Spread:
    """Of the sum of independent errors (Welch 1947, Satterthwaite 1946)."""
    variance = float(sum(part.variance for part in parts))
    if variance == 0:
        return Spread(variance=0.0, degrees=min(part.degrees for part in parts))
    return Spread(variance=variance, degrees=variance**2 / sum(part.variance**2 / part.degrees for part in parts))


def seed_spreads(first: Sequence[float], second: Sequence[float]) -> tuple[Spread, ...]:
    """The errors of the two means that a difference is made of; none where neither side has two runs.

    A side with one run says nothing of its spread: it is given that of the other side.
    """
    sides = [np.asarray(values, np.float64) for values in (first, second)]
    variances = [values.var(ddof=1) for values in sides if len(values) > 1]
    if not variances:
        return ()
    if len(variances) == 1:
        degrees = max(map(len, sides)) - 1
        return (Spread(variance=float(variances[0] * sum(1 / len(values) for values in sides)), degrees=degrees),)
    return tuple(
        Spread(variance=float(variance / len(values)), degrees=len(values) - 1)
        for variance, values in zip(variances, sides, strict=True)
    )
