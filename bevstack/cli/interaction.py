"""`bevstack interaction`: train tasks alone and together, and measure what they do to each other."""

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.training.interaction import PlannedRun, Variant

_DESCRIPTION = """Train the joint model, each task alone and variants of the joint model on the same data with the same
seeds, score all of them on held-out data, and write the differences with their intervals and the cosines between the
gradients of the tasks: OUT/interaction.json and OUT/interaction.html. The same command goes on where it was
interrupted; a finished run is not repeated."""

_EPILOG = """examples:
  bevstack interaction --data worlds/train --val-data worlds/val --out runs/interaction --dry-run
  bevstack interaction --data worlds/train --val-data worlds/val --out runs/interaction trainer.max_epochs=10
  bevstack interaction ... --seeds 5 --leave-one-out --variant pcgrad=balance=pcgrad
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="bevstack interaction",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings that hold for all runs")
    parser.add_argument("--experiment", default="m3net_small", metavar="NAME", help="joint model (default m3net_small)")
    parser.add_argument("--data", required=True, metavar="ROOT", help="data to train on")
    parser.add_argument("--val-data", required=True, metavar="ROOT", help="held-out data to score on")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="runs and results")
    parser.add_argument("--seeds", type=int, default=3, metavar="S", help="runs of each model (default 3)")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME=OVERRIDE[,OVERRIDE]",
        help="also compare the joint model with these overrides; beside those in configs/interaction/NAME.yaml",
    )
    parser.add_argument("--no-variants", action="store_true", help="leave out those in configs/interaction/NAME.yaml")
    parser.add_argument("--leave-one-out", action="store_true", help="also the models that lack one task")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="runs at the same time (default 1)")
    parser.add_argument("--limit", type=int, metavar="N", help="score on N frames only, spread over the split")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and what it costs, and train nothing")
    parser.add_argument("--summarise", action="store_true", help="write the results of what is finished, and stop")
    return parser


def run(arguments: list[str]) -> int:
    """Plan, train, evaluate, summarise."""
    args = parser().parse_intermixed_args(arguments)
    if args.seeds < 1 or args.processes < 1:
        raise ValueError(f"--seeds {args.seeds} and --processes {args.processes} must be 1 or more")
    from bevstack.training.interaction import default_variants, plan, variants_of
    from bevstack.training.interaction_runs import carry_out, measured_step_seconds

    overrides = [f"experiment={args.experiment}", f"data.root={args.data}", f"data.val_root={args.val_data}"]
    overrides += args.overrides
    more = {} if args.no_variants else default_variants(args.experiment)
    more |= dict(map(_variant, args.variant))
    variants = variants_of(overrides, more=more, leave_one_out=args.leave_one_out)
    runs = plan(overrides, variants, range(args.seeds), args.out, limit=args.limit)
    say = functools.partial(print, flush=True)
    if args.dry_run:
        seconds = measured_step_seconds(runs, functools.partial(say, file=sys.stderr))
        print("\n".join(_plan_lines(runs, seconds, args.processes)))
        return 0
    try:
        if not args.summarise:
            carry_out(runs, processes=args.processes, limit=args.limit, say=say)
    finally:
        _write(args.out, args.experiment, overrides, runs)
    return 0


def _variant(text: str) -> tuple[str, list[str]]:
    name, separator, overrides = text.partition("=")
    if not separator or "=" not in overrides:
        raise ValueError(f"--variant {text} must look like NAME=KEY=VALUE or NAME=KEY=VALUE,KEY=VALUE")
    return name, overrides.split(",")


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


def _write(out: Path, experiment: str, overrides: list[str], runs: "list[PlannedRun]") -> None:
    """Results so far, as JSON and as a page."""
    from bevstack.report.interaction import write_page
    from bevstack.training.interaction import summarise
    from bevstack.weights_file import versions

    content = {"experiment": experiment, "overrides": overrides, **versions(), **summarise(runs)}
    out.mkdir(parents=True, exist_ok=True)
    file = out / "interaction.json"
    file.write_text(json.dumps(content, indent=2) + "\n")
    page = write_page(content, out / "interaction.html")
    print(f"{len(content['runs'])} of {len(runs)} runs\nresults  {file}\npage     {page}")
