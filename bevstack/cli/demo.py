"""`bevstack demo`: the main job from nothing to a pictured result, as a sequence of ordinary commands."""

import argparse
import json
import sys
import time
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DESCRIPTION = """Make small worlds, let the shipped weights detect, track, segment, fill occupancy, forecast and plan
on worlds that no training ever saw, fine-tune them for a moment so that one sees a model learn, score again, and write
one HTML report. Weights that read text get cues to read. A few minutes on two CPU cores.
Every step is printed as the command that would do the same."""

_OFFLINE_CAPTIONERS = ("zero-shot", "describer-oracle")
"""The first one ships with the package, the second one looks at ground truth."""
_HEADLINES = {
    "AMOTA": ("tracking", "track/nusc-2020", "amota"),
    "AMOTP": ("tracking", "track/nusc-2020", "amotp"),
    "EPA": ("motion", "motion/epa-uniad", "mean_epa"),
    "car minADE": ("motion", "motion/epa-uniad", "groups", "car", "min_ade_m"),
    "L2 1s": ("planning", "plan/uniad", "l2_m", "at_1s"),
    "L2 3s": ("planning", "plan/uniad", "l2_m", "at_3s"),
}
"""Column -> where its number is in a row of `metrics.json`."""
TRAIN_SEED, HELD_OUT_SEED = 501, 502
"""Seeds that the training of the shipped weights never uses (see docs/worlds.md)."""


