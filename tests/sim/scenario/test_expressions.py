"""Arithmetic in scenario files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.scenario.expressions import holds, names_in, value_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("kmh(36)", 10.0),
        ("2 + 3 * 4 - 6 / 3", 12.0),
        ("-(1 - 2.5)", 1.5),
        ("min(3, v, 9) + max(1, 2)", 4.0),
        ("sqrt(16) + abs(-1)", 5.0),
        ("deg(180) / pi", 1.0),
        ("ego.width / 2", 0.9),
        ("1e3", 1000.0),
    ],
)
def test_arithmetic_gives_its_value(text, value):
    assert value_of(text, {"v": 2.0, "ego.width": 1.8}) == pytest.approx(value, abs=1e-12)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_sums_of_names_are_those_of_python(a, b):
    assert value_of("a + b - 2 * a", {"a": a, "b": b}) == a + b - 2 * a


def test_a_number_is_its_own_value():
    assert value_of(3, {}) == 3.0


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "a.b.c",
        "a[0]",
        "[1, 2]",
        "lambda: 1",
        "'text'",
        "2 ** 9",
        "f(1)",
        "(1).real",
        "x if y else z",
    ],
)
def test_what_is_no_arithmetic_is_refused(text):
    with pytest.raises(ValueError, match="expression|neither"):
        value_of(text, {"a": 1.0, "x": 1.0, "y": 1.0, "z": 1.0})


def test_an_unknown_name_is_named_with_the_nearest_known():
    with pytest.raises(ValueError, match=r"'ego_kmhh', which is unknown \(did you mean ego_kmh\?\)"):
        value_of("ego_kmhh + 1", {"ego_kmh": 3.0})


@pytest.mark.parametrize(
    ("text", "what"), [("1 / 0", "divides by zero"), ("sqrt(0 - 1)", "no value"), ("kmh()", "0 values")]
)
def test_expressions_without_a_value_say_why(text, what):
    with pytest.raises(ValueError, match=what):
        value_of(text, {})


def test_comparisons_are_joined():
    assert holds("1 < a <= 2 and b == 3", {"a": 2.0, "b": 3.0})
    assert not holds("a > 2 or b != 3", {"a": 2.0, "b": 3.0})


def test_a_comparison_is_no_number_and_a_number_no_comparison():
    with pytest.raises(ValueError, match="true or false"):
        value_of("1 < 2", {})
    with pytest.raises(ValueError, match="comparison is needed"):
        holds("1 + 2", {})


def test_the_names_of_an_expression_are_found():
    assert names_in("kmh(a) + ego.width * pi + max(b, 2)") == {"a", "b", "ego.width"}
