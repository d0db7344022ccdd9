"""From parameters to concrete scenarios."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.scenario.catalogue import load_scenario
from bevstack.sim.scenario.schema import Parameter
from bevstack.sim.scenario.variations import concrete, count_variations, default_of, grid_of, variations
from bevstack.sim.scenario.writing import scenario_yaml


def test_a_grid_has_both_ends():
    assert grid_of(Parameter(name="v", low=10.0, high=50.0, step=10.0)) == (10.0, 20.0, 30.0, 40.0, 50.0)
    assert grid_of(Parameter(name="v", low=0.0, high=1.0, step=0.4)) == (0.0, 0.4, 0.8, 1.0)
    assert grid_of(Parameter(name="v", low=-2.0, high=2.0, step=0.25))[8] == 0.0
    assert grid_of(Parameter(name="v", low=1.0, high=2.0)) == (1.0, 2.0)


@pytest.mark.parametrize(
    "wrong", [{}, {"values": (1.0,), "low": 0.0}, {"low": 2.0, "high": 1.0}, {"low": 0.0, "high": 1.0, "step": 0.0}]
)
def test_an_impossible_parameter_is_refused(wrong):
    with pytest.raises(ValueError, match="parameter v"):
        grid_of(Parameter(name="v", **wrong))


def test_official_grids_have_their_sizes():
    assert count_variations(load_scenario("CCRs")) == 5 * 5
    assert count_variations(load_scenario("CPNA-50")) == 6 * 2  # by day and by night
    assert count_variations(load_scenario("4_2_2_partially_blocking_target")) == 3 * 17


def test_the_grid_gives_concrete_scenarios_that_differ():
    all_of = list(variations(load_scenario("CCRs")))
    assert all(scenario.is_concrete for scenario in all_of)
    assert len({tuple(scenario.values.items()) for scenario in all_of}) == len(all_of) == 25


def test_constraints_leave_combinations_out():
    values = [scenario.values for scenario in variations(load_scenario("CCRm"))]
    assert values
    assert all(row["ego_kmh"] >= row["target_kmh"] + 10 for row in values)
    with pytest.raises(ValueError, match="constraint"):
        concrete(load_scenario("CCRm"), {"ego_kmh": 30.0, "target_kmh": 70.0})


def test_values_not_given_have_their_default():
    scenario = load_scenario("CPNA-50")
    assert concrete(scenario).values == {"ego_kmh": default_of(scenario.parameters[0])}
    assert concrete(scenario, {"ego_kmh": 36.0}).ego.speed_mps == pytest.approx(10.0)


@given(st.integers(0, 10_000))
def test_draws_stay_in_range_and_repeat_with_their_seed(seed):
    scenario = load_scenario("4_4_1_cut_in")
    drawn = concrete(scenario, seed=seed)
    assert drawn == concrete(scenario, seed=seed)
    for parameter in scenario.parameters:
        assert parameter.low <= drawn.values[parameter.name] <= parameter.high


def test_a_concrete_scenario_has_only_numbers():
    text = scenario_yaml(concrete(load_scenario("CCFtap")))
    assert "meet_s" not in text
    assert "kmh(" not in text


def test_unknown_and_outlying_values_are_refused():
    with pytest.raises(ValueError, match="no parameter 'ego_kph'.*did you mean ego_kmh"):
        concrete(load_scenario("CCRs"), {"ego_kph": 30.0})
    with pytest.raises(ValueError, match="ego_kmh=300.* must lie in 10 to 50"):
        concrete(load_scenario("CCRs"), {"ego_kmh": 300.0})


def test_the_rule_of_the_regulation_decides_what_is_preventable():
    cut_in = load_scenario("4_4_1_cut_in")
    far = {"ego_kmh": 60.0, "dv_kmh": -20.0, "dx0_m": 60.0, "vy_mps": 1.0, "acceleration_mps2": 0.0}
    near = far | {"dv_kmh": -50.0, "dx0_m": 10.0, "vy_mps": 3.0}
    assert concrete(cut_in, far).preventable is True
    assert concrete(cut_in, near).preventable is False
