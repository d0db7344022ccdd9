"""Small line charts as inline SVG. Colours and fonts come from the page's style sheet: both themes work."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 300, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 26, 36
_MAX_POINTS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    """A CSS colour or variable."""
    dash: str = ""
    """SVG dash pattern; empty is solid."""


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    has_legend: bool = False,
) -> str:
    """SVG text of a chart; hovering a line shows its label. Values that are not finite break the line."""
    x_low, x_high = x_range or _range_of([value for line in lines for value in line.x], from_zero=False)
    y_low, y_high = y_range or _range_of([value for line in lines for value in line.y], from_zero=True)
    place = _Place(x_low, x_high, y_low, y_high)
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text class="chart-title" x="{_LEFT}" y="15">{escape(title)}</text>',
        *_axes(place, x_label, y_label),
    ]
    for line in lines:
        path = place.path(*_thinned(line.x, line.y))
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        parts.append(
            f'<path class="chart-line" d="{path}" style="stroke:{line.colour}"{dash}>'
            f"<title>{escape(line.label)}</title></path>"
        )
    if has_legend:
        parts += _legend(lines)
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True, slots=True)
class _Place:
    """Data to picture coordinates."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        inside = min(max(value, self.y_low), self.y_high)
        return _HEIGHT - _BOTTOM - (inside - self.y_low) / (self.y_high - self.y_low) * (_HEIGHT - _TOP - _BOTTOM)

    def path(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        commands, is_down = [], False
        for x, y in zip(xs, ys, strict=True):
            if not (math.isfinite(x) and math.isfinite(y)):
                is_down = False
                continue
            commands.append(f"{'L' if is_down else 'M'}{self.x(x):.1f} {self.y(y):.1f}")
            is_down = True
        return "".join(commands)


def _axes(place: _Place, x_label: str, y_label: str) -> list[str]:
    parts = []
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for value in ticks(place.y_low, place.y_high):
        y = place.y(value)
        parts.append(f'<line class="chart-grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="chart-tick" x="{_LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(place.x_low, place.x_high):
        x = place.x(value)
        parts.append(f'<line class="chart-grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(
            f'<text class="chart-tick" x="{x:.1f}" y="{bottom + 12}" text-anchor="middle">{_short(value)}</text>'
        )
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<text class="chart-label" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    parts.append(
        f'<text class="chart-label" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return parts


def _legend(lines: Sequence[Line]) -> list[str]:
    parts, x = [], float(_WIDTH - _RIGHT)
    for line in reversed(lines):
        x -= 6.0 * len(line.label)
        parts.append(f'<text class="chart-tick" x="{x:.1f}" y="15">{escape(line.label)}</text>')
        x -= 14
        parts.append(
            f'<line x1="{x:.1f}" x2="{x + 11:.1f}" y1="12" y2="12" style="stroke:{line.colour}" stroke-width="2"/>'
        )
        x -= 8
    return parts


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """Every n-th point and the last, at most `_MAX_POINTS` and one."""
    step = max(1, math.ceil(len(x) / _MAX_POINTS))
    chosen = list(range(0, len(x), step))
    if chosen and chosen[-1] != len(x) - 1:
        chosen.append(len(x) - 1)
    return [x[k] for k in chosen], [y[k] for k in chosen]


def _range_of(values: Sequence[float], *, from_zero: bool) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if from_zero:
        low = min(0.0, low)
    if high - low < 1e-12:
        return low, low + (abs(low) or 1.0)
    if not from_zero:
        return low, high
    step = _step(low, high)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, about five of them."""
    step = _step(low, high)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _step(low: float, high: float) -> float:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"
