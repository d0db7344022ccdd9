"""`bevstack lint`: does every way to the model prepare its input alike?"""

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.lint.preprocessing import LintReport

_EPILOG = """examples:
  bevstack lint fusion_small
  bevstack lint all
  bevstack lint runs/latest --cards
  bevstack lint fusion_small input.num_sweeps=5 --weights runs/latest

Four paths are walked with a data set in which every number is known: training, evaluation, export (the configuration
inside a weights file) and runtime (Session). Exit code 1 where they differ and no augmentation explains it.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="bevstack lint",
        description="Compare how training, evaluation, export and runtime prepare what the model gets.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="CONFIG_OR_RUN", help="experiment, run folder, weights file, demo, or all")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of the training side")
    parser.add_argument("--weights", metavar="NAME", help="what the paths after training use (default: the target's)")
    parser.add_argument("--cards", action="store_true", help="print every fact of every path")
    parser.add_argument("--json", action="store_true", help="print cards and differences as JSON")
    return parser


def run(arguments: list[str]) -> int:
    """Lint one target or all experiments; 1 where anything differs."""
    args = parser().parse_args(arguments)
    from bevstack.build import experiment_names
    from bevstack.lint.preprocessing import lint_named

    targets = experiment_names() if args.target == "all" else (args.target,)
    reports = []
    for target in targets:
        reports.append(lint_named(target, args.overrides, weights=args.weights))
        if not args.json:
            _print(reports[-1], args.cards)
    if args.json:
        content = [report.as_dict() for report in reports]
        print(json.dumps(content if args.target == "all" else content[0], indent=2))
    return 1 if any(report.differences for report in reports) else 0


def _print(report: "LintReport", with_cards: bool) -> None:
    from bevstack.lint.card import CONSEQUENCES, describe

    print(f"{report.name}: {', '.join(card.path for card in report.cards)}")
    if with_cards:
        for name in CONSEQUENCES:
            print(f"  {name}")
            shown: dict[str, list[str]] = {}
            for card in report.cards:
                fact = card.facts[name]
                shown.setdefault("-" if fact is None else describe(fact), []).append(card.path)
            for text, paths in shown.items():
                print(f"    {', '.join(paths)}: {text}")
    for difference in report.differences:
        print(f"FAIL  {difference.sentence}")
    for allowed in report.allowed:
        touched = f"; may change {', '.join(allowed.touches)}" if allowed.touches else ""
        print(f"allowed  {allowed.name} in {allowed.path}: {allowed.detail}{touched}")
    count = len(report.differences)
    print("ok    all paths prepare their input alike" if not count else f"{count} unexplained difference(s)")
