"""What a captioner is asked: where a driver's attention belongs. Each list has a version, which travels with its cues.

The published method (VLM-E2E, arXiv 2502.18042) asks a frozen model on the front picture for pedestrians, signals and
other road users; its wording is not known, this is ours. A list that has been used is never changed: a new wording gets
a new version.
"""

from dataclasses import dataclass

from bevstack.types.errors import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptList:
    """Questions on one picture."""

    version: str
    role: str
    """Said first to a model that takes instructions."""
    questions: tuple[str, ...]


_DRIVER_1 = PromptList(
    version="driver-1",
    role=(
        "You look through the windscreen of a car that you drive. Answer in one or two short English sentences. "
        "Say only what can be seen in the picture, with its side (left, ahead, right) and rough distance."
    ),
    questions=(
        "Which pedestrians, cyclists and vehicles ahead must the driver watch?",
        "Which traffic lights, signs, stop lines and crossings ahead matter to the driver?",
        "What could force the driver to brake or to steer within the next seconds?",
    ),
)

_BRIEF_1 = PromptList(
    version="brief-1",
    role="Answer in one short English sentence.",
    questions=("What should the driver of this car pay attention to?",),
)

PROMPTS: dict[str, PromptList] = {prompts.version: prompts for prompts in (_DRIVER_1, _BRIEF_1)}
"""By version."""

DEFAULT_PROMPTS = _DRIVER_1.version
NO_PROMPTS = "none"
"""Version of a captioner that is asked nothing."""


def prompts_of(version: str) -> PromptList:
    """The list of this version.

    Raises:
        ValueError: there is none.
    """
    if version not in PROMPTS:
        raise ValueError(f"prompts={version!r} must be one of {', '.join(PROMPTS)}{did_you_mean(version, PROMPTS)}")
    return PROMPTS[version]
