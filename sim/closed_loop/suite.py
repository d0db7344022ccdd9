"""Runs a suite: many jobs, in one process or several, each finished run kept, so that a suite can be taken up again.

What comes out does not depend on the number of processes, on the order in which they finish, or on interruptions. Every
process works with one thread: parallel runs use the cores better, and sums that threads split could differ in a bit.
"""

import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from bevstack.sim.closed_loop.agents.protocol import Agent, AgentFactory
from bevstack.sim.closed_loop.jobs import DriveJob
from bevstack.sim.closed_loop.one_run import DriveSetting, drive_job, lost_job
from bevstack.sim.closed_loop.run_folder import is_finished, read_row, save_run, versions

RESULTS, SUITE = "results.parquet", "suite.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSource:
    """Who drives, and how each process gets one."""

    name: str
    make: AgentFactory
    description: Mapping[str, Any] = field(default_factory=dict)
    """What it is made of: checkpoint, `weights_sha256`, modality; it names the results."""


def run_suite(
    jobs: Sequence[DriveJob],
    agent: AgentSource,
    out: Path,
    *,
    setting: DriveSetting | None = None,
    processes: int = 1,
    on_done: Callable[[DriveJob, bool], None] = lambda job, is_new: None,
) -> pa.Table:
    """Drive what is not driven yet and write `results.parquet` of all; returns that table.

    Args:
        jobs: The runs.
        agent: Who drives.
        out: Results folder. Finished runs of the same agent in it are kept.
        setting: What all runs have in common.
        processes: How many runs at a time.
        on_done: Called with every job that is there, and whether it was driven just now.

    Raises:
        ValueError: the folder holds results of another agent or version, or `processes` is not positive.
    """
    if processes < 1:
        raise ValueError(f"processes={processes} must be 1 or more")
    setting = setting or DriveSetting()
    _claim(out, agent)
    waiting = []
    for job in jobs:
        if is_finished(out, job):
            on_done(job, False)
        else:
            waiting.append(job)
    for job in _drive_all(waiting, agent, out, setting, processes):
        on_done(job, True)
    table = pa.concat_tables([read_row(out, job) for job in jobs]) if jobs else pa.table({})
    beside = out / f".{RESULTS}"
    pq.write_table(table, beside)
    beside.rename(out / RESULTS)
    return table


def _claim(out: Path, agent: AgentSource) -> None:
    """Say whose results a folder holds; refuse one that is somebody else's."""
    own = {"agent": agent.name, **agent.description, "versions": versions()}
    file = out / SUITE
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        differing = sorted(key for key in {*own, *found} if own.get(key) != found.get(key))
        if differing:
            what = ", ".join(f"{key} {found.get(key)} instead of {own.get(key)}" for key in differing)
            raise ValueError(f"{out} holds results of another agent or version ({what}): choose another folder")
        return
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(own, indent=1) + "\n", encoding="utf-8")


def _drive_all(
    jobs: Sequence[DriveJob], agent: AgentSource, out: Path, setting: DriveSetting, processes: int
) -> Iterator[DriveJob]:
    """Jobs as they are finished."""
    if processes == 1 or len(jobs) < 2:
        if jobs:
            _open_process(agent, out, setting)
        for job in jobs:
            _work(job)
            yield job
        return
    waiting = list(jobs)
    while waiting:
        suspects: list[DriveJob] = []
        with _pool(min(processes, len(waiting)), agent, out, setting) as pool:
            yield from _feed(pool, waiting, processes, suspects)
        # One of those that were being driven killed its process: each is tried alone.
        for job in suspects:
            with _pool(1, agent, out, setting) as pool:
                try:
                    pool.submit(_work, job).result()
                except BrokenProcessPool:
                    why = "its process died, twice: out of memory, or a crash in native code"
                    save_run(out, lost_job(job, agent.name, why), agent.description)
            yield job


def _feed(
    pool: ProcessPoolExecutor, waiting: list[DriveJob], processes: int, suspects: list[DriveJob]
) -> Iterator[DriveJob]:
    """Keep a pool busy with the first of `waiting`; when it breaks, name who was in it."""
    running: dict[Future[None], DriveJob] = {}
    while waiting or running:
        try:
            while waiting and len(running) < processes:
                running[pool.submit(_work, waiting[0])] = waiting[0]
                del waiting[0]
        except BrokenProcessPool:
            suspects += running.values()
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            job = running.pop(future)
            try:
                future.result()
            except BrokenProcessPool:
                suspects += [job, *running.values()]
                return
            yield job


def _pool(processes: int, agent: AgentSource, out: Path, setting: DriveSetting) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_open_process,
        initargs=(agent, out, setting),
    )


@dataclass(slots=True, kw_only=True)
class _Process:
    """What one process keeps between its jobs."""

    agent: Agent
    description: Mapping[str, Any]
    out: Path
    setting: DriveSetting


_PROCESS: list[_Process] = []


def _open_process(agent: AgentSource, out: Path, setting: DriveSetting) -> None:
    torch.set_num_threads(1)
    _PROCESS[:] = [_Process(agent=agent.make(), description=agent.description, out=out, setting=setting)]


def _work(job: DriveJob) -> None:
    process = _PROCESS[0]
    save_run(process.out, drive_job(job, process.agent, process.setting), process.description)
