"""OpenSCENARIO into scenarios: positions, actions, conditions, and what is lost."""

import math
from dataclasses import replace

import pytest

from bevstack.sim.openscenario.importing import import_xosc, variants
from bevstack.sim.openscenario.playing import play, with_duration
from bevstack.sim.scenario.actions import LaneChangeAction, SpeedAction
from bevstack.sim.scenario.catalogue import read_scenario
from bevstack.sim.scenario.places import LanePlace
from bevstack.sim.scenario.triggers import AfterTrigger, DistanceTrigger, TimeTrigger, TravelledTrigger
from bevstack.sim.scenario.writing import scenario_yaml
from tests.fixtures.openscenario_files import (
    EGO_START,
    OTHER_START,
    SPEED,
    at_time,
    by_entity,
    car,
    event,
    scenario,
    start,
    when,
)


def test_everybody_begins_where_the_file_says(tmp_path):
    imported = import_xosc(scenario(tmp_path))
    ego, other = imported.scenario.ego, imported.scenario.actors[0]
    assert (ego.start.lane, ego.start.station_m, ego.speed_mps) == ("7/0/-1", 20.0, 10.0)
    # 30 m ahead in the next lane, from rear axle to rear axle; the box centre is 1.5 m further ahead.
    assert other.start == LanePlace(lane="7/0/-2", station_m=51.5, offset_m=0.2)
    assert (other.speed_mps, other.size_lwh, other.guide) == (8.0, (5.0, 1.8, 1.4), "lane")
    assert (imported.vehicle.length_m, imported.vehicle.rear_overhang_m) == (4.0, 0.5)
    assert not imported.losses


def test_parameters_can_be_given(tmp_path):
    imported = import_xosc(scenario(tmp_path), {"speed": "15"})
    assert (imported.scenario.ego.speed_mps, imported.scenario.actors[0].speed_mps) == (15.0, 13.0)
    with pytest.raises(ValueError, match="no parameter 'sped' .did you mean speed"):
        import_xosc(scenario(tmp_path), {"sped": "15"})


def test_a_scenario_ends_with_its_stop_trigger(tmp_path):
    imported = import_xosc(scenario(tmp_path, stop=when(at_time(4), delay="1.5")))
    assert play(imported).end_s == pytest.approx(5.5)
    assert with_duration(imported).duration_s == pytest.approx(5.5)


def test_the_imported_scenario_reads_back_from_yaml(tmp_path):
    made = import_xosc(scenario(tmp_path)).scenario
    assert read_scenario(scenario_yaml(made), "own.yaml") == made


def lane_change(value, entity="Ego"):
    return f"""<LateralAction><LaneChangeAction><LaneChangeActionDynamics dynamicsShape="sinusoidal" value="2"
    dynamicsDimension="rate"/><LaneChangeTarget><RelativeTargetLane entityRef="{entity}" value="{value}"/>
    </LaneChangeTarget></LaneChangeAction></LateralAction>"""


def test_a_lane_change_to_the_lane_of_another_goes_to_its_left(tmp_path):
    near = by_entity("Ego", '<RelativeDistanceCondition entityRef="Other" relativeDistanceType="longitudinal" '
                     'value="12" freespace="true" rule="lessThan"/>')  # fmt: skip
    made = import_xosc(scenario(tmp_path, story=event("Other", lane_change(0), when(near), "cut in")))
    (maneuver,) = made.scenario.actors[0].maneuvers
    assert maneuver.action == LaneChangeAction(lanes_left=1, offset_m=0.0, shape="sinusoidal", by="rate", amount=2.0)
    assert maneuver.when == DistanceTrigger(who="ego", to="Other", distance_m=12.0, measure="along")


def test_an_event_waits_for_another_with_a_delay(tmp_path):
    slower = SPEED.format("1").removeprefix("<PrivateAction>").removesuffix("</PrivateAction>")
    ended = ('<ByValueCondition><StoryboardElementStateCondition storyboardElementType="maneuver" '
             'storyboardElementRef="m first" state="completeState"/></ByValueCondition>')  # fmt: skip
    story = event("Other", slower, when(at_time(2)), "first") + event("Other", slower, when(ended, "0.5"), "second")
    first, second = import_xosc(scenario(tmp_path, story=story)).scenario.actors[0].maneuvers
    assert first.when == TimeTrigger(at_s=2.0)
    assert second.when == AfterTrigger(maneuver="first", delay_s=0.5)


