"""One figure by condition as inline SVG: a dot with its interval for each model, a line for the one without text."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bevstack.report.charts import ticks

_WIDTH, _HEIGHT = 620, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 10, 30, 28


def condition_chart(
    title: str,
    values: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    conditions: Sequence[str],
    baseline: Mapping[str, Any] | None,
    classes: Mapping[str, str],
) -> str:
    """SVG text of a chart.

    Args:
        title: name and unit of the figure.
        values: model -> condition -> `mean` and `half_width`.
        conditions: from left to right.
        baseline: of the model without text: a dashed line, its interval a band; None draws none.
        classes: model -> CSS class of its dots.
    """
    shown = [of[name] for of in values.values() for name in conditions if name in of]
    low, high = _range_of([*shown, *([baseline] if baseline else [])])

    def y(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    slot = (_WIDTH - _LEFT - _RIGHT) / max(1, len(conditions))
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{escape(title)}">',
        f'<text x="{_LEFT}" y="16">{escape(title)}</text>',
        *_scale(low, high, y),
    ]
    if baseline is not None:
        parts += _baseline(baseline, y)
    for place, condition in enumerate(conditions):
        middle = _LEFT + slot * (place + 0.5)
        parts.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(condition)}</text>')
        for number, (model, of) in enumerate(values.items()):
            if condition in of:
                x = middle + slot * 0.7 * ((number + 0.5) / len(values) - 0.5)
                parts += _dot(x, of[condition], y, f"{model}, {condition}", classes[model])
    return "".join([*parts, "</svg>"])


def _range_of(entries: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """From the lowest to the highest end of an interval, with some air."""
    ends = [entry["mean"] + sign * (entry["half_width"] or 0.0) for entry in entries for sign in (-1, 1)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    air = 0.06 * (high - low) or 0.5
    return low - air, high + air


def _scale(low: float, high: float, y: Any) -> list[str]:
    parts = []
    for value in ticks(low, high):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value)}" y2="{y(value)}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(value) + 4}" text-anchor="end">{value:g}</text>')
    return parts


def _baseline(entry: Mapping[str, Any], y: Any) -> list[str]:
    half_width = entry["half_width"] or 0.0
    top, bottom = y(entry["mean"] + half_width), y(entry["mean"] - half_width)
    width = _WIDTH - _LEFT - _RIGHT
    return [
        f'<rect class="band" x="{_LEFT}" y="{top}" width="{width}" height="{max(0.0, bottom - top):.1f}"/>',
        f'<line class="zero" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(entry["mean"])}" y2="{y(entry["mean"])}">'
        "<title>without language</title></line>",
    ]


def _dot(x: float, entry: Mapping[str, Any], y: Any, label: str, kind: str) -> list[str]:
    half_width = entry["half_width"] or 0.0
    top, bottom = y(entry["mean"] + half_width), y(entry["mean"] - half_width)
    return [
        f'<g class="{kind}"><line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke-width="2"/>',
        f'<circle cx="{x:.1f}" cy="{y(entry["mean"])}" r="4"/>',
        f"<title>{escape(label)}: {entry['mean']:.3f} ± {half_width:.3f}</title></g>",
    ]
