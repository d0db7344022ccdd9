"""Text taken apart: clauses, and what each of them claims to be there."""

import re
from dataclasses import dataclass
from typing import Literal

CROSSING, STOP_LINE, TRAFFIC_LIGHT = "crossing", "stop_line", "traffic_light"

SYNONYMS: dict[str, tuple[str, ...]] = {
    "car": ("cars?", "sedans?", "suvs?", "taxis?", "cabs?", "minivans?", "hatchbacks?", "jeeps?", "police cars?"),
    "truck": ("trucks?", "lorry", "lorries", "vans?", "pick-?ups?", "moving vans?"),
    "bus": ("bus(?:es)?", "coach(?:es)?", "minibus(?:es)?", "trolley-?bus(?:es)?"),
    "trailer": ("trailers?", "caravans?"),
    "construction_vehicle": ("excavators?", "bulldozers?", "cranes?", "diggers?", "construction vehicles?"),
    "pedestrian": (
        "pedestrians?", "persons?", "people", "m[ae]n", "wom[ae]n", "child(?:ren)?", "kids?", "boys?", "girls?",
        "walkers?", "workers?", "crowds?", "someone", "somebody",
    ),
    "motorcycle": ("motor-?cycles?", "motor-?bikes?", "scooters?", "mopeds?", "motor-?cyclists?"),
    "bicycle": ("bicycles?", "bikes?", "cyclists?", "bikers?"),
    "traffic_cone": ("(?:traffic |orange |road )?cones?", "pylons?"),
    "barrier": ("barriers?", "barricades?", "road ?blocks?"),
    CROSSING: (
        "cross-?walks?",
        r"(?<!\bis )(?<!\bare )(?:pedestrian |zebra )?crossings?(?! (?:the|our|over|from|in|to|between)\b)",
    ),
    STOP_LINE: ("stop[ -]lines?", "stop[ -]signs?", "give[ -]way signs?", "yield signs?"),
    TRAFFIC_LIGHT: ("(?:traffic |red |green |amber |yellow )(?:lights?|signals?)",),
}  # fmt: skip
"""What a mention can be of -> how it is said (patterns of whole words). Detection classes, and what the road asks."""

VEHICLES = frozenset(("car", "truck", "bus", "trailer", "construction_vehicle", "motorcycle"))
_GROUPS = {
    r"(?:other )?vehicles?|traffic(?! (?:lights?|signals?|cones?|signs?))": VEHICLES,
    r"road users?": VEHICLES | {"pedestrian", "bicycle"},
    r"riders?": frozenset(("bicycle", "motorcycle")),
}
"""Words that any of several classes can be meant by."""

_PATTERNS = [
    (re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE), frozenset((name,))) for name, words in SYNONYMS.items()
] + [(re.compile(rf"\b(?:{words})\b", re.IGNORECASE), names) for words, names in _GROUPS.items()]
_BOUNDARY = re.compile(
    r"(?<=[.!?])\s+|[;\n]+|,?\s+(?:while|but|whereas)\s+|,\s*(?:and\s+)?(?=(?:there|a|an|the|one|two|three|several|some|no)\b)"
    r"|\s+and\s+(?=there\b)",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:no|not|without|isn't|aren't|nobody|none|never)\b", re.IGNORECASE)
_SIDE_WORD = re.compile(r"\b(left|right)(?:most|[ -]hand)?\b(?![ -]of[ -]way)", re.IGNORECASE)
_OWN_MANOEUVRE = re.compile(
    r"\b(?:turn(?:s|ing)?|go(?:es|ing)?|steer(?:s|ing)?|keep(?:s|ing)?|head(?:s|ing)?|continue[sd]?|continuing)\b"
    r"[^.]{0,20}\b(?:left|right|straight|forward)\b",
    re.IGNORECASE,
)
Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One statement of a text."""

    text: str
    """Without full stop."""
    mentions: tuple[frozenset[str], ...]
    """What it says to be there: for each mention, the kinds that may be meant."""
    is_negated: bool
    """It says that none of it is there."""
    side: Side | None
    """On which side of the vehicle; None where it says neither or both."""

    @property
    def is_own_manoeuvre(self) -> bool:
        """Whether it says where the vehicle itself goes, and nothing else."""
        return not self.mentions and _OWN_MANOEUVRE.search(self.text) is not None


def clauses_of(text: str) -> tuple[Clause, ...]:
    """The clauses of a text, in order; blank ones are left out."""
    parts = (part.strip(" ,.!?\t-*") for part in _BOUNDARY.split(text.strip()))
    return tuple(_clause(part) for part in parts if part)


def joined(clauses: tuple[str, ...] | list[str]) -> str:
    """Clauses as sentences of one text."""
    return " ".join(f"{clause[0].upper()}{clause[1:]}." for clause in clauses)


def _clause(text: str) -> Clause:
    sides = {match.lower() for match in _SIDE_WORD.findall(text)}
    return Clause(
        text=text,
        mentions=_mentions(text),
        is_negated=_NEGATION.search(text) is not None,
        side=("left" if "left" in sides else "right") if len(sides) == 1 else None,
    )


def _mentions(text: str) -> tuple[frozenset[str], ...]:
    """The longest match wins where two overlap: "police car" is one mention, "traffic light" no traffic."""
    found = [(match.start(), -match.end(), names) for pattern, names in _PATTERNS for match in pattern.finditer(text)]
    mentions: list[frozenset[str]] = []
    covered = 0
    for start, minus_end, names in sorted(found, key=lambda entry: entry[:2]):
        if start >= covered:
            covered = -minus_end
            mentions.append(names)
    return tuple(mentions)
