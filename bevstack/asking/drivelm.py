"""Answers in the manner of DriveLM (Sima et al., ECCV 2024): its families of questions, its references, its options.

Each question is answered by itself: a reference in a later question is never used for an earlier one. A reference is
resolved among the perceived things; where nothing was perceived at that pixel, the answer says so and scores nothing.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bevstack.asking import drivelm_driving as driving
from bevstack.asking import drivelm_perception as perception
from bevstack.asking.answer import Answer, cannot
from bevstack.asking.believed import Belief
from bevstack.asking.template import TemplateAnswerer

_OPTIONS = re.compile(r"please select the correct answer from the following options:\s*(.*)", re.IGNORECASE | re.DOTALL)
_OPTION = re.compile(r"([A-F])\. (.*?)(?=\s+[A-F]\. |$)", re.DOTALL)
_NEAREST = {"Going ahead": ("Turn left", "Turn right", "Back up"), "Turn left": ("Going ahead", "Turn right"),
            "Turn right": ("Going ahead", "Turn left"), "Stopped": ("Reverse parking", "Back up")}  # fmt: skip
"""What an object does -> options to take where that is not among them, best first."""

_FAMILIES: tuple[tuple[str, int, Callable[..., Answer]], ...] = (
    (r"important objects in the current scene\? those", 0, perception.important_objects),
    (r"relative positioning of the important", 0, perception.relative_positions),
    (r"which lanes are", 0, perception.lanes),
    (r"visual description of", 1, perception.looks),
    (r"observed status of", 1, perception.observed_status),
    (r"moving status of", 1, perception.moving_status),
    (r"what are objects to the", 0, perception.objects_in_direction),
    (r"^(?:are|is) there .* to the .* of the ego", 0, perception.exist_in_direction),
    (r"status of the .* to the .* of the ego", 0, perception.status_in_direction),
    (r"describe the current scene", 0, perception.describe_scene),
    (r"traffic elements? in the", 0, perception.traffic_elements),
    (r"notice first", 0, driving.notice_in_order),
    (r"traffic sign or a road barrier", 1, driving.is_sign_or_barrier),
    (r"^are .* traffic signs", 2, driving.are_signs),
    (r"kind of traffic sign|what does .* mean", 1, driving.sign_meaning),
    (r"moving direction of the ego", 1, driving.in_moving_direction),
    (r"should consider in the current|ego vehicle to take .* into account", 1, driving.should_consider),
    (r"moving direction of <|take <.*into account|change its motion state", 2, driving.minds),
    (r"what is the future state", 1, driving.future_state),
    (r"most likely to be occluded", 1, driving.occluded_by),
    (r"relevant to its decision|most likely to consider", 1, driving.relevant_to),
    (r"possible actions to be taken by|actions may <", 1, driving.possible_action_of),
    (r"priority of the objects", 0, driving.priority),
    (r"probability of colliding", 1, driving.collision_probability),
    (r"can lead to a collision", 1, driving.colliding_actions),
    (r"actions could the ego vehicle take", 1, driving.action_and_reason),
    (r"most possible action", 1, driving.most_possible_action),
    (r"what are safe actions", 0, driving.safe_actions),
    (r"what are dangerous actions", 0, driving.dangerous_actions),
    (r"target action of the ego", 0, driving.target_action),
    (r"traffic signal that", 0, driving.traffic_signal),
    (r"predict the behavior of the ego", 0, driving.behaviour),
)
"""How a question of a family reads, the number of objects that it names, and what answers it."""


class DriveLmAnswerer:
    """Answers DriveLM's families of questions; everything else goes to the general grammar."""

    def __init__(self) -> None:
        self._general = TemplateAnswerer()

    def answer(self, question: str, belief: Belief) -> Answer:
        """One answer with its grounds."""
        asked, options = options_of(question)
        found = self._by_family(asked, belief)
        if options and found.answered:
            found = replace(found, text=choose(options, found.text), grounds=(*found.grounds, f"said: {found.text}"))
        return replace(found, question=question)

    def _by_family(self, asked: str, belief: Belief) -> Answer:
        text = asked.lower()
        for pattern, count, answer in _FAMILIES:
            if not re.search(pattern, text):
                continue
            if not belief.objects_known:
                return cannot(belief, asked, "unknown", "no objects were looked for: the model has no detection head")
            references, things = perception.resolve(belief, asked)
            if len(references) < count:
                break
            missing = [str(name) for name, thing in zip(references[:count], things) if thing is None]
            if missing:
                return cannot(belief, asked, "missing object", f"nothing was perceived at {missing[0]}")
            arguments: Sequence[Any] = things[:count]
            return answer(belief, asked, *arguments)
        return self._general.answer(asked, belief)


def options_of(question: str) -> tuple[str, dict[str, str]]:
    """A question without its options, and the options by letter."""
    match = _OPTIONS.search(question)
    if match is None:
        return question, {}
    return question[: match.start()].strip(), {letter: text.strip() for letter, text in _OPTION.findall(match.group(1))}


def choose(options: dict[str, str], said: str) -> str:
    """The letter of the option that says the same, else of the nearest one."""
    plain = {letter: text.rstrip(". ").lower() for letter, text in options.items()}
    wanted = said.rstrip(". ")
    for text in (wanted, *_NEAREST.get(wanted, ())):
        for letter, option in plain.items():
            if option == text.lower():
                return letter
    return min(options, key=lambda letter: (_apart(options[letter], said), letter))


def _apart(option: str, said: str) -> int:
    """Steps on the scales of steering and speed between two behaviours."""
    total = 0
    for scale in (driving.STEERING, driving.SPEEDS):
        of_option, of_said = (_place(scale, text) for text in (option, said))
        total += abs(of_option - of_said)
    return total


def _place(scale: Sequence[str], text: str) -> int:
    return next((place for place, words in enumerate(scale) if f"is {words}" in text), -len(scale))
