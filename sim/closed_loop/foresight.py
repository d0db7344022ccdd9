"""The future of scripted actors: their script played ahead, kept as long as things go as foreseen."""

import numpy as np
from jaxtyping import Float

from bevstack.sim.closed_loop.world import FORESIGHT_STEP_S, FORESIGHT_STEPS
from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.scenario.motion import EgoMotion
from bevstack.sim.scenario.script import Script, ScriptState, advance
from bevstack.sim.scenario.triggers import AfterTrigger, AllTrigger, AnyTrigger, TimeTrigger, Trigger

_STRIDE = round(FORESIGHT_STEP_S / DRIVE_STEP_S)
_LOOK_AGAIN = 5
"""Steps after which a script that waits for the ego vehicle is played ahead anew."""
_GONE_M = 1e4
"""Who will have left the world is this far away."""


class Foresight:
    """Plays a script ahead.

    Args:
        script: Whose actors.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self._ahead: list[ScriptState] = []
        self._waits = {
            maneuver.name
            for actor in script.scenario.actors
            for maneuver in actor.maneuvers
            if not _is_timed(maneuver.when)
        }

    def ahead(self, state: ScriptState, ego: EgoMotion, others: frozenset[str]) -> Float[np.ndarray, "A S 2"]:
        """Box centres at the steps of `DrivenWorld.foreseen`.

        Args:
            state: Now.
            ego: The ego vehicle now; it goes straight on.
            others: Actors that no script moves: they stay where they are.
        """
        self._keep(state)
        needed = 1 + FORESIGHT_STEPS * _STRIDE
        while len(self._ahead) < needed:
            last = self._ahead[-1]
            held = {name: last.actors[name] for name in others}
            later = ego.later(last.time_s - state.time_s)
            self._ahead.append(advance(self.script, last, later, moved_by_others=held))
        ways = np.empty((len(self.script.specs), FORESIGHT_STEPS, 2))
        for step in range(FORESIGHT_STEPS):
            actors = self._ahead[(step + 1) * _STRIDE].actors
            for row, name in enumerate(self.script.specs):
                motion = actors[name]
                ways[row, step] = motion.pose[:2] if motion.is_present else (_GONE_M, _GONE_M)
        return ways

    def _keep(self, state: ScriptState) -> None:
        """Drop what is past; begin anew where something came otherwise."""
        while self._ahead and self._ahead[0].time_s < state.time_s - 1e-6:
            del self._ahead[0]
        step = round(state.time_s / DRIVE_STEP_S)
        is_due = bool(self._waits - state.started) and step % _LOOK_AGAIN == 0
        if not self._ahead or is_due or not _agree(self._ahead[0], state):
            self._ahead = [state]


def _agree(foreseen: ScriptState, state: ScriptState) -> bool:
    return foreseen.started == state.started and all(
        motion.is_present == state.actors[name].is_present
        and abs(motion.station_m - state.actors[name].station_m) < 1e-6
        and abs(motion.left_m - state.actors[name].left_m) < 1e-6
        and motion.way is state.actors[name].way
        for name, motion in foreseen.actors.items()
    )


def _is_timed(trigger: Trigger) -> bool:
    """Whether a trigger looks at the clock alone."""
    if isinstance(trigger, AllTrigger | AnyTrigger):
        return all(_is_timed(part) for part in trigger.of)
    return isinstance(trigger, TimeTrigger | AfterTrigger)
