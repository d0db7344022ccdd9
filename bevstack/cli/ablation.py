"""`bevstack ablation`: does text help, which kind, and does the model read it?"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.planned_runs import add_run_arguments, carry_out_planned, check_run_arguments, run_overrides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bevstack.training.ablation import AblatedModel, Condition
    from bevstack.training.planned_runs import PlannedRun

_DESCRIPTION = """Train a model whose features a text may shape in several ways, and the same model without language,
on the same data with the same seeds, with and without ego status; score all of them on held-out data under texts that
are fresh, live, old, absent and wrong; and write means, differences seed by seed with intervals, and a verdict on each:
OUT/ablation.json and OUT/ablation.html. A short table in Markdown is printed. The same command goes on where it was
interrupted; a finished run is not repeated."""

_EPILOG = """Both data sets need cues first: bevstack cues make ROOT. Which models are compared stands in
configs/ablation/EXPERIMENT.yaml. With --limit there are gaps between the frames: neither tracks nor plans are scored.

examples:
  bevstack ablation --data worlds/train --val-data worlds/val --out runs/ablation --dry-run
  bevstack ablation --data worlds/train --val-data worlds/val --out runs/ablation trainer.max_steps=400
  bevstack ablation ... --variants none,residual --conditions fresh,absent,wrong
  bevstack ablation ... --summarise
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="bevstack ablation",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_arguments(parser, experiment="drive_small")
    parser.add_argument("--variants", type=_names, default=(), metavar="NAMES", help="only these models")
    parser.add_argument(
        "--conditions", type=_names, default=(), metavar="NAMES", help="only these texts, of fresh, live, ..."
    )
    return parser


def run(arguments: list[str]) -> int:
    """Plan, train, evaluate, summarise."""
    args = parser().parse_intermixed_args(arguments)
    check_run_arguments(args)
    from bevstack.training.ablation import captioner_of_cues, conditions_of, models_of, plan

    overrides = [*run_overrides(args), *args.overrides]
    models = models_of(overrides, args.experiment, args.variants)
    conditions = conditions_of(args.conditions, captioner_of_cues(overrides, args.experiment))
    runs = plan(overrides, models, conditions, range(args.seeds), args.out, limit=args.limit)
    return carry_out_planned(runs, args, lambda: _write(args, overrides, runs, models, conditions))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _write(
    args: argparse.Namespace,
    overrides: list[str],
    runs: "Sequence[PlannedRun]",
    models: "Sequence[AblatedModel]",
    conditions: "Sequence[Condition]",
) -> None:
    """Results so far, as JSON, as a page and as text."""
    from bevstack.build import compose
    from bevstack.report.ablation import markdown_table, write_page
    from bevstack.report.ablation_summary import summarise
    from bevstack.weights_file import versions

    config = compose(overrides)
    start = {"frozen": list(config.optim.get("frozen") or ()), "init_from": config.init_from}
    given = {"experiment": args.experiment, "overrides": overrides, **start, **versions()}
    content = {**given, **summarise(runs, models, conditions)}
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    file = out / "ablation.json"
    file.write_text(json.dumps(content, indent=2) + "\n")
    page = write_page(content, out / "ablation.html")
    print(markdown_table(content))
    print(f"\n{len(content['runs'])} of {len(runs)} runs\nresults  {file}\npage     {page}")
