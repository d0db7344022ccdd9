"""`bevstack demo`: the main job from nothing to a pictured result, as a sequence of ordinary commands."""

import argparse
import json
import sys
import time
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_DESCRIPTION = """Make small worlds, score the shipped weights on worlds that no training ever saw, fine-tune them for a
moment so that one sees a model learn, score again, and write one HTML report. A few minutes on two CPU cores.
Every step is printed as the command that would do the same."""

TRAIN_SEED, HELD_OUT_SEED = 501, 502
"""Seeds that the training of the shipped weights never uses (see docs/worlds.md)."""


def run(arguments: list[str]) -> int:
    """Run the steps in order; the first failure ends the demo with its exit code."""
    parser = argparse.ArgumentParser(
        prog="bevstack demo", description=_DESCRIPTION, epilog="example: bevstack demo --out runs/demo --steps 20"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="default: runs/demo")
    parser.add_argument("--scenes", type=int, default=6, help="scenes of each world (default 6)")
    parser.add_argument("--keyframes", type=int, default=4, help="frames of each scene (default 4)")
    parser.add_argument("--steps", type=int, default=16, help="fine-tuning steps (default 16)")
    parser.add_argument("--open", action="store_true", help="open the report in a browser when done")
    options = parser.parse_args(arguments)
    return _Demo(options).run()


class _Demo:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.train_world = options.out / "worlds" / "train"
        self.held_out_world = options.out / "worlds" / "held_out"
        self.runs = options.out / "runs"
        self.run_folder = self.runs / "latest"
        self.before = options.out / "shipped_weights"
        self.start = time.perf_counter()

    def run(self) -> int:
        steps = (
            ("Two small worlds: one to learn from, one that is only for scoring", self._worlds),
            ("The shipped weights on the held-out world, with both sensors and with either", self._score_shipped),
            ("A moment of fine-tuning on the other world", self._fine_tune),
            ("The same score again, and the report", self._report),
        )
        for number, (title, step) in enumerate(steps, start=1):
            print(f"\n[{number}/{len(steps)}] {title}", flush=True)
            for command in step():
                code = _call(command)
                if code:
                    return code
        self._summarise()
        return 0

    def _worlds(self) -> list[list[str]]:
        return [
            self._world(TRAIN_SEED, self.train_world),
            self._world(HELD_OUT_SEED, self.held_out_world),
        ]

    def _world(self, seed: int, out: Path) -> list[str]:
        shape = ["--scenes", str(self.options.scenes), "--keyframes", str(self.options.keyframes)]
        return ["sim", "make", *shape, "--seed", str(seed), "--occupancy", "--force", str(out)]

    def _score_shipped(self) -> list[list[str]]:
        data = ["--data", str(self.held_out_world), "--modality", "all", "--frames", "4"]
        return [["eval", "--checkpoint", "demo", *data, "--out", str(self.before)]]

    def _fine_tune(self) -> list[list[str]]:
        settings = [
            f"experiment={_experiment_of('demo')}",
            "init_from=demo",
            "optim=fine_tune",
            f"data.root={self.train_world}",
            f"data.val_root={self.held_out_world}",
            f"trainer.max_steps={self.options.steps}",
            f"run_root={self.runs}",
            "evaluate=false",
        ]
        return [["train", *settings]]

    def _report(self) -> list[list[str]]:
        data = ["--data", str(self.held_out_world), "--modality", "all"]
        return [
            ["eval", "--checkpoint", str(self.run_folder), *data, "--out", str(self.run_folder / "eval")],
            ["report", str(self.run_folder), "--out", str(self.options.out / "report.html")],
        ]

    def _summarise(self) -> None:
        frames = self.options.scenes * self.options.keyframes
        print(f"\nOn {frames} held-out frames (a small set: expect noise):")
        for title, folder in (("shipped", self.before), ("fine-tuned", self.run_folder / "eval")):
            print(f"\n{summary(title, _results(folder / 'metrics.json'))}")
        print("\nNDS and mAP: det/nusc-cvpr19; IoU: see the protocols in the report")
        page = (self.options.out / "report.html").resolve()
        minutes = (time.perf_counter() - self.start) / 60
        print(f"\n{minutes:.1f} minutes. Open the report in a browser: six cameras, BEV, worst frames first:\n")
        print(f"  {page.as_uri()}\n\nNext: bevstack --help")
        if self.options.open:
            webbrowser.open(page.as_uri())


def summary(title: str, results: Mapping[str, Any]) -> str:
    """The main numbers of each row of `metrics.json`: of the tasks that were scored."""
    first = next(iter(results.values()))
    columns: dict[str, tuple[str, ...]] = {"mAP": ("mean_ap",), "NDS": ("nds",)} if "nds" in first else {}
    for task, numbers in (("map", ("mean_iou",)), ("occupancy", ("mean_iou", "iou"))):
        if task in first:
            protocol = next(iter(first[task]))
            short = {"map": "map", "occupancy": "occ"}[task]
            names = {"mean_iou": "mIoU", "iou": "IoU"}
            columns |= {f"{short} {names[key]}": (task, protocol, key) for key in numbers}
    lines = [f"  {title:<12}" + "".join(f"{name:>10}" for name in columns)]
    for name, row in results.items():
        lines.append(f"  {name:<12}" + "".join(f"{_value(row, path):>10}" for path in columns.values()))
    return "\n".join(lines)


def _value(row: Any, path: Sequence[str]) -> str:
    for key in path:
        row = row[key]
    return "-" if row is None else f"{row:.3f}"


def _experiment_of(weights: str) -> str:
    """The experiment that some weights were trained with: fine-tuning needs the same model."""
    from bevstack.build import load_model

    return str(load_model(weights).config.name)


def _call(command: list[str]) -> int:
    """Run one command of this very program in this process."""
    from bevstack.cli.main import main

    print(f"$ bevstack {' '.join(command)}", flush=True)
    code = main(command)
    if code:
        print(f"bevstack demo: 'bevstack {command[0]}' ended with exit code {code}", file=sys.stderr)
    return code


def _results(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())["results"]
