"""`bevstack replay`: run the step again whose loss was not finite, and say where that began."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.training.replay import Culprit, Replay

EXIT_NOT_REPRODUCED = 3

_EPILOG = """example:
  bevstack replay runs/latest/evidence/not_finite_step120_rank0.pt

Exit code 0: the same loss terms are not finite again. 3: they are not (another torch, another kind of processor).
"""


def run(arguments: list[str]) -> int:
    """Replay one file and print what was found."""
    parser = argparse.ArgumentParser(
        prog="bevstack replay",
        description="Run a training step again that ended a run because its loss was not finite: same weights, same "
        "batch, same random numbers, same precision.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("evidence", metavar="EVIDENCE.pt", type=Path, help="from the run's folder evidence/")
    parser.add_argument("--all", action="store_true", help="every module with such an output, not the first five")
    args = parser.parse_args(arguments)

    from bevstack.training.replay import replay_step

    result = replay_step(args.evidence)
    print("\n".join(_lines(result, limit=None if args.all else 5)))
    return 0 if result.is_reproduced else EXIT_NOT_REPRODUCED


def _lines(result: "Replay", limit: int | None) -> list[str]:
    lines = [
        f"step {result.step}, precision {result.precision}, frames {', '.join(result.tokens)}",
        f"not finite in the run: {', '.join(result.recorded_terms)}",
        f"not finite now:        {', '.join(result.wrong_terms) or 'nothing'}",
    ]
    if result.inputs:
        lines += ["not finite before anything was computed:", *map(_line, result.inputs[:limit])]
    if result.modules:
        lines += ["outputs that are not finite, in the order of computation:", *map(_line, result.modules[:limit])]
        left = len(result.modules) - len(result.modules[:limit])
        lines += [f"  and {left} more: --all shows them"] if left else []
    elif result.wrong_terms:
        lines.append("every module's output is finite: look at the loss of these terms, and at the labels")
    return [*lines, "reproduced" if result.is_reproduced else "NOT reproduced: other terms than in the run"]


def _line(culprit: "Culprit") -> str:
    frames = f", frames {', '.join(culprit.frames)}" if culprit.frames else ""
    return f"  {culprit.where}: {culprit.count} of {culprit.size} values{frames}"
