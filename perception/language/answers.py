"""What is no cue: empty, endless, foreign or senseless answers of a captioner, each with a name to count it by."""

import re
from typing import Literal

Fault = Literal["empty", "too long", "not English", "senseless"]

MAX_CHARACTERS = 1200
"""Longer answers are a model that has lost its way: 3 questions of 2 short sentences need a third of it."""
_MIN_LETTERS = 0.6
_MIN_ENGLISH = 0.15
_MAX_PERIOD, _MIN_RUN = 16, 5
_MIN_WORDS_TO_JUDGE = 12

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_ENGLISH_WORDS = """
the is are of and with there to by at from this that it as be has have but not no yes into onto near front behind ahead
beside left right side road street lane crossing crosswalk intersection driver drives driving drive car cars truck
trucks bus van vehicle vehicles pedestrian pedestrians people person cyclist bicycle motorcycle cone cones barrier
traffic light sign stop stopped parked parking turn turning straight way walks walking crosses stands building buildings
tree trees sky ground brake slow slowly green red yellow clear empty day night rain wet
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
"""Words that English text about a road has, short ones of other languages ("a", "in", "on", "die") left out."""


def fault_of(answer: str) -> Fault | None:
    """Why an answer is no cue; None where it is one.

    A word of English is one of a short list of function and traffic words: of 12 words or more 15 % must be in it, of
    fewer at least one. Two fifths of the characters may be something else than letters and blanks of the Latin
    alphabet, and nothing may be said four times running.
    """
    text = answer.strip()
    words = [word.lower() for word in _WORD.findall(text)]
    if not words:
        return "empty" if not text else "senseless"
    if len(text) > MAX_CHARACTERS:
        return "too long"
    latin = sum(character.isascii() and (character.isalpha() or character == " ") for character in text)
    foreign = sum(character.isalpha() and not character.isascii() for character in text)
    if foreign > 0.2 * len(text):
        return "not English"
    if latin < _MIN_LETTERS * len(text) or _loops(words):
        return "senseless"
    english = sum(word in _ENGLISH for word in words)
    needed = 1 if len(words) < _MIN_WORDS_TO_JUDGE else _MIN_ENGLISH * len(words)
    return None if english >= needed else "not English"


def _loops(words: list[str]) -> bool:
    """Whether the text says the same thing four times running, as models do that do not find an end."""
    for period in range(1, _MAX_PERIOD + 1):
        run = 0
        for word, earlier in zip(words[period:], words):
            run = run + 1 if word == earlier else 0
            if run >= max(_MIN_RUN, 3 * period):
                return True
    return False
