"""Line charts as SVG."""

import re
from xml.etree import ElementTree

import pytest

from bevstack.report.charts import Line, line_chart


def path_of(svg: str) -> str:
    return re.search(r' d="([^"]*)"', svg).group(1)


def test_a_chart_is_well_formed_and_escapes_its_texts() -> None:
    line = Line(label="<a & b>", x=[0, 1], y=[0, 1], colour="var(--c1)", dash="2 3")
    svg = line_chart("x < y", [line], x_label="recall", y_label="m", has_legend=True)
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == "x < y"
    assert len(root.findall("path")) == 1


def test_corners_of_the_range_lie_in_the_corners_of_the_plot() -> None:
    svg = line_chart(
        "t", [Line(label="a", x=[0, 1], y=[0, 1], colour="red")], x_label="", y_label="", x_range=(0, 1), y_range=(0, 1)
    )
    assert path_of(svg) == "M44.0 174.0L290.0 26.0"


def test_values_that_are_not_finite_break_the_line() -> None:
    nan = float("nan")
    svg = line_chart("t", [Line(label="a", x=[0, 1, 2, 3], y=[1, nan, 1, 2], colour="red")], x_label="", y_label="")
    assert path_of(svg).count("M") == 2


def test_long_lines_are_thinned_but_keep_their_end() -> None:
    count = 10_001
    line = Line(label="a", x=list(range(count)), y=[1.0] * (count - 1) + [2.0], colour="red")
    path = path_of(line_chart("t", [line], x_label="", y_label="", x_range=(0, count - 1), y_range=(0, 2)))
    assert path.count("L") <= 401
    assert path.endswith("L290.0 26.0")


@pytest.mark.parametrize("values", [[], [0.0], [3.0, 3.0], [-1e-9, 1e-9], [1e6, 2e6]])
def test_any_range_of_values_makes_a_chart(values: list[float]) -> None:
    line = Line(label="a", x=list(range(len(values))), y=values, colour="red")
    ElementTree.fromstring(line_chart("t", [line], x_label="", y_label=""))
