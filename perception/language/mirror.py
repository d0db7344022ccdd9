"""Text about a scene, and the same text about the scene seen in a mirror: left and right exchanged."""

import re

_SIDES = {"left": "right", "right": "left"}
_SIDE = re.compile(r"\b(left|right)(?=(?:most|wards?|hand(?:ed)?)?\b)", re.IGNORECASE)
_NO_SIDE = re.compile(r"right(?:[ -]of[ -]way| away\b)", re.IGNORECASE)
"""Where "right" is no side."""


def mirrored_text(text: str) -> str:
    """The text with every "left" as "right" and the other way round; capitals stay, "right of way" too."""

    def other(match: re.Match[str]) -> str:
        if _NO_SIDE.match(text, match.start()):
            return match.group()
        word = _SIDES[match.group().lower()]
        return word.upper() if match.group().isupper() else word.capitalize() if match.group()[0].isupper() else word

    return _SIDE.sub(other, text)
