"""Answers about the vehicle's own driving: why it brakes, whether it may go, what it plans, what to look at."""

from dataclasses import dataclass

import numpy as np

from bevstack.asking.answer import Answer, cannot, grounded
from bevstack.asking.believed import MOVING_MPS, Belief, Thing
from bevstack.asking.grammar import Query
from bevstack.asking.importance import ranked
from bevstack.asking.object_answers import distance_on_way
from bevstack.asking.phrases import place, sentence, spoken
from bevstack.asking.selection import described
from bevstack.asking.way import FRONT_M, Way, first_conflict, on_way, way_ahead
from bevstack.types.boxes import BoxIndex
from bevstack.types.trajectory import RouteCommand

_BRAKING_MPS2 = -0.3
_TIME_GAP_S, _STANDSTILL_M = 1.5, 3.0
"""Distance that is kept to what is ahead: so many seconds of driving and so many metres."""
_PLANNED_M = 50.0
_TURN_RADIUS_M, _TURN_SPEED_MPS = 8.0, 4.0
_MOST_IMPORTANT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Something that the vehicle brakes or stands for."""

    text: str
    thing: Thing | None
    grounds: tuple[str, ...]


def why(belief: Belief, query: Query) -> Answer:
    """Why it brakes or stands: the plan's own reasons, what is ahead, the closest conflict, a stop line."""
    doing = _slowing(belief)
    if doing is None:
        return cannot(belief, query.text, query.kind, "neither the vehicle's motion nor a plan is known")
    slows, fact = doing
    causes = causes_to_slow(belief)
    things = [cause.thing for cause in causes if cause.thing is not None]
    grounds = [fact, *(ground for cause in causes for ground in cause.grounds)]
    if not slows:
        more = f"; ahead of it: {causes[0].text}" if causes else "; nothing on the way asks for it"
        return grounded(belief, query.text, query.kind, sentence(f"it is not braking ({fact}){more}"), things, grounds)
    if not causes:
        return cannot(belief, query.text, query.kind, f"{fact}, but nothing that was perceived explains it")
    text = sentence(f"because {causes[0].text}")
    if len(causes) > 1:
        text += " " + sentence(f"also: {'; '.join(cause.text for cause in causes[1:3])}")
    return grounded(belief, query.text, query.kind, text, things, grounds)


def causes_to_slow(belief: Belief) -> list[Cause]:
    """What speaks for slowing down, weightiest first."""
    way, causes = way_ahead(belief), []
    if belief.plan is not None and belief.plan.reasons:
        reasons = "; ".join(belief.plan.reasons[:3])
        causes.append(Cause(text=f"the planner says: {reasons}", thing=None, grounds=(f"plan: {belief.plan.source}",)))
    speed = _own_speed(belief)
    conflict = first_conflict(belief, way, speed if speed > MOVING_MPS else _TURN_SPEED_MPS)
    leads = on_way(belief, way)
    if conflict is not None and not (leads and leads[0].thing.number == conflict.thing.number):
        what = f"the {spoken(conflict.thing.name)} {place(conflict.thing.bearing_deg)}"
        text = f"{what} would be on our way in {conflict.time_s:.1f} s"
        causes.append(Cause(text=text, thing=conflict.thing, grounds=(f"way ahead by {way.source}",)))
    if leads and (lead := leads[0]).gap_m < _heeded_m(belief, speed, lead.thing, way):
        slower = speed - _along_mps(lead.thing, way)
        braking = max(0.0, slower) ** 2 / (2 * max(lead.gap_m, 0.1))
        needed = f", {braking:.1f} m/s2 of braking needed" if braking >= 0.1 else ""
        doing = lead.thing.state if lead.thing.state not in ("unknown", "still") else "in the way"
        text = f"a {spoken(lead.thing.name)} is {doing} {lead.gap_m:.1f} m ahead of us"
        causes.append(Cause(text=text, thing=lead.thing, grounds=(f"gap {lead.gap_m:.1f} m{needed}",)))
    line = distance_on_way(belief, "stop_line")
    if line is not None and line - FRONT_M < _STANDSTILL_M + speed * 3:
        text = f"there is a stop line {max(0.0, line - FRONT_M):.0f} m ahead"
        causes.append(Cause(text=text, thing=None, grounds=("map: stop line on the way",)))
    return causes