def test_a_condition_on_a_parameter_is_decided_at_once(tmp_path):
    slower = SPEED.format("1").removeprefix("<PrivateAction>").removesuffix("</PrivateAction>")
    fast = (
        '<ByValueCondition><ParameterCondition parameterRef="speed" rule="greaterThan" value="12"/></ByValueCondition>'
    )
    path = scenario(tmp_path, story=event("Other", slower, when(fast)))
    assert import_xosc(path).scenario.actors[0].maneuvers == ()
    (maneuver,) = import_xosc(path, {"speed": "20"}).scenario.actors[0].maneuvers
    assert maneuver.when == TimeTrigger(at_s=0.0)


def test_an_event_without_a_trigger_begins_at_once(tmp_path):
    slower = SPEED.format("1").removeprefix("<PrivateAction>").removesuffix("</PrivateAction>")
    (maneuver,) = import_xosc(scenario(tmp_path, story=event("Other", slower))).scenario.actors[0].maneuvers
    assert maneuver.when == TimeTrigger(at_s=0.0)


def test_an_unprotected_vehicle_hits_whom_the_file_watches(tmp_path):
    ahead = start("Other", '<LanePosition roadId="7" laneId="-1" s="60"/>', "0")
    hit = by_entity("Ego", '<CollisionCondition><EntityRef entityRef="Other"/></CollisionCondition>')
    imported = import_xosc(scenario(tmp_path, starts=EGO_START + ahead, stop=when(hit, "1")))
    ending = play(imported)
    # From a front at 20 + 3.5 m to a rear at 60 - 1 m with 10 m/s.
    assert imported.collides_with == ("Other",)
    assert ending.contacts["Other"] == pytest.approx(3.6, abs=0.11) and ending.end_s == pytest.approx(4.6, abs=0.11)


def test_who_synchronises_arrives_together_with_the_vehicle_under_test(tmp_path):
    story = event(
        "Other",
        """<SynchronizeAction masterEntityRef="Ego"><TargetPositionMaster><LanePosition roadId="7" laneId="-1" s="120"/>
        </TargetPositionMaster><TargetPosition><LanePosition roadId="7" laneId="-2" s="150"/></TargetPosition>
        <FinalSpeed><AbsoluteSpeed value="20"><TargetDistanceSteadyState distance="40"/></AbsoluteSpeed></FinalSpeed>
        </SynchronizeAction>""",
    )
    other = start("Other", '<LanePosition roadId="7" laneId="-2" s="100"/>', "0")
    made = import_xosc(scenario(tmp_path, starts=EGO_START + other, story=story)).scenario
    (maneuver,) = made.actors[0].maneuvers
    # Ego needs 10 s; the other 1 s for 10 m of speeding up and 2 s for 40 m: it sets off after 7 s.
    assert maneuver.when == TravelledTrigger(who="ego", distance_m=pytest.approx(70.0))
    assert maneuver.action == SpeedAction(speed_mps=20.0, by="distance", amount=pytest.approx(10.0))


def test_what_is_not_supported_is_named_and_the_scenario_says_so(tmp_path):
    light = ('<AppearanceAction><LightStateAction><LightType><VehicleLight vehicleLightType="lowBeam"/></LightType>'
             '<LightState mode="on"/></LightStateAction></AppearanceAction>')  # fmt: skip
    imported = import_xosc(scenario(tmp_path, story=event("Other", light)))
    (loss,) = imported.losses
    assert (loss.source, loss.path.rpartition("/")[2]) == ("own.xosc", "LightStateAction")
    assert loss.line > 1 and "no counterpart" in loss.what
    assert "Not carried over: LightStateAction" in imported.scenario.description


def test_an_event_whose_condition_has_no_counterpart_is_left_out(tmp_path):
    slower = SPEED.format("1").removeprefix("<PrivateAction>").removesuffix("</PrivateAction>")
    offroad = by_entity("Other", '<OffroadCondition duration="1"/>')
    imported = import_xosc(scenario(tmp_path, story=event("Other", slower, when(offroad))))
    assert imported.scenario.actors[0].maneuvers == ()
    assert "the event e go is left out" in imported.losses[0].what


