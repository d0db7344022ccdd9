"""Suggestions for mistyped names."""

import difflib
from collections.abc import Iterable


def nearest_names(wrong: str, valid: Iterable[str], count: int = 3) -> str:
    """' (did you mean a, b?)' with the valid names most like the wrong one, or '' where nothing is close."""
    close = difflib.get_close_matches(wrong, list(valid), n=count, cutoff=0.5)
    return f" (did you mean {', '.join(close)}?)" if close else ""
