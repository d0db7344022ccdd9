"""An imported scenario, played without sensors and with a vehicle under test that does not react."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.openscenario.conditions import Held
from bevstack.sim.openscenario.importing import Imported
from bevstack.sim.scenario.motion import Body, EgoMotion, gap_between
from bevstack.sim.scenario.placing import EGO, ego_way
from bevstack.sim.scenario.roads import ScenarioRoads, build_roads
from bevstack.sim.scenario.schema import Scenario
from bevstack.sim.scenario.script import Script, ScriptState, advance, bodies
from bevstack.sim.scenario.triggered import Situation, is_triggered

LONGEST_S = 1200.0
"""The longest of the public files ends after 900 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a scenario went."""

    end_s: float | None
    """When its stop trigger held; None: not within `LONGEST_S`."""
    contacts: Mapping[str, float]
    """Whom the vehicle under test touched before, and when first."""


def play(imported: Imported, longest_s: float = LONGEST_S) -> Ending:
    """Drive the vehicle under test along its route at its first speed until the scenario ends.

    Raises:
        ValueError: the scenario cannot begin.
    """
    scenario = imported.scenario
    roads = build_roads(scenario.road)
    script = Script(scenario=scenario, roads=roads, vehicle=imported.vehicle)
    way, station, left = ego_way(scenario.ego, roads)
    speed = float(scenario.ego.speed_mps)
    state = script.start()
    held: dict[tuple[int, int], float] = {}
    contacts: dict[str, float] = {}
    step = 0
    while step * DRIVE_STEP_S < longest_s:
        time_s = step * DRIVE_STEP_S
        x, y, yaw = way.pose(station + speed * time_s, left)
        ego = EgoMotion(x=x, y=y, yaw=yaw, speed_mps=speed, travelled_m=speed * time_s,
                        standing_s=time_s if speed == 0 else 0.0)  # fmt: skip
        everybody = bodies(script, state, ego)
        for name in _touched(everybody):
            contacts.setdefault(name, time_s)
        if _is_over(imported, _situation(script, state, everybody, roads), held):
            return Ending(end_s=time_s, contacts=contacts)
        state = advance(script, state, ego)
        step += 1
    return Ending(end_s=None, contacts=contacts)


def with_duration(imported: Imported) -> Scenario:
    """The scenario with the duration that its stop trigger gives it.

    Raises:
        ValueError: the scenario cannot begin.
    """
    end_s = play(imported).end_s
    return replace(imported.scenario, duration_s=round(end_s, 1)) if end_s else imported.scenario


def _situation(script: Script, state: ScriptState, everybody: dict[str, Body], roads: ScenarioRoads) -> Situation:
    ways = {EGO: script.ego_way} | {name: motion.way for name, motion in state.actors.items()}
    return Situation(time_s=state.time_s, bodies=everybody, ended=state.ended, roads=roads, ways=ways)


def _is_over(imported: Imported, now: Situation, since: dict[tuple[int, int], float]) -> bool:
    """Whether all conditions of a group have held once, and their delays have passed."""
    for g, group in enumerate(imported.stop_groups):
        for c, (held, _) in enumerate(group):
            if (g, c) not in since and _holds(held, now):
                since[g, c] = now.time_s
        if group and all(
            (g, c) in since and now.time_s >= since[g, c] + delay - 1e-9 for c, (_, delay) in enumerate(group)
        ):
            return True
    return False


def _holds(held: Held, now: Situation) -> bool:
    return held if isinstance(held, bool) else is_triggered(held, now)


def _touched(everybody: dict[str, Body]) -> list[str]:
    own = everybody[EGO]
    reach = math.hypot(own.length_m, own.width_m) / 2
    return [
        name
        for name, body in everybody.items()
        if name != EGO
        and math.dist((own.x, own.y), (body.x, body.y)) < reach + math.hypot(body.length_m, body.width_m) / 2
        and gap_between(own, body) <= 0
    ]
