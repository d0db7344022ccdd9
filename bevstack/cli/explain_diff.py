"""`bevstack explain-diff`: what differs between two runs, and what of it is likely to matter."""

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bevstack.lint.run_difference import RunDifference

_EPILOG = """example:
  bevstack explain-diff runs/fusion_small/20260102-101500 runs/latest

Causes come first, most likely one on top: data, input, model, optimiser, versions, seed. Then weights by part of the
model, and metrics. A run may also be a weights file, a checkpoint, or demo.
"""
_WIDTH = 36


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="bevstack explain-diff",
        description="Say what differs between two runs, ordered by how likely it is to matter.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_a", metavar="RUN_A", help="run folder, weights file, checkpoint, or demo")
    parser.add_argument("run_b", metavar="RUN_B", help="the other one")
    parser.add_argument("--top", type=int, default=15, metavar="N", help="rows of each table (default 15; 0 for all)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


def run(arguments: list[str]) -> int:
    """Compare and print; 0 whether or not anything differs."""
    args = parser().parse_args(arguments)
    if args.top < 0:
        raise ValueError(f"--top {args.top} must be 0 (all) or more")
    from bevstack.lint.run_difference import explain
    from bevstack.lint.run_facts import read_run

    difference = explain(read_run(args.run_a), read_run(args.run_b))
    if args.json:
        print(json.dumps(difference.as_dict(), indent=2, default=str))
    else:
        _print(difference, args.top or None)
    return 0


def _print(difference: "RunDifference", top: int | None) -> None:
    print(f"A  {difference.a}\nB  {difference.b}")
    for warning in difference.warnings:
        print(f"note  {warning}")
    if not (difference.causes or difference.weights or difference.metrics):
        print("\nno difference in configuration, versions, data, weights and metrics")
        return
    head = "causes, the likeliest first" if difference.causes else "no difference in configuration, versions and data"
    print(f"\n{head}")
    width = max((len(cause.key) for cause in difference.causes[:top]), default=0)
    for cause in difference.causes[:top]:
        print(f"  {cause.group:<9}{cause.key:<{width}}  {_short(cause.a)} -> {_short(cause.b)}   ({cause.why})")
    _print_rest(len(difference.causes), top)
    if difference.weights:
        print(f"\nweights{'parameters':>31}{'norm':>22}{'distance':>12}")
    for part in difference.weights[:top]:
        counts = f"{part.parameters_a} -> {part.parameters_b}"
        norms = f"{_number(part.norm_a)} -> {_number(part.norm_b)}"
        distance = "-" if part.relative_distance is None else f"{part.relative_distance:.1%}"
        print(f"  {part.part:<18}{counts:>18}{norms:>22}{distance:>12}")
    _print_rest(len(difference.weights), top)
    if difference.metrics:
        print("\nmetrics")
    for metric in difference.metrics[:top]:
        change = "" if metric.difference is None else f"{metric.difference:+.4f}"
        print(f"  {metric.name:<46}{_number(metric.a):>10} -> {_number(metric.b):>10}{change:>12}")
    _print_rest(len(difference.metrics), top)


def _print_rest(count: int, top: int | None) -> None:
    if top is not None and count > top:
        print(f"  and {count - top} more: --top 0 shows all")


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
