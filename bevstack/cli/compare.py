"""`bevstack compare`: two runs side by side, with intervals, and a gate that can fail."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.evaluation.comparison.runs import ComparedFigure, Comparison

EXIT_GATE = 3

_EPILOG = """examples:
  bevstack compare runs/before runs/after
  bevstack compare a/eval:fusion b/eval:fusion --fail-if "det.NDS < -0.5" --fail-if "det.AP.pedestrian < -2"
  bevstack compare base1,base2,base3 new1,new2,new3 --slices night,rain --json compare.json

RUN is a results folder of 'bevstack eval' or a training run that has one in eval/; FOLDER:ROW takes one row of it.
Several runs of a side, separated by commas, are the same model with different seeds: their means are compared, and the
spread between runs counts. Runs with other protocols, data or samples are refused.

--fail-if "FIGURE < NUMBER [significant]" (also <=, >, >=; several with ; or by repeating it) is tested on B - A: in
points where the figure is a fraction (0.5 is half a per cent of NDS), in its own unit elsewhere.

exit code: 0 compared, and no condition holds; 1 refused or failed; 2 wrong usage; 3 a condition of --fail-if holds.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="bevstack compare",
        description="Show the figures of two runs, their difference with its 95 % interval (paired bootstrap over "
        "scenes), and whether it is significant.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="RUN_A", help="what is compared with, or several runs with commas")
    parser.add_argument("b", metavar="RUN_B", help="what is judged")
    parser.add_argument("--fail-if", metavar="CONDITION", action="append", default=[], help="exit with 3 if it holds")
    parser.add_argument(
        "--slices", metavar="NAMES", default="", help="also on these parts: night,rain,turning,... or all"
    )
    parser.add_argument("--all", action="store_true", help="show the figures of single classes too")
    parser.add_argument("--resamples", metavar="N", type=int, default=1000, help="draws of scenes (default 1000)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything to this file as well")
    return parser


def run(arguments: list[str]) -> int:
    """Compare, print one screen, test the gate."""
    args = parser().parse_args(arguments)
    from bevstack.evaluation.comparison.gate import parse_conditions
    from bevstack.evaluation.comparison.runs import compare
    from bevstack.evaluation.predictions.submission import write_json
    from bevstack.evaluation.run_results import read_run

    conditions = parse_conditions(args.fail_if)
    a, b = ([read_run(text) for text in side.split(",") if text] for side in (args.a, args.b))
    if not a or not b:
        raise ValueError(f"RUN_A '{args.a}' and RUN_B '{args.b}' must each name a folder")
    slices = _slices(args.slices, [condition.figure for condition in conditions])
    comparison = compare(a, b, slices=slices, resamples=args.resamples)
    failed = [(condition, condition.holds(comparison.shown())) for condition in conditions]
    failed = [(condition, rows) for condition, rows in failed if rows]
    if args.json:
        gate = [{"condition": condition.text, "rows": rows} for condition, rows in failed]
        write_json(args.json, {**comparison.as_json(), "failed": gate})
    print(table(comparison, every_figure=args.all))
    for condition, rows in failed:
        print(f"FAILED  {condition.text}  ({', '.join(rows)})")
    if conditions and not failed:
        print(f"gate passed: {len(conditions)} condition{'s' if len(conditions) > 1 else ''}, none holds")
    return EXIT_GATE if failed else 0


def _slices(text: str, figures: list[str]) -> list[str]:
    """Slices that were asked for, and those that conditions name."""
    from bevstack.evaluation.comparison.scene_statistics import SAMPLE_SLICES
    from bevstack.evaluation.comparison.slices import OBJECT_SLICES
    from bevstack.types.errors import did_you_mean

    known = (*SAMPLE_SLICES, *OBJECT_SLICES)
    asked = list(known) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    asked += [figure.partition("@")[2] for figure in figures if "@" in figure]
    for name in asked:
        if name not in known:
            raise ValueError(f"there is no slice '{name}'{did_you_mean(name, known)}; there are {', '.join(known)}")
    return list(dict.fromkeys(asked))


def table(comparison: "Comparison", *, every_figure: bool) -> str:
    """The comparison as text."""
    data = comparison.data
    lines = [
        f"A  {', '.join(comparison.a)}",
        f"B  {', '.join(comparison.b)}",
        f"{data['version']} {data['split']}, {comparison.num_samples} frames of {comparison.num_scenes} scenes",
    ]
    from bevstack.evaluation.comparison.figure_names import is_headline

    for row, figures in comparison.rows.items():
        shown = [of for of in figures if every_figure or is_headline(of.name)]
        width = max([len(of.name) for of in shown] + [len(row)]) + 1
        lines += ["", f"{row:<{width}}{'':<5}{'A':>9}{'B':>9}{'B - A':>9}   95 % interval"]
        lines += [_line(of, width) for of in shown]
    lines += ["", f"protocols  {', '.join(comparison.protocols)}", *(f"note  {note}" for note in comparison.notes)]
    return "\n".join(lines)


def _line(of: "ComparedFigure", width: int) -> str:
    digits = 2 if of.unit == "pt" else 3
    a, b = ("-" if value is None else f"{value:.{digits}f}" for value in (of.a, of.b))
    change = "-" if of.difference is None else f"{of.difference:+.{digits}f}"
    interval = "" if of.interval is None else f"[{of.interval.low:+.{digits}f}, {of.interval.high:+.{digits}f}]"
    return f"{of.name:<{width}}{of.unit:<5}{a:>9}{b:>9}{change:>9}   {interval:<20}{of.verdict}".rstrip()
