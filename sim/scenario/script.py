"""Scripted actors: triggers and actions played at 10 Hz against whatever the ego vehicle does.

`advance` is a function of the state, the ego vehicle and nothing else: the same inputs give the same bits. Inside a
step of 0.1 s it looks every 10 ms, with the ego vehicle going straight on, so that a trigger is at most that late and
actions do not depend on where a step begins.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.agents.transitions import Transition, duration_of
from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.scenario.actions import (
    AppearAction,
    FollowAction,
    HoldAction,
    LaneChangeAction,
    SpeedAction,
    TeleportAction,
    VanishAction,
)
from bevstack.sim.scenario.motion import ActorMotion, Body, EgoMotion
from bevstack.sim.scenario.placing import EGO, placed, pose_of, start_motions
from bevstack.sim.scenario.roads import ScenarioRoads
from bevstack.sim.scenario.schema import DEFAULT_SIZES, ActorSpec, Maneuver, Scenario
from bevstack.sim.scenario.triggered import Situation, is_triggered
from bevstack.sim.scenario.ways import Way

LOOKS_PER_STEP = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Running:
    """A manoeuvre under way."""

    actor: str
    maneuver: Maneuver
    began_s: float
    duration_s: float
    """Infinite for a way without times; it ends where the way does."""
    change: Transition | None = None
    """Of speed or offset."""
    arrivals_s: tuple[float, ...] = ()
    """Times at the points of a way, the begin first; empty for a way at one's own speed."""
    stations_m: tuple[float, ...] = ()
    """Of those points."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScriptState:
    """All scripted actors at a time."""

    time_s: float
    actors: Mapping[str, ActorMotion]
    running: tuple[Running, ...] = ()
    started: frozenset[str] = frozenset()
    """Names of manoeuvres that began, whether or not they ended."""
    ended: Mapping[str, float] = field(default_factory=dict)
    """Name of a manoeuvre -> when it ended."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Script:
    """A concrete scenario, ready to play."""

    scenario: Scenario
    roads: ScenarioRoads
    vehicle: VehicleParams = NUSCENES_VEHICLE

    @cached_property
    def specs(self) -> dict[str, ActorSpec]:
        """Actors by name."""
        return {actor.name: actor for actor in self.scenario.actors}

    @cached_property
    def sizes(self) -> dict[str, tuple[float, float, float]]:
        """Length, width and height by name."""
        return {actor.name: size_of(actor) for actor in self.scenario.actors}

    @cached_property
    def ego_way(self) -> Way:
        """What the ego vehicle's route runs along."""
        return self.roads.way(self.scenario.ego.start.lane, self.scenario.ego.route)

    def start(self) -> ScriptState:
        """The state before anything moved."""
        return ScriptState(time_s=0.0, actors=start_motions(self.scenario, self.roads))


def size_of(actor: ActorSpec) -> tuple[float, float, float]:
    """Length, width and height of an actor of a concrete scenario."""
    length, width, height = actor.size_lwh or DEFAULT_SIZES[actor.class_name]
    return float(length), float(width), float(height)


def advance(
    script: Script,
    state: ScriptState,
    ego: EgoMotion,
    dt_s: float = DRIVE_STEP_S,
    moved_by_others: Mapping[str, ActorMotion] | None = None,
) -> ScriptState:
    """The state one step later.

    Args:
        script: What is played.
        state: Now.
        ego: The ego vehicle now.
        dt_s: The step.
        moved_by_others: Actors, by name, that something else has moved (a driver model, a replay); they are taken as
            they are, and their manoeuvres do not run.
    """
    others = dict(moved_by_others or {})
    if others:
        state = replace(state, actors={**state.actors, **others})
    look_s = dt_s / LOOKS_PER_STEP
    begin_s = state.time_s
    for look in range(LOOKS_PER_STEP):
        now = ego.later(look * look_s)
        state = _begin_maneuvers(script, state, now, frozenset(others))
        state = _move(script, state, look_s, begin_s + (look + 1) * look_s, frozenset(others))
    return state


def bodies(script: Script, state: ScriptState, ego: EgoMotion) -> dict[str, Body]:
    """Outlines of everybody in the world, the ego vehicle under "ego"."""
    present = {name: motion for name, motion in state.actors.items() if motion.is_present}
    return {EGO: ego.body(script.vehicle)} | {n: motion.body(script.sizes[n]) for n, motion in present.items()}


def _begin_maneuvers(script: Script, state: ScriptState, ego: EgoMotion, others: frozenset[str]) -> ScriptState:
    waiting = [
        (actor, maneuver)
        for actor in script.scenario.actors
        if actor.name not in others
        for maneuver in actor.maneuvers
        if maneuver.name not in state.started
    ]
    if not waiting:
        return state
    situation = Situation(
        time_s=state.time_s,
        bodies=bodies(script, state, ego),
        ended=state.ended,
        roads=script.roads,
        ways={EGO: script.ego_way} | {name: motion.way for name, motion in state.actors.items()},
    )
    for actor, maneuver in waiting:
        if is_triggered(maneuver.when, situation):
            state = _begin(script, state, actor, maneuver, situation)
    return state


