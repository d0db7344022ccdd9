"""Refinement: statements that nothing supports go, what safety needs is added, and the manoeuvre comes first.

VLM-E2E (arXiv 2502.18042) corrects the text of its captioner with ground truth and with the manoeuvre. Here the facts
come from annotations on training splits only and from a model's own estimate everywhere else (`facts.py`), and the
manoeuvre is the navigation's request (`Frame.route`): the future trajectory is never looked at.
"""

from dataclasses import dataclass

import numpy as np

from bevstack.perception.language.clauses import (
    CROSSING,
    STOP_LINE,
    TRAFFIC_LIGHT,
    VEHICLES,
    Clause,
    clauses_of,
    joined,
)
from bevstack.perception.language.describer import crossing_sentence, object_sentence, stop_line_sentence
from bevstack.perception.language.facts import KnownObject, SceneFacts
from bevstack.types.trajectory import Route, RouteCommand

PEDESTRIAN_AHEAD_M = 15.0
LEAD_GAP_S = 2.0
ROAD_MARK_AHEAD_M = 25.0
_BESIDE_WAY_M = 5.0
"""A pedestrian whose centre is this near to the middle of the way counts as ahead."""
_MIN_SPEED_MPS = 1.0
_SIDE_MARGIN_M = 1.0

_MANOEUVRES = {
    RouteCommand.LEFT: "We turn left",
    RouteCommand.STRAIGHT: "We go straight on",
    RouteCommand.RIGHT: "We turn right",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinedText:
    """What became of a caption."""

    text: str
    dropped: tuple[str, ...]
    """Clauses that no fact supports."""
    added: tuple[str, ...]
    """Facts that safety needs and the caption did not mention."""


def refine(text: str, facts: SceneFacts | None, route: Route | None) -> RefinedText:
    """Hold a caption against the facts.

    A clause goes where it says that something is there which the facts do not have (on that side, where it names one),
    or that nothing is there which they do have, or where it says by itself what the vehicle will do. Clauses about
    anything else (weather, buildings) stay. Traffic lights are in no facts: nothing supports a statement about them.

    Args:
        text: of a captioner.
        facts: None leaves the statements as they are, and only puts the manoeuvre first.
        route: the navigation's request; None for none.
    """
    clauses = clauses_of(text)
    kept = [clause for clause in clauses if not clause.is_own_manoeuvre or route is None]
    if facts is not None:
        kept = [clause for clause in kept if is_supported(clause, facts)]
    mentioned = {name for clause in kept if not clause.is_negated for names in clause.mentions for name in names}
    added = () if facts is None else _missing(facts, mentioned)
    manoeuvre = () if route is None else (_MANOEUVRES[route.command],)
    return RefinedText(
        text=joined([*manoeuvre, *added, *(clause.text for clause in kept)]),
        dropped=tuple(clause.text for clause in clauses if clause not in kept),
        added=added,
    )


def is_supported(clause: Clause, facts: SceneFacts) -> bool:
    """Whether the facts allow a clause: each of its mentions is there, or none of them where it is negated."""
    present = [_is_there(names, clause.side, facts) for names in clause.mentions]
    return not any(present) if clause.is_negated else all(present)


def _is_there(names: frozenset[str], side: str | None, facts: SceneFacts) -> bool:
    if names == {CROSSING}:
        return facts.crossing_ahead_m is not None
    if names == {STOP_LINE}:
        return facts.stop_line_ahead_m is not None
    if names == {TRAFFIC_LIGHT}:
        return False
    return any(known.name in names and _is_on_side(known, side) for known in facts.objects)


def _is_on_side(known: KnownObject, side: str | None) -> bool:
    """What is near the middle is on both sides: what "crosses from the left" may be past the middle already."""
    near_middle = abs(known.y_m) - known.half_width_m < _SIDE_MARGIN_M
    return side is None or near_middle or (known.y_m > 0) == (side == "left")


def _missing(facts: SceneFacts, mentioned: set[str]) -> tuple[str, ...]:
    """Sentences, without full stop, for what safety needs and the text lacks, most pressing first."""
    sentences = []
    pedestrian = nearest_pedestrian_ahead(facts)
    if pedestrian is not None and "pedestrian" not in mentioned:
        sentences.append(object_sentence(pedestrian, facts.speed_mps))
    lead = lead_vehicle(facts)
    if lead is not None and lead.name not in mentioned:
        sentences.append(object_sentence(lead, facts.speed_mps))
    for kind, ahead_m, sentence in (
        (STOP_LINE, facts.stop_line_ahead_m, stop_line_sentence),
        (CROSSING, facts.crossing_ahead_m, crossing_sentence),
    ):
        if ahead_m is not None and ahead_m <= ROAD_MARK_AHEAD_M and kind not in mentioned:
            sentences.append(sentence(ahead_m))
    return tuple(sentences)


def nearest_pedestrian_ahead(facts: SceneFacts) -> KnownObject | None:
    """The nearest pedestrian within 15 m ahead, in the way or at its edge."""
    for known in facts.objects:
        is_ahead = known.gap_m > 0 and abs(known.y_m) <= _BESIDE_WAY_M
        if known.name == "pedestrian" and is_ahead and known.distance_m <= PEDESTRIAN_AHEAD_M:
            return known
    return None


def lead_vehicle(facts: SceneFacts) -> KnownObject | None:
    """The vehicle in the own way that is reached within 2 s at the present speed, if there is one."""
    speed = facts.speed_mps if np.isfinite(facts.speed_mps) else 0.0
    reach_m = LEAD_GAP_S * max(speed, _MIN_SPEED_MPS)
    leads = [known for known in facts.objects if known.name in VEHICLES and known.is_in_way]
    lead = min(leads, key=lambda known: known.gap_m, default=None)
    return lead if lead is not None and lead.gap_m <= reach_m else None
