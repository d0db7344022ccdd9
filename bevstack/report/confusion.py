"""What is taken for what: a confusion matrix as inline SVG."""

from collections.abc import Sequence
from html import escape

_CELL, _LABEL, _TOP, _KEY = 26, 150, 118, 22
_SLANT = 76
"""Room for the last slanted names."""
_MIN_SHOWN = 0.005
"""Shares below half a per cent leave their cell empty: noise would look like a finding."""
_LIGHT_FROM = 0.55
"""From this share on the figure in a cell is written in the colour of the ground."""


def confusion_chart(title: str, counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """SVG text; each row shows where what is truly of one class went, as per cent of the row.

    Args:
        title: Says what is counted.
        counts: Rows by true class, columns by predicted class. Rows without a count are left out.
        names: Of the classes.

    Raises:
        ValueError: not as many rows and columns as names.
    """
    if len(counts) != len(names) or any(len(row) != len(names) for row in counts):
        raise ValueError(f"{len(names)} classes need as many rows and columns, got {len(counts)} rows")
    shown = [(name, row, sum(row)) for name, row in zip(names, counts, strict=True) if sum(row)]
    width, height = _LABEL + _CELL * len(names) + _SLANT, _TOP + _CELL * len(shown) + _KEY
    parts = [
        f'<svg class="confusion" viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="{escape(title)}">',
        f'<text class="chart-title" x="0" y="14">{escape(title)}</text>',
    ]
    for column, name in enumerate(names):
        x = _LABEL + (column + 0.6) * _CELL
        parts.append(f'<text transform="translate({x:.0f} {_TOP - 6}) rotate(-50)">{escape(name)}</text>')
    for row, (name, values, total) in enumerate(shown):
        y = _TOP + row * _CELL
        parts.append(f'<text x="{_LABEL - 8}" y="{y + 17}" text-anchor="end">{escape(name)}</text>')
        parts += [
            _cell(_LABEL + column * _CELL, y, value / total, f"{name} taken for {names[column]}", names[column] == name)
            for column, value in enumerate(values)
        ]
    parts.append(
        f'<text x="{_LABEL}" y="{height - 6}">rows: what it is; columns: what it was taken for; per cent</text>'
    )
    return "".join([*parts, "</svg>"])


def _cell(x: int, y: int, share: float, what: str, is_right: bool) -> str:
    colour = "var(--accent)" if is_right else "var(--c2)"
    strength = 0.0 if share < _MIN_SHOWN else 0.12 + 0.88 * share
    figure = ""
    if share >= _MIN_SHOWN:
        ink = "var(--panel)" if strength > _LIGHT_FROM else "var(--text)"
        figure = (
            f'<text class="figure" x="{x + _CELL / 2:.0f}" y="{y + 17}" text-anchor="middle" '
            f'style="fill:{ink}">{100 * share:.0f}</text>'
        )
    return (
        f"<g><title>{escape(what)}: {100 * share:.2f} %</title>"
        f'<rect class="confusion-cell" x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" '
        f'style="fill:{colour};fill-opacity:{strength:.2f}"/>{figure}</g>'
    )
