"""Which perceived object a description means: every thing is scored by each part of it, and the best come with reasons.

A score is a sum of penalties (natural logarithms of how likely a speaker would use the word for that thing): class,
colour, side, state, size, and that people speak of what is near and before the windscreen. An order ("the second car")
is read last, along the way, among those that fit about as well as the best.
"""

from dataclasses import dataclass

import numpy as np

from bevstack.asking.believed import Belief, Thing
from bevstack.asking.colours import fit, shares_of
from bevstack.asking.commands import ObjectPhrase
from bevstack.asking.grammar import CYCLES, VEHICLES
from bevstack.asking.way import way_ahead
from bevstack.types.boxes import BoxIndex

_WRONG_KIND, _WRONG_SIDE, _WRONG_STATE, _UNKNOWN_STATE = -3.0, -2.5, -1.5, -0.5
_BESIDE_PICTURE, _OUT_OF_SIGHT = -1.2, -2.5
_MIN_FIT = 0.05
_USUAL_M = 40.0
_AS_GOOD = 1.0
"""Things whose score is this close to the best are told apart by their order."""
_ASIDE_M = 1.0
_PICTURE_DEG, _WINDSCREEN_DEG = 32.0, 75.0
"""Half the opening of the front camera, and how far to the side a driver looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A thing that may be meant."""

    thing: Thing
    score: float
    share: float
    """Of the probability over all candidates."""
    reasons: tuple[str, ...]


def resolve(phrase: ObjectPhrase, belief: Belief) -> list[Candidate]:
    """All things that may be meant, best first; none where nothing of that kind was perceived."""
    scored = [(thing, *_score(phrase, thing, belief)) for thing in belief.things]
    scored = [each for each in scored if np.isfinite(each[1])]
    if not scored:
        return []
    scored.sort(key=lambda each: (-each[1], each[0].number))
    if phrase.order is not None:
        scored = _ordered(phrase.order, scored, belief)
    weights = np.exp([score - scored[0][1] for _, score, _ in scored])
    shares = weights / weights.sum()
    return [
        Candidate(thing=thing, score=score, share=float(share), reasons=reasons)
        for (thing, score, reasons), share in zip(scored, shares, strict=True)
    ]


Scored = tuple[Thing, float, tuple[str, ...]]


def _score(phrase: ObjectPhrase, thing: Thing, belief: Belief) -> tuple[float, tuple[str, ...]]:
    parts = {
        thing.name: _kind(phrase, thing),
        "colour": _colour(phrase, thing, belief),
        "side": _side(phrase, thing, belief),
        "state": _state(phrase, thing),
        "size": _size(phrase, thing),
        "seen ahead": 0.0 if phrase.side == "behind" else _before_windscreen(thing, belief),
        "distance": 0.0 if phrase.order is not None else -thing.distance_m / _USUAL_M,
        "certainty": 0.5 * float(np.log(max(thing.score, 1e-3))),
    }
    reasons = tuple(f"{name} {value:+.1f}" for name, value in parts.items() if value != 0 or name == thing.name)
    return sum(parts.values()), reasons


def _before_windscreen(thing: Thing, belief: Belief) -> float:
    """Speakers see the front picture (in Talk2Car nothing else); what stands further aside is rarely meant."""
    seen = "CAM_FRONT" in thing.views if belief.cameras or thing.views else abs(thing.bearing_deg) < _PICTURE_DEG
    if seen and thing.xy[0] > 0:
        return 0.0
    return _BESIDE_PICTURE if abs(thing.bearing_deg) < _WINDSCREEN_DEG else _OUT_OF_SIGHT


def _kind(phrase: ObjectPhrase, thing: Thing) -> float:
    if thing.name in phrase.classes:
        return 0.0
    alike = any(thing.name in family and set(phrase.classes) & set(family) for family in (VEHICLES, CYCLES))
    return _WRONG_KIND if alike else -np.inf


def _colour(phrase: ObjectPhrase, thing: Thing, belief: Belief) -> float:
    if phrase.colour is None:
        return 0.0
    shares = shares_of(thing, belief)
    return float(np.log(max(_MIN_FIT, fit(phrase.colour, shares)))) if shares else float(np.log(0.2))


def _side(phrase: ObjectPhrase, thing: Thing, belief: Belief) -> float:
    along, across = way_ahead(belief).coordinates(thing.xy[None])[0] if phrase.side == "ahead" else thing.xy
    if phrase.side in ("left", "right"):
        outward = across if phrase.side == "left" else -across
        return 0.0 if outward > _ASIDE_M else 0.5 * _WRONG_SIDE if outward > -_ASIDE_M else _WRONG_SIDE
    if phrase.side == "ahead":
        return 0.0 if along > 0 and abs(across) < 2 * _ASIDE_M else 0.4 * _WRONG_SIDE if along > 0 else _WRONG_SIDE
    if phrase.side == "behind":
        return 0.0 if thing.xy[0] < 0 else _WRONG_SIDE
    return 0.0


def _state(phrase: ObjectPhrase, thing: Thing) -> float:
    total, heading = 0.0, float(thing.row[BoxIndex.YAW])
    if phrase.states is not None:
        total += 0.0 if thing.state in phrase.states else _UNKNOWN_STATE if thing.state == "unknown" else _WRONG_STATE
    if phrase.oncoming:
        total += 0.0 if np.cos(heading) < -0.5 and thing.state != "parked" else _WRONG_STATE
    if phrase.crossing:
        velocity = np.nan_to_num(thing.row[BoxIndex.VX :])
        total += 0.0 if abs(velocity[1]) > max(0.3, abs(velocity[0])) else _WRONG_STATE
    return total


def _size(phrase: ObjectPhrase, thing: Thing) -> float:
    if phrase.size is None:
        return 0.0
    usual = {"car": 4.6, "truck": 7.0, "bus": 11.0, "trailer": 10.0}.get(thing.name, float(thing.row[BoxIndex.LENGTH]))
    ratio = float(np.log(thing.row[BoxIndex.LENGTH] / usual))
    return min(0.0, ratio if phrase.size == "big" else -ratio)


def _ordered(order: int, scored: list[Scored], belief: Belief) -> list[Scored]:
    """The one that is meant by its order first, the others behind it as they were."""
    way = way_ahead(belief)
    good = [each for each in scored if each[1] > scored[0][1] - _AS_GOOD]
    good.sort(key=lambda each: float(way.coordinates(each[0].xy[None])[0, 0]))
    ahead = [each for each in good if each[0].xy[0] > 0] or good
    chosen = ahead[min(order, len(ahead) - 1)] if order >= 0 else ahead[order]
    first: Scored = (chosen[0], scored[0][1] + _AS_GOOD, (*chosen[2], f"number {order + 1 or 'last'} along the way"))
    return [first, *(each for each in scored if each[0].number != chosen[0].number)]
