"""The card of a path: how it prepares what the model gets. And the comparison of the cards of several paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Value = str | float
Fact = Mapping[str, Value]
"""Aspect -> text or number."""

NUMBER_TOLERANCE = 2e-3
"""Relative, and absolute below 1: equal rules measured through a JPEG differ by less."""

CONSEQUENCES = {
    "sweeps": "the model gets clouds of another density than it learned from, and near returns of the vehicle itself "
    "where they are kept: heights and scores shift, far objects appear or vanish",
    "sweep_time_sign": "points of the past look as if they came from the future or were of another unit: moving "
    "objects get velocities of the wrong sign or size, and mAVE suffers first",
    "ego_motion": "what stands still is smeared along the way of the vehicle, in the cloud or between cameras and "
    "LiDAR: positions are off by speed times age, most at speed and in curves",
    "axes": "everything is found rotated, mirrored or shifted: scores fall to almost nothing, whatever the model knows",
    "yaw": "headings are read with another sign, zero or unit: mAOE rises towards its maximum while AP may stay good",
    "box_layout": "sizes or heights of boxes are read in another order or from another point: mASE and mATE rise, and "
    "boxes float or sink",
    "ranges": "the model and its labels do not speak of the same part of the world: objects near the border are missed "
    "or have no truth, and cells have another size",
    "class_order": "one class is taken for another: the AP of the exchanged classes falls to almost nothing",
    "image_size": "objects have another size in pixels than the backbone learned: camera features and depth degrade, "
    "or the model refuses the picture",
    "crop": "the picture shows another part of the scene at the same size, or the camera matrix no longer belongs to "
    "it: pixels are lifted to wrong places",
    "channel_order": "red and blue change places: the pretrained backbone sees other colours, camera scores fall "
    "quietly by a few points",
    "normalisation": "pixels or intensities reach the first layer with another offset or scale: its statistics no "
    "longer fit, and every later layer inherits the error",
    "camera_order": "what one camera sees is placed where another looks: camera features land in wrong directions",
}
"""Fact -> what a difference does to results. These are all facts of a card, in the order in which they are shown."""


_ABSENCE_COUNTS = ("ranges",)
"""Facts of which every path must have every aspect; elsewhere a path may lack one, as runtime lacks labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessingCard:
    """What one path does to its input, as measured."""

    path: str
    facts: Mapping[str, Fact | None]
    """None where the path has nothing of the kind (no cameras, no labels)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One fact in which paths do not agree, and nothing explains it."""

    name: str
    values: Mapping[str, Mapping[str, Value | None]]
    """Path -> the aspects that differ."""
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedDifference:
    """A change that is made on purpose on one path only."""

    name: str
    path: str
    detail: str
    touches: tuple[str, ...]
    """Facts that it may change, in training alone."""


def compare(cards: Sequence[PreprocessingCard]) -> tuple[Difference, ...]:
    """Every fact that differs between any two cards that have it, in the order of `CONSEQUENCES`."""
    found = []
    for name, consequence in CONSEQUENCES.items():
        have = {card.path: fact for card in cards if (fact := card.facts.get(name)) is not None}
        aspects = [
            aspect
            for aspect in dict.fromkeys(aspect for fact in have.values() for aspect in fact)
            if _differs([fact.get(aspect) for fact in have.values()], absence_counts=name in _ABSENCE_COUNTS)
        ]
        if aspects:
            values = {path: {aspect: fact.get(aspect) for aspect in aspects} for path, fact in have.items()}
            found.append(Difference(name=name, values=values, sentence=_sentence(name, values, consequence)))
    return tuple(found)


def _differs(values: Sequence[Value | None], *, absence_counts: bool) -> bool:
    known = values if absence_counts else [value for value in values if value is not None]
    return any(not _is_same(value, known[0]) for value in known[1:])


def describe(values: Mapping[str, Value | None]) -> str:
    """Aspects and their values in a line."""
    return ", ".join(f"{aspect} {_text(value)}" if aspect else _text(value) for aspect, value in values.items())


def _sentence(name: str, values: Mapping[str, Mapping[str, Value | None]], consequence: str) -> str:
    groups: dict[str, list[str]] = {}
    for path, of_path in values.items():
        groups.setdefault(describe(of_path), []).append(path)
    told = "; ".join(f"{_listed(paths)}: {text}" for text, paths in groups.items())
    return f"{name} differs. {told[0].upper()}{told[1:]}. {consequence[0].upper()}{consequence[1:]}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is_same(a: Value | None, b: Value | None) -> bool:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return bool(np.isclose(a, b, rtol=NUMBER_TOLERANCE, atol=NUMBER_TOLERANCE))
    return a == b


def _text(value: Value | None) -> str:
    if value is None:
        return "absent"
    return value if isinstance(value, str) else f"{value:.4g}"
