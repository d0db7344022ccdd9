"""Answers by a vision-language model that is told what was perceived.

The model gets the pictures and, in words, the perceived objects, the vehicle's motion, route and plan, what speaks for
slowing down, the cue, and what the template answerer would say. Words are chosen greedily: the same belief and question
give the same answer. An empty answer is replaced by the template's, and the grounds say so.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from PIL import Image

from bevstack.asking.answer import Answer
from bevstack.asking.believed import Belief
from bevstack.asking.driving_answers import described_causes
from bevstack.asking.importance import ranked
from bevstack.asking.references import references_in
from bevstack.asking.selection import described
from bevstack.asking.template import Answerer
from bevstack.perception.language.hugging_face import HuggingFaceCaptioner

ROLE = (
    "You answer questions about a drive for the people in the vehicle. Rely on what was perceived below and on the "
    "pictures; say so where neither tells."
)
MOST_THINGS = 15
"""Objects that are told, what matters most first."""
MAX_NEW_TOKENS = 96

_FRONT = "CAM_FRONT"


class PictureChat(Protocol):
    """A model that answers a text about pictures."""

    @property
    def name(self) -> str:
        """Of the model."""

    def ask(self, images: Sequence[Image.Image], text: str) -> str:
        """Its answer; "" where it has none."""


class LanguageModelAnswerer:
    """Answers by a vision-language model over a belief.

    Args:
        chat: The model.
        template: What answers without it; its answer is part of the context.
    """

    def __init__(self, chat: PictureChat, template: Answerer) -> None:
        self.chat, self.template = chat, template
        self.num_empty = 0
        """Answers so far that were empty and taken from the template instead."""

    def answer(self, question: str, belief: Belief) -> Answer:
        """One answer; its grounds are what the model was told."""
        measured = self.template.answer(question, belief)
        cameras = cameras_for(question, belief)
        pictures = {camera.name: camera.rgb for camera in belief.cameras}
        images = [Image.fromarray(np.ascontiguousarray(pictures[name])) for name in cameras]
        told = context(belief)
        if measured.answered:
            told = (*told, f"measured answer: {measured.text}")
        said = self.chat.ask(images, prompt(question, told, cameras)) if images else ""
        if not said:
            self.num_empty += bool(images)
            why = "the language model said nothing" if images else "there is no picture for the language model"
            return replace(measured, grounds=(*measured.grounds, f"{why}: by the template"))
        return Answer(
            question=question,
            text=said,
            kind=measured.kind,
            grounds=(*told, f"pictures: {', '.join(cameras)}"),
            things=measured.things,
            oracle=belief.is_oracle,
            answerer=self.chat.name,
        )


def open_language_model(name: str, template: Answerer, device: str = "cpu") -> LanguageModelAnswerer:
    """An answerer with a model of the Hugging Face hub, by name or from a folder.

    Raises:
        DatasetError: the package is absent, or the model cannot be had.
    """
    chat = HuggingFaceCaptioner(model=name, max_new_tokens=MAX_NEW_TOKENS, device=device)
    return LanguageModelAnswerer(chat, template)


def context(belief: Belief) -> tuple[str, ...]:
    """What was perceived, a line each. Nothing in it comes from ground truth, unless the belief itself does."""
    lines = [described(each.thing) for each in ranked(belief)[:MOST_THINGS]]
    if not belief.objects_known:
        lines.append("objects were not looked for")
    elif not lines:
        lines.append("no objects were perceived")
    if belief.ego is not None and np.isfinite(belief.ego.speed_mps):
        lines.append(f"own motion: {belief.ego.speed_mps:.1f} m/s, {belief.ego.acceleration_mps2:+.1f} m/s2")
    if belief.route is not None:
        lines.append(f"route command: {belief.route.command.value}")
    if belief.plan is not None:
        lines.append(f"plan: {belief.plan.source}" + "".join(f"; {reason}" for reason in belief.plan.reasons[:3]))
    lines += [f"reason to slow down: {cause}" for cause in described_causes(belief)]
    if belief.cue is not None and belief.cue.text:
        lines.append(f"attention cue: {belief.cue.text}")
    return tuple(lines)


def prompt(question: str, told: Sequence[str], cameras: Sequence[str]) -> str:
    """The whole text that the model is given."""
    facts = "\n".join(f"- {line}" for line in told)
    return f"{ROLE}\nPictures: {', '.join(cameras)}.\nPerceived:\n{facts}\nQuestion: {question}\nAnswer briefly."


def cameras_for(question: str, belief: Belief) -> tuple[str, ...]:
    """The pictures to show: those that the question's references name, else those of its direction, else the front."""
    have = [camera.name for camera in belief.cameras]
    named = list(dict.fromkeys(reference.camera for reference in references_in(question)))
    text = question.lower()
    if not named:
        main = "BACK" if "back" in text or "behind" in text else "FRONT"
        sides = [side.upper() for side in ("left", "right") if side in text]
        named = [f"CAM_{main}{side}" for side in ["", *(f"_{side}" for side in sides)]]
    chosen = tuple(name for name in named if name in have)
    return chosen or tuple(name for name in (_FRONT,) if name in have)
