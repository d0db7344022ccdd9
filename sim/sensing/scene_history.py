"""Where everybody was a moment ago: sensors expose between the steps of a simulation, and some of them late."""

import math
from bisect import bisect_right
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from bevstack.geometry.transforms import from_xy_yaw, wrap_angle
from bevstack.sim.sensing.world_state import ActorState, WorldState
from bevstack.sim.sensors.scene import ActorPose

SAME_TIME_S = 1e-6


class SceneHistory:
    """The states of the last seconds. Between two of them everybody moves linearly.

    Args:
        keep_s: How far back states are kept.
    """

    def __init__(self, *, keep_s: float) -> None:
        self.keep_s = keep_s
        self._states: list[WorldState] = []
        self._instances: dict[str, int] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was seen yet."""
        return not self._states

    @property
    def newest(self) -> WorldState:
        """The last state."""
        return self._states[-1]

    def add(self, state: WorldState) -> None:
        """Take in a state.

        Raises:
            ValueError: it is not later than the last one, or has a place that is not finite.
        """
        if self._states and state.time_s < self._states[-1].time_s + SAME_TIME_S:
            raise ValueError(
                f"time_s={state.time_s} does not come after {self._states[-1].time_s}: states come in order of time, "
                "and a new run begins with reset()"
            )
        if not all(map(math.isfinite, (state.time_s, state.ego_x_m, state.ego_y_m, state.ego_yaw_rad))):
            raise ValueError(f"the ego vehicle's pose at {state.time_s} s is not finite: {state.T_global_ego.tolist()}")
        self._states.append(state)
        for actor in state.actors:
            self._instances.setdefault(actor.name, len(self._instances))
        while len(self._states) > 2 and self._states[1].time_s < state.time_s - self.keep_s:
            del self._states[0]

    def clear(self) -> None:
        """Forget everything."""
        self._states, self._instances = [], {}

    def ego_pose(self, time_s: float) -> Float[np.ndarray, "4 4"]:
        """T_global_ego at a time; before the first state and after the last one it stands there."""
        earlier, later, share = self._around(time_s)
        start = (earlier.ego_x_m, earlier.ego_y_m, earlier.ego_z_m, earlier.ego_yaw_rad)
        end = (later.ego_x_m, later.ego_y_m, later.ego_z_m, later.ego_yaw_rad)
        x, y, z, yaw = _between(start, end, share)
        return from_xy_yaw(x, y, yaw, z)

    def actor_poses(self, time_s: float) -> list[ActorPose]:
        """Every actor at a time; who is only in the state before stays, who is only in the one after is not there."""
        earlier, later, share = self._around(time_s)
        following = {actor.name: actor for actor in later.actors}
        poses = []
        for actor in earlier.actors:
            x, y, z, yaw = _between(_pose(actor), _pose(following.get(actor.name, actor)), share)
            poses.append(
                ActorPose(
                    instance=self._instances[actor.name],
                    meshes=actor.model.meshes,
                    T_global_actor=from_xy_yaw(x, y, yaw, z),
                    phase=actor.phase,
                )
            )
        return poses

    def _around(self, time_s: float) -> tuple[WorldState, WorldState, float]:
        """The states before and after a time, and how far it is from the one to the other."""
        index = bisect_right(self._states, time_s + SAME_TIME_S, key=lambda state: state.time_s) - 1
        if index < 0:
            return self._states[0], self._states[0], 0.0
        earlier = self._states[index]
        if index + 1 == len(self._states) or time_s - earlier.time_s < SAME_TIME_S:
            return earlier, earlier, 0.0
        later = self._states[index + 1]
        return earlier, later, (time_s - earlier.time_s) / (later.time_s - earlier.time_s)


def moved_back(state: WorldState, seconds: float) -> WorldState:
    """A state some time earlier, had everybody kept speed (and the ego vehicle its yaw rate) until it."""
    yaw = state.ego_yaw_rad - state.yaw_rate_radps * seconds
    heading = state.ego_yaw_rad - 0.5 * state.yaw_rate_radps * seconds
    way = state.speed_mps * seconds
    return replace(
        state,
        time_s=state.time_s - seconds,
        ego_x_m=state.ego_x_m - way * math.cos(heading),
        ego_y_m=state.ego_y_m - way * math.sin(heading),
        ego_yaw_rad=yaw,
        acceleration_mps2=0.0,
        actors=tuple(
            replace(actor, x_m=actor.x_m - actor.vx_mps * seconds, y_m=actor.y_m - actor.vy_mps * seconds)
            for actor in state.actors
        ),
    )


def _pose(actor: ActorState) -> tuple[float, float, float, float]:
    return actor.x_m, actor.y_m, actor.z_m, actor.yaw_rad


def _between(
    start: tuple[float, float, float, float], end: tuple[float, float, float, float], share: float
) -> tuple[float, float, float, float]:
    """x, y, z, yaw; the short way round for yaw."""
    if share == 0.0:
        return start
    x, y, z = (a * (1 - share) + b * share for a, b in zip(start[:3], end[:3]))
    return x, y, z, float(wrap_angle(start[3] + share * wrap_angle(end[3] - start[3])))
