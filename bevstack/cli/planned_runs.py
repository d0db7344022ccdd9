"""What commands of many runs share: their arguments, what the plan looks like, and how it is carried out."""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.training.planned_runs import PlannedRun, Variant


def add_run_arguments(parser: argparse.ArgumentParser, *, experiment: str) -> None:
    """Data, seeds and how the runs are carried out."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings that hold for all runs")
    parser.add_argument(
        "--experiment", default=experiment, metavar="NAME", help=f"model to vary (default {experiment})"
    )
    parser.add_argument("--data", required=True, metavar="ROOT", help="data to train on")
    parser.add_argument("--val-data", required=True, metavar="ROOT", help="held-out data to score on")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="runs and results")
    parser.add_argument("--seeds", type=int, default=3, metavar="S", help="runs of each model (default 3)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="runs at the same time (default 1)")
    parser.add_argument("--limit", type=int, metavar="N", help="score on N frames only, spread over the split")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and what it costs, and train nothing")
    parser.add_argument("--summarise", action="store_true", help="write the results of what is finished, and stop")


def check_run_arguments(args: argparse.Namespace) -> None:
    """Refuse numbers that make no plan.

    Raises:
        ValueError: one is below 1.
    """
    if args.seeds < 1 or args.processes < 1:
        raise ValueError(f"--seeds {args.seeds} and --processes {args.processes} must be 1 or more")


def run_overrides(args: argparse.Namespace) -> list[str]:
    """The overrides that stand for the arguments."""
    return [f"experiment={args.experiment}", f"data.root={args.data}", f"data.val_root={args.val_data}"]


def carry_out_planned(runs: "list[PlannedRun]", args: argparse.Namespace, write: Callable[[], None]) -> int:
    """Show the plan, or carry out what is left of it and write the results, also those before an interruption."""
    from bevstack.training.carry_out import carry_out, measured_step_seconds

    say = functools.partial(print, flush=True)
    if args.dry_run:
        seconds = measured_step_seconds(runs, functools.partial(say, file=sys.stderr))
        print("\n".join(_plan_lines(runs, seconds, args.processes)))
        return 0
    try:
        if not args.summarise:
            carry_out(runs, processes=args.processes, limit=args.limit, say=say)
    finally:
        write()
    return 0


def _plan_lines(runs: "list[PlannedRun]", seconds: "dict[Variant, float]", processes: int) -> list[str]:
    """Every model with its cost, then the sum."""
    lines = [f"{'model':<22}{'tasks':<34}{'runs':>5}{'steps':>8}{'s/step':>8}{'hours':>8}"]
    total = 0.0
    for variant, cost in seconds.items():
        own = [run for run in runs if run.variant == variant]
        hours = sum(run.steps * cost for run in own if not run.is_trained) / 3600
        total += hours
        tasks = ", ".join(task.rpartition("/")[2] for task in variant.tasks)
        lines.append(f"{variant.name:<22}{tasks:<34}{len(own):>5}{own[0].steps:>8}{cost:>8.2f}{hours:>8.2f}")
        lines += [f"    {word}" for word in variant.overrides]
    finished = sum(run.is_finished for run in runs)
    lines += [
        "",
        f"{len(runs)} runs, {finished} finished. Left: about {total:.1f} h of training one after the other, at the",
        "speed of a few steps just now; start of the runs, validation and evaluation come on top.",
    ]
    if processes > 1:
        lines.append(
            f"{processes} at the same time share the cores of this machine: less than {processes} times faster."
        )
    return lines
