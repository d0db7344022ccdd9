"""DriveLM's questions about what comes next: what objects will do and mean to each other, and what the vehicle does."""

import re

import numpy as np

from bevstack.asking.answer import Answer, cannot, grounded
from bevstack.asking.believed import MOVING_MPS, TRAFFIC_ELEMENTS, Belief, Thing
from bevstack.asking.colours import colour_word
from bevstack.asking.drivelm_perception import look, motion_words
from bevstack.asking.driving_answers import causes_to_slow
from bevstack.asking.importance import ranked
from bevstack.asking.phrases import sentence
from bevstack.asking.references import named, reference_to
from bevstack.asking.way import first_conflict, on_way, way_ahead
from bevstack.geometry.transforms import wrap_angle
from bevstack.types.boxes import BoxIndex
from bevstack.types.trajectory import RouteCommand

_ORDINALS = ("Firstly", "Secondly", "Thirdly")
_STATES = {"Stopped.": "stationary", "Going ahead.": "going ahead", "Turn left.": "turning left",
           "Turn right.": "turning right"}  # fmt: skip
_KEEP, _BRAKE, _SLOW = "keep going at the same speed", "brake gently to a stop", "decelerate gradually without braking"
_RELEVANT_M, _CONE_RAD = 20.0, np.deg2rad(30)
_CONSIDER = 1.0
"""Weight of `importance.ranked` from which the vehicle should consider an object."""

STEERING = ("steering to the left", "slightly steering to the left", "going straight", "slightly steering to the right",
            "steering to the right")  # fmt: skip
SPEEDS = ("not moving", "driving slowly", "driving with normal speed", "driving fast", "driving very fast")
_SLIGHT_DEG, _STRONG_DEG = 3.0, 12.0
_SPEED_BOUNDS_MPS = (MOVING_MPS, 3.0, 6.0, 9.0)
"""Between the words of `SPEEDS`; ours, since the data set does not publish its own."""


def notice_in_order(belief: Belief, question: str) -> Answer:
    """The three objects to notice first, their state, and what to do."""
    chosen = named([each.thing for each in ranked(belief)])[: len(_ORDINALS)]
    if not chosen:
        return cannot(belief, question, "notice", "no object was perceived that a camera shows")
    parts = []
    for ordinal, (thing, reference) in zip(_ORDINALS, chosen):
        kind = "a traffic sign" if thing.name in TRAFFIC_ELEMENTS else _STATES[motion_words(thing)]
        action = action_for(thing, belief).replace("keep going at", "keep going ahead at")
        parts.append(f"{ordinal} notice that {reference}. The object is {kind}, so the ego vehicle should {action}.")
    return grounded(belief, question, "notice", " ".join(parts), [thing for thing, _ in chosen])


def action_for(thing: Thing, belief: Belief) -> str:
    """What the vehicle should do about one object."""
    if thing.name in TRAFFIC_ELEMENTS:
        return _BRAKE if _signal(thing) == "red" else _KEEP
    causes = [cause for cause in causes_to_slow(belief) if cause.thing is not None]
    if any(cause.thing is not None and cause.thing.number == thing.number for cause in causes):
        return _SLOW if thing.state == "moving" else _BRAKE
    return _KEEP


def action_and_reason(belief: Belief, question: str, thing: Thing) -> Answer:
    """What the vehicle could do because of an object."""
    action = action_for(thing, belief)
    reason = "there is no safety issue" if action == _KEEP else "to keep a safe distance"
    if thing.name in TRAFFIC_ELEMENTS:
        reason = "to follow the traffic rules"
    text = f"The action is to {action}. The reason is {'that ' if reason.startswith('there') else ''}{reason}, "
    return grounded(belief, question, "action", text + "which has a high probability.", [thing])


def most_possible_action(belief: Belief, question: str, thing: Thing) -> Answer:
    """The likeliest one."""
    return grounded(belief, question, "action", sentence(action_for(thing, belief)), [thing])


def colliding_actions(belief: Belief, question: str, thing: Thing) -> Answer:
    """Which actions lead to a collision with an object."""
    x, y = thing.xy
    if on(belief, thing):
        text = "Accelerate and go straight."
    elif thing.bearing_deg**2 > 150**2 and thing.distance_m < _RELEVANT_M:
        text = "Back up."
    elif x > 0 and thing.distance_m < _RELEVANT_M:
        text = f"Turn {'left' if y > 0 else 'right'}."
    else:
        text = "No such action will lead to a collision."
    return grounded(belief, question, "collision", text, [thing])


def collision_probability(belief: Belief, question: str, thing: Thing) -> Answer:
    """High where the way would meet it, for an action that does not brake."""
    conflict = first_conflict(belief, way_ahead(belief))
    hits = conflict is not None and conflict.thing.number == thing.number and "brake" not in question
    return grounded(belief, question, "collision", "High." if hits else "Low.", [thing])


