"""The plan of an experiment of many runs: the same training for several models and seeds, each scored when it ends.

Every run has a folder whose name follows from everything that decides its result, so that the same command goes on
where it was interrupted, repeats nothing, and never takes a run with other settings for its own.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bevstack.build import (
    CONFIG_FOLDER,
    build_frames,
    compose,
    data_location,
    instantiate,
    override_keys,
    portable_yaml,
)
from bevstack.training.metrics_log import read_metrics
from bevstack.training.run_folder import data_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A model to compare: the experiment with more overrides."""

    name: str
    overrides: tuple[str, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """One evaluation of the weights of a run on the held-out data."""

    folder: str = "eval"
    """Where its results go, inside the run."""
    words: tuple[str, ...] = ("--frames", "4")
    """Arguments of `bevstack eval` beside the weights, the data and the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One training with one seed."""

    variant: Variant
    seed: int
    overrides: tuple[str, ...]
    """All of them, the experiment's name included."""
    folder: Path
    """Its name has a hash of everything that decides the result: a run with other settings has another folder."""
    steps: int
    scorings: tuple[Scoring, ...] = (Scoring(),)

    @property
    def run(self) -> Path:
        """The training run inside."""
        return self.folder / "latest"

    @property
    def metrics(self) -> Path:
        """The first evaluation of its weights on the held-out data."""
        return self.metrics_of(self.scorings[0])

    def metrics_of(self, scoring: Scoring) -> Path:
        """What an evaluation says."""
        return self.run / scoring.folder / "metrics.json"

    @property
    def is_trained(self) -> bool:
        """Whether the run went to its end."""
        return (self.run / "weights.safetensors").is_file()

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_trained and all(self.metrics_of(scoring).is_file() for scoring in self.scorings)


def named_overrides(group: str, experiment: str) -> dict[str, list[str]]:
    """What the package knows to compare for an experiment: name -> overrides, from `configs/GROUP/EXPERIMENT.yaml`."""
    file = CONFIG_FOLDER / group / f"{experiment}.yaml"
    if not file.is_file():
        return {}
    content = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(content, dict)
    return {str(name): list(overrides) for name, overrides in content.items()}


def plan_runs(
    overrides: Sequence[str],
    variants: Sequence[Variant],
    seeds: Sequence[int],
    out: Path,
    *,
    limit: int | None = None,
    more_overrides: Callable[[Variant, int], Sequence[str]] = lambda variant, steps: (),
    scorings: Callable[[Variant], Sequence[Scoring]] = lambda variant: (Scoring(),),
    identity: Callable[[DictConfig], str] = lambda config: "",
) -> list[PlannedRun]:
    """Every run, seed by seed, so that what is there after an interruption compares.

    Args:
        overrides: `experiment=NAME`, `data.root=...` and whatever holds for all.
        variants: models to compare.
        seeds: one run of every variant for each.
        out: runs go to `out/runs`.
        limit: frames that an evaluation will use.
        more_overrides: of a variant and its number of steps: `KEY=VALUE` that follow from them.
        scorings: how the weights of a variant are scored.
        identity: text for what decides the result of a configuration beside its settings and the tables of its data.
    """
    runs = []
    num_frames: int | None = None
    for seed in seeds:
        for variant in variants:
            words = [*overrides, *variant.overrides, f"seed={seed}", "evaluate=false"]
            config = compose(words)
            num_frames = len(build_frames(config, "train")) if num_frames is None else num_frames
            steps = _num_steps(config, num_frames)
            more = more_overrides(variant, steps)
            mark = _fingerprint(override_keys(config, more), limit, identity(config))
            runs.append(
                PlannedRun(
                    variant=variant,
                    seed=seed,
                    overrides=(*words, *more),
                    folder=out / "runs" / f"{variant.name}-seed{seed}-{mark}",
                    steps=steps,
                    scorings=tuple(scorings(variant)),
                )
            )
    return runs


def seconds_per_step(run: PlannedRun) -> float | None:
    """From what the run has logged so far; None before its third step. The first step, which warms up, is left out."""
    rows = [row for row in read_metrics(run.run / "metrics.csv") if "train/loss" in row]
    if len(rows) < 3:
        return None
    return (rows[-1]["elapsed_s"] - rows[0]["elapsed_s"]) / (rows[-1]["step"] - rows[0]["step"])


def training_seconds(run: PlannedRun) -> float | None:
    """Time that the training took; None where nothing was logged."""
    rows = read_metrics(run.run / "metrics.csv")
    return rows[-1]["elapsed_s"] if rows else None


def _num_steps(config: DictConfig, num_frames: int) -> int:
    settings = instantiate(config, "trainer")
    return settings.total_steps(num_frames // settings.batch_size)


def _fingerprint(config: DictConfig, limit: int | None, identity: str) -> str:
    """Of the settings, the training data and the held-out data."""
    digest = hashlib.sha256(f"{portable_yaml(config)}{limit}".encode())
    digest.update(str(config.get("init_from")).encode())
    for part in ("train", "val"):
        digest.update(data_hash(*data_location(config, part)).encode())  # type: ignore[arg-type]
    digest.update(identity.encode())
    return digest.hexdigest()[:8]
