"""What a handful of runs with different seeds say: a mean and how far it can be off."""

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
