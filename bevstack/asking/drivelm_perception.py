"""DriveLM's questions about what is there: objects by direction, their states, looks, lanes and mutual places."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np

from bevstack.asking.answer import Answer, cannot, grounded
from bevstack.asking.believed import TRAFFIC_ELEMENTS, Belief, Thing
from bevstack.asking.colours import colour_of
from bevstack.asking.grammar import Filter, read_filter
from bevstack.asking.importance import ranked
from bevstack.asking.object_answers import future_path, turn_of
from bevstack.asking.phrases import DIRECTIONS, NUMBERS, direction, listed, plural, sentence, spoken
from bevstack.asking.references import Reference, named, references_in, thing_of
from bevstack.asking.selection import select
from bevstack.asking.way import LANE_HALF_WIDTH_M, way_ahead

MOST_IMPORTANT = 5
"""Objects that the first answer of a key frame lists: annotators listed three to five."""

_FEW = 3
_OF_CAMERA = {
    "CAM_FRONT": "front", "CAM_FRONT_LEFT": "front left", "CAM_FRONT_RIGHT": "front right", "CAM_BACK": "back",
    "CAM_BACK_LEFT": "back left", "CAM_BACK_RIGHT": "back right",
}  # fmt: skip


def important_objects(belief: Belief, question: str) -> Answer:
    """The objects that matter, with their references."""
    chosen = named([each.thing for each in ranked(belief)])[:MOST_IMPORTANT]
    if not chosen:
        return cannot(belief, question, "important", "no object was perceived that a camera shows")
    parts = [f"a {look(thing, belief)} to the {_OF_CAMERA[name.camera]} of the ego vehicle" for thing, name in chosen]
    ids = listed([str(reference) for _, reference in chosen], oxford=True)
    verb = "The IDs of these objects are" if len(chosen) > 1 else "The ID of this object is"
    text = f"There is {listed(parts, oxford=True)}. {verb} {ids}."
    return grounded(belief, question, "important", text, [thing for thing, _ in chosen])


def look(thing: Thing, belief: Belief) -> str:
    """As "white car"; in an annotator's own words where there are any."""
    if thing.said is not None:
        return thing.said
    colour = colour_of(thing, belief)
    return f"{colour} {spoken(thing.name)}" if colour else spoken(thing.name)


def looks(belief: Belief, question: str, thing: Thing) -> Answer:
    """What one object looks like."""
    return grounded(belief, question, "looks", sentence(look(thing, belief)), [thing])


def observed_status(belief: Belief, question: str, thing: Thing) -> Answer:
    """Whether one object moves."""
    if thing.state == "unknown":
        return cannot(belief, question, "status", "it is not known whether it moves")
    text = "Moving." if thing.state == "moving" else "Stationary."
    return grounded(belief, question, "status", text, [thing])


def moving_status(belief: Belief, question: str, thing: Thing) -> Answer:
    """How one object moves."""
    if thing.state == "unknown":
        return cannot(belief, question, "status", "it is not known whether it moves")
    return grounded(belief, question, "status", motion_words(thing), [thing])


def motion_words(thing: Thing) -> str:
    """Going ahead, Turn left, Turn right or Stopped."""
    if thing.state != "moving":
        return "Stopped."
    path = future_path(thing)
    turn = "" if path is None else turn_of(path, thing)
    return f"Turn {turn}." if turn else "Going ahead."


def objects_in_direction(belief: Belief, question: str) -> Answer:
    """As "There are many barriers and one truck to the front left of the ego car."."""
    where = _direction_in(question)
    found = [thing for thing in belief.things if direction(thing.bearing_deg) == where]
    if not found:
        return grounded(belief, question, "objects", f"There are no objects to the {where} of the ego car.")
    counts = sorted(Counter(thing.name for thing in found).items(), key=lambda each: -each[1])
    parts = [f"{_number(count)} {spoken(name) if count == 1 else plural(name)}" for name, count in counts]
    verb = "is" if counts[0][1] == 1 else "are"
    text = f"There {verb} {listed(parts, oxford=True)} to the {where} of the ego car."
    return grounded(belief, question, "objects", text, found)


def exist_in_direction(belief: Belief, question: str) -> Answer:
    """Yes or no."""
    found = select(belief, read_filter(question.lower()))
    return grounded(belief, question, "exist", "Yes." if found else "No.", found)


