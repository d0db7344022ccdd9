"""How long a planner may think."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds that never run backwards."""


class TimeBudget:
    """Begins when it is made.

    Args:
        budget_s: How long it lasts.
        clock: What it is measured by.

    Raises:
        ValueError: the budget is not positive.
    """

    def __init__(self, budget_s: float, clock: Clock = time.monotonic) -> None:
        if not budget_s > 0:
            raise ValueError(f"budget_s={budget_s} must be positive")
        self.budget_s = budget_s
        self._clock = clock
        self._began_s = clock()

    @property
    def is_spent(self) -> bool:
        """Whether the time is over."""
        return self._clock() - self._began_s >= self.budget_s

    def words(self, what: str) -> str:
        """The reason that goes with a plan that was cut short."""
        return f"the budget of {1e3 * self.budget_s:.0f} ms was spent before {what}"
