"""`bevstack report`: one self-contained HTML page of a training run, an evaluation, or both."""

import argparse
from pathlib import Path

_EPILOG = """examples:
  bevstack report runs/latest                 the run, and the evaluation in runs/latest/eval
  bevstack report eval/val-worlds --out report.html

The page needs no network and no server: open it in a browser, send it by mail, print it.
"""


def run(arguments: list[str]) -> int:
    """Collect, render, write."""
    parser = argparse.ArgumentParser(
        prog="bevstack report",
        description="Make the HTML report of a run: metrics, curves, losses and a viewer of frames, worst first.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="training run, or results folder of 'bevstack eval'")
    parser.add_argument("--out", metavar="FILE", type=Path, help="page to write (default: RUN/report.html)")
    parser.add_argument("--frames", metavar="N", type=int, default=24, help="at most N frames (default 24)")
    args = parser.parse_args(arguments)

    from bevstack.report.content import collect
    from bevstack.report.page import write_report

    content = collect(args.run, max_frames=args.frames)
    path = write_report(content, args.out or args.run / "report.html")
    size_mb = path.stat().st_size / 1e6
    print(f"{path.resolve()}  ({size_mb:.1f} MB, {len(content.frames)} frames)")
    return 0
