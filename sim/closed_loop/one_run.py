"""One job from start to finish: set up, drive, measure against the reference driver, judge."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bevstack.sim.closed_loop.agents.oracle import OracleAgent
from bevstack.sim.closed_loop.agents.protocol import Agent, LoopRules
from bevstack.sim.closed_loop.jobs import DriveJob
from bevstack.sim.closed_loop.log_file import drive_hash
from bevstack.sim.closed_loop.loop import Senses, drive
from bevstack.sim.closed_loop.reacting import Recordings
from bevstack.sim.closed_loop.recorder import undriven_log
from bevstack.sim.closed_loop.stage import Stage, set_up
from bevstack.sim.closed_loop.verdict import BROKEN_ENDINGS, Verdict, judge
from bevstack.sim.drive_log import DriveLog
from bevstack.sim.metrics.summary import DriveScores, Value, record_of

SensesFactory = Callable[[Stage], Senses]
"""Makes the sensors of a run."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Driven:
    """A finished run."""

    job: DriveJob
    log: DriveLog
    record: dict[str, Value]
    """All scores, see `bevstack.sim.metrics.summary`."""
    verdicts: tuple[Verdict, ...]
    hash: str
    """Of the log."""
    wall_s: float
    """Of this run alone; never part of results."""

    @property
    def passed(self) -> bool:
        """Whether it was driven to its end and met every expectation."""
        return self.log.ending not in BROKEN_ENDINGS and all(verdict.passed for verdict in self.verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveSetting:
    """What all runs of a suite have in common, besides the agent."""

    senses: SensesFactory | None = None
    """For agents that need frames."""
    rules: LoopRules = field(default_factory=LoopRules)
    measures_progress: bool = True
    """Whether the oracle drives every run too: scores of progress are measured against it."""
    recordings: Recordings | None = None


def drive_job(job: DriveJob, agent: Agent, setting: DriveSetting | None = None) -> Driven:
    """Drive a job; whatever goes wrong in it is its ending."""
    setting, began = setting or DriveSetting(), time.perf_counter()
    log, lanes = _drive(job, agent, setting)
    reference = _reference(job, log, setting)
    is_driven = len(log.ego_poses) > 0 and log.ending != "impossible"
    scores = DriveScores.of(log, reference) if is_driven else None
    return Driven(
        job=job,
        log=log,
        record=record_of(log) if scores is None else scores.record(),
        verdicts=judge(job.scenario.expectations, log, scores, lanes),
        hash=drive_hash(log),
        wall_s=time.perf_counter() - began,
    )


def _drive(job: DriveJob, agent: Agent, setting: DriveSetting) -> tuple[DriveLog, tuple[int, ...]]:
    """The log, and the lanes of the route."""
    try:
        stage = set_up(job.scenario, name=job.name, seed=job.seed, recordings=setting.recordings)
        senses = None
        if agent.needs_frames:
            if setting.senses is None:
                raise ValueError(f"the agent '{agent.name}' needs frames, but there are no sensors")
            senses = setting.senses(stage)
    except (ValueError, OSError) as error:
        return undriven_log(job.name, agent.name, job.seed, dict(job.scenario.values), str(error)), ()
    return drive(stage, agent, senses=senses, rules=setting.rules), stage.course.lanes


def _reference(job: DriveJob, log: DriveLog, setting: DriveSetting) -> DriveLog | None:
    """The oracle's run of the same job; None where nothing was driven."""
    if not setting.measures_progress or not len(log.ego_poses):
        return None
    oracle = OracleAgent()
    if log.agent == oracle.name:
        return log
    reference, _ = _drive(job, oracle, setting)
    return reference if len(reference.ego_poses) else None


def lost_job(job: DriveJob, agent: str, why: str) -> Driven:
    """A run whose process died: the agent's failure, as far as anybody knows."""
    log = undriven_log(job.name, agent, job.seed, dict(job.scenario.values), why, ending="agent_error")
    verdicts = judge(job.scenario.expectations, log, None, ())
    return Driven(job=job, log=log, record=record_of(log), verdicts=verdicts, hash=drive_hash(log), wall_s=0.0)
