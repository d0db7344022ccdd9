"""Parameters, constraints and variations."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.openscenario.distributions import choices, count
from bevstack.sim.openscenario.parameters import broken_constraints, compares, concrete, declared, with_values
from bevstack.sim.openscenario.xml_nodes import parse_xml

NODE = parse_xml("<a/>", "f.xosc")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$speed", "36"),
        ("${$speed / 3.6}", "10"),
        ("${-$speed}", "-36"),
        ("${pow($speed, 2) + sqrt(16)}", "1300"),
        ("${round(2.5) + floor(-0.5) + ceil(0.2)}", "3"),
        ("${7 % 4 * 2}", "6"),
        ("${$on and not false}", "true"),
        ("plain", "plain"),
    ],
)
def test_attributes_take_values(text, value):
    assert with_values(text, {"speed": "36", "on": "true"}, NODE) == value


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_an_expression_is_exact(a, b):
    assert float(with_values("${$a + 2 * $b}", {"a": repr(a), "b": repr(b)}, NODE)) == a + 2 * b


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$sped", "'sped' is not declared .did you mean speed"),
        ("${$sped * 2}", "'sped' is not declared .did you mean speed"),
        ("${1 / 0}", "division by zero"),
        ("${__import__('os')}", "__import__ is not known"),
        ("${'a'.upper()}", "not known"),
        ("${sqrt(-1)}", "has no value"),
        ("${2 +}", "no arithmetic"),
        ("${$word}", "word='truck' is no number"),
    ],
)
def test_a_fault_in_an_expression_names_it(text, message):
    with pytest.raises(ValueError, match=rf"f.xosc, line 1, a: .*{message}"):
        with_values(text, {"speed": "36", "word": "truck"}, NODE)


def test_later_parameters_are_made_of_earlier_ones_and_given_values_replace_declared_ones():
    root = parse_xml(
        """<s><ParameterDeclarations><ParameterDeclaration name="kph" value="36"/>
        <ParameterDeclaration name="mps" value="${$kph / 3.6}"/></ParameterDeclarations><x v="$mps"/></s>""",
        "f",
    )
    assert declared(root, {}, {})["mps"] == "10"
    values = declared(root, {"kph": "72"}, {})
    assert concrete(root.need("x"), values).text("v") == "20"


def test_inner_declarations_count_within_their_element():
    root = parse_xml(
        """<s><m><ParameterDeclarations><ParameterDeclaration name="a" value="2"/></ParameterDeclarations>
        <x v="${$a + $b}"/></m></s>""",
        "f",
    )
    assert concrete(root, {"b": "3"}).need("m", "x").text("v") == "5"


def test_one_of_several_constraint_groups_must_be_met():
    root = parse_xml(
        """<s><ParameterDeclarations><ParameterDeclaration name="side" value="0">
        <ConstraintGroup><ValueConstraint rule="equalTo" value="1"/></ConstraintGroup>
        <ConstraintGroup><ValueConstraint rule="lessThan" value="-1"/></ConstraintGroup>
        </ParameterDeclaration></ParameterDeclarations></s>""",
        "f",
    )
    assert broken_constraints(root, {"side": "0"}) == ["side=0 must be equalTo 1 or lessThan -1"]
    assert not broken_constraints(root, {"side": "1"}) and not broken_constraints(root, {"side": "-2"})


def test_numbers_compare_as_numbers_and_words_as_words():
    assert compares("1.0", "equalTo", "1") and compares("a", "equalTo", "a") and not compares("a", "equalTo", "b")
    assert compares("2", "greaterThan", "10") is False
    with pytest.raises(ValueError, match="rule 'near' is none of"):
        compares("1", "near", "1")


def test_a_variation_gives_all_combinations():
    root = parse_xml(
        """<OpenSCENARIO><ParameterValueDistribution><ScenarioFile filepath="x.xosc"/><Deterministic>
        <DeterministicSingleParameterDistribution parameterName="v"><DistributionRange stepWidth="0.1">
          <Range lowerLimit="0.1" upperLimit="0.3"/></DistributionRange></DeterministicSingleParameterDistribution>
        <DeterministicMultiParameterDistribution><ValueSetDistribution>
          <ParameterValueSet><ParameterAssignment parameterRef="a" value="1"/></ParameterValueSet>
          <ParameterValueSet><ParameterAssignment parameterRef="a" value="2"/></ParameterValueSet>
        </ValueSetDistribution></DeterministicMultiParameterDistribution>
        </Deterministic></ParameterValueDistribution></OpenSCENARIO>""",
        "f",
    )
    found = list(choices(root))
    assert count(root) == len(found) == 6
    assert found[:3] == [{"v": "0.1", "a": "1"}, {"v": "0.1", "a": "2"}, {"v": "0.2", "a": "1"}]
    assert math.isclose(float(found[-1]["v"]), 0.3)


def test_a_range_without_steps_is_refused():
    root = parse_xml(
        """<OpenSCENARIO><ParameterValueDistribution><Deterministic>
        <DeterministicSingleParameterDistribution parameterName="v"><DistributionRange stepWidth="0">
        <Range lowerLimit="0" upperLimit="1"/></DistributionRange></DeterministicSingleParameterDistribution>
        </Deterministic></ParameterValueDistribution></OpenSCENARIO>""",
        "f",
    )
    with pytest.raises(ValueError, match="stepWidth=0 must be positive"):
        list(choices(root))