def attention(belief: Belief, query: Query) -> Answer:
    """What the driver should look at: the cue, and the things that matter most."""
    best = ranked(belief)[:_MOST_IMPORTANT]
    grounds = [f"{spoken(each.thing.name)} {each.thing.number}: {', '.join(each.reasons)}" for each in best]
    parts = []
    if best:
        first = [f"the {spoken(each.thing.name)} {place(each.thing.bearing_deg)} ({each.reasons[0]})" for each in best]
        parts.append(sentence("look at " + ", then ".join(first)))
    if belief.cue is not None and belief.cue.text:
        parts.append(f"The cue says: {belief.cue.text}")
        grounds.append(f"cue of frame {belief.cue.frame_token}, by {belief.cue.source}")
    text = " ".join(parts) or "Nothing was perceived that asks for attention."
    return grounded(belief, query.text, query.kind, text, [each.thing for each in best], grounds)


def speed_limit(belief: Belief, query: Query) -> Answer:
    """What the route says of the limit."""
    if belief.route is None or not np.isfinite(belief.route.speed_limit_mps):
        return cannot(belief, query.text, query.kind, "the route has no speed limit, and signs are not read")
    limit = belief.route.speed_limit_mps
    text = f"The speed limit is {limit * 3.6:.0f} km/h ({limit:.1f} m/s)."
    return grounded(belief, query.text, query.kind, text, grounds=("route",))


def route(belief: Belief, query: Query) -> Answer:
    """What the navigation asks for."""
    if belief.route is None:
        return cannot(belief, query.text, query.kind, "there is no route")
    command = belief.route.command
    text = "The route goes straight on." if command is RouteCommand.STRAIGHT else f"The route turns {command.value}."
    points = len(belief.route.waypoints_ego)
    return grounded(belief, query.text, query.kind, text, grounds=(f"route: {command.value}, {points} waypoints",))


def ego(belief: Belief, query: Query) -> Answer:
    """How the vehicle moves."""
    state = belief.ego
    if state is None or not np.isfinite(state.speed_mps):
        return cannot(belief, query.text, query.kind, "the vehicle's speed is not known in this frame")
    fact = f"{state.speed_mps:.1f} m/s ({state.speed_mps * 3.6:.0f} km/h), {state.acceleration_mps2:+.1f} m/s2"
    turning = f"turning {'left' if state.yaw_rate_radps > 0 else 'right'}" if abs(state.yaw_rate_radps) > 0.05 else ""
    moving = "driving" if abs(state.speed_mps) >= MOVING_MPS else "standing"
    text = sentence(f"we are {moving} at {fact}" + (f", {turning}" if turning else ""))
    return grounded(belief, query.text, query.kind, text, grounds=("ego motion from past poses",))


def may_go(belief: Belief, query: Query) -> Answer:
    """Whether the way, or a turn, is free for the next seconds."""
    turn = query.turn or RouteCommand.STRAIGHT
    way = way_ahead(belief) if turn is RouteCommand.STRAIGHT else turning_way(turn)
    speed = max(_own_speed(belief), _TURN_SPEED_MPS) if turn is RouteCommand.STRAIGHT else _TURN_SPEED_MPS
    name = "go on" if turn is RouteCommand.STRAIGHT else f"turn {turn.value}"
    conflict = first_conflict(belief, way, speed)
    grounds = [f"way checked: {way.source}, at {speed:.1f} m/s"]
    if belief.route is not None:
        grounds.append(f"the route asks for: {belief.route.command.value}")
    grounds.append("traffic lights and signs are not perceived")
    if conflict is not None:
        what = f"the {spoken(conflict.thing.name)} {place(conflict.thing.bearing_deg)}"
        text = f"No, do not {name}: {what} would be in the way in {conflict.time_s:.1f} s."
        return grounded(belief, query.text, query.kind, text, [conflict.thing], grounds)
    leads = [each for each in on_way(belief, way) if each.gap_m < _STANDSTILL_M]
    if leads:
        what = f"a {spoken(leads[0].thing.name)} is {leads[0].gap_m:.1f} m before the bumper"
        return grounded(belief, query.text, query.kind, f"No, do not {name}: {what}.", [leads[0].thing], grounds)
    text = f"Yes, as far as objects go we can {name}: nothing that was perceived would be in the way within 4 s."
    return grounded(belief, query.text, query.kind, text, grounds=grounds)


