"""The answerer that needs no language model: grammar, selection, sentence. Deterministic; it does not guess."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from bevstack.asking import driving_answers, object_answers
from bevstack.asking.answer import CAN_ASK, Answer, cannot
from bevstack.asking.believed import Belief
from bevstack.asking.grammar import Kind, Query, parse


class Answerer(Protocol):
    """What answers questions about a belief."""

    def answer(self, question: str, belief: Belief) -> Answer:
        """One answer with its grounds."""


_OBJECTS: dict[Kind, Callable[[Belief, Query], Answer]] = {
    "count": object_answers.count,
    "exists": object_answers.exists,
    "list": object_answers.enumerate_things,
    "nearest": object_answers.nearest,
    "where": object_answers.where,
    "distance": object_answers.distance,
    "speed": object_answers.speed,
    "state": object_answers.state,
    "colour": object_answers.colour,
    "forecast": object_answers.forecast,
    "attention": driving_answers.attention,
    "may_go": driving_answers.may_go,
}
"""Questions that need objects to have been looked for."""
_OTHERS: dict[Kind, Callable[[Belief, Query], Answer]] = {
    "map": object_answers.ground,
    "why": driving_answers.why,
    "speed_limit": driving_answers.speed_limit,
    "route": driving_answers.route,
    "ego": driving_answers.ego,
    "plan": driving_answers.plan,
}


class TemplateAnswerer:
    """Answers by rule over a belief."""

    def answer(self, question: str, belief: Belief) -> Answer:
        """One answer with its grounds; an honest "cannot answer" where the question or the perception lacks something.

        Raises:
            ValueError: the question is empty.
        """
        query = parse(question)
        if query.kind == "unknown":
            examples = " | ".join(CAN_ASK)
            found = cannot(belief, question, "unknown", f"the question was not understood; you can ask: {examples}")
        elif query.kind in _OTHERS:
            found = _OTHERS[query.kind](belief, query)
        elif not belief.objects_known:
            found = cannot(belief, question, query.kind, "no objects were looked for: the model has no detection head")
        else:
            found = _OBJECTS[query.kind](belief, query)
        return replace(found, question=question)
