"""Commands over a world's ground truth whose object is unique by construction, and how often it is found.

A generator picks an object before the windscreen that the LiDAR sees, and describes it by the fewest words that hold
for no other visible object of its class: class alone, side, state, colour, place in the row. What holds is decided by
plain margins on the annotated boxes (and, for colours, on the pixels inside them), not by the resolver that is
measured. Seeded: the same frame and seed give the same commands.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bevstack.asking.believed import Belief, Thing, believe_annotations
from bevstack.asking.colours import fit, shares_of
from bevstack.asking.goals import understand
from bevstack.asking.phrases import spoken
from bevstack.asking.sources import Beliefs, native_size
from bevstack.data.nuscenes import NuScenesFrames

FOUND_M = 2.0
"""A predicted object this close to the annotated one is the same."""
MIN_POINTS = 5
REACH_M = 50.0

_ASIDE_M, _CLEAR, _ABSENT = 2.0, 0.6, 0.15
_STATES = ("moving", "parked")
_NAMED_COLOURS = ("black", "white", "red", "yellow", "green", "blue")
_FORMS = ("stop behind {}", "park next to {}", "turn right after {}", "stop in front of {}", "pull over near {}",
          "turn left once we are past {}")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeCommand:
    """A command and the object that it means."""

    text: str
    target: Thing
    kind: str
    """What makes the description unique: class, side, state, colour or order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandCounts:
    """How often the first candidate was the object that was meant."""

    num_commands: int
    num_right: int
    num_perceived: int
    """Of the objects that were meant; no resolver finds the others."""
    by_kind: dict[str, tuple[int, int]]
    """Kind -> (right, commands)."""

    @property
    def accuracy(self) -> float:
        """NaN without commands."""
        return self.num_right / self.num_commands if self.num_commands else float("nan")


def make_commands(truth: Belief, seed: int, count: int) -> list[MadeCommand]:
    """At most `count` commands about different objects of a frame.

    Args:
        truth: Made of annotations.
        seed: Of the choice.
        count: How many.

    Raises:
        ValueError: the belief is not made of annotations.
    """
    if not truth.is_oracle:
        raise ValueError("commands are made over ground truth: give a belief made of annotations")
    generator = np.random.default_rng(seed)
    visible = [thing for thing in truth.things if _is_visible(thing)]
    made: list[MadeCommand] = []
    for place in generator.permutation(len(visible)):
        target = visible[int(place)]
        alike = [thing for thing in visible if thing.name == target.name and thing.number != target.number]
        descriptions = list(_unique(target, alike, truth))
        if not descriptions or len(made) == count:
            continue
        kind, words = descriptions[int(generator.integers(len(descriptions)))]
        form = _FORMS[int(generator.integers(len(_FORMS)))]
        made.append(MadeCommand(text=form.format(words), target=target, kind=kind))
    return made


def count_found(
    beliefs: Beliefs,
    tokens: list[str],
    *,
    per_frame: int = 3,
    seed: int = 0,
    oracle: bool = False,
    truth_frames: NuScenesFrames | None = None,
) -> CommandCounts:
    """Top-1 accuracy of the resolver over made commands.

    Args:
        beliefs: What is perceived.
        tokens: Frames.
        per_frame: Commands in each.
        seed: Of the commands; the same for all systems that are to be compared.
        oracle: Resolve among the annotated objects instead: the bound of the resolver itself.
        truth_frames: Where commands are made from, by default the frames of the beliefs. Models read pictures of
            different sizes, and a colour is measured in pictures: give the same frames for all that are compared.
    """
    frames = truth_frames or beliefs.frames
    num_perceived, right_of = 0, dict[str, list[bool]]()
    for token in tokens:
        index = frames.index_of(token)
        truth = believe_annotations(
            frames[index], picture_size=native_size(frames.index), min_points=MIN_POINTS
        )  # fmt: skip
        commands = make_commands(truth, seed + index, per_frame)
        if not commands:
            continue
        belief = truth if oracle else beliefs.belief(token)
        for command in commands:
            understood = understand(command.text, belief)
            best = understood.candidates[0].thing if understood.candidates else None
            right_of.setdefault(command.kind, []).append(best is not None and is_same(best, command.target))
            num_perceived += any(is_same(thing, command.target) for thing in belief.things)
    by_kind = {kind: (sum(right), len(right)) for kind, right in sorted(right_of.items())}
    return CommandCounts(
        num_commands=sum(count for _, count in by_kind.values()),
        num_right=sum(right for right, _ in by_kind.values()),
        num_perceived=num_perceived,
        by_kind=by_kind,
    )


def is_same(found: Thing, target: Thing) -> bool:
    """Whether a perceived thing is the annotated one: same class, and centres within `FOUND_M`."""
    return found.name == target.name and float(np.hypot(*(found.xy - target.xy))) < FOUND_M


def _is_visible(thing: Thing) -> bool:
    return "CAM_FRONT" in thing.views and thing.xy[0] > 0 and thing.distance_m < REACH_M


def _unique(target: Thing, alike: list[Thing], truth: Belief) -> Iterator[tuple[str, str]]:
    """Kinds and words of descriptions that only the target fits."""
    name = spoken(target.name)
    if not alike:
        yield "class", f"the {name}"
        return
    side = "left" if target.xy[1] > 0 else "right"
    sign = 1.0 if side == "left" else -1.0
    on_side = [other for other in alike if sign * other.xy[1] > 0]
    if sign * target.xy[1] > _ASIDE_M:
        if not on_side:
            yield "side", f"the {name} on the {side}"
        elif all(other.xy[0] > target.xy[0] + _ASIDE_M for other in on_side):
            yield "order", f"the first {name} on the {side}"
    if target.state in _STATES and all(other.state not in (target.state, "unknown") for other in alike):
        yield "state", f"the {target.state} {name}"
    shares = _shares(truth)
    for colour in _NAMED_COLOURS:
        if fit(colour, shares(target)) > _CLEAR and all(fit(colour, shares(other)) < _ABSENT for other in alike):
            yield "colour", f"the {colour} {name}"


def _shares(truth: Belief) -> Callable[[Thing], dict[str, float]]:
    return lambda thing: shares_of(thing, truth)
