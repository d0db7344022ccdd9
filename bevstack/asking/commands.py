"""Commands in words (Deruyttere et al., Talk2Car, EMNLP 2019), read into an action, a relation and a referred object.

    "stop behind the white car"          stop, behind, (car, white)
    "park next to the truck on the left" park, next to, (truck, left)
    "turn right after the pedestrian"    turn right, after, (pedestrian)

The referred object is the mention that carries most description; the vehicle itself ("stop the car") is none.
"""

import re
from dataclasses import dataclass
from typing import Literal

from bevstack.asking.colours import ALIASES, COLOURS, colour_word
from bevstack.asking.grammar import CLASS_WORDS, STATE_WORDS
from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.types.trajectory import RouteCommand

Action = Literal["park", "stop", "yield", "follow", "turn", "change_lane", "overtake", "slow", "go"]
Relation = Literal["behind", "in_front_of", "next_to", "after", "before", "at"]
Side = Literal["left", "right", "ahead", "behind"]

_ACTIONS: tuple[tuple[Action, str], ...] = (
    ("follow", r"\bfollow|\bsame direction\b|\bstay behind\b|\bgo after\b"),
    ("change_lane", r"\b(?:switch|change|move|merge|get|go)\w*\b(?: \w+){0,4} lanes?\b"),
    ("overtake", r"\bovertake|\bpass (?:the|that|this|him|her|it|them)\b|\b(?:get|go|drive|steer) around\b"),
    ("park", r"\bpark\b|\bparking (?:spot|space|place)\b"),
    ("yield", r"\bwait (?:for|until|till)\b|\blet (?:\w+ ){1,4}(?:pass|cross|go|turn|pull|through|merge|in)\b|\byield|"
              r"\ballow\b|\bgive way\b|\bwatch out\b|\bbe careful\b"),
    ("turn", r"\bturn(?:ing)?(?: \w+)? (?:left|right|around)\b|\b(?:make|take|take a|make a)(?: \w+)? (?:left|right)\b|"
             r"\b(?:left|right) turn\b|\bturn\b"),
    ("stop", r"\bstop\b|\bhalt\b|\bpull (?:over|up|in)\b|\bdrop\b|\blet (?:me|us|him|her|them) (?:out|in)\b|"
             r"\bpick\w*\b|\bbrake\b|\bwait\b"),
    ("slow", r"\bslow"),
    ("go", r"\bgo\b|\bdrive\b|\bcontinue\b|\bproceed\b|\bkeep\b|\bmove\b|\bget\b|\bhead\b"),
)  # fmt: skip
"""Of the actions that a command names the first one counts; of two at one place, the upper row."""
_RELATIONS: tuple[tuple[Relation, str], ...] = (
    ("behind", r"behind|in back of"),
    ("in_front_of", r"in front of|ahead of"),
    ("next_to", r"next to|beside|besides|alongside|near|nearby|close to|closer to|by|opposite|along"),
    ("after", r"after|past|once|beyond|when|until"),
    ("before", r"before"),
    ("at", r"at|to|towards?|for|with|where"),
)
_ORDERS = {"first": 0, "nearest": 0, "closest": 0, "next": 0, "second": 1, "third": 2, "last": -1, "farthest": -1}
_OWN = re.compile(r"\b(?:stop|park|drive|pull|move|turn|of|leave|exit|get) (?:the|this|your|my|our) (?:car|vehicle)$")
_DETERMINER = r"(?:the|that|this|those|these|a|an|my|our|his|her|some|any|another|one|which)"
_BIG, _SMALL = ("big", "large", "huge", "long"), ("small", "little", "short")
_BEFORE, _AFTER = 6, 9
"""Words before and after a class word that may describe it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPhrase:
    """A description of one object."""

    text: str
    classes: tuple[str, ...]
    colour: str | None = None
    side: Side | None = None
    states: tuple[str, ...] | None = None
    oncoming: bool = False
    crossing: bool = False
    order: int | None = None
    """0 the first of its kind, 1 the second, -1 the last."""
    size: Literal["big", "small"] | None = None

    @property
    def num_attributes(self) -> int:
        """How much it says beside the class."""
        parts = (
            self.colour,
            self.side,
            self.states,
            self.order,
            self.size,
            self.oncoming or None,
            self.crossing or None,
        )
        return sum(part is not None for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, understood."""

    text: str
    action: Action
    direction: RouteCommand | None
    relation: Relation | None
    reference: ObjectPhrase | None
    """None where it names no object."""


