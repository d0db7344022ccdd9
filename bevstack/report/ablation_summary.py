"""What the runs of an ablation say: means over seeds, differences seed by seed, and a verdict on each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from bevstack.evaluation.comparison.figure_names import kind_of
from bevstack.report.ablation_figures import FIGURES, read_facts, read_figures, shown_unit
from bevstack.seed_statistics import SeedMean, seed_mean
from bevstack.training.ablation import ABSENT, FRESH, AblatedModel, Condition
from bevstack.training.planned_runs import PlannedRun, training_seconds

Verdict = Literal["helps", "harms", "no difference shown", "equal"]
Cell = tuple[str, str]
"""Variant and condition."""
BySeed = dict[int, float]


def summarise(
    runs: Sequence[PlannedRun], models: Sequence[AblatedModel], conditions: Sequence[Condition]
) -> dict[str, Any]:
    """Everything that the finished evaluations say, ready for JSON.

    Returns:
        `values`: mean over seeds of each figure in each cell. `against_none`: cell minus the model without language.
        `against_fresh`: condition minus fresh text of the same model. `against_no_ego`: with ego status minus without.
        Figures are in the unit that `figures` names ("pt" for fractions), differences have a `verdict`. `missing`:
        evaluations that are not there.
    """
    by_name = {model.variant.name: model for model in models}
    cells: dict[str, dict[Cell, BySeed]] = {}
    found, missing, facts = [], [], dict[str, Any]()
    for run in runs:
        model = by_name[run.variant.name]
        of_run: dict[str, Any] = {}
        for condition in model.conditions(conditions):
            folder = run.run / condition.folder
            if not (folder / "metrics.json").is_file():
                missing.append(f"{run.variant.name} seed {run.seed} {condition.name}")
                continue
            figures = read_figures(folder)
            facts = read_facts(folder)
            of_run[condition.name] = {"figures": figures, "cues": facts["cues"]}
            for name, value in figures.items():
                cells.setdefault(name, {}).setdefault((run.variant.name, condition.name), {})[run.seed] = value
        if of_run:
            found.append(_record(run, of_run))
    ordered = {name: cells[name] for name in FIGURES if name in cells}
    return {
        "models": {name: asdict(model) for name, model in by_name.items()},
        "conditions": {of.name: of.meaning for model in models for of in model.conditions(conditions)},
        "data": facts.get("data"),
        "protocols": facts.get("protocols", []),
        "figures": {name: {"unit": shown_unit(name), "is_lower_better": _is_lower_better(name)} for name in ordered},
        "values": {name: _means(of_cells) for name, of_cells in ordered.items()},
        "against_none": _differences(ordered, lambda cell: _cell(by_name[cell[0]].baseline, ABSENT)),
        "against_fresh": _differences(ordered, lambda cell: None if cell[1] == FRESH else (cell[0], FRESH)),
        "against_no_ego": _differences(ordered, lambda cell: _cell(by_name[cell[0]].without_ego, cell[1])),
        "runs": found,
        "missing": missing,
    }


def verdict(difference: SeedMean, *, is_lower_better: bool) -> Verdict:
    """What a difference with its interval allows to say."""
    if not any(difference.values):
        return "equal"
    if not difference.is_clear:
        return "no difference shown"
    return "helps" if (difference.mean > 0) != is_lower_better else "harms"


def _is_lower_better(name: str) -> bool:
    return kind_of(name).is_lower_better


def _record(run: PlannedRun, of_run: dict[str, Any]) -> dict[str, Any]:
    return {
        "variant": run.variant.name,
        "seed": run.seed,
        "folder": run.folder.name,
        "steps": run.steps,
        "train_s": training_seconds(run),
        "conditions": of_run,
    }


def _cell(variant: str | None, condition: str) -> Cell | None:
    return None if variant is None else (variant, condition)


def _means(of_cells: Mapping[Cell, BySeed]) -> dict[str, dict[str, Any]]:
    means: dict[str, dict[str, Any]] = {}
    for (variant, condition), by_seed in of_cells.items():
        means.setdefault(variant, {})[condition] = asdict(seed_mean(list(by_seed.values())))
    return means


def _differences(
    figures: Mapping[str, Mapping[Cell, BySeed]], partner_of: Callable[[Cell], Cell | None]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Each cell minus its partner over the seeds that both have; figures and cells without a pair are left out."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, of_cells in figures.items():
        for cell, by_seed in of_cells.items():
            partner = partner_of(cell)
            others = {} if partner is None else of_cells.get(partner, {})
            pairs = [value - others[seed] for seed, value in by_seed.items() if seed in others]
            if pairs:
                difference = seed_mean(pairs)
                judged = verdict(difference, is_lower_better=_is_lower_better(name))
                found.setdefault(name, {}).setdefault(cell[0], {})[cell[1]] = {**asdict(difference), "verdict": judged}
    return found
