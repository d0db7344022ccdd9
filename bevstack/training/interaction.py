"""What do tasks that share a network do to each other? The plan of the runs that answer it, and the answer.

The joint model is trained beside each task alone (and, where asked for, beside each model that lacks one task) and
beside variants of itself, all on the same data with the same seeds. Differences are taken seed by seed, so what a seed
does to both drops out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bevstack.build import compose
from bevstack.seed_statistics import seed_mean
from bevstack.training.fit import flat_weights
from bevstack.training.metrics_log import read_metrics
from bevstack.training.planned_runs import PlannedRun, Variant, plan_runs, training_seconds
from bevstack.training.tasks import tasks_of

JOINT = "joint"
HEADLINES = ("nds", "mean_ap", "mean_iou", "iou")
"""Names under which an evaluation gives the number of a whole task."""
COSINES_PER_RUN = 40


def variants_of(
    overrides: Sequence[str], *, more: Mapping[str, Sequence[str]], leave_one_out: bool = False
) -> list[Variant]:
    """The joint model, each task alone, and further variants.

    Args:
        overrides: `experiment=NAME` and whatever holds for all.
        more: name -> overrides of further variants.
        leave_one_out: also the models that lack one task, which tell whom that task helps or hurts.

    Raises:
        ValueError: the experiment has a single task.
    """
    tasks = tasks_of(flat_weights(compose(overrides).loss_weights))
    if len(tasks) < 2:
        raise ValueError(f"the experiment has the task {', '.join(tasks)} alone: nothing can interact; try m3net_small")
    short = {task: task.rpartition("/")[2] for task in tasks}
    found = [Variant(name=JOINT, overrides=(), tasks=tasks)]
    for task in tasks:
        others = [other for other in tasks if other != task]
        found.append(Variant(name=f"only_{short[task]}", overrides=_without(others), tasks=(task,)))
        if leave_one_out and len(tasks) > 2:
            found.append(Variant(name=f"without_{short[task]}", overrides=_without([task]), tasks=tuple(others)))
    found += [Variant(name=name, overrides=tuple(extra), tasks=tasks) for name, extra in more.items()]
    names = [variant.name for variant in found]
    if len(set(names)) < len(names):
        raise ValueError(f"variants need different names, got {', '.join(names)}")
    return found


def plan(
    overrides: Sequence[str], variants: Sequence[Variant], seeds: Sequence[int], out: Path, *, limit: int | None = None
) -> list[PlannedRun]:
    """Every run; those with several tasks log now and then how the gradients of their tasks agree.

    Args:
        overrides: `experiment=NAME`, `data.root=...` and whatever holds for all.
        variants: from `variants_of`.
        seeds: one run of every variant for each.
        out: runs go to `out/runs`.
        limit: frames that the evaluation will use.
    """

    def with_cosines(variant: Variant, steps: int) -> list[str]:
        every = max(1, steps // COSINES_PER_RUN)
        return [f"trainer.gradient_cosine_every={every}"] if len(variant.tasks) > 1 else []

    return plan_runs(overrides, variants, seeds, out, limit=limit, more_overrides=with_cosines)


def summarise(runs: Sequence[PlannedRun]) -> dict[str, Any]:
    """Everything that the finished runs say, ready for JSON.

    Returns:
        `runs`: each with all numbers of its evaluation. `metrics`: headline -> variant -> mean over seeds.
        `differences`: headline -> variant -> joint minus variant, over the seeds that both have. `cosines`: variant ->
        pair of tasks. `missing`: runs that are not finished.
    """
    finished = [run for run in runs if run.is_finished]
    numbers = {run.folder: _numbers(json.loads(run.metrics.read_text())["results"]) for run in finished}
    by_metric: dict[str, dict[str, dict[int, float]]] = {}
    for run in finished:
        for name, value in numbers[run.folder].items():
            if name.rpartition(".")[2] in HEADLINES:
                by_metric.setdefault(name, {}).setdefault(run.variant.name, {})[run.seed] = value
    return {
        "variants": {run.variant.name: asdict(run.variant) for run in runs},
        "runs": [
            {"variant": run.variant.name, "seed": run.seed, "folder": run.folder.name, "steps": run.steps,
             "train_s": training_seconds(run), "metrics": numbers[run.folder]}
            for run in finished
        ],
        "metrics": {
            metric: {name: asdict(seed_mean(list(values.values()))) for name, values in of_variants.items()}
            for metric, of_variants in by_metric.items()
        },
        "differences": {metric: _differences(of_variants) for metric, of_variants in by_metric.items()},
        "cosines": _cosines(finished),
        "missing": [f"{run.variant.name} seed {run.seed}" for run in runs if not run.is_finished],
    }  # fmt: skip


def _without(tasks: Sequence[str]) -> tuple[str, ...]:
    """Overrides that take tasks out, with their loss weights."""
    words = []
    for task in tasks:
        head, _, readout = task.partition("/")
        words.append(f"model.heads.{head}.readouts.{readout}=null" if readout else f"model.heads.{head}=null")
        words.append(f"loss_weights.{head}.{readout}=null" if readout else f"loss_weights.{head}=null")
    return tuple(words)


def _numbers(item: Any, path: str = "") -> dict[str, float]:
    """Every number in nested dictionaries, by dotted path."""
    if isinstance(item, Mapping):
        found: dict[str, float] = {}
        for key, value in item.items():
            found |= _numbers(value, f"{path}.{key}" if path else str(key))
        return found
    return {path: float(item)} if isinstance(item, (int, float)) and not isinstance(item, bool) else {}


def _differences(of_variants: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    joint = of_variants.get(JOINT, {})
    found = {}
    for name, values in of_variants.items():
        pairs = [joint[seed] - value for seed, value in values.items() if seed in joint]
        if name != JOINT and pairs:
            found[name] = asdict(seed_mean(pairs))
    return found


def _cosines(runs: Sequence[PlannedRun]) -> dict[str, dict[str, Any]]:
    """Mean over the steps of each run, then over seeds; and the share of the steps in which the tasks conflicted."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for run in runs:
        of_run: dict[str, list[float]] = {}
        for row in read_metrics(run.run / "metrics.csv"):
            for name, value in row.items():
                if name.startswith("cosine/"):
                    of_run.setdefault(name.removeprefix("cosine/"), []).append(value)
        for pair, values in of_run.items():
            found.setdefault(run.variant.name, {}).setdefault(pair, []).append(values)
    return {
        variant: {
            pair: {
                **asdict(seed_mean([sum(values) / len(values) for values in of_seeds])),
                "share_in_conflict": _share_below_zero(of_seeds),
            }
            for pair, of_seeds in pairs.items()
        }
        for variant, pairs in found.items()
    }


def _share_below_zero(of_seeds: Sequence[Sequence[float]]) -> float:
    values = [value for values in of_seeds for value in values]
    return sum(value < 0 for value in values) / len(values)
