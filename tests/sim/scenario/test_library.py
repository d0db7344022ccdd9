"""The library: each scenario is as dangerous as it claims."""

import dataclasses

import pytest

from bevstack.sim.scenario.catalogue import (
    FOLDERS,
    Suite,
    SuiteEntry,
    library_names,
    load_index,
    load_scenario,
    load_suite,
    scenario_count,
    scenarios_of,
    suite_names,
)
from bevstack.sim.scenario.check import check_concrete
from bevstack.sim.scenario.expectations import CollisionDanger, OtherTest
from bevstack.sim.scenario.unprotected import check_danger, first_contact
from bevstack.sim.scenario.variations import concrete, grid_values

CORNERS = 16


@pytest.mark.parametrize("name", library_names())
def test_an_unprotected_ego_meets_what_the_scenario_claims(name):
    scenario = concrete(load_scenario(name))
    check_concrete(scenario)
    contact = check_danger(scenario)
    if isinstance(scenario.danger, CollisionDanger):
        assert scenario.danger.holds_if is True
        assert contact is not None
        assert contact.actor == scenario.danger.actor
    else:
        assert contact is None
        assert scenario.danger.what


@pytest.mark.slow
@pytest.mark.parametrize("name", library_names())
def test_the_claim_holds_all_over_the_grid(name):
    scenario = load_scenario(name)
    grid = list(grid_values(scenario))
    for values in grid[:: max(1, -(-len(grid) // CORNERS))]:
        variation = concrete(scenario, values)
        check_concrete(variation)
        check_danger(variation)


def test_a_pedestrian_is_met_at_the_share_that_the_name_says():
    for percent in (25, 50, 75):
        scenario = concrete(load_scenario(f"CPNA-{percent}"))
        contact = first_contact(scenario)
        assert contact is not None
        assert contact.share(scenario.danger) == pytest.approx(percent / 100, abs=0.01)
        assert contact.time_s == pytest.approx(5.0, abs=0.01)


def test_a_wrong_claim_is_found():
    scenario = concrete(load_scenario("CPNA-50"))
    elsewhere = dataclasses.replace(scenario.danger, share=0.75)
    with pytest.raises(ValueError, match="hits target at 0.50 instead of 0.75"):
        check_danger(dataclasses.replace(scenario, danger=elsewhere))
    with pytest.raises(ValueError, match="no collision is meant"):
        check_danger(dataclasses.replace(scenario, danger=OtherTest(what="nothing")))
    assert check_danger(dataclasses.replace(scenario, danger=OtherTest(what=""))) is not None  # nothing is claimed
    with pytest.raises(ValueError, match="with its rear"):
        check_danger(dataclasses.replace(scenario, danger=dataclasses.replace(scenario.danger, face="rear")))


def test_an_ego_inside_of_somebody_cannot_begin():
    scenario = concrete(load_scenario("CCRs"))
    target = dataclasses.replace(scenario.actors[0], start=dataclasses.replace(scenario.actors[0].start, ahead_m=1.0))
    with pytest.raises(ValueError, match="starts inside of target"):
        check_concrete(dataclasses.replace(scenario, actors=(target,)))


def test_an_ego_off_the_road_cannot_begin():
    scenario = concrete(load_scenario("CCRs"))
    ego = dataclasses.replace(scenario.ego, start=dataclasses.replace(scenario.ego.start, offset_m=-3.0))
    with pytest.raises(ValueError, match="starts off the road"):
        check_concrete(dataclasses.replace(scenario, ego=ego))


def test_the_44_names_of_bench2drive_are_all_accounted_for():
    here = {name.partition("/")[2] for name in library_names() if name.startswith("carla44/")}
    gaps = {gap.name for gap in load_index("carla44").not_included}
    assert not here & gaps
    assert len(here | gaps) == 44


def test_every_folder_names_its_source_and_every_scenario_its_standard():
    for folder in FOLDERS:
        assert load_index(folder).source
        names = [name for name in library_names() if name.startswith(f"{folder}/")]
        assert names
        for name in names:
            scenario = load_scenario(name)
            assert scenario.standard
            assert scenario.description
            assert scenario.expectations
            assert scenario.name == name.partition("/")[2]


def test_names_are_unique_without_their_folder():
    short = [name.partition("/")[2] for name in library_names()]
    assert len(set(short)) == len(short)


def test_suites_list_what_exists():
    assert set(suite_names()) == {"smoke", "ncap", "r157", "nhtsa", "carla", "neuroncap", "full"}
    assert scenario_count(load_suite("smoke")) == 12
    for name in suite_names():
        for entry in load_suite(name).entries:
            assert entry.scenario in library_names() if entry.scenario else entry.all_of in FOLDERS


def test_a_suite_gives_concrete_scenarios_in_its_order():
    runs = list(scenarios_of(load_suite("smoke")))
    assert [name for name, _ in runs] == [entry.scenario for entry in load_suite("smoke").entries]
    assert all(scenario.is_concrete for _, scenario in runs)


def test_a_suite_can_ask_for_the_grid_and_for_draws():
    suite = Suite(
        name="mine",
        entries=(SuiteEntry(scenario="CCRs", take="grid"), SuiteEntry(scenario="CCRs", take="draws", draws=3)),
    )
    assert scenario_count(suite) == len(list(scenarios_of(suite))) == 28


def test_an_unknown_suite_or_folder_is_named():
    with pytest.raises(ValueError, match="no suite 'smok'.*did you mean smoke"):
        load_suite("smok")
    with pytest.raises(ValueError, match="no folder 'ncap'"):
        list(scenarios_of(Suite(name="mine", entries=(SuiteEntry(all_of="ncap"),))))
    with pytest.raises(ValueError, match="either scenario or all_of"):
        list(scenarios_of(Suite(name="mine", entries=(SuiteEntry(),))))
