"""The actors of a scenario: those with a script, and those who react, on one clock."""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from bevstack.sim.agents.view import EGO, RoadUser, WorldView
from bevstack.sim.closed_loop.foresight import Foresight
from bevstack.sim.closed_loop.reacting import Reacting, Recordings, begin_reacting
from bevstack.sim.closed_loop.world import ActorNow, Participant
from bevstack.sim.drive_log import DRIVE_STEP_S, RedLight
from bevstack.sim.ego.motion import VehicleState
from bevstack.sim.scenario.motion import STANDING_MPS, ActorMotion, EgoMotion
from bevstack.sim.scenario.script import Script, ScriptState, advance
from bevstack.sim.scenario.ways import Way


@dataclass(slots=True, kw_only=True)
class ScenarioActors:
    """Plays a scenario's actors. Implements `DrivenWorld`."""

    script: Script
    seed: int
    red_lights: tuple[RedLight, ...]
    _state: ScriptState
    _reacting: dict[str, Reacting]
    _ego: EgoMotion
    _foresight: Foresight

    @classmethod
    def begin(
        cls,
        script: Script,
        *,
        ego: VehicleState,
        seed: int,
        red_lights: tuple[RedLight, ...] = (),
        recordings: Recordings | None = None,
    ) -> "ScenarioActors":
        """Everybody at time 0.

        Raises:
            ValueError: an actor cannot begin.
        """
        state = script.start()
        return cls(
            script=script,
            seed=seed,
            red_lights=red_lights,
            _state=state,
            _reacting=begin_reacting(script, state.actors, seed, recordings),
            _ego=_motion_of(ego, None),
            _foresight=Foresight(script),
        )

    @property
    def participants(self) -> tuple[Participant, ...]:
        """In the order of the scenario."""
        return tuple(
            Participant(name=name, class_name=spec.class_name, size_lwh=self.script.sizes[name], model=spec.model)
            for name, spec in self.script.specs.items()
        )

    def now(self) -> tuple[ActorNow | None, ...]:
        """Where everybody is."""
        return tuple(
            ActorNow(pose=motion.pose, velocity=motion.velocity) if motion.is_present else None
            for motion in (self._state.actors[name] for name in self.script.specs)
        )

    def step(self, before: VehicleState, after: VehicleState) -> None:
        """Scripts run against the ego vehicle as it is at the begin of the step, and so do those who react.

        Raises:
            ValueError: a manoeuvre has no place to go to.
        """
        view = self._view() if self._reacting else None
        moved = {name: one.moved_on(view, DRIVE_STEP_S) for name, one in self._reacting.items() if view is not None}
        held = {name: self._state.actors[name] for name in self._reacting}
        following = advance(self.script, self._state, self._ego, moved_by_others=held)
        self._reacting = moved
        bodies = {name: _carried_on(self._state.actors[name], one.user) for name, one in moved.items()}
        self._state = replace(following, actors={**following.actors, **bodies}) if bodies else following
        self._ego = _motion_of(after, self._ego)

    def foreseen(self) -> Float[np.ndarray, "A S 2"]:
        """The script ahead, the ego vehicle going straight on; of those who react nothing is decided."""
        ways = self._foresight.ahead(self._state, self._ego, frozenset(self._reacting))
        for row, name in enumerate(self.script.specs):
            if name in self._reacting:
                ways[row] = np.nan
        return ways

    def _view(self) -> WorldView:
        """Everybody as drivers and walkers see them."""
        ego = self._ego
        users: dict[str, RoadUser] = {
            EGO: RoadUser.ego_vehicle((ego.x, ego.y, ego.yaw), ego.speed_mps, self.script.vehicle)
        }
        for name, motion in self._state.actors.items():
            if motion.is_present:
                users[name] = self._user(name, motion)
        time_s = self._state.time_s
        red = (light.lanes for light in self.red_lights if light.from_s <= time_s < light.until_s)
        return WorldView(
            now_s=time_s,
            users=users,
            roads=self.script.roads.network,
            stopped_lanes=frozenset(lane for lanes in red for lane in lanes),
        )

    def _user(self, name: str, motion: ActorMotion) -> RoadUser:
        x, y, yaw = motion.pose
        vx, vy = motion.velocity
        length, width, _ = self.script.sizes[name]
        along = vx * math.cos(yaw) + vy * math.sin(yaw)
        return RoadUser(
            x_m=x, y_m=y, yaw_rad=yaw, speed_mps=along, length_m=length, width_m=width,
            class_name=self.script.specs[name].class_name,
        )  # fmt: skip


def _motion_of(state: VehicleState, before: EgoMotion | None) -> EgoMotion:
    """The ego vehicle as scripts look at it."""
    way = 0.0 if before is None else math.hypot(state.x_m - before.x, state.y_m - before.y)
    stood = 0.0 if before is None or state.speed_mps >= STANDING_MPS else before.standing_s + DRIVE_STEP_S
    return EgoMotion(
        x=state.x_m,
        y=state.y_m,
        yaw=state.yaw_rad,
        speed_mps=state.speed_mps,
        travelled_m=way if before is None else before.travelled_m + way,
        standing_s=stood,
    )


def _carried_on(before: ActorMotion, user: RoadUser | None) -> ActorMotion:
    """The motion of somebody who reacts, as scripts look at it."""
    if user is None:
        return replace(before, is_present=False)
    x, y, _ = before.pose
    return ActorMotion(
        way=Way.ahead(user.x_m, user.y_m, user.yaw_rad),
        station_m=0.0,
        left_m=0.0,
        speed_mps=user.speed_mps,
        travelled_m=before.travelled_m + math.hypot(user.x_m - x, user.y_m - y),
        standing_s=before.standing_s + DRIVE_STEP_S if abs(user.speed_mps) < STANDING_MPS else 0.0,
    )
