"""`bevstack predictions`: say what a file of predictions holds, or write it in another format."""

import argparse
from collections import Counter
from pathlib import Path

_EPILOG = """examples:
  bevstack predictions show predictions.parquet
  bevstack predictions show predictions.parquet --config
  bevstack predictions convert predictions.parquet submission.json --as detection
  bevstack predictions convert their_results.json theirs.parquet
  bevstack predictions convert predictions.parquet occ3d_submission --as occupancy

A file is read whole and checked either way: what is broken is named with file, sample and field, and the exit code is
1. Numbers are converted bit for bit; what a format has no place for (attributes of tracks, say) is lost.

formats to write with --as:
{formats}
"""


def run(arguments: list[str]) -> int:
    """Show or convert."""
    from bevstack.evaluation.predictions.files import EXPORTS

    formats = "\n".join(f"  {name:<11} {text}" for name, text in EXPORTS.items())
    parser = argparse.ArgumentParser(
        prog="bevstack predictions",
        description="Look into files of predictions of any system, and convert them.",
        epilog=_EPILOG.format(formats=formats),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="show|convert")
    show = commands.add_parser("show", help="check a file and say what it holds")
    show.add_argument("file", metavar="FILE", type=Path, help="any file or folder of predictions")
    show.add_argument("--config", action="store_true", help="print the configuration inside and nothing else")
    convert = commands.add_parser("convert", help="write a file in another format")
    convert.add_argument("file", metavar="FILE", type=Path, help="any file or folder of predictions")
    convert.add_argument("out", metavar="OUT", type=Path, help="the new file or folder")
    convert.add_argument("--as", dest="form", choices=tuple(EXPORTS), help="format (default: store, or the only task)")
    args = parser.parse_args(arguments)
    return _show(args) if args.command == "show" else _convert(args)


def _show(args: argparse.Namespace) -> int:
    from bevstack.evaluation.predictions.files import open_predictions

    file = open_predictions(args.file)
    if args.config:
        print(file.meta.config, end="")
        return 0
    counts = dict.fromkeys(file.tasks, 0)
    makers: Counter[str] = Counter()
    for part in file.parts():
        for task in part.tasks:
            of_task = getattr(part, task)
            if task == "planning":
                makers.update(origin.source for origin in of_task.origins if origin.source)
            counts[task] += len(part) if task == "planning" else len(getattr(of_task, "boxes", of_task))
    units = {"planning": "plans", "map": "maps", "occupancy": "grids", "motion": "objects"}
    print(f"{file.path}: {file.kind}, {len(file.sample_tokens)} samples")
    for task, count in counts.items():
        made = f" ({', '.join(f'{times} {maker}' for maker, times in makers.most_common())})" if makers else ""
        print(f"  {task:<13}{count:>10} {units.get(task, 'boxes')}{made if task == 'planning' else ''}")
    for name in ("row", "sensors", "model", "data"):
        value = getattr(file.meta, name)
        text = value if isinstance(value, str) else ", ".join(f"{key}={each}" for key, each in value.items())
        print(f"  {name:<13}{text or 'not said'}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    from bevstack.evaluation.predictions.files import open_predictions, write_as
    from bevstack.evaluation.predictions.store import SUFFIX

    file = open_predictions(args.file)
    form = args.form or ("store" if args.out.suffix == SUFFIX or len(file.tasks) != 1 else file.tasks[0])
    if form == "store" and args.out.suffix != SUFFIX:
        raise ValueError(
            f"{args.file} holds {', '.join(file.tasks)}: name one with --as, or an OUT that ends in {SUFFIX}"
        )
    print(f"{write_as(form, args.out, file)}: {form} of {len(file.sample_tokens)} samples")
    return 0