def safe_actions(belief: Belief, question: str) -> Answer:
    """What may safely be done now."""
    slows = causes_to_slow(belief) or any(_signal(thing) == "red" for thing in belief.things)
    text = "Brake gently to a stop, slightly offset to the left." if slows else f"{sentence(_KEEP)[:-1]}, {_SLOW}."
    return grounded(belief, question, "actions", text, [each.thing for each in ranked(belief)[:3]])


def dangerous_actions(belief: Belief, question: str) -> Answer:
    """What must not be done now: into whoever is near."""
    near = [thing for thing in belief.things if thing.distance_m < _RELEVANT_M]
    found = [
        text
        for text, is_there in (
            ("accelerate and go straight", any(on(belief, thing) for thing in near)),
            ("turn left", any(20 < thing.bearing_deg < 160 for thing in near)),
            ("turn right", any(-160 < thing.bearing_deg < -20 for thing in near)),
            ("back up", any(abs(thing.bearing_deg) > 160 for thing in near)),
        )
        if is_there
    ]
    return grounded(belief, question, "actions", sentence(", ".join(found) or "none"), near)


def priority(belief: Belief, question: str) -> Answer:
    """Objects in the order of their weight."""
    chosen = named([each.thing for each in ranked(belief) if each.weight >= _CONSIDER] or list(belief.things[:1]))[:5]
    if not chosen:
        return cannot(belief, question, "priority", "no object was perceived that a camera shows")
    return grounded(
        belief, question, "priority", ", ".join(str(name) for _, name in chosen) + ".", [thing for thing, _ in chosen]
    )  # fmt: skip


def should_consider(belief: Belief, question: str, thing: Thing) -> Answer:
    """Whether an object matters."""
    weight = next(each.weight for each in ranked(belief) if each.thing.number == thing.number)
    return grounded(belief, question, "consider", "Yes." if weight >= _CONSIDER else "No.", [thing])


def in_moving_direction(belief: Belief, question: str, thing: Thing) -> Answer:
    """Whether an object is where the vehicle is going."""
    return grounded(belief, question, "direction", "Yes." if on(belief, thing) else "No.", [thing])


def future_state(belief: Belief, question: str, thing: Thing) -> Answer:
    """What an object will do."""
    if thing.state == "unknown":
        return cannot(belief, question, "future", "its motion is not known")
    words = {"Stopped.": "Stationary.", "Going ahead.": "Keep going straight."}
    text = motion_words(thing)
    return grounded(belief, question, "future", words.get(text, text), [thing])


def possible_action_of(belief: Belief, question: str, thing: Thing) -> Answer:
    """What an object may do, and why."""
    text = {"Stopped.": "none", "Going ahead.": "to keep going at the same speed"}.get(motion_words(thing), "to turn")
    return grounded(
        belief, question, "future", f"The action is {text}, the reason is there is no safety issue.", [thing]
    )  # fmt: skip


def is_sign_or_barrier(belief: Belief, question: str, thing: Thing) -> Answer:
    """Whether an object is a traffic element or a barrier."""
    return grounded(
        belief, question, "class", "Yes." if thing.name in TRAFFIC_ELEMENTS | {"barrier"} else "No.", [thing]
    )  # fmt: skip


def are_signs(belief: Belief, question: str, first: Thing, second: Thing) -> Answer:
    """Whether two objects are traffic elements."""
    count = sum(thing.name in TRAFFIC_ELEMENTS for thing in (first, second))
    text = ("Neither is a traffic sign.", "Only one of the boxes is a traffic sign.", "Both are traffic signs.")[count]
    return grounded(belief, question, "class", text, [first, second])


def sign_meaning(belief: Belief, question: str, thing: Thing) -> Answer:
    """What a light or sign tells."""
    if thing.name not in TRAFFIC_ELEMENTS:
        return cannot(belief, question, "sign", "what was perceived there is no traffic element")
    if "kind" in question.lower():
        return grounded(belief, question, "sign", sentence(thing.name.replace("_", " ")), [thing])
    text = {"red": "Please wait.", "green": "Please proceed."}.get(_signal(thing), sentence(look(thing, belief)))
    return grounded(belief, question, "sign", text, [thing])


def traffic_signal(belief: Belief, question: str) -> Answer:
    """The light that counts."""
    if not belief.is_oracle:
        return cannot(belief, question, "sign", "traffic lights and signs are not perceived")
    seen = [thing for thing in belief.things if thing.name == "traffic_light"]
    text = f"{_signal(seen[0]).capitalize()} light." if seen and _signal(seen[0]) else "None."
    return grounded(belief, question, "sign", text, seen[:1])