def plan(belief: Belief, query: Query) -> Answer:
    """What the vehicle is going to do."""
    if belief.plan is None:
        return cannot(belief, query.text, query.kind, "there is no plan in these predictions")
    trajectory = belief.plan.trajectory
    end, last = trajectory.poses_ego[-1], float(trajectory.speeds_mps[-1])
    seconds = len(trajectory.poses_ego) * trajectory.dt_s
    sideways = "" if abs(end[1]) < 1.5 else f", {abs(end[1]):.0f} m to the {'left' if end[1] > 0 else 'right'}"
    change = "" if not np.isfinite(last) else f", to {last:.1f} m/s"
    text = f"Within {seconds:g} s the vehicle goes {end[0]:.0f} m ahead{sideways}{change}."
    if belief.plan.source == "fallback_stop":
        text = f"The vehicle stops within {seconds:g} s: no feasible plan was found."
    return grounded(belief, query.text, query.kind, text, grounds=(f"plan: {belief.plan.source}", *belief.plan.reasons))


def turning_way(turn: RouteCommand) -> Way:
    """A quarter of a circle to one side, and straight on from there."""
    side = 1.0 if turn is RouteCommand.LEFT else -1.0
    angle = np.linspace(0, np.pi / 2, 10)
    arc = np.stack((np.sin(angle), side * (1 - np.cos(angle))), axis=1) * _TURN_RADIUS_M + [FRONT_M, 0]
    end = arc[-1:] + [[0.0, side * 3 * _TURN_RADIUS_M]]
    return Way(
        points=np.concatenate((np.zeros((1, 2)), arc, end)), source=f"a {turn.value} turn of {_TURN_RADIUS_M:g} m"
    )


def _slowing(belief: Belief) -> tuple[bool, str] | None:
    """Whether the vehicle brakes or stands, and the fact that says so; None where nothing is known of its motion."""
    if belief.plan is not None:
        speeds = belief.plan.trajectory.speeds_mps
        now = _own_speed(belief) if belief.ego is not None else float(speeds[0])
        falls = (
            belief.plan.source == "fallback_stop" or float(speeds[-1]) < min(now - 0.5, 0.9 * now) or now < MOVING_MPS
        )
        return falls, f"the plan goes from {now:.1f} to {float(speeds[-1]):.1f} m/s"
    state = belief.ego
    if state is None or not np.isfinite(state.speed_mps):
        return None
    slows = state.acceleration_mps2 < _BRAKING_MPS2 or abs(state.speed_mps) < MOVING_MPS
    return slows, f"speed {state.speed_mps:.1f} m/s, acceleration {state.acceleration_mps2:+.1f} m/s2"


def _own_speed(belief: Belief) -> float:
    if belief.ego is None or not np.isfinite(belief.ego.speed_mps):
        return 0.0
    return max(0.0, float(belief.ego.speed_mps))


def _along_mps(thing: Thing, way: Way) -> float:
    """Speed of a thing in the direction of the way where it is; 0 where unknown."""
    velocity = np.nan_to_num(np.asarray(thing.row[BoxIndex.VX :], np.float64))
    heading = way.pose_at(float(way.coordinates(thing.xy[None])[0, 0]))[2]
    return float(velocity @ [np.cos(heading), np.sin(heading)])


def _heeded_m(belief: Belief, speed: float, thing: Thing, way: Way) -> float:
    """Gap up to which what is ahead explains slowing down; a plan that slows down may look further than the rule."""
    if belief.plan is not None and float(belief.plan.trajectory.speeds_mps[-1]) < speed - MOVING_MPS:
        return _PLANNED_M
    return max(2 * _STANDSTILL_M, _STANDSTILL_M + _keep_m(speed, thing, way))


def _keep_m(speed: float, thing: Thing, way: Way) -> float:
    """Gap below which what is ahead makes the vehicle slow down: time gap and the way to shed the difference."""
    closing = max(0.0, speed - _along_mps(thing, way))
    return speed * _TIME_GAP_S + closing**2 / (2 * 1.5)


def described_causes(belief: Belief) -> tuple[str, ...]:
    """The causes as lines of context for a language model."""
    return tuple(
        f"{cause.text}" + (f" ({described(cause.thing)})" if cause.thing is not None else "")
        for cause in causes_to_slow(belief)
    )
