"""What a question asks, by a small grammar: its kind, and which things it speaks of.

A question is lower-cased and read by ordered patterns; the first that fits gives the kind. Classes, region, state,
colour and distance are read from word tables wherever they stand. Nothing is guessed: a question that no pattern fits
has the kind "unknown".
"""

import re
from dataclasses import dataclass
from typing import Literal

from bevstack.asking.colours import ALIASES, COLOURS, colour_word
from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.maps import MAP_CLASSES
from bevstack.types.trajectory import RouteCommand

Kind = Literal[
    "why", "attention", "speed_limit", "route", "ego", "may_go", "plan", "map", "count", "distance", "speed",
    "forecast", "colour", "nearest", "state", "exists", "where", "list", "unknown",
]  # fmt: skip

VEHICLES = ("car", "truck", "bus", "trailer", "construction_vehicle")
CYCLES = ("motorcycle", "bicycle")
CLASS_WORDS: dict[str, tuple[str, ...]] = {
    "construction vehicle": ("construction_vehicle",), "excavator": ("construction_vehicle",),
    "bulldozer": ("construction_vehicle",), "digger": ("construction_vehicle",),
    "traffic cone": ("traffic_cone",), "cone": ("traffic_cone",), "pylon": ("traffic_cone",),
    "barrel": ("traffic_cone",),
    "barrier": ("barrier",), "barricade": ("barrier",),
    "motorcyclist": ("motorcycle",), "motorcycle": ("motorcycle",), "motorbike": ("motorcycle",),
    "scooter": ("motorcycle",), "moped": ("motorcycle",), "biker": ("motorcycle",),
    "cyclist": ("bicycle",), "bicyclist": ("bicycle",), "bicycle": ("bicycle",),
    "bike": ("bicycle", "motorcycle"), "cycle": CYCLES, "rider": CYCLES,
    "pedestrian": ("pedestrian",), "person": ("pedestrian",), "people": ("pedestrian",), "man": ("pedestrian",),
    "men": ("pedestrian",), "woman": ("pedestrian",), "women": ("pedestrian",), "lady": ("pedestrian",),
    "guy": ("pedestrian",), "girl": ("pedestrian",), "boy": ("pedestrian",), "child": ("pedestrian",),
    "children": ("pedestrian",), "kid": ("pedestrian",), "worker": ("pedestrian",), "walker": ("pedestrian",),
    "passerby": ("pedestrian",), "friend": ("pedestrian",), "colleague": ("pedestrian",), "dude": ("pedestrian",),
    "pickup": ("truck", "car"), "truck": ("truck",), "lorry": ("truck",), "lorries": ("truck",),
    "bus": ("bus",), "coach": ("bus",),
    "trailer": ("trailer",), "caravan": ("trailer",),
    "sedan": ("car",), "suv": ("car",), "taxi": ("car",), "cab": ("car",), "jeep": ("car",), "van": ("car", "truck"),
    "minivan": ("car",), "car": ("car",), "vehicle": VEHICLES, "traffic": (*VEHICLES, *CYCLES),
    "road user": (*VEHICLES, *CYCLES, "pedestrian"),
    "obstacle": DETECTION_CLASSES, "object": DETECTION_CLASSES, "thing": DETECTION_CLASSES,
    "anything": DETECTION_CLASSES, "something": DETECTION_CLASSES, "anybody": ("pedestrian",),
    "anyone": ("pedestrian",), "somebody": ("pedestrian",), "someone": ("pedestrian",),
}  # fmt: skip
"""Word -> the classes that it may stand for."""
MAP_WORDS = {
    "crosswalk": "ped_crossing", "zebra": "ped_crossing", "pedestrian crossing": "ped_crossing",
    "crossing": "ped_crossing", "stop line": "stop_line", "sidewalk": "walkway", "pavement": "walkway",
    "walkway": "walkway", "car park": "carpark_area", "parking lot": "carpark_area", "divider": "divider",
    "lane marking": "divider",
}  # fmt: skip
"""Word -> map class."""
assert set(MAP_WORDS.values()) <= set(MAP_CLASSES)

