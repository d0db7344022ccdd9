"""An answer with what it rests on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bevstack.asking.believed import Belief, Thing
from bevstack.asking.selection import described

CANNOT = "cannot answer from what was perceived"
CAN_ASK = (
    "how many cars are ahead?", "is there a pedestrian on the left within 20 m?", "what is the nearest truck?",
    "how far is the car ahead?", "how fast is the bus?", "is the car ahead moving?", "what will the pedestrian do?",
    "can we turn left?", "what is the speed limit?", "why are we braking?", "what should the driver look at?",
)  # fmt: skip
"""One example of each kind of question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is said, why, and from what."""

    question: str
    text: str
    kind: str
    """How the question was understood; "unknown" where it was not."""
    grounds: tuple[str, ...] = ()
    """What the answer rests on, a line each."""
    things: tuple[int, ...] = ()
    """Numbers of the things that it speaks of."""
    answered: bool = True
    """False where the answer only says what is missing."""
    oracle: bool = False
    """Whether it was made of annotations: an upper bound, no figure of the system."""
    answerer: str = "template"

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def grounded(
    belief: Belief,
    question: str,
    kind: str,
    text: str,
    things: Sequence[Thing] = (),
    grounds: Sequence[str] = (),
    *,
    most: int = 8,
) -> Answer:
    """An answer that rests on things and on other grounds; of many things the first ones are described."""
    lines = [described(thing) for thing in things[:most]]
    if len(things) > most:
        lines.append(f"and {len(things) - most} more")
    return Answer(
        question=question,
        text=text,
        kind=kind,
        grounds=(*lines, *grounds),
        things=tuple(thing.number for thing in things),
        oracle=belief.is_oracle,
    )


def cannot(belief: Belief, question: str, kind: str, why: str) -> Answer:
    """Say what is missing rather than guess."""
    return Answer(
        question=question, text=f"I {CANNOT}: {why}", kind=kind, answered=False, oracle=belief.is_oracle
    )  # fmt: skip