def status_in_direction(belief: Belief, question: str) -> Answer:
    """As "Many trucks are parked, and one is moving."""
    where = _direction_in(question)
    wanted = read_filter(question.lower().partition("status of")[2])
    found = [thing for thing in select(belief, _anywhere(wanted)) if direction(thing.bearing_deg) == where]
    if not found:
        return cannot(belief, question, "status", f"there is no such object to the {where}")
    counts = Counter("stopped" if thing.state in ("still", "unknown") else thing.state for thing in found).most_common()
    name, total = found[0].name, len(found)
    if total == 1:
        text = f"One {spoken(name)} is {counts[0][0]}."
    elif total == 2 and len(counts) == 2:
        text = f"One of the {plural(name)} is {counts[0][0]}, and the other is {counts[1][0]}."
    else:
        first = f"{_number(counts[0][1]).capitalize()} {plural(name)} are {counts[0][0]}"
        rest = [f"{_number(count)} {'is' if count == 1 else 'are'} {state}" for state, count in counts[1:]]
        text = f"{first}{''.join(f', and {each}' for each in rest)}."
    return grounded(belief, question, "status", text, found)


def describe_scene(belief: Belief, question: str) -> Answer:
    """As "There are two moving cars behind the ego car and two barriers in front of it."""
    groups = Counter(
        (thing.name, thing.state if thing.state in ("moving", "parked", "stopped") else "", _side(thing))
        for thing in belief.things
        if _side(thing)
    ).most_common(4)
    if not groups:
        return grounded(belief, question, "describe", "There are no objects in front of or behind the ego car.")
    parts = []
    for (name, state, side), count in groups:
        noun = spoken(name) if count == 1 else plural(name)
        parts.append(" ".join(each for each in (_number(count), state, noun, side) if each))
    verb = "is" if groups[0][1] == 1 else "are"
    return grounded(belief, question, "describe", f"There {verb} {listed(parts, oxford=True)}.", belief.things)


def relative_positions(belief: Belief, question: str) -> Answer:
    """Where the important objects are to each other, seen along the vehicle's heading."""
    chosen = named([each.thing for each in ranked(belief)])[:_FEW]
    if len(chosen) < 2:
        return cannot(belief, question, "positions", "fewer than two objects were perceived")
    parts = []
    for place, (first, first_name) in enumerate(chosen):
        for second, second_name in chosen[place + 1 :]:
            where = bearing_between(first, second)
            parts.append(f"{second_name} is {'at' if ' ' not in where else 'on'} the {where} of {first_name}")
    return grounded(belief, question, "positions", f"{listed(parts, oxford=True)}.", [each for each, _ in chosen])


def bearing_between(origin: Thing, other: Thing) -> str:
    """Sixth of the circle around one thing that another lies in, along the vehicle's heading."""
    x, y = other.xy - origin.xy
    return direction(float(np.degrees(np.arctan2(y, x))))


def lanes(belief: Belief, question: str) -> Answer:
    """Which lane the important objects are in, counted from the way of the vehicle."""
    chosen = named([each.thing for each in ranked(belief) if each.thing.name not in TRAFFIC_ELEMENTS])[:_FEW]
    if not chosen:
        return cannot(belief, question, "lanes", "no object was perceived that a camera shows")
    way = way_ahead(belief)
    parts = []
    for thing, reference in chosen:
        across = float(way.coordinates(thing.xy[None])[0, 1])
        lane = "ego" if abs(across) < LANE_HALF_WIDTH_M else "left" if across > 0 else "right"
        parts.append(f"{reference} is in the {lane} lane")
    return grounded(belief, question, "lanes", f"{listed(parts, oxford=True)}.", [each for each, _ in chosen])


def traffic_elements(belief: Belief, question: str) -> Answer:
    """Whether there are lights or signs in a view."""
    seen = [thing for thing in belief.things if thing.name in TRAFFIC_ELEMENTS]
    if not belief.is_oracle:
        return cannot(belief, question, "traffic elements", "traffic lights and signs are not perceived")
    text = "Yes, there are traffic elements in the front view." if seen else "No."
    return grounded(belief, question, "traffic elements", text, seen)


def resolve(belief: Belief, question: str) -> tuple[list[Reference], list[Thing | None]]:
    """The references of a question with the things that they mean."""
    found = references_in(question)
    return found, [thing_of(reference, belief) for reference in found]


def _anywhere(wanted: Filter) -> Filter:
    return replace(wanted, region=None)


def _direction_in(question: str) -> str:
    match = re.search(r"to the (front|back)(?:[ -](left|right))?", question.lower())
    where = " ".join(word for word in (match.groups() if match else ("front",)) if word)
    return where if where in DIRECTIONS else "front"


def _number(count: int) -> str:
    return NUMBERS[count] if count <= _FEW else "many"


def _side(thing: Thing) -> str:
    main = direction(thing.bearing_deg)
    return {"front": "in front of the ego car", "back": "behind the ego car"}.get(main, "")
