"""The closed loop: sensors, agent, vehicle, everybody else; 10 Hz, and the same bits every time.

Every run ends by a named ending (`bevstack.sim.drive_log.Ending`), whatever the agent does; nothing that it raises gets
out. Wall time is measured but decides nothing (see `agents/protocol.py` for the one exception).
"""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np

from bevstack.sim.closed_loop.agents.protocol import Agent, Decision, DriveState, LoopRules, Truth
from bevstack.sim.closed_loop.course import BEHIND_M
from bevstack.sim.closed_loop.hanging import HangError, broken_off_after
from bevstack.sim.closed_loop.recorder import Recorder
from bevstack.sim.closed_loop.stage import Stage
from bevstack.sim.closed_loop.world import ActorNow
from bevstack.sim.drive_log import DRIVE_STEP_S, DriveLog, Ending
from bevstack.sim.ego.motion import VehicleState
from bevstack.sim.ego.vehicle import EgoVehicle
from bevstack.sim.metrics.collisions import first_touch
from bevstack.sim.scenario.motion import STANDING_MPS
from bevstack.sim.sensing.faults import FaultSet
from bevstack.types.frame import Frame
from bevstack.types.trajectory import Plan, Route

ResultT = TypeVar("ResultT")


class Senses(Protocol):
    """Sensors of the ego vehicle in one run."""

    def observe(self, time_s: float, ego: VehicleState, actors: tuple[ActorNow | None, ...], route: Route) -> Frame:
        """What they see now; called once a step, in order."""
        ...


class RunOverError(Exception):
    """The run is over before its time.

    Args:
        ending: How it ends.
        remark: Why.
    """

    def __init__(self, ending: Ending, remark: str) -> None:
        super().__init__(remark)
        self.ending: Ending = ending
        self.remark = remark


def drive(stage: Stage, agent: Agent, *, senses: Senses | None = None, rules: LoopRules | None = None) -> DriveLog:
    """Drive one run to its end.

    Args:
        stage: Scenario, set up; its world is used up by this.
        agent: Who drives.
        senses: What it sees by; None for agents that need no frames.
        rules: When a run ends early.
    """
    run = _Run(stage, agent, senses, rules or LoopRules())
    steps = round(stage.course.duration_s / DRIVE_STEP_S)
    try:
        run.begin()
        for step in range(steps):
            run.look_around(step)
            frame, state = run.perceive(step)
            run.follow(run.ask(frame, state))
            run.move(step)
        run.look_around(steps)
    except RunOverError as over:
        return run.recorder.log(over.ending, over.remark)
    return run.recorder.log("duration")


