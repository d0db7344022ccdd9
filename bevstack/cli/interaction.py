"""`bevstack interaction`: train tasks alone and together, and measure what they do to each other."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.planned_runs import add_run_arguments, carry_out_planned, check_run_arguments, run_overrides

if TYPE_CHECKING:
    from bevstack.training.planned_runs import PlannedRun

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
    add_run_arguments(parser, experiment="m3net_small")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME=OVERRIDE[,OVERRIDE]",
        help="also compare the joint model with these overrides; beside those in configs/interaction/NAME.yaml",
    )
    parser.add_argument("--no-variants", action="store_true", help="leave out those in configs/interaction/NAME.yaml")
    parser.add_argument("--leave-one-out", action="store_true", help="also the models that lack one task")
    return parser


def run(arguments: list[str]) -> int:
    """Plan, train, evaluate, summarise."""
    args = parser().parse_intermixed_args(arguments)
    check_run_arguments(args)
    from bevstack.training.interaction import plan, variants_of
    from bevstack.training.planned_runs import named_overrides

    overrides = [*run_overrides(args), *args.overrides]
    more = {} if args.no_variants else named_overrides("interaction", args.experiment)
    more |= dict(map(_variant, args.variant))
    variants = variants_of(overrides, more=more, leave_one_out=args.leave_one_out)
    runs = plan(overrides, variants, range(args.seeds), args.out, limit=args.limit)
    return carry_out_planned(runs, args, lambda: _write(args.out, args.experiment, overrides, runs))


def _variant(text: str) -> tuple[str, list[str]]:
    name, separator, overrides = text.partition("=")
    if not separator or "=" not in overrides:
        raise ValueError(f"--variant {text} must look like NAME=KEY=VALUE or NAME=KEY=VALUE,KEY=VALUE")
    return name, overrides.split(",")


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