STATE_WORDS = {
    "moving": ("moving",), "driving": ("moving",), "walking": ("moving",), "crossing": ("moving",),
    "approaching": ("moving",), "running": ("moving",), "parked": ("parked", "still"),
    "stopped": ("stopped", "still"), "standing": ("standing", "stopped", "still"),
    "waiting": ("stopped", "standing", "still"), "sitting": ("sitting",),
    "stationary": ("parked", "stopped", "standing", "sitting", "still"),
    "still": ("parked", "stopped", "standing", "sitting", "still"),
    "static": ("parked", "stopped", "standing", "sitting", "still"),
}  # fmt: skip
"""Word -> states of `Thing.state`."""

Region = Literal["front", "back", "left", "right", "front left", "front right", "back left", "back right", "way"]
_REGIONS: tuple[tuple[str, Region], ...] = (
    (r"(?:front|ahead)(?: and)?(?: on| to)?(?: the| our| my)?[ -]left|left front", "front left"),
    (r"(?:front|ahead)(?: and)?(?: on| to)?(?: the| our| my)?[ -]right|right front", "front right"),
    (r"(?:back|rear|behind)(?: us| me)?(?: on| to)?(?: the| our| my)?[ -]left", "back left"),
    (r"(?:back|rear|behind)(?: us| me)?(?: on| to)?(?: the| our| my)?[ -]right", "back right"),
    (r"(?:in|on|along|blocking) (?:our|my|the|its) (?:way|path|lane|route)", "way"),
    (r"ahead|in front|to the front|before (?:us|me)|at the front", "front"),
    (r"behind|to the back|at the back|to the rear|following us", "back"),
    (r"(?:on|to|at|from) (?:the|our|my) left|left(?:-hand)? side|left of", "left"),
    (r"(?:on|to|at|from) (?:the|our|my) right|right(?:-hand)? side|right of", "right"),
)
_NUMBER = r"(\d+(?:\.\d+)?)\s*(?:m\b|met(?:er|re)s?\b)"
_SELF = r"(?:we|i|you|us|me|(?:the |our )?ego(?: vehicle| car)?|this (?:car|vehicle)|it|our (?:car|vehicle))"
_PATTERNS: tuple[tuple[str, Kind], ...] = (
    (rf"\bwhy\b.*\b(?:brak|stop|slow|wait|stand|decelerat|plan|not|{_SELF})", "why"),
    (r"\b(?:look at|look out|watch|attention|be careful|notice|important|matters? most|priorit)", "attention"),
    (rf"speed limit|how fast (?:may|can|should|are we allowed|am i allowed) ?{_SELF}?", "speed_limit"),
    (r"\broute\b|navigation|next turn|which way|where (?:are we|am i|do we|is the ego \w+) (?:go|head)", "route"),
    (rf"how fast (?:are|is|am) {_SELF}\b|(?:our|my|ego|own) speed|(?:are|am) (?:we|i) (?:moving|turning|accelerating|"
     r"braking|slowing)", "ego"),
    (rf"\b(?:can|may|should|could) {_SELF} .*\b(?:turn|go|drive|proceed|continue|start|move|pull|change)|"
     r"(?:safe|clear|free|okay|ok) to (?:turn|go|drive|proceed|continue|start|move|pull|change)|"
     r"is the (?:way|road|path|lane) (?:free|clear)", "may_go"),
    (rf"what (?:will|are|is|am) {_SELF} (?:going to )?(?:do|doing|plan)|what is (?:the|our|your) plan|"
     r"what does the (?:planner|vehicle) (?:plan|intend)", "plan"),
    (r"how many|number of|\bcount\b", "count"),
    (r"how far|\bdistance\b|how close", "distance"),
    (r"how fast|\bspeed\b|how quick", "speed"),
    (r"\bwhat colou?r|which colou?r", "colour"),
    (r"what (?:will|is|are) .*\b(?:do|going to|intend)|where will|\bwill\b.*\b(?:be|go|move|cross|turn|drive|stop|come|"
     r"cut)\b|going to|future|predict", "forecast"),
    (r"\b(?:nearest|closest)\b", "nearest"),
    (r"^(?:is|are) (?:there|any\w*|some\w*)\b|^(?:do|can) you see\b|\bany\b", "exists"),
    (r"^(?:is|are) (?:the|that|this|those|these)\b|(?:status|state) of", "state"),
    (r"^where\b", "where"),
    (r"^(?:what|who|which|list|describe|tell|name)\b", "list"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which things are meant; None where a question does not say."""

    classes: tuple[str, ...] | None = None
    word: str = "object"
    """The class in the asker's own word."""
    region: Region | None = None
    states: tuple[str, ...] | None = None
    state_word: str = ""
    colour: str | None = None
    within_m: float | None = None
    beyond_m: float | None = None
    has_rider: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question, understood."""

    kind: Kind
    text: str
    filter: Filter
    turn: RouteCommand | None = None
    """The manoeuvre that it asks about."""
    map_class: str | None = None


def parse(question: str) -> Query:
    """Read a question.

    Raises:
        ValueError: it is empty.
    """
    text = " ".join(question.lower().replace("?", " ").replace("'s", " is").split()).strip(" .!")
    if not text:
        raise ValueError("the question is empty; ask for example 'how many cars are ahead?'")
    map_class = next((name for word, name in MAP_WORDS.items() if re.search(rf"\b{word}s?\b", text)), None)
    kind: Kind = next((kind for pattern, kind in _PATTERNS if re.search(pattern, text)), "unknown")
    own = read_filter(text)
    if map_class is not None and own.classes is None and kind in ("exists", "distance", "where", "list", "nearest"):
        kind = "map"
    if kind in ("count", "distance", "speed", "colour", "nearest", "state", "where") and own.classes is None:
        kind = "unknown"  # about something that the stack has no word for
    if kind in ("exists", "list", "forecast") and own.classes is None and own.region is None:
        kind = "list" if kind == "list" and re.search(r"you see|around|happening|there|^describe", text) else "unknown"
    return Query(kind=kind, text=text, filter=own, turn=_turn(text), map_class=map_class)


def read_filter(text: str) -> Filter:
    """Classes, region, state, colour and distances in a text in lower case."""
    region = next((region for pattern, region in _REGIONS if re.search(rf"\b(?:{pattern})\b", text)), None)
    word = class_word(text)
    words = re.findall(r"[a-z]+", text)
    state = next((each for each in words if each in STATE_WORDS), "")
    within = re.search(rf"(?:within|closer than|nearer than|less than|in) (?:a distance of )?{_NUMBER}", text)
    beyond = re.search(rf"(?:beyond|farther than|further than|more than|over) {_NUMBER}", text)
    rider = re.search(r"\b(with|without)(?: a)? riders?\b", text)
    return Filter(
        classes=None if word is None else CLASS_WORDS[word],
        word=word or "object",
        region=region,
        states=STATE_WORDS.get(state),
        state_word=state,
        colour=colour_word([each for each in words if each in COLOURS or each in ALIASES]),
        within_m=float(within.group(1)) if within else None,
        beyond_m=float(beyond.group(1)) if beyond else None,
        has_rider=None if rider is None else rider.group(1) == "with",
    )


def class_word(text: str) -> str | None:
    """The first class word in a text, as `CLASS_WORDS` has it; longer words win over those that they contain."""
    found: list[tuple[int, int, str]] = []
    for word in CLASS_WORDS:
        match = re.search(rf"(?<![\w-]){word.replace(' ', '[ _]')}(?:e?s)?(?![\w-])", text)
        if match and not re.match(r" (?:lane|station|lot|park|line|path)\b", text[match.end() :]):
            if word == "bus" and text[match.end() :].startswith(" stop"):
                continue
            if text[: match.start()].endswith(("ego ", "our ", "my ")) and word in ("car", "vehicle"):
                continue
            found.append((match.start(), -len(word), word))
    return min(found)[2] if found else None


def _turn(text: str) -> RouteCommand | None:
    match = re.search(r"(?:turn|go|lane|pull|change)\w*(?: over)?(?: to)?(?: the)? (left|right|straight)", text)
    return RouteCommand(match.group(1)) if match else None
