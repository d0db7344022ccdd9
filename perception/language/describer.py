"""A describer that knows the truth: plain sentences of a driver about what the cameras can see, from annotations.

It is an oracle. Its text is right because it is made from ground truth, so what a model gains from it is an upper bound
on what any captioner could give, and no result of a system. It may be used on any split, for that bound alone, and its
cues name it: `describer-oracle` is in `Cue.source`, and nothing else of this project makes text under that name.
"""

import numpy as np

from bevstack.perception.language.captioner import FRONT_THREE
from bevstack.perception.language.clauses import VEHICLES
from bevstack.perception.language.facts import KnownObject, SceneFacts, annotated_facts
from bevstack.perception.language.prompts import NO_PROMPTS
from bevstack.types.frame import Frame

ORACLE_NAME = "describer-oracle"

MAX_SENTENCES = 6
_MOVES_MPS = 0.5
_CROSSES_MPS = 0.4
_CROSSES_WITHIN_M = 8.0
_SLOWER_MPS = 1.5
_ROAD_MARK_M = 30.0

_WORDS = {
    "car": "car", "truck": "truck", "bus": "bus", "trailer": "trailer", "construction_vehicle": "construction vehicle",
    "pedestrian": "pedestrian", "motorcycle": "motorcycle", "bicycle": "bicycle", "traffic_cone": "traffic cone",
    "barrier": "barrier",
}  # fmt: skip
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


class OracleDescriber:
    """Says what the cameras can see, from the annotations. A `Captioner`, and an oracle: see the module.

    Args:
        cameras: only what these show is spoken of.
        max_sentences: at most this many, most pressing first.
    """

    name = ORACLE_NAME
    prompt_version = NO_PROMPTS

    def __init__(self, *, cameras: tuple[str, ...] = FRONT_THREE, max_sentences: int = MAX_SENTENCES) -> None:
        if max_sentences < 1:
            raise ValueError(f"max_sentences={max_sentences} must be at least 1")
        self.cameras, self.max_sentences = tuple(cameras), max_sentences

    def caption(self, frame: Frame) -> str:
        """The sentences.

        Raises:
            ValueError: the frame has no annotations.
        """
        return describe(annotated_facts(frame, cameras=self.cameras), self.max_sentences)


def describe(facts: SceneFacts, max_sentences: int = MAX_SENTENCES) -> str:
    """Facts as a driver would say them, most pressing first; "The road ahead is clear." where there are none."""
    single = [known for known in facts.objects if _urgency(known, facts.speed_mps) > 0]
    single.sort(key=lambda known: -_urgency(known, facts.speed_mps))
    sentences = [object_sentence(known, facts.speed_mps) for known in single]
    for ahead_m, sentence in (
        (facts.stop_line_ahead_m, stop_line_sentence),
        (facts.crossing_ahead_m, crossing_sentence),
    ):
        if ahead_m is not None and ahead_m <= _ROAD_MARK_M:
            sentences.insert(min(2, len(sentences)), sentence(ahead_m))
    if not any(known.is_in_way for known in single):
        sentences.append("our lane ahead is clear")
    sentences += _groups([known for known in facts.objects if known not in single])
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in dict.fromkeys(sentences[:max_sentences]))


