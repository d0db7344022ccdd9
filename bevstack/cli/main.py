"""Dispatch: find the subcommand, run it, turn expected failures into one line and an exit code."""

import importlib
import sys
from collections.abc import Sequence

from bevstack import __version__

COMMANDS = {
    "data": "index, check, describe and view a data set",
    "sim": "make worlds: data sets in nuScenes format",
    "scenario": "list, show and check driving scenarios",
    "drive": "drive scenarios in a closed loop and say which were passed",
    "cues": "say in words what a driver would look at, for every frame of a data set",
    "vocabulary": "make the trajectories that a planner chooses among",
    "train": "train a model from a Hydra experiment",
    "eval": "score a checkpoint or a file of predictions on a data set",
    "predict": "write what a checkpoint predicts to a file",
    "predictions": "look into a file of predictions of any system, or convert it",
    "ask": "ask about a drive in words, or give it a command",
    "replay": "run a training step again whose loss was not finite, and find where it began",
    "interaction": "train tasks alone and together and measure what they do to each other",
    "ablation": "measure whether text helps a model, which kind, and whether it reads it",
    "lint": "compare how training, evaluation, export and runtime prepare their input",
    "explain-diff": "say what differs between two runs, what matters most first",
    "compare": "two runs side by side with intervals, and a gate for regressions",
    "leaderboard": "pack, check and re-score signed results, and make the page of their table",
    "report": "make the HTML report of a run",
    "weights": "pack a training run into a weights file, or look inside one",
    "demo": "worlds, training, evaluation and report in a few minutes",
    "doctor": "check the installation and say how to mend it",
}
"""Subcommand -> one line of help. `bevstack.cli.<name>` (with _ for -) provides `run(arguments: list[str]) -> int`."""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def usage() -> str:
    """The text of `bevstack --help`."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "usage: bevstack COMMAND [ARGUMENTS]\n\n"
        f"{rows}\n\n"
        "bevstack COMMAND --help explains a command.  bevstack --version prints the version.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code.

    0 done, 1 failed, 2 wrong usage, 130 interrupted; 3 has a meaning of its own in commands that say so in their help.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return EXIT_OK if words else EXIT_USAGE
    if words[0] == "--version":
        print(f"bevstack {__version__}")
        return EXIT_OK
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        from bevstack.types.errors import did_you_mean  # brings torch, which --help need not wait for

        hint = did_you_mean(name, COMMANDS)
        print(f"bevstack: there is no command '{name}'{hint}; see bevstack --help", file=sys.stderr)
        return EXIT_USAGE
    return _run(name, rest)


def _run(name: str, rest: list[str]) -> int:
    from bevstack.types.errors import CalibrationError, DatasetError, ExportMismatchError

    module = importlib.import_module(f"bevstack.cli.{name.replace('-', '_')}")
    try:
        return int(module.run(rest) or 0)
    except KeyboardInterrupt:
        print(f"bevstack {name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (DatasetError, CalibrationError, ExportMismatchError, ValueError, OSError) as error:
        print(f"bevstack {name}: {error}", file=sys.stderr)
        return EXIT_FAILED
