"""The failures that callers need to tell apart. Everything else a user can cause is a `ValueError`."""

import difflib
from collections.abc import Iterable


class DatasetError(Exception):
    """A data set is missing, incomplete or damaged. The message names the file or token and the remedy."""


class CalibrationError(Exception):
    """A camera matrix, extrinsic transform or ego pose is not usable (NaN, not rigid, wrong image size)."""


class StaleSensorError(Exception):
    """A sensor reading is older than the caller's limit and must not be used."""


class PlanningError(Exception):
    """A plan could not be made at all: no route, or limits that contradict each other."""


class ExportMismatchError(Exception):
    """An exported model does not reproduce the original, or does not fit the rig that it is asked to serve."""


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """' (did you mean a, b?)' to append to a message, or '' where nothing valid is like the wrong name.

    A dotted name that only lacks its section is found by its last word.
    """
    choices = list(valid)
    same_word = [name for name in choices if name.rpartition(".")[2] == wrong.rpartition(".")[2]]
    close = list(dict.fromkeys([*same_word, *difflib.get_close_matches(wrong, choices, n=3, cutoff=0.55)]))[:3]
    return f" (did you mean {', '.join(close)}?)" if close else ""