def _begin(
    script: Script, state: ScriptState, actor: ActorSpec, maneuver: Maneuver, situation: Situation
) -> ScriptState:
    motion, action = state.actors[actor.name], maneuver.action
    run = Running(actor=actor.name, maneuver=maneuver, began_s=state.time_s, duration_s=0.0)
    if isinstance(action, SpeedAction):
        added = situation.bodies[action.relative_to].speed_mps if action.relative_to else 0.0
        change = _speed_change(action, motion.speed_mps, float(action.speed_mps) + added)
        run = replace(run, change=change, duration_s=change.duration)
    elif isinstance(action, LaneChangeAction):
        change = _offset_change(action, motion)
        run = replace(run, change=change, duration_s=change.duration)
    elif isinstance(action, FollowAction):
        motion, run = _follow(action, motion, run, script, situation)
    elif isinstance(action, TeleportAction):
        way, station, left, yaw = placed(actor, action.place, script.roads, situation.standing())
        motion = replace(motion, way=way, station_m=station, left_m=left, yaw_rad=yaw, left_rate_mps=0.0)
    elif isinstance(action, AppearAction | VanishAction):
        motion = replace(motion, is_present=isinstance(action, AppearAction))
    elif isinstance(action, HoldAction):
        run = replace(run, duration_s=float(action.duration_s))
    # A new order for the same thing ends the one before.
    kept = tuple(other for other in state.running if not _is_overridden(other, run))
    cut = {other.maneuver.name: state.time_s for other in state.running if _is_overridden(other, run)}
    return replace(
        state,
        actors={**state.actors, actor.name: motion},
        running=(*kept, run),
        started=state.started | {maneuver.name},
        ended={**state.ended, **cut},
    )


def _is_overridden(old: Running, new: Running) -> bool:
    if old.actor != new.actor:
        return False
    pairs = (SpeedAction, SpeedAction), (LaneChangeAction, LaneChangeAction), (FollowAction, FollowAction)
    one, two = old.maneuver.action, new.maneuver.action
    return any(isinstance(one, first) and isinstance(two, second) for first, second in pairs) or (
        isinstance(one, FollowAction | LaneChangeAction) and isinstance(two, FollowAction | TeleportAction)
    )


def _speed_change(action: SpeedAction, first: float, last: float) -> Transition:
    amount = float(action.amount)
    if amount <= 0 or action.shape == "step" or first == last:
        duration = 0.0
    elif action.by == "time":
        duration = amount
    elif action.by == "rate":
        duration = duration_of(action.shape, last - first, amount)
    else:
        # The shapes are symmetric: the mean speed is that of both ends.
        duration = 2 * amount / (first + last)
    return Transition(shape=action.shape, first=first, last=last, duration=duration)


def _offset_change(action: LaneChangeAction, motion: ActorMotion) -> Transition:
    width, amount = motion.way.lane_width_m, float(action.amount)
    lane = round(motion.left_m / width)
    last = (lane + action.lanes_left) * width + float(action.offset_m)
    if amount <= 0 or action.shape == "step":
        duration = 0.0
    elif action.by == "time":
        duration = amount
    elif action.by == "rate":
        duration = duration_of(action.shape, last - motion.left_m, amount)
    else:
        duration = amount / max(motion.speed_mps, 0.1)
    return Transition(shape=action.shape, first=motion.left_m, last=last, duration=duration)


def _follow(
    action: FollowAction, motion: ActorMotion, run: Running, script: Script, situation: Situation
) -> tuple[ActorMotion, Running]:
    standing = situation.standing()
    corners = [pose_of(point.place, script.roads, standing)[:2] for point in action.points]
    points = np.array([motion.pose[:2], *corners])
    way = Way.through(points)
    lengths = [0.0, *np.cumsum(np.hypot(*np.diff(points, axis=0).T)).tolist()]
    moved = replace(motion, way=way, station_m=0.0, left_m=0.0, left_rate_mps=0.0, yaw_rad=0.0)
    if action.points[0].time_s is None:
        return moved, replace(run, duration_s=math.inf, stations_m=tuple(lengths))
    times = (0.0, *(float(point.time_s or 0.0) for point in action.points))
    return moved, replace(run, duration_s=times[-1], arrivals_s=times, stations_m=tuple(lengths))


def _move(script: Script, state: ScriptState, dt_s: float, time_s: float, others: frozenset[str]) -> ScriptState:
    actors = dict(state.actors)
    for name, motion in state.actors.items():
        if name not in others:
            actors[name] = _moved(motion, [run for run in state.running if run.actor == name], state.time_s, dt_s)
    over = [run for run in state.running if _is_over(run, actors[run.actor], time_s)]
    if over:
        ended = {**state.ended, **{run.maneuver.name: min(time_s, run.began_s + run.duration_s) for run in over}}
        running = tuple(run for run in state.running if run not in over)
        return replace(state, time_s=time_s, actors=actors, running=running, ended=ended)
    return replace(state, time_s=time_s, actors=actors)


def _is_over(run: Running, motion: ActorMotion, time_s: float) -> bool:
    if run.stations_m and not run.arrivals_s:
        return motion.station_m >= run.stations_m[-1]
    return time_s >= run.began_s + run.duration_s - 1e-9


def _moved(motion: ActorMotion, running: list[Running], time_s: float, dt_s: float) -> ActorMotion:
    speed, left, left_rate = motion.speed_mps, motion.left_m, 0.0
    way_m = speed * dt_s
    for run in running:
        passed = time_s - run.began_s
        if run.arrivals_s:
            now, later = (float(np.interp(t, run.arrivals_s, run.stations_m)) for t in (passed, passed + dt_s))
            way_m = later - now
            speed = way_m / dt_s
        elif run.change is not None and isinstance(run.maneuver.action, SpeedAction):
            speed = run.change.value(passed + dt_s)
            way_m = (run.change.value(passed) + 4 * run.change.value(passed + dt_s / 2) + speed) / 6 * dt_s
        elif run.change is not None:
            left = run.change.value(passed + dt_s)
            left_rate = run.change.rate(passed + dt_s)
    bend = 1.0 - motion.way.curvature(motion.station_m) * left
    return motion.moved(motion.station_m + way_m / max(bend, 0.1), left, speed, left_rate, dt_s)
