"""Tracking, motion, planning and whatever else is scored, as tables: headlines of each protocol, with its baselines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bevstack.evaluation.protocols import TASKS, protocol

TITLES = {"tracking": "Tracking", "motion": "Forecasts", "planning": "Planning"}
"""Task -> heading, where the name of the task in capitals would not do."""
_SHOWN_ELSEWHERE = ("detection", "map", "occupancy")
_MORE = {"motion": ("min_ade_m", "min_fde_m", "miss_rate")}
"""Figures that a protocol of the task has beside its headline and that are shown with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolTable:
    """The numbers of one protocol."""

    protocol: str
    title: str
    figures: tuple[str, ...]
    """Heads of the columns: a figure and, where it has several values, for what (car, at 2 s, of 5 modes)."""
    rows: tuple[tuple[str, bool, tuple[float | None, ...]], ...]
    """Name, whether it needs no model, values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSection:
    """All protocols of one task."""

    task: str
    title: str
    tables: tuple[ProtocolTable, ...]


def other_sections(metrics: Mapping[str, Any] | None) -> list[TaskSection]:
    """A section for each task in the results that is neither detection nor a raster."""
    results = {} if metrics is None else metrics["results"]
    sections = []
    for task in (task for task in TASKS if task not in _SHOWN_ELSEWHERE):
        of_rows = {name: row[task] for name, row in results.items() if isinstance(row.get(task), Mapping)}
        identities = dict.fromkeys(identity for numbers in of_rows.values() for identity in numbers)
        tables = tuple(_table(identity, of_rows) for identity in identities)
        if tables:
            title = TITLES.get(task, task.replace("-", " ").capitalize())
            sections.append(TaskSection(task=task, title=title, tables=tables))
    return sections


def _table(identity: str, of_rows: Mapping[str, Mapping[str, Any]]) -> ProtocolTable:
    """The systems, then the baselines of the first of them."""
    info = protocol(identity)
    systems = {name: numbers[identity] for name, numbers in of_rows.items() if identity in numbers}
    baselines = next(iter(systems.values())).get("baselines", {})
    rows = [(name, False, numbers) for name, numbers in systems.items()]
    rows += [(name, True, numbers) for name, numbers in baselines.items()]
    keys = dict.fromkeys((info.headline, *_MORE.get(info.task, ())))
    values = [{figure: of for key in keys for figure, of in _figures(numbers, key).items()} for _, _, numbers in rows]
    figures = tuple(dict.fromkeys(figure for of in values for figure in of))
    return ProtocolTable(
        protocol=identity,
        title=info.title,
        figures=figures,
        rows=tuple(
            (name, is_baseline, tuple(of.get(figure) for figure in figures))
            for (name, is_baseline, _), of in zip(rows, values, strict=True)
        ),
    )


def _figures(numbers: Mapping[str, Any], key: str) -> dict[str, float | None]:
    """A figure by its name, or one for each horizon, group or count of modes."""
    name = key.removesuffix("_m").replace("_", " ")
    groups = {group: of[key] for group, of in numbers.get("groups", {}).items() if key in of}
    if key not in numbers and not groups:
        return {}
    value = numbers.get(key, groups)
    if not isinstance(value, Mapping):
        return {name: value}
    single = {part: of.get("mean") if isinstance(of, Mapping) else of for part, of in value.items()}
    return {f"{name} {part.removeprefix('at_').replace('_', ' ')}": of for part, of in single.items()}
