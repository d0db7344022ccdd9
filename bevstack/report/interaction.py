"""The page of an interaction experiment: how much each task gains or loses by company, and how gradients agree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bevstack.report.templates import filled_in

_WIDTH_PX = 240


def write_page(content: Mapping[str, Any], file: Path) -> Path:
    """Write one HTML file that needs nothing else.

    Args:
        content: from `bevstack.training.interaction.summarise`, with `experiment`, `overrides` and versions.
        file: replaced where it exists.
    """
    reach = {metric: _reach(of_variants) for metric, of_variants in content["differences"].items()}
    page = filled_in("interaction.html", {"number": _number}, content=content, reach=reach, bar=_bar, width=_WIDTH_PX)
    file.write_text(page)
    return file


def _number(entry: Mapping[str, Any] | None, signed: bool = False) -> str:
    """`0.612 +- 0.034`, or without the interval where there is one run."""
    if entry is None:
        return "-"
    mean = f"{entry['mean']:+.3f}" if signed else f"{entry['mean']:.3f}"
    return mean if entry["half_width"] is None else f"{mean} ± {entry['half_width']:.3f}"


def _reach(of_variants: Mapping[str, Mapping[str, Any]]) -> float:
    """The largest distance from zero that a chart must show."""
    ends = [abs(entry["mean"]) + (entry["half_width"] or 0.0) for entry in of_variants.values()]
    return max([*ends, 1e-3])


def _bar(entry: Mapping[str, Any], reach: float) -> dict[str, float]:
    """Where the interval and its middle lie on a scale from -reach to reach, in pixels."""

    def pixel(value: float) -> float:
        return round(_WIDTH_PX / 2 * (1 + value / reach * 0.96), 1)

    half_width = entry["half_width"] or 0.0
    return {
        "low": pixel(entry["mean"] - half_width),
        "mean": pixel(entry["mean"]),
        "high": pixel(entry["mean"] + half_width),
    }