class _Run:
    """The parts of a run and what they remember of it."""

    def __init__(self, stage: Stage, agent: Agent, senses: Senses | None, rules: LoopRules) -> None:
        self.stage, self.agent, self.senses, self.rules = stage, agent, senses, rules
        self.recorder = Recorder(stage, agent.name)
        self.vehicle = EgoVehicle(stage.course.start, vehicle=stage.course.vehicle)
        self.station_m = BEHIND_M
        self.faults = FaultSet(stage.faults)
        self.undecided, self.stood_s = 0, 0.0
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def begin(self) -> None:
        """Tell the agent that a new run begins."""
        self._guarded("begin", lambda: self.agent.begin(f"{self.stage.name}-{self.stage.seed}"))

    def look_around(self, step: int) -> None:
        """Note where everybody is; the run may be over by that."""
        state, actors = self.vehicle.state, self.stage.world.now()
        self.recorder.note(state, actors)
        self.station_m = self.stage.course.station_of(state, self.station_m)
        touched = self._touched(state, actors)
        if touched:
            raise RunOverError("collision", f"touched {touched} before {step * DRIVE_STEP_S:.1f} s")
        goal = self.stage.course.goal_m
        if goal is not None and self.station_m - BEHIND_M >= goal:
            raise RunOverError("goal", "")
        self.stood_s = self.stood_s + DRIVE_STEP_S if state.speed_mps < STANDING_MPS else 0.0
        if self.stood_s >= self.rules.blocked_s:
            raise RunOverError("timeout", f"it stood for {self.rules.blocked_s:g} s")

    def perceive(self, step: int) -> tuple[Frame | None, DriveState]:
        """What the agent is given."""
        course, ego = self.stage.course, self.vehicle.state
        route = course.route(ego, self.station_m)
        time_s = round(step * DRIVE_STEP_S, 6)
        frame = None if self.senses is None else self.senses.observe(time_s, ego, self.stage.world.now(), route)
        truth = Truth(
            world=self.stage.world, course=course, red_line=course.red_line(self.station_m, time_s, ego.speed_mps)
        )
        own = ego.as_ego() if frame is None else frame.ego
        return frame, DriveState(step=step, time_s=time_s, ego=own, route=route, vehicle=course.vehicle, truth=truth)

    def ask(self, frame: Frame | None, state: DriveState) -> Decision:
        """The agent's decision, with its wall time on record."""
        began = time.perf_counter()
        decision: Decision = None
        try:
            decision = self._guarded("act", lambda: self.agent.act(frame, state))
        finally:
            plan = decision if isinstance(decision, Plan) else None
            self.recorder.decided(plan, time.perf_counter() - began)
        return decision

    def follow(self, decision: Decision) -> None:
        """Give the vehicle what was decided; nothing new is a matter of patience."""
        self.undecided = self.undecided + 1 if decision is None else 0
        if self.undecided >= self.rules.undecided_steps:
            raise RunOverError("timeout", f"the agent did not decide for {self.undecided} steps")
        if decision is None:
            return
        try:
            if isinstance(decision, Plan):
                self.vehicle.follow(decision)
            elif np.isfinite((decision.acceleration_mps2, decision.steering_rate_radps)).all():
                self.vehicle.obey(decision)
            else:
                raise ValueError(f"{decision} is not finite")
        except ValueError as error:
            raise RunOverError("diverged", f"what the agent decided cannot be followed: {error}") from None

    def move(self, step: int) -> None:
        """The vehicle and everybody else, a tenth of a second further."""
        before = self.vehicle.state
        self.vehicle.latency.delay_s = self.faults.control_delay_s(step * DRIVE_STEP_S)
        try:
            after = self.vehicle.advance(DRIVE_STEP_S)
        except ValueError as error:
            raise RunOverError("diverged", f"the vehicle's state: {error}") from None
        try:
            self.stage.world.step(before, after)
        except ValueError as error:
            raise RunOverError("impossible", f"the scenario cannot go on: {error}") from None

    def _guarded(self, what: str, call: Callable[[], ResultT]) -> ResultT:
        """Call a method of the agent; whatever it raises ends the run."""
        try:
            with broken_off_after(self.rules.hang_s):
                return call()
        except HangError as error:
            raise RunOverError("timeout", f"{what}: {error}") from None
        except Exception as error:  # an agent may raise anything
            raise RunOverError("agent_error", f"{what}: {type(error).__name__}: {error}") from error

    def _touched(self, state: VehicleState, actors: tuple[ActorNow | None, ...]) -> str:
        """Who touched the ego vehicle since the last step, in between the steps too."""
        own = self.stage.course.vehicle.rectangles(np.array([state.pose]))[0]
        others = np.full((len(actors), 5), np.nan)
        for row, (who, now) in enumerate(zip(self.stage.world.participants, actors, strict=True)):
            if now is not None:
                others[row] = (*now.pose[:2], *who.size_lwh[:2], now.pose[2])
        was_own, were = self._before or (own, others)
        self._before = (own, others)
        for row, who in enumerate(self.stage.world.participants):
            if np.isfinite(first_touch(np.stack((was_own, own)), np.stack((were[row], others[row])))):
                return who.name
        return ""