def parse_command(text: str) -> Command:
    """Read a command.

    Raises:
        ValueError: it is empty.
    """
    plain = " ".join(re.sub(r"[^\w\s,.!'-]", " ", text.lower()).split())
    if not plain:
        raise ValueError("the command is empty; say for example 'stop behind the white car'")
    action = _action(plain)
    mentions = _mentions(plain)
    best = max(mentions, key=lambda each: each.weight) if mentions else None
    return Command(
        text=text,
        action=action,
        direction=_direction(plain, action),
        relation=None if best is None else best.relation,
        reference=None if best is None else best.phrase,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mention:
    phrase: ObjectPhrase
    relation: Relation | None
    weight: float


def _action(text: str) -> Action:
    found: list[tuple[int, int, Action]] = []
    for place, (action, pattern) in enumerate(_ACTIONS):
        match = re.search(pattern, text)
        if match:
            found.append((match.start(), place, action))
    specific = [each for each in found if each[2] not in ("go", "slow")] or found
    return min(specific)[2] if specific else "go"


def _direction(text: str, action: Action) -> RouteCommand | None:
    if action == "turn":
        match = re.search(r"(?:turn|make|take)\w*\b(?: \w+){0,3}? (left|right)\b|(left|right) turn", text)
    elif action == "change_lane":
        match = re.search(r"(left|right)(?:most|-hand)? lane|lanes?(?: \w+){0,3}? (left|right)", text)
    else:
        return None
    return None if match is None else RouteCommand(next(side for side in match.groups() if side))


def _mentions(text: str) -> list[_Mention]:
    """Every object that the text names."""
    found = []
    for word, classes in CLASS_WORDS.items():
        if set(classes) == set(DETECTION_CLASSES):
            continue
        for match in re.finditer(rf"(?<![\w-]){word}(?:e?s)?(?![\w-])", text):
            start, end = match.span()
            inside = any(word != other and word in other and re.search(rf"\b{other}", text[max(0, start - 14) : end])
                         for other in CLASS_WORDS)  # fmt: skip
            before = re.split(r"[,.!]", text[:start])[-1]
            after = re.split(r"[,.!]| and ", text[end:])[0]
            if inside or _OWN.search(f"{before}{word}") or re.match(r" (?:lane|stop|station|lot|park|line)\b", after):
                continue
            found.append(_mention(word, classes, before.split()[-_BEFORE:], after.split()[:_AFTER], start))
    return found


def _mention(word: str, classes: tuple[str, ...], before: list[str], after: list[str], start: int) -> _Mention:
    adjectives = before
    for place in range(len(before) - 1, -1, -1):
        if re.fullmatch(_DETERMINER, before[place]):
            adjectives = before[place + 1 :]
            before = before[:place]
            break
    tail, head = " ".join(after), " ".join(adjectives)
    described = [*adjectives, *after]
    state = next((each for each in (*adjectives, *after[:5]) if each in STATE_WORDS), None)
    phrase = ObjectPhrase(
        text=" ".join((*adjectives, word, *after)),
        classes=classes,
        colour=colour_word([each for each in (*adjectives, *after[:5]) if each in COLOURS or each in ALIASES]),
        side=_side(head, tail),
        states=None if state is None else STATE_WORDS[state],
        oncoming="oncoming" in described or "coming towards" in tail or "approaching" in described,
        crossing="crossing" in described or "crosses" in described or "crossed" in described,
        order=next((_ORDERS[each] for each in adjectives if each in _ORDERS), None),
        size="big" if set(adjectives) & set(_BIG) else "small" if set(adjectives) & set(_SMALL) else None,
    )
    relation = _relation(" ".join(before))
    weight = phrase.num_attributes + (1.0 if relation is not None else 0.0) - 0.001 * start
    return _Mention(phrase=phrase, relation=relation, weight=weight - (0.5 if word in ("friend", "colleague") else 0.0))


def _side(head: str, tail: str) -> Side | None:
    match = re.search(r"\b(left|right)\b", head) or re.search(
        r"\b(?:on|to|at|from|in)\b(?: \w+){0,3}? (left|right)\b|\b(?:our|the|my) (left|right)\b", tail
    )
    if match:
        return "left" if "left" in match.groups() else "right"
    if re.search(r"\b(?:in front of (?:us|me)|ahead|up front|in front)\b", f"{head} {tail}"):
        return "ahead"
    return "behind" if re.search(r"\bbehind (?:us|me)\b", tail) else None


def _relation(before: str) -> Relation | None:
    """The preposition at the end of what stands before an object."""
    for relation, pattern in _RELATIONS:
        if re.search(rf"\b(?:{pattern})$", before):
            return relation
    return None
