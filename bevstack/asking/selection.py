"""The things that a question means."""

from bevstack.asking.believed import Belief, Thing
from bevstack.asking.colours import fit, shares_of
from bevstack.asking.grammar import CYCLES, VEHICLES, Filter, Region
from bevstack.asking.phrases import direction, number_of, place, spoken
from bevstack.asking.way import LANE_HALF_WIDTH_M, on_way, way_ahead

_MIN_FIT = 0.4
"""Share of its pixels from which a thing counts as having a colour."""


def select(belief: Belief, wanted: Filter) -> list[Thing]:
    """The things that fit, nearest first."""
    found = [thing for thing in belief.things if _fits(thing, wanted)]
    if wanted.region == "way":
        numbers = {each.thing.number for each in on_way(belief, way_ahead(belief))}
        found = [thing for thing in found if thing.number in numbers]
    elif wanted.region is not None:
        found = [thing for thing in found if in_region(thing, wanted.region)]
    if wanted.colour is not None:
        found = [thing for thing in found if fit(wanted.colour, shares_of(thing, belief)) >= _MIN_FIT]
    return found


def in_region(thing: Thing, region: Region) -> bool:
    """Front and back and what lies between are sixths of the circle; left and right is what is not before or behind us.

    "way" is no matter of a bearing: see `select`.
    """
    if region in ("left", "right"):
        return bool((thing.xy[1] if region == "left" else -thing.xy[1]) > LANE_HALF_WIDTH_M)
    return direction(thing.bearing_deg) == region


def _fits(thing: Thing, wanted: Filter) -> bool:
    return (
        (wanted.classes is None or thing.name in wanted.classes)
        and (wanted.states is None or thing.state in wanted.states)
        and (wanted.within_m is None or thing.distance_m <= wanted.within_m)
        and (wanted.beyond_m is None or thing.distance_m >= wanted.beyond_m)
        and (wanted.has_rider is None or thing.has_rider is wanted.has_rider)
    )


def spoken_filter(wanted: Filter, count: int) -> str:
    """The things that are meant, in words: "two moving cars ahead within 20 m"."""
    number, _, name = number_of(count, class_name(wanted.classes)).partition(" ")
    parts = [number, wanted.state_word, wanted.colour or "", name]
    if wanted.has_rider is not None:
        parts.append("with a rider" if wanted.has_rider else "without a rider")
    if wanted.region is not None:
        parts.append(_REGION_WORDS[wanted.region])
    if wanted.within_m is not None:
        parts.append(f"within {wanted.within_m:g} m")
    if wanted.beyond_m is not None:
        parts.append(f"beyond {wanted.beyond_m:g} m")
    return " ".join(part for part in parts if part)


def class_name(classes: tuple[str, ...] | None) -> str:
    """One word for some classes."""
    if classes is not None and len(classes) == 1:
        return classes[0]
    of_several = {VEHICLES: "vehicle", CYCLES: "cycle", CYCLES[::-1]: "cycle", (*VEHICLES, *CYCLES): "vehicle"}
    if classes in of_several:
        return of_several[classes]
    return classes[0] if classes is not None and len(classes) == 2 else "object"


_REGION_WORDS: dict[Region, str] = {
    "front": "ahead",
    "back": "behind",
    "left": "on the left",
    "right": "on the right",
    "front left": "ahead on the left",
    "front right": "ahead on the right",
    "back left": "behind on the left",
    "back right": "behind on the right",
    "way": "on the way",
}


def described(thing: Thing) -> str:
    """A thing as a ground of an answer: "car 0: 10.0 m ahead, moving at 5.0 m/s, score 0.87"."""
    state = thing.state
    if state == "moving" and thing.speed_mps == thing.speed_mps:
        state = f"moving at {thing.speed_mps:.1f} m/s"
    track = "" if thing.identity is None else f", track {thing.identity}"
    known = "" if state == "unknown" else f", {state}"
    return (
        f"{spoken(thing.name)} {thing.number}: {thing.distance_m:.1f} m {place(thing.bearing_deg)}{known}, "
        f"score {thing.score:.2f}{track}"
    )
