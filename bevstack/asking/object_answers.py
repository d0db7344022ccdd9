"""Answers about perceived objects and the ground: how many, which, where, how far, how fast, what next."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bevstack.asking.answer import Answer, cannot, grounded
from bevstack.asking.believed import MOVING_MPS, Belief, Thing
from bevstack.asking.colours import colour_of, shares_of
from bevstack.asking.grammar import Query
from bevstack.asking.phrases import counted, place, sentence, spoken
from bevstack.asking.selection import class_name, select, spoken_filter
from bevstack.asking.way import LANE_HALF_WIDTH_M, Way, way_ahead
from bevstack.data.maps import MAP_CLASSES
from bevstack.geometry.transforms import wrap_angle
from bevstack.types.boxes import BoxIndex

FORECAST_S = 3.0
"""How far ahead a question about the future is answered."""

_TURN_RAD = np.deg2rad(25)
_MAP_LIKELY = 0.5
_MAP_WORDS = {"ped_crossing": "pedestrian crossing", "stop_line": "stop line", "walkway": "walkway",
              "carpark_area": "car park", "divider": "lane divider", "drivable_area": "drivable area"}  # fmt: skip


def count(belief: Belief, query: Query) -> Answer:
    """How many."""
    found = select(belief, query.filter)
    verb = "is" if len(found) == 1 else "are"
    text = sentence(f"there {verb} {spoken_filter(query.filter, len(found))}")
    return grounded(belief, query.text, query.kind, text, found)


def exists(belief: Belief, query: Query) -> Answer:
    """Whether there is one."""
    found = select(belief, query.filter)
    what = spoken_filter(query.filter, len(found))
    text = f"Yes, {what}." if found else f"No, I see {what}."
    return grounded(belief, query.text, query.kind, text, found)


def enumerate_things(belief: Belief, query: Query) -> Answer:
    """What there is somewhere."""
    found = select(belief, query.filter)
    if not found:
        return grounded(belief, query.text, query.kind, sentence(f"there are {spoken_filter(query.filter, 0)}"))
    where = spoken_filter(query.filter, 1).partition(class_name(query.filter.classes))[2].strip()
    verb = "is" if len(found) == 1 else "are"
    text = sentence(f"there {verb} {counted(thing.name for thing in found)} {where}".strip())
    return grounded(belief, query.text, query.kind, text, found)


def nearest(belief: Belief, query: Query) -> Answer:
    """The nearest one."""
    return _of_one(belief, query, lambda thing: f"the nearest is {_a(thing)} {_where(thing)}")


def where(belief: Belief, query: Query) -> Answer:
    """Where one is."""
    return _of_one(belief, query, lambda thing: f"the {spoken(thing.name)} is {_where(thing)}")


def distance(belief: Belief, query: Query) -> Answer:
    """How far one is."""
    note = "distances are from the rear axle to the centre of the box"
    return _of_one(belief, query, lambda thing: f"the {spoken(thing.name)} is {_where(thing)}", (note,))


def speed(belief: Belief, query: Query) -> Answer:
    """How fast one is."""

    def say(thing: Thing) -> str | None:
        if not np.isfinite(thing.speed_mps):
            return None
        if thing.speed_mps < MOVING_MPS:
            return f"the {spoken(thing.name)} is not moving ({thing.speed_mps:.1f} m/s)"
        fast = f"{thing.speed_mps:.1f} m/s ({thing.speed_mps * 3.6:.0f} km/h)"
        return f"the {spoken(thing.name)} is moving at {fast}"

    return _of_one(belief, query, say, missing="its speed is not known")


def state(belief: Belief, query: Query) -> Answer:
    """What one is doing, or whether it is doing what the question names."""
    asked = query.filter.states
    open_filter = _without_states(query)

    def say(thing: Thing) -> str | None:
        if thing.state == "unknown":
            return None
        doing = "not moving" if thing.state == "still" else thing.state
        fact = f"the {spoken(thing.name)} {place(thing.bearing_deg)} is {doing}"
        return fact if asked is None else f"{'yes' if thing.state in asked else 'no'}, {fact}"

    return _of_one(belief, open_filter, say, missing="it is not known whether it moves")


def colour(belief: Belief, query: Query) -> Answer:
    """The colour of one."""

    def say(thing: Thing) -> str | None:
        name = colour_of(thing, belief)
        return None if name is None else f"the {spoken(thing.name)} {place(thing.bearing_deg)} is {name}"

    found = select(belief, query.filter)
    shares = shares_of(found[0], belief) if found else {}
    best = sorted(shares.items(), key=lambda each: -each[1])[:3]
    grounds = ("pixels inside its box: " + ", ".join(f"{name} {share:.0%}" for name, share in best),) if best else ()
    return _of_one(belief, query, say, grounds, missing="no picture shows it")


def forecast(belief: Belief, query: Query) -> Answer:
    """What one will do within `FORECAST_S`."""
    way = way_ahead(belief)
    grounds: list[str] = []

    def say(thing: Thing) -> str | None:
        future, grounds[:] = future_of(thing, way)
        return None if future is None else f"the {spoken(thing.name)} {place(thing.bearing_deg)} will {future}"

    found = select(belief, _without_states(query).filter)
    if found:
        say(found[0])
    return _of_one(belief, _without_states(query), say, tuple(grounds), missing="its motion is not known")


def future_of(thing: Thing, way: Way) -> tuple[str | None, list[str]]:
    """What a thing is expected to do, with the grounds; None where its motion is not known."""
    path = future_path(thing)
    if path is None:
        return None, []
    source = "constant velocity"
    if thing.forecasts is not None and thing.forecast_probabilities is not None:
        source = f"forecast, most probable of {len(thing.forecasts)} modes ({thing.forecast_probabilities[0]:.0%})"
    moved = path[-1] - thing.xy
    grounds = [f"in {FORECAST_S:g} s at ({path[-1, 0]:.1f}, {path[-1, 1]:.1f}) m, by {source}"]
    if np.hypot(*moved) < MOVING_MPS * FORECAST_S:
        return "stay where it is", grounds
    across = way.coordinates(np.concatenate((thing.xy[None], path)))
    inside, ahead = np.abs(across[:, 1]) < LANE_HALF_WIDTH_M, across[:, 0] > 0
    if not inside[0] and (inside & ahead).any() or (across[0, 1] * across[-1, 1] < 0 and ahead.any()):
        time_s = float(np.argmax(inside[1:] | (across[1:, 1] * across[0, 1] < 0)) + 1) * _step_s(thing)
        return f"cross our way, from {'left' if across[0, 1] > 0 else 'right'}, in {time_s:.1f} s", grounds
    turn = turn_of(path, thing)
    if turn:
        return f"turn {turn}", grounds
    closer = np.hypot(*path[-1]) < thing.distance_m - 1
    towards = ", towards us" if closer and abs(thing.bearing_deg) < 60 else ""
    return f"keep going straight{towards}", grounds


def turn_of(path: np.ndarray, thing: Thing) -> str:
    """left, right, or nothing where a path goes straight."""
    steps = np.diff(np.concatenate((thing.xy[None], path)), axis=0)
    if np.hypot(*steps[0]) < 0.1 or np.hypot(*steps[-1]) < 0.1:
        return ""
    change = float(wrap_angle(np.arctan2(steps[-1, 1], steps[-1, 0]) - np.arctan2(steps[0, 1], steps[0, 0])))
    return "" if abs(change) < _TURN_RAD else "left" if change > 0 else "right"


def future_path(thing: Thing) -> np.ndarray | None:
    """Positions (T, 2) over `FORECAST_S`; None where its motion is not known."""
    if thing.forecasts is not None:
        steps = max(1, round(FORECAST_S / thing.forecast_dt_s))
        return np.asarray(thing.forecasts[0][:steps], np.float64)
    velocity = np.asarray(thing.row[BoxIndex.VX :], np.float64)
    if not np.isfinite(velocity).all():
        return None
    return thing.xy + velocity * np.arange(0.5, FORECAST_S + 1e-9, 0.5)[:, None]


def ground(belief: Belief, query: Query) -> Answer:
    """Whether the map has something on the way, and how far it is."""
    name = query.map_class or "drivable_area"
    if belief.map is None:
        return cannot(belief, query.text, query.kind, "the model has no map head, or the file holds no map")
    along = distance_on_way(belief, name)
    if along is None:
        return grounded(belief, query.text, query.kind, f"No, I see no {_MAP_WORDS[name]} on the way.")
    text = f"Yes, there is a {_MAP_WORDS[name]} {along:.0f} m ahead on the way."
    return grounded(belief, query.text, query.kind, text, grounds=(f"map: {name} from {_MAP_LIKELY:.0%} on",))


def distance_on_way(belief: Belief, map_class: str) -> float | None:
    """Metres along the way to the first cell of a map class; None where there is none in sight."""
    if belief.map is None:
        return None
    grid, way = belief.map.grid, way_ahead(belief)
    likely = belief.map.probabilities[list(MAP_CLASSES).index(map_class)] >= _MAP_LIKELY
    for along in np.arange(1.0, way.lengths_m[-1], grid.cell_m):
        x, y, _ = way.pose_at(float(along))
        row = int(np.floor((y - grid.y_range_m[0]) / grid.cell_m))
        column = int(np.floor((x - grid.x_range_m[0]) / grid.cell_m))
        if 0 <= row < likely.shape[0] and 0 <= column < likely.shape[1] and likely[row, column]:
            return float(along)
    return None


def _of_one(
    belief: Belief,
    query: Query,
    say: Callable[[Thing], str | None],
    grounds: Sequence[str] = (),
    *,
    missing: str = "that is not known of it",
) -> Answer:
    """About the nearest thing that the question may mean."""
    found = select(belief, query.filter)
    if not found:
        return grounded(belief, query.text, query.kind, f"I see {spoken_filter(query.filter, 0)}.")
    text = say(found[0])
    if text is None:
        return cannot(belief, query.text, query.kind, missing)
    others = (f"{len(found) - 1} more would fit; the nearest was taken",) if len(found) > 1 else ()
    return grounded(belief, query.text, query.kind, sentence(text), found[:1], (*grounds, *others))


def _without_states(query: Query) -> Query:
    return replace(query, filter=replace(query.filter, states=None, state_word=""))


def _where(thing: Thing) -> str:
    return f"{thing.distance_m:.1f} m away, {place(thing.bearing_deg)}"


def _a(thing: Thing) -> str:
    doing = thing.state if thing.state in ("moving", "parked", "stopped", "standing") else ""
    return " ".join(word for word in ("a", doing, spoken(thing.name)) if word)


def _step_s(thing: Thing) -> float:
    return thing.forecast_dt_s if thing.forecasts is not None else 0.5