def object_sentence(known: KnownObject, own_speed_mps: float) -> str:
    """One object: what it is, where, and what it does; no full stop."""
    word, where = _WORDS[known.name], _where(known)
    metres = f"{max(1, round(known.distance_m))} m"
    speed = float(np.hypot(known.vx_mps, known.vy_mps))
    if crosses(known):
        come_from = "right" if known.vy_mps > 0 else "left"
        return f"a {word} crosses {metres} ahead from the {come_from}"
    if known.name == "pedestrian":
        act = "walks" if speed > _MOVES_MPS else "sits" if known.attribute.endswith("lying_down") else "stands"
        return f"a pedestrian {act} {metres} {where}"
    if known.name in ("traffic_cone", "barrier"):
        act = "blocks our way" if known.is_in_way else "stands"
        return f"a {word} {act} {metres} {where}"
    if speed <= _MOVES_MPS:
        act = "is parked" if known.attribute == "vehicle.parked" else "stands still"
        return f"a {word} {act} {metres} {where}"
    if known.vx_mps < -_MOVES_MPS and known.gap_m > 0:
        return f"a {word} comes towards us {metres} {where}"
    slower = known.gap_m > 0 and np.isfinite(own_speed_mps) and own_speed_mps - known.vx_mps > _SLOWER_MPS
    return f"a {word} drives {metres} {where}{', slower than we do' if slower else ''}"


def crossing_sentence(ahead_m: float) -> str:
    """Of a pedestrian crossing."""
    return f"a pedestrian crossing lies {max(1, round(ahead_m))} m ahead"


def stop_line_sentence(ahead_m: float) -> str:
    """Of a stop line."""
    return f"a stop line lies {max(1, round(ahead_m))} m ahead"


def crosses(known: KnownObject) -> bool:
    """Whether an object ahead moves across the way of the vehicle, or is about to."""
    moves_across = abs(known.vy_mps) > _CROSSES_MPS and abs(known.vy_mps) > abs(known.vx_mps)
    comes_nearer = known.y_m * known.vy_mps < 0 and abs(known.y_m) <= _CROSSES_WITHIN_M
    return known.gap_m > 0 and moves_across and (known.is_in_way or comes_nearer)


def _where(known: KnownObject) -> str:
    if known.gap_m > 0:
        return "ahead in our lane" if known.is_in_way else f"ahead on the {'left' if known.y_m > 0 else 'right'}"
    if known.x_m < 0:
        return "behind us" if known.side == "middle" else f"behind on the {known.side}"
    return f"beside us on the {'left' if known.y_m > 0 else 'right'}"


def _urgency(known: KnownObject, own_speed_mps: float) -> float:
    """How much a driver has to attend to one object; 0 for what is named with others of its kind, or not at all."""
    if known.gap_m <= 0 and known.name not in ("pedestrian", "bicycle", "motorcycle"):
        return 0.0
    near = 1.0 / (1.0 + known.distance_m / 10.0)
    if crosses(known):
        return 4.0 + near if known.name in ("pedestrian", "bicycle") else 3.0 + near
    if known.is_in_way:
        return 2.0 + near
    if known.name in ("pedestrian", "bicycle", "motorcycle"):
        return 1.0 + near if known.distance_m <= 20.0 else 0.0
    moves = float(np.hypot(known.vx_mps, known.vy_mps)) > _MOVES_MPS
    return near if moves and known.distance_m <= 40.0 else 0.0


def _groups(others: list[KnownObject]) -> list[str]:
    """The rest, counted by kind and side: "three cars are parked on the right, the nearest 8 m away"."""
    groups: dict[tuple[str, str], list[KnownObject]] = {}
    for known in others:
        groups.setdefault((known.name, "left" if known.y_m > 0 else "right"), []).append(known)
    sentences = []
    for (name, at), group in groups.items():
        count = len(group)
        word = _WORDS[name] if count == 1 else _plural(name)
        number = "a" if count == 1 else _NUMBERS[count] if count < len(_NUMBERS) else "many"
        still = name in VEHICLES and all(np.hypot(known.vx_mps, known.vy_mps) <= _MOVES_MPS for known in group)
        verb = ("is" if count == 1 else "are") + (" parked" if still else "")
        nearest = max(1, round(group[0].distance_m))
        away = f"{nearest} m away" if count == 1 else f"the nearest {nearest} m away"
        sentences.append(f"{number} {word} {verb} on the {at}, {away}")
    return sentences


def _plural(name: str) -> str:
    return {"bus": "buses"}.get(name, f"{_WORDS[name]}s")
