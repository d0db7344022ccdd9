"""Commands that take effect later than they were given: a queue, first in, first out."""

import math
from collections import deque

from bevstack.sim.ego.motion import Command

_SAME_TIME_S = 1e-9


class ControlLatency:
    """Between controller and actuators. Until the first command takes effect, `idle` holds.

    Args:
        delay_s: From giving a command to its effect; may be changed while driving, commands never overtake each other.
        idle: What the vehicle does before.

    Raises:
        ValueError: the delay is negative or not finite.
    """

    def __init__(self, *, delay_s: float = 0.0, idle: Command | None = None) -> None:
        self._queue: deque[tuple[float, Command]] = deque()
        self._current = idle or Command()
        self.delay_s = delay_s

    @property
    def delay_s(self) -> float:
        """Of the commands given from now on."""
        return self._delay_s

    @delay_s.setter
    def delay_s(self, value: float) -> None:
        if not 0 <= value < math.inf:
            raise ValueError(f"delay_s={value} must be 0 or more, and finite")
        self._delay_s = value

    def give(self, command: Command, now_s: float) -> None:
        """Hand in a command."""
        due_s = now_s + self._delay_s
        if self._queue:
            due_s = max(due_s, self._queue[-1][0])
        self._queue.append((due_s, command))

    def at(self, now_s: float) -> Command:
        """The command in effect; time must not run backwards."""
        while self._queue and self._queue[0][0] <= now_s + _SAME_TIME_S:
            self._current = self._queue.popleft()[1]
        return self._current

    def changes_before(self, end_s: float) -> float:
        """When the next command takes effect, or `end_s` where none does before."""
        return self._queue[0][0] if self._queue and self._queue[0][0] < end_s - _SAME_TIME_S else end_s
