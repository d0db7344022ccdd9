"""Words for what was perceived: names of classes, numbers, directions, lists."""

from collections import Counter
from collections.abc import Iterable, Sequence

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_IRREGULAR = {"bus": "buses", "person": "people"}

DIRECTIONS = ("front", "front left", "back left", "back", "back right", "front right")
"""Sixths of the circle around the vehicle, counter-clockwise from the front, as DriveLM and NuScenes-QA name them."""

_SIXTH_DEG = 60.0


def spoken(name: str) -> str:
    """A class as people write it: "construction_vehicle" -> "construction vehicle"."""
    return name.replace("_", " ")


def plural(name: str) -> str:
    """Several of a class."""
    words = spoken(name)
    return _IRREGULAR.get(words, words + "s")


def number_of(count: int, name: str) -> str:
    """A class with a number: "one car", "three buses", "no trucks"; numbers above twelve in digits."""
    number = NUMBERS[count] if count < len(NUMBERS) else str(count)
    return f"{number} {spoken(name) if count == 1 else plural(name)}"


def listed(parts: Sequence[str], *, oxford: bool = False) -> str:
    """A list: "a", "a and b", "a, b and c"; with a comma before the "and" where `oxford` asks for it."""
    if len(parts) < 2:
        return "".join(parts)
    comma = "," if oxford and len(parts) > 2 else ""
    return f"{', '.join(parts[:-1])}{comma} and {parts[-1]}"


def counted(names: Iterable[str]) -> str:
    """Classes with their numbers: "two cars and one bus", the most frequent first."""
    counts = Counter(names)
    return listed([number_of(count, name) for name, count in sorted(counts.items(), key=lambda each: -each[1])])


def direction(bearing_deg: float) -> str:
    """Name of the sixth of the circle that a bearing (0 ahead, counter-clockwise) lies in."""
    return DIRECTIONS[int(((bearing_deg + _SIXTH_DEG / 2) % 360) // _SIXTH_DEG)]


def place(bearing_deg: float) -> str:
    """Where something is, as the end of a sentence: "ahead", "behind on the left"."""
    main, _, side = direction(bearing_deg).partition(" ")
    return ("ahead" if main == "front" else "behind") + (f" on the {side}" if side else "")


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