def test_a_trajectory_of_the_vehicle_under_test_becomes_its_lane(tmp_path):
    follow = """<Private entityRef="Ego"><PrivateAction><RoutingAction><FollowTrajectoryAction><TimeReference><None/>
    </TimeReference><TrajectoryFollowingMode followingMode="follow"/><TrajectoryRef><Trajectory name="t" closed="false">
    <Shape><ClothoidSpline>
    <ClothoidSplineSegment curvatureStart="0" curvatureEnd="0" length="50"><PositionStart>
      <LanePosition roadId="7" laneId="-1" s="10"/></PositionStart></ClothoidSplineSegment>
    <ClothoidSplineSegment curvatureStart="0.05" curvatureEnd="0.05" length="31.4159265"/>
    </ClothoidSpline></Shape></Trajectory></TrajectoryRef></FollowTrajectoryAction></RoutingAction></PrivateAction>"""
    made = import_xosc(scenario(tmp_path, starts=follow + SPEED.format(10) + "</Private>" + OTHER_START)).scenario
    assert made.ego.start.lane == "trajectory of ego" and made.ego.start.station_m == pytest.approx(0.0)
    lane = made.road.further_lanes[0]
    assert (lane.x_m[-1], lane.y_m[-1]) == pytest.approx((60 + 20.0, -1.75 + 20.0), abs=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('roadId="8" laneId="-1" s="20"', r"own.xosc, line \d+, .*LanePosition: the road network has no road '8'"),
        ('roadId="7" laneId="-9" s="20"', r"line \d+, .*road '7' has no lane -9"),
        ('roadId="7" laneId="-1" s="far"', r"line \d+, .*s='far' must be a finite number"),
        ('roadId="7" laneId="-1"', r"line \d+, .*attribute s is missing"),
    ],
)
def test_a_wrong_position_is_named_with_file_line_and_element(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        import_xosc(scenario(tmp_path, starts=start("Ego", f"<LanePosition {text}/>", "1") + OTHER_START))


def test_a_missing_catalog_entry_is_named(tmp_path):
    path = scenario(tmp_path, entities=car("Ego").replace("small", "smal") + car("Other"))
    with pytest.raises(ValueError, match="catalog 'cars' has no entry 'smal' .did you mean small"):
        import_xosc(path)


def test_places_relative_to_each_other_in_a_circle_are_refused(tmp_path):
    circle = start("Ego", '<RelativeObjectPosition entityRef="Other" dx="1" dy="0"/>', "1") + OTHER_START
    with pytest.raises(ValueError, match="relative to '.*', an entity without a place"):
        import_xosc(scenario(tmp_path, starts=circle))


def test_malformed_xml_is_named_with_its_line(tmp_path):
    path = scenario(tmp_path)
    path.write_text(path.read_text().replace("</Init>", ""))
    with pytest.raises(ValueError, match=r"own.xosc, line \d+: not XML: mismatched tag"):
        import_xosc(path)


def test_a_variation_file_gives_its_scenario_values(tmp_path):
    scenario(tmp_path)
    varied = tmp_path / "varied.xosc"
    varied.write_text(
        """<OpenSCENARIO><ParameterValueDistribution><ScenarioFile filepath="own.xosc"/><Deterministic>
        <DeterministicSingleParameterDistribution parameterName="speed"><DistributionSet><Element value="12"/>
        <Element value="14"/></DistributionSet></DeterministicSingleParameterDistribution></Deterministic>
        </ParameterValueDistribution></OpenSCENARIO>"""
    )
    assert [import_xosc(varied, choice).scenario.ego.speed_mps for choice in variants(varied)] == [12.0, 14.0]
    assert import_xosc(varied).scenario.name == "varied"


def test_the_vehicle_under_test_can_be_chosen(tmp_path):
    made = import_xosc(scenario(tmp_path), ego="Other").scenario
    assert [actor.name for actor in made.actors] == ["Ego"] and made.ego.start.lane == "7/0/-2"
    with pytest.raises(ValueError, match="no vehicle 'Nobody'"):
        import_xosc(scenario(tmp_path), ego="Nobody")


def test_somebody_who_faces_across_goes_across(tmp_path):
    across = start("Other", '<LanePosition roadId="7" laneId="-2" s="80"><Orientation type="relative" '
                   f'h="{math.pi / 2}"/></LanePosition>', "2")  # fmt: skip
    other = import_xosc(scenario(tmp_path, starts=EGO_START + across)).scenario.actors[0]
    assert other.guide == "heading"
    # The box centre lies 1.5 m ahead of the rear axle, which is across the road here.
    assert replace(other.start, yaw_rad=0.0) == LanePlace(lane="7/0/-2", station_m=80.0, offset_m=1.5)
    assert other.start.yaw_rad == pytest.approx(math.pi / 2, abs=1e-6)
