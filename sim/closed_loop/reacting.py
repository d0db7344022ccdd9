"""Actors of a scenario who react: drivers, cyclists, walkers and people of a recording, from their specification."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bevstack.planning.idm import IdmParams
from bevstack.sim.agents.driver_habits import DriverHabits
from bevstack.sim.agents.lane_driver import LaneDriver
from bevstack.sim.agents.mobil import MobilParams
from bevstack.sim.agents.recording import Recording
from bevstack.sim.agents.replay import ReplayedUser, TakeOver
from bevstack.sim.agents.view import RoadUser, WorldView
from bevstack.sim.agents.walker import Walker
from bevstack.sim.scenario.behaviours import (
    CyclistBehaviour,
    IdmBehaviour,
    PedestrianBehaviour,
    ReplayBehaviour,
    ScriptedBehaviour,
    StaticBehaviour,
)
from bevstack.sim.scenario.motion import ActorMotion
from bevstack.sim.scenario.placing import pose_of
from bevstack.sim.scenario.schema import ActorSpec
from bevstack.sim.scenario.script import Script

Recordings = Callable[[str], Recording]
"""Name of a scene -> its recording, for actors that replay one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reacting:
    """Somebody who reacts, now."""

    agent: Any
    """An `Agent` of `bevstack.sim.agents`, and its own state."""
    state: Any

    @property
    def user(self) -> RoadUser | None:
        """Its body; None once it has left."""
        return self.state.user

    def moved_on(self, view: WorldView, dt_s: float) -> "Reacting":
        """The same somebody later."""
        return replace(self, state=self.agent.step(self.state, view, dt_s))


def begin_reacting(
    script: Script, motions: Mapping[str, ActorMotion], seed: int, recordings: Recordings | None
) -> dict[str, Reacting]:
    """Everybody of a scenario who reacts, by name.

    Raises:
        ValueError: an actor has manoeuvres besides, is not on a lane though it drives on lanes, or replays a recording
            that is not there.
    """
    found = {}
    for index, (name, spec) in enumerate(script.specs.items()):
        if isinstance(spec.behaviour, ScriptedBehaviour | StaticBehaviour):
            continue
        if spec.maneuvers:
            raise ValueError(
                f"actor {name}: behaviour {spec.behaviour.KIND} decides for itself; manoeuvres need behaviour scripted"
            )
        found[name] = _begin(script, spec, motions[name], seed * 1000 + index, recordings)
    return found


def _begin(script: Script, spec: ActorSpec, motion: ActorMotion, seed: int, recordings: Recordings | None) -> Reacting:
    behaviour = spec.behaviour
    if isinstance(behaviour, PedestrianBehaviour):
        return _walker(script, spec, motion, behaviour)
    if isinstance(behaviour, ReplayBehaviour):
        return _replayed(spec, behaviour, recordings)
    if not motion.way.lanes:
        raise ValueError(f"actor {spec.name}: behaviour {behaviour.KIND} needs guide: lane")
    habits, offset, changes = _habits(behaviour)
    driver = LaneDriver(
        name=spec.name,
        roads=script.roads.network,
        habits=habits,
        lane_changes=MobilParams() if changes else None,
        offset_m=motion.left_m if offset is None else offset,
        seed=seed,
    )
    lane = max(k for k, start in enumerate(motion.way.lane_starts_m) if k == 0 or start <= motion.station_m)
    length, width, _ = script.sizes[spec.name]
    state = driver.begin(
        motion.way.lanes[lane:],
        motion.station_m - motion.way.lane_starts_m[lane],
        motion.speed_mps,
        length_m=length,
        width_m=width,
        class_name=spec.class_name,
    )
    return Reacting(agent=driver, state=state)


def _habits(behaviour: Any) -> tuple[DriverHabits, float | None, bool]:
    """Habits, distance to the left of the lane's centre (None: as at the start), and whether lanes are changed."""
    if isinstance(behaviour, CyclistBehaviour):
        return DriverHabits(wished_mps=float(behaviour.wished_mps)), float(behaviour.offset_m), False
    assert isinstance(behaviour, IdmBehaviour)
    idm = IdmParams(
        acceleration_mps2=float(behaviour.acceleration_mps2),
        comfortable_braking_mps2=float(behaviour.braking_mps2),
        headway_s=float(behaviour.headway_s),
        standstill_gap_m=float(behaviour.standstill_gap_m),
    )
    return DriverHabits(idm=idm, wished_mps=float(behaviour.wished_mps)), None, behaviour.changes_lanes


def _walker(script: Script, spec: ActorSpec, motion: ActorMotion, behaviour: PedestrianBehaviour) -> Reacting:
    corners = [pose_of(place, script.roads, {})[:2] for place in behaviour.way]
    walker = Walker(
        way=np.array([motion.pose[:2], *corners]),
        speed_mps=float(behaviour.walking_mps),
        accepted_gap_s=float(behaviour.accepted_gap_s),
    )
    length, width, _ = script.sizes[spec.name]
    state = walker.begin(
        length_m=length, width_m=width, class_name=spec.class_name, is_off=not math.isclose(motion.speed_mps, 0.0)
    )
    return Reacting(agent=walker, state=state)


def _replayed(spec: ActorSpec, behaviour: ReplayBehaviour, recordings: Recordings | None) -> Reacting:
    if recordings is None:
        raise ValueError(
            f"actor {spec.name} replays {behaviour.scene}: name the data set that has this scene (--data ROOT)"
        )
    recording = recordings(behaviour.scene)
    track = next((track for track in recording.tracks if track.name == behaviour.instance), None)
    if track is None:
        raise ValueError(f"actor {spec.name}: {behaviour.scene} has no instance '{behaviour.instance}'")
    user = ReplayedUser(recording=recording, track=track, take_over=TakeOver() if behaviour.take_over else None)
    return Reacting(agent=user, state=user.begin())
