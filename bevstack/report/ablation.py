"""The page of an ablation, and its short table in Markdown: what text does to each figure, and if that is shown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bevstack.evaluation.comparison.figure_names import kind_of
from bevstack.report.ablation_chart import condition_chart
from bevstack.report.ablation_figures import GROUPS, HEADLINES
from bevstack.report.templates import filled_in
from bevstack.training.ablation import ABSENT, CONDITIONS

MARKS = {"helps": "▲", "harms": "▼", "no difference shown": "", "equal": "="}
"""Verdict -> what stands beside a number."""
_DIFFERENCES = {
    "against_none": "This model minus the same one without language",
    "against_fresh": "This text minus fresh text, same model",
    "against_no_ego": "With ego status minus without",
}
_CHARTS = ("plan.uniad.l2_m.at_3s", "det.mAP")


def write_page(content: Mapping[str, Any], file: Path) -> Path:
    """Write one HTML file that needs nothing else.

    Args:
        content: from `bevstack.report.ablation_summary.summarise`, with `experiment`, `overrides` and versions.
        file: replaced where it exists.
    """
    page = filled_in(
        "ablation.html",
        {"number": number},
        content=content,
        groups=_groups(content),
        charts=_charts(content),
        differences=_DIFFERENCES,
        marks=MARKS,
        counts={kind: verdict_counts(content[kind]) for kind in _DIFFERENCES},
        headings={name: _heading(name, title) for group in GROUPS for name, title in group.columns.items()},
        without=_without(content),
    )
    file.write_text(page)
    return file


def number(entry: Mapping[str, Any] | None, signed: bool = False) -> str:
    """`0.612 ± 0.034`, or without the interval where there is one run."""
    if entry is None:
        return "-"
    mean = f"{entry['mean']:+.3f}" if signed else f"{entry['mean']:.3f}"
    return mean if entry["half_width"] is None else f"{mean} ± {entry['half_width']:.3f}"


def markdown_table(content: Mapping[str, Any]) -> str:
    """The headline figures of every model under every text, each with its mark against the model without language."""
    names = [name for name in HEADLINES if name in content["values"]]
    if not names:
        return "no evaluation is finished"
    lines = [
        "| model | text | " + " | ".join(_heading(name, HEADLINES[name]) for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for variant, condition in _cells(content, names):
        shown = [_marked(content, name, variant, condition) for name in names]
        lines.append(f"| {variant} | {condition} | " + " | ".join(shown) + " |")
    legend = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items() if mark)
    return "\n".join([*lines, "", f"Beside a number: against the model without language ({legend})."])


def verdict_counts(of_figures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, int]]]:
    """Variant -> condition -> how often each verdict was passed."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for of_variants in of_figures.values():
        for variant, of_conditions in of_variants.items():
            for condition, entry in of_conditions.items():
                cell = counts.setdefault(variant, {}).setdefault(condition, dict.fromkeys(MARKS, 0))
                cell[entry["verdict"]] += 1
    return counts


def _marked(content: Mapping[str, Any], name: str, variant: str, condition: str) -> str:
    value = content["values"][name].get(variant, {}).get(condition)
    judged = content["against_none"].get(name, {}).get(variant, {}).get(condition)
    return f"{number(value)} {MARKS[judged['verdict']] if judged else ''}".rstrip()


def _heading(name: str, title: str) -> str:
    """With the unit, and an arrow to the better side."""
    kind = kind_of(name)
    return f"{title}{f' ({kind.unit})' if kind.unit else ''} {'↓' if kind.is_lower_better else '↑'}"


def _cells(content: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    """Model and text of the rows that have one of the figures, in the order of the plan."""
    order = [condition.name for condition in CONDITIONS]
    return [
        (variant, condition)
        for variant in content["models"]
        for condition in order
        if any(condition in content["values"].get(name, {}).get(variant, {}) for name in names)
    ]


def _groups(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables that have anything to show: columns, rows, and which differences there are."""
    groups = []
    for group in GROUPS:
        names = [name for name in group.columns if name in content["values"]]
        if names:
            kinds = [kind for kind in _DIFFERENCES if any(name in content[kind] for name in names)]
            groups.append({"title": group.title, "names": names, "rows": _cells(content, names), "kinds": kinds})
    return groups


def _charts(content: Mapping[str, Any]) -> list[str]:
    reading = [name for name, model in content["models"].items() if model["form"] is not None]
    classes = {name: f"model{place}" for place, name in enumerate(reading)}
    plain = next((name for name, of in content["models"].items() if of["form"] is None and not of["ego_status"]), None)
    charts = []
    for name in (name for name in _CHARTS if name in content["values"]):
        values = content["values"][name]
        there = {model: values[model] for model in reading if model in values}
        shown = [of.name for of in CONDITIONS if any(of.name in of_model for of_model in there.values())]
        baseline = values.get(plain, {}).get(ABSENT)
        title = _heading(name, HEADLINES[name])
        charts.append(condition_chart(title, there, conditions=shown, baseline=baseline, classes=classes))
    return charts


def _without(content: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Condition -> frames that went without text although they should have had one, and all frames."""
    found: dict[str, tuple[int, int]] = {}
    for run in content["runs"]:
        for condition, of in run["conditions"].items():
            if of["cues"] is not None and (of["cues"]["name"] or of["cues"].get("captioner")):
                found[condition] = (sum(of["cues"]["frames_without"].values()), content["data"]["num_frames"])
    return found