def run(arguments: list[str]) -> int:
    """Run the steps in order; the first failure ends the demo with its exit code."""
    parser = argparse.ArgumentParser(
        prog="bevstack demo", description=_DESCRIPTION, epilog="example: bevstack demo --out runs/demo --steps 20"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="default: runs/demo")
    parser.add_argument("--weights", default="demo", metavar="NAME", help="weights to show (default: the shipped ones)")
    parser.add_argument("--scenes", type=int, default=3, help="scenes of each world (default 3)")
    parser.add_argument(
        "--keyframes", type=int, default=8, help="frames of each scene (default 8: tracks and plans need some seconds)"
    )
    parser.add_argument("--steps", type=int, default=16, help="fine-tuning steps (default 16)")
    parser.add_argument("--open", action="store_true", help="open the report in a browser when done")
    options = parser.parse_args(arguments)
    return Demo(options, abilities_of(options.weights)).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What some weights can do beside perception."""

    experiment: str
    """That they were trained with: fine-tuning needs the same model."""
    cues: str | None = None
    """Name of the cues that they read; None for weights that read no text."""
    plans: bool = False
    """Whether they propose where to drive; rules do for others."""


def abilities_of(weights: str) -> Abilities:
    """What weights say of themselves."""
    from omegaconf import OmegaConf

    from bevstack.build import load_model

    loaded = load_model(weights)
    cues = OmegaConf.select(loaded.config, "data.cues.name") if loaded.model.language is not None else None
    return Abilities(experiment=str(loaded.config.name), cues=cues, plans="planning" in loaded.model.behaviour)


class Demo:
    """The commands of each step, and running them."""

    def __init__(self, options: argparse.Namespace, abilities: Abilities) -> None:
        self.options, self.abilities = options, abilities
        self.train_world = options.out / "worlds" / "train"
        self.held_out_world = options.out / "worlds" / "held_out"
        self.runs = options.out / "runs"
        self.run_folder = self.runs / "latest"
        self.before = options.out / "shipped_weights"
        self.start = time.perf_counter()

    def run(self) -> int:
        """Run the steps in order; the first failure ends the demo with its exit code."""
        steps = self.steps()
        for number, (title, commands) in enumerate(steps, start=1):
            print(f"\n[{number}/{len(steps)}] {title}", flush=True)
            for command in commands:
                code = _call(command)
                if code:
                    return code
        self._summarise()
        return 0

    def steps(self) -> list[tuple[str, list[list[str]]]]:
        """Title and commands of each step."""
        steps = [("Two small worlds: one to learn from, one that is only for scoring", self._worlds())]
        if self.abilities.cues is not None:
            steps.append(("Words about every frame, for the model to read", self._cues(self.abilities.cues)))
        return [
            *steps,
            ("The weights on the held-out world, with both sensors and with either", self._score_before()),
            ("A moment of fine-tuning on the other world", self._fine_tune()),
            ("The same score again, and the report", self._report()),
        ]

    def _worlds(self) -> list[list[str]]:
        return [
            self._world(TRAIN_SEED, self.train_world),
            self._world(HELD_OUT_SEED, self.held_out_world),
        ]

    def _world(self, seed: int, out: Path) -> list[str]:
        shape = ["--scenes", str(self.options.scenes), "--keyframes", str(self.options.keyframes)]
        return ["sim", "make", *shape, "--seed", str(seed), "--occupancy", "--force", str(out)]

    def _cues(self, name: str) -> list[list[str]]:
        how = cue_arguments(name, self.options.weights)
        return [["cues", "make", str(root), *how] for root in (self.train_world, self.held_out_world)]

    def _evaluation(self, checkpoint: str, out: Path, *more: str) -> list[str]:
        data = ["--data", str(self.held_out_world), "--modality", "all"]
        planner = ["--planner", "learned" if self.abilities.plans else "rule"]
        return ["eval", "--checkpoint", checkpoint, *data, *planner, *more, "--out", str(out)]

    def _score_before(self) -> list[list[str]]:
        return [self._evaluation(self.options.weights, self.before, "--frames", "4")]

    def _fine_tune(self) -> list[list[str]]:
        cues = self.abilities.cues
        settings = [
            f"experiment={self.abilities.experiment}",
            f"init_from={self.options.weights}",
            "optim=fine_tune",
            f"data.root={self.train_world}",
            f"data.val_root={self.held_out_world}",
            f"trainer.max_steps={self.options.steps}",
            f"run_root={self.runs}",
            "evaluate=false",
            *([] if cues is None else [f"data.cues.name={cues}"]),
        ]
        return [["train", *settings]]

    def _report(self) -> list[list[str]]:
        return [
            self._evaluation(str(self.run_folder), self.run_folder / "eval"),
            ["report", str(self.run_folder), "--out", str(self.options.out / "report.html")],
        ]

    def _summarise(self) -> None:
        frames = self.options.scenes * self.options.keyframes
        print(f"\nOn {frames} held-out frames (a small set: expect noise):")
        for title, folder in (("before", self.before), ("fine-tuned", self.run_folder / "eval")):
            print(f"\n{summary(title, _results(folder / 'metrics.json'))}")
        print(
            "\nNDS and mAP: det/nusc-cvpr19; L2 and minADE: plan/uniad, motion/epa-uniad, in metres; all in the report"
        )
        page = (self.options.out / "report.html").resolve()
        minutes = (time.perf_counter() - self.start) / 60
        print(f"\n{minutes:.1f} minutes. Open the report in a browser, worst frames first:\n")
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
    for name, (task, *path) in _HEADLINES.items():
        if _found(first.get(task), path) is not None:
            columns[name] = (task, *path)
    lines = [f"  {title:<12}" + "".join(f"{name:>11}" for name in columns)]
    for name, row in results.items():
        lines.append(f"  {name:<12}" + "".join(f"{_value(row, path):>11}" for path in columns.values()))
    return "\n".join(lines)


def _value(row: Any, path: Sequence[str]) -> str:
    value = _found(row, path)
    return "-" if value is None else f"{value:.3f}"


def _found(row: Any, path: Sequence[str]) -> float | None:
    """The number at the end of a path; None where the path ends before."""
    for key in path:
        row = row.get(key) if isinstance(row, Mapping) else None
    return row


def cue_arguments(name: str, weights: str) -> list[str]:
    """Arguments of `bevstack cues make` that make cues of this name without a network.

    Cues of a captioner that must be downloaded are made by the one that ships, under the same name.
    """
    captioner, refine = name, "none"
    for ending in ("estimates", "annotations"):
        if name.endswith(f"-{ending}"):  # annotations may refine training splits only: estimates stand in for them
            captioner, refine = name.removesuffix(f"-{ending}"), "estimates"
    captioner = captioner if captioner in _OFFLINE_CAPTIONERS else _OFFLINE_CAPTIONERS[0]
    checkpoint = ["--checkpoint", weights] if refine == "estimates" else []
    return ["--captioner", captioner, "--refine", refine, *checkpoint, "--name", name]


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
