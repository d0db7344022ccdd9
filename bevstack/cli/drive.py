"""`bevstack drive`: a suite of scenarios in a closed loop, with an agent at the wheel."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bevstack.sim.closed_loop.jobs import DriveJob
    from bevstack.sim.closed_loop.one_run import DriveSetting
    from bevstack.sim.closed_loop.reacting import Recordings
    from bevstack.sim.closed_loop.suite import AgentSource

BLIND = ("oracle", "constant-velocity", "unprotected")
SEEING = ("rule", "learned")

_EPILOG = """agents:
  oracle              the rules of driving on the truth: boxes, futures, map, lights (the reference of others)
  constant-velocity   keeps speed and heading
  unprotected         keeps speed and place on the lane: shows that a scenario is dangerous
  rule                the rules of driving on what --checkpoint perceives
  learned             the plans that --checkpoint has learned, checked by the rules

examples:
  bevstack drive smoke --agent oracle --out drives/oracle            no sensors, no model: the quickest look
  bevstack drive smoke --checkpoint demo --out drives/demo           cameras, LiDAR, the shipped model
  bevstack drive ncap --checkpoint demo --modality lidar --out drives/lidar
  bevstack drive CPNA-50 --agent oracle --out drives/one             one scenario of the library
  bevstack drive my.yaml --agent oracle --out drives/mine            one of your own, or a suite of them
  bevstack drive full --limit 50 --agent rule --checkpoint runs/latest --processes 8 --out drives/full
  bevstack drive smoke --agent oracle --junit smoke.xml --out drives/ci
  bevstack drive --list                                              suites and scenarios

One step is 0.1 s: sensors, agent, vehicle (LQR tracking, actuator lags), everybody else. The same command gives the
same results to the last bit, with any number of processes; wall time is measured but decides nothing. Interrupted?
Repeat the command: finished runs are kept.

OUT/results.parquet   one row a run: passed, expectations, all scores, ending, hash, parameters, versions
OUT/runs/RUN/         scenario.yaml, log.npz (the whole run), run.json (for reading), row.parquet

A run ends by: duration, goal, collision, timeout (no decision for 1 s of simulated time, or 60 s of standing),
agent_error (it raised), diverged (a plan or state that is not finite), impossible (the scenario cannot begin). The last
four fail every expectation of the scenario, and the suite goes on.

