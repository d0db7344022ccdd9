"""Breaks off what never comes back, so that the rest of a suite can go on."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class HangError(Exception):
    """Something took longer than any honest work does."""


@contextmanager
def broken_off_after(seconds: float) -> Iterator[None]:
    """Raise `HangError` inside once the wall time is over; only in the main thread of a process, elsewhere it waits."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"it did not come back within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    others = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        # A timer of somebody else's, such as a test runner's, goes on.
        signal.setitimer(signal.ITIMER_REAL, *others)