def relevant_to(belief: Belief, question: str, thing: Thing) -> Answer:
    """Which object has another one before it, so that it has to mind it."""
    heading = float(thing.row[BoxIndex.YAW])
    others = [(other, other.xy - thing.xy) for other in belief.things if other.number != thing.number]
    minding = [
        (float(np.hypot(*offset)), other)
        for other, offset in others
        if np.hypot(*offset) < _RELEVANT_M and _is_before(-offset, float(other.row[BoxIndex.YAW]))
    ]
    ego_minds = thing.distance_m < _RELEVANT_M and _is_before(thing.xy, 0.0)
    if ego_minds and "except" not in question.lower():
        return grounded(belief, question, "relevant", "The ego vehicle.", [thing])
    other = min(minding, key=lambda each: each[0])[1] if minding else None
    reference = None if other is None else reference_to(other, f"c{other.number + 1}")
    text = "None." if reference is None else f"{reference}."
    return grounded(belief, question, "relevant", text, [thing], (f"its heading is {np.degrees(heading):.0f} degrees",))


def minds(belief: Belief, question: str, first: Thing, second: Thing) -> Answer:
    """Whether the second object is before the first one, close enough to be minded."""
    change = "change its motion" in question
    will_be = "moving direction of" in question
    who, what = (second, first) if will_be else (first, second)
    offset = what.xy - who.xy
    reach = _RELEVANT_M / 2 if change else _RELEVANT_M
    answer = np.hypot(*offset) < reach and _is_before(offset, float(who.row[BoxIndex.YAW])) and who.state == "moving"
    return grounded(belief, question, "relevant", "Yes." if answer else "No.", [first, second])


def occluded_by(belief: Belief, question: str, thing: Thing) -> Answer:
    """Which object is hidden behind another one."""
    for other in belief.things:
        if other.distance_m > thing.distance_m:
            for camera in set(other.views) & set(thing.views):
                (l0, t0, r0, b0), (l1, t1, r1, b1) = other.views[camera], thing.views[camera]
                shared = max(0.0, min(r0, r1) - max(l0, l1)) * max(0.0, min(b0, b1) - max(t0, t1))
                if shared > 0.5 * (r0 - l0) * (b0 - t0):
                    name = reference_to(other, f"c{other.number + 1}")
                    return grounded(belief, question, "occlusion", f"{name}, no, none.", [thing, other])
    return grounded(belief, question, "occlusion", "None, no, none.", [thing])


def target_action(belief: Belief, question: str) -> Answer:
    """Where the vehicle wants to go."""
    speed = np.nan if belief.ego is None else belief.ego.speed_mps
    if belief.route is None and belief.plan is None and not np.isfinite(speed):
        return cannot(belief, question, "target", "neither route, plan nor motion of the vehicle is known")
    if belief.route is not None and belief.route.command is not RouteCommand.STRAIGHT:
        return grounded(belief, question, "target", f"Turn {belief.route.command.value}.", grounds=("route",))
    stands = np.isfinite(speed) and abs(speed) < MOVING_MPS
    return grounded(belief, question, "target", "Stationary." if stands else "Go straight.")


def behaviour(belief: Belief, question: str) -> Answer:
    """How the vehicle steers and drives: by its plan, else by its motion."""
    known = steering_and_speed(belief)
    if known is None:
        return cannot(belief, question, "behavior", "neither a plan nor the motion of the vehicle is known")
    steering, speed, source = known
    text = f"The ego vehicle is {STEERING[steering]}. The ego vehicle is {SPEEDS[speed]}."
    return grounded(belief, question, "behavior", text, grounds=(source,))


def steering_and_speed(belief: Belief) -> tuple[int, int, str] | None:
    """Places in `STEERING` and `SPEEDS`, and where they come from."""
    if belief.plan is not None:
        trajectory = belief.plan.trajectory
        turned = float(np.degrees(wrap_angle(trajectory.poses_ego[-1, 2])))
        mean, source = float(np.nanmean(trajectory.speeds_mps)), "plan"
    elif belief.ego is not None and np.isfinite(belief.ego.speed_mps):
        turned = float(np.degrees(belief.ego.yaw_rate_radps * 3))
        mean, source = abs(float(belief.ego.speed_mps)), "motion from past poses"
    else:
        return None
    strength = 0 if abs(turned) < _SLIGHT_DEG else 1 if abs(turned) < _STRONG_DEG else 2
    steering = 2 - strength if turned > 0 else 2 + strength
    return steering, int(np.searchsorted(_SPEED_BOUNDS_MPS, mean, side="right")), source


def on(belief: Belief, thing: Thing) -> bool:
    """Whether a thing is on the vehicle's way."""
    return any(each.thing.number == thing.number for each in on_way(belief, way_ahead(belief)))


def _signal(thing: Thing) -> str:
    if thing.name != "traffic_light" or thing.said is None:
        return ""
    return colour_word(re.findall("[a-z]+", thing.said.lower())) or ""


def _is_before(offset: np.ndarray, heading: float) -> bool:
    """Whether a point lies in the cone ahead of something with this heading."""
    return bool(abs(wrap_angle(float(np.arctan2(offset[1], offset[0])) - heading)) < _CONE_RAD)