exit code: 0 every run passed; 1 at least one did not meet what its scenario expects, or the command was refused (then
there is a message instead of a table); 2 wrong usage.
"""

EXIT_UNMET = 1


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="bevstack drive",
        description="Drive scenarios in a closed loop and say which were passed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suite", nargs="?", metavar="SUITE", help="suite, scenario, or YAML file of either")
    parser.add_argument("--list", action="store_true", help="list suites and scenarios")
    parser.add_argument("--agent", choices=(*BLIND, *SEEING), help="who drives (default: rule with --checkpoint)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="results folder")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="of everything drawn in a run (default 0)")
    parser.add_argument(
        "--repeats", metavar="N", type=int, default=1, help="rounds with seeds S, S + 1 ... (default 1)"
    )
    parser.add_argument("--limit", metavar="K", type=int, help="only K runs, spread evenly over the suite")
    parser.add_argument("--checkpoint", metavar="NAME", help="demo, a .safetensors or .ckpt file, or a run folder")
    parser.add_argument(
        "--modality", choices=("fusion", "lidar", "camera"), help="which sensors the model gets (default: its own)"
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    parser.add_argument(
        "--live-cues", metavar="NAME", help="text for a model that reads it: zero-shot or hf:OWNER/NAME, on the way"
    )
    parser.add_argument("--text-encoder", metavar="NAME", default="minilm", help="who embeds it (default minilm)")
    parser.add_argument("--processes", metavar="N", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="also write JUnit XML")
    parser.add_argument("--data", metavar="ROOT", type=Path, help="data set of scenarios that replay recordings")
    parser.add_argument("--version", metavar="V", help="version folder of --data (default: the only one)")
    parser.add_argument(
        "--no-reference", action="store_true", help="do not drive the oracle too: no scores of progress, less time"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def run(arguments: list[str]) -> int:
    """Drive, write, print one screen."""
    args = parser().parse_args(arguments)
    if args.list:
        return _list()
    if args.suite is None or args.out is None:
        raise ValueError("name what to drive and where results go: bevstack drive smoke --agent oracle --out DIR")
    from bevstack.cli.drive_table import table
    from bevstack.sim.closed_loop.jobs import jobs_of
    from bevstack.sim.closed_loop.junit import write_junit
    from bevstack.sim.closed_loop.run_folder import read_summary

    jobs = jobs_of(args.suite, seed=args.seed, repeats=args.repeats, limit=args.limit)
    agent, setting = _agent(args)
    results = _driven(args, jobs, agent, setting)
    summaries = [read_summary(args.out, job) for job in jobs]
    if args.junit:
        write_junit(summaries, args.junit, suite=Path(args.suite).stem)
    print(table(results, summaries))
    print(f"\nresults  {args.out / 'results.parquet'}")
    return 0 if all(summary["passed"] for summary in summaries) else EXIT_UNMET


def _driven(
    args: argparse.Namespace, jobs: "tuple[DriveJob, ...]", agent: "AgentSource", setting: "DriveSetting"
) -> Any:
    """The table of results, with a bar that says how long it will take."""
    from tqdm import tqdm

    from bevstack.sim.closed_loop.suite import run_suite

    with tqdm(total=len(jobs), desc=agent.name, unit="run", disable=args.quiet, leave=False) as bar:

        def count(job: "DriveJob", is_new: bool) -> None:
            if not is_new:
                bar.initial += 1  # the pace is that of what is driven now
            bar.set_postfix_str(job.name, refresh=False)
            bar.update(1)

        return run_suite(jobs, agent, args.out, setting=setting, processes=args.processes, on_done=count)


def _agent(args: argparse.Namespace) -> "tuple[AgentSource, DriveSetting]":
    from bevstack.sim.closed_loop.agents.names import BLIND_AGENTS
    from bevstack.sim.closed_loop.one_run import DriveSetting
    from bevstack.sim.closed_loop.suite import AgentSource

    choice = args.agent or ("rule" if args.checkpoint else None)
    if choice is None:
        raise ValueError(f"who drives? --agent {' or '.join(BLIND)}, or --checkpoint NAME")
    if (choice in SEEING) != (args.checkpoint is not None):
        needs = "needs" if choice in SEEING else "does without"
        raise ValueError(f"--agent {choice} {needs} a --checkpoint")
    shared: dict[str, Any] = {"measures_progress": not args.no_reference, "recordings": _recordings(args)}
    if choice in BLIND:
        if args.modality or args.live_cues:
            raise ValueError(f"--agent {choice} has no sensors: leave out --modality and --live-cues")
        return AgentSource(name=choice, make=BLIND_AGENTS[choice]), DriveSetting(**shared)
    from bevstack.evaluation.checkpoint_agent import checkpoint_agent

    maker, senses, description = checkpoint_agent(
        args.checkpoint,
        "learned" if choice == "learned" else "rule",
        modality=args.modality,
        device=args.device,
        captioner=args.live_cues,
        encoder=args.text_encoder,
    )
    if args.processes == 1:
        senses = senses.with_threads(len(os.sched_getaffinity(0)))
    return AgentSource(name=choice, make=maker, description=description), DriveSetting(senses=senses, **shared)


def _recordings(args: argparse.Namespace) -> "Recordings | None":
    if args.data is None:
        return None
    from bevstack.data.index import open_index
    from bevstack.sim.closed_loop.recordings import DatasetRecordings

    open_index(args.data, args.version, progress=True)
    return DatasetRecordings(root=args.data, version=args.version)


def _list() -> int:
    from bevstack.sim.scenario.catalogue import library_names, load_suite, scenario_count, suite_names

    print("suites")
    for name in suite_names():
        suite = load_suite(name)
        print(f"  {name:<12} {scenario_count(suite):>5} runs  {suite.description}")
    print("\nscenarios (the part after the slash is enough; bevstack scenario show NAME prints one)")
    for name in library_names():
        print(f"  {name}")
    return 0
