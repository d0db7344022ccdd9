"""Scenario files: faults are named, and what is written is read back equal."""

import pytest

from bevstack.sim.scenario.catalogue import library_names, load_scenario, read_scenario
from bevstack.sim.scenario.triggers import AllTrigger, TimeTrigger
from bevstack.sim.scenario.writing import scenario_yaml

GOOD = """\
name: mine
road: {kind: straight, length_m: 200}
ego:
  start: {kind: lane, lane: ahead_1, station_m: 10}
  speed_mps: kmh(ego_kmh)
actors:
- name: target
  class_name: car
  start: {kind: relative, ahead_m: 40}
  maneuvers:
  - name: starts
    when: {kind: all, of: [{kind: time, at_s: 1}, {kind: speed, rule: above, speed_mps: 2}]}
    action: {kind: speed, speed_mps: 5, by: rate, amount: 2}
parameters:
- {name: ego_kmh, low: 10, high: 30, step: 10}
"""


def test_a_file_becomes_types():
    scenario = read_scenario(GOOD, "mine.yaml")
    trigger = scenario.actors[0].maneuvers[0].when
    assert isinstance(trigger, AllTrigger)
    assert trigger.of[0] == TimeTrigger(at_s=1.0)
    assert scenario.ego.speed_mps == "kmh(ego_kmh)"


def test_every_scenario_of_the_library_is_read_back_equal():
    for name in library_names():
        scenario = load_scenario(name)
        text = scenario_yaml(scenario)
        assert read_scenario(text, name) == scenario
        assert scenario_yaml(read_scenario(text, name)) == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("class_name: car", "class_name: caar", r"mine.yaml, line 8, key actors\[0\].class_name: 'caar' .*mean car"),
        ("speed_mps: kmh(ego_kmh)", "sped_mps: 3", r"line 5, key ego.sped_mps: there is no such key .*mean speed_mps"),
        ("length_m: 200", "length_m: two hundred", r"line 2, key road.length_m: 'two hundred' is neither"),
        ("kind: straight", "kind: strait", r"line 2, key road.kind: 'strait' is none of .*mean straight"),
        ("name: mine\n", "", r"line 1: name must be given"),
        (
            "kmh(ego_kmh)",
            "kmh(ego_kph)",
            r"ego.speed_mps: 'kmh\(ego_kph\)' names 'ego_kph', which is unknown .*ego_kmh",
        ),
        ("by: rate", "by: [rate]", r"line 13, key actors\[0\].maneuvers\[0\].action.by: this must be text"),
        ("ahead_m: 40", "ahead_m: 40, to: targt", r"there is no actor 'targt' \(did you mean target\?\)"),
        ("low: 10", "low: 50", r"low=50.0 must be at most high=30.0"),
        ("- name: target", "- name: ego", "named 'ego'"),
        ("name: mine", "name: mine\nname: other", "line 2, key name: is given twice"),
        ("name: mine", "name: [mine", "not YAML"),
        ("speed_mps: 2}", "speed_mps: true}", "'true' must be text"),
    ],
)
def test_a_fault_is_named_with_line_key_value_and_remedy(old, new, message):
    assert old in GOOD
    with pytest.raises(ValueError, match=message):
        read_scenario(GOOD.replace(old, new, 1), "mine.yaml")


def test_an_empty_file_says_so():
    with pytest.raises(ValueError, match="empty"):
        read_scenario("", "mine.yaml")


def test_an_unknown_scenario_is_answered_with_a_near_one():
    with pytest.raises(ValueError, match="did you mean .*CPNA-50"):
        load_scenario("CPNA-55")


def test_a_scenario_is_found_with_and_without_its_folder(tmp_path):
    assert load_scenario("CCRs") == load_scenario("ncap2026/CCRs")
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert load_scenario(path).name == load_scenario(str(path)).name == "mine"
