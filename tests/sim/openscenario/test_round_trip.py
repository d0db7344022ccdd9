"""Our scenarios to OpenSCENARIO and back: everybody moves alike."""

import math

import pytest

from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.openscenario.exporting import export_xosc, save_xosc
from bevstack.sim.openscenario.importing import import_xosc
from bevstack.sim.openscenario.opendrive import roads_of
from bevstack.sim.openscenario.opendrive_lanes import lay_network
from bevstack.sim.openscenario.writing_roads import opendrive_text
from bevstack.sim.openscenario.xml_nodes import parse_xml
from bevstack.sim.scenario.catalogue import read_scenario
from bevstack.sim.scenario.motion import EgoMotion
from bevstack.sim.scenario.placing import ego_way
from bevstack.sim.scenario.road_specs import CrossingRoads, CurvedRoad, StraightRoad, TownRoads
from bevstack.sim.scenario.roads import build_roads
from bevstack.sim.scenario.schema import Scenario
from bevstack.sim.scenario.script import Script, advance, bodies
from bevstack.sim.scenario.ways import Way

CUT_IN = """name: cut in
duration_s: 8
road: {kind: straight, lanes_ahead: 3}
ego: {start: {kind: lane, lane: ahead_2, station_m: 30}, speed_mps: 15}
actors:
- name: car
  class_name: car
  start: {kind: relative, ahead_m: 40, left_m: -3.5}
  speed_mps: 10
  maneuvers:
  - name: cut in
    when: {kind: distance, to: car, distance_m: 20, measure: along}
    action: {kind: lane_change, lanes_left: 1, offset_m: 0.3, by: rate, amount: 2}
  - name: slow
    when: {kind: after, maneuver: cut in, delay_s: 0.5}
    action: {kind: speed, speed_mps: 4, by: rate, amount: 3, shape: cubic}
- name: oncoming
  class_name: truck
  start: {kind: lane, lane: oncoming_1, station_m: 20}
  speed_mps: 12
  maneuvers:
  - name: drift
    when: {kind: any, of: [{kind: time, at_s: 2}, {kind: ttc, to: car, time_s: 1}]}
    action: {kind: lane_change, offset_m: 0.8, by: time, amount: 2}
"""

CROSSING = """name: crossing
duration_s: 9
road: {kind: crossing, has_zebras: true}
ego: {start: {kind: lane, lane: south_in, station_m: 90}, speed_mps: 9, route: [south_to_west, west_out]}
actors:
- name: turning
  class_name: car
  start: {kind: lane, lane: north_in, station_m: 110}
  speed_mps: 7
  route: [north_to_east, east_out]
  maneuvers:
  - {name: faster, when: {kind: station, lane: south_in, station_m: 120},
     action: {kind: speed, speed_mps: 2, relative_to: ego, by: time, amount: 2}}
- name: walker
  class_name: pedestrian
  start: {kind: world, x_m: -14, y_m: -9, yaw_rad: 1.2}
  guide: heading
  maneuvers:
  - {name: wait, when: {kind: time, at_s: 0.5}, action: {kind: hold, duration_s: 1}}
  - {name: walk, when: {kind: all, of: [{kind: after, maneuver: wait}, {kind: time, at_s: 1}]},
     action: {kind: follow, points: [{place: {kind: world, x_m: -14, y_m: 0}, time_s: 4},
                                     {place: {kind: world, x_m: -10, y_m: 6}, time_s: 7}]}}
- name: ghost
  class_name: bicycle
  start: {kind: lane, lane: east_in, station_m: 100, offset_m: -1}
  is_present: false
  speed_mps: 5
  maneuvers:
  - {name: appear, when: {kind: travelled, distance_m: 30}, action: {kind: appear}}
  - {name: back, when: {kind: after, maneuver: appear, delay_s: 1},
     action: {kind: teleport, place: {kind: lane, lane: east_in, station_m: 90}}}
"""

CURVE = """name: curve
duration_s: 8
road: {kind: curved, radius_m: -60, angle_rad: 1.2, before_m: 40, lanes_ahead: 2}
ego: {start: {kind: lane, lane: ahead_1, station_m: 5}, speed_mps: 12}
actors:
- name: lead
  class_name: motorcycle
  start: {kind: relative, ahead_m: 50, left_m: -3.5}
  speed_mps: 9
  maneuvers:
  - {name: back, when: {kind: headway, to: lead, time_s: 3}, action: {kind: lane_change, lanes_left: 1, amount: 3}}
  - {name: stop, when: {kind: reach, who: lead, place: {kind: lane, lane: ahead_1, station_m: 90}, within_m: 5},
     action: {kind: speed, speed_mps: 0, by: distance, amount: 20}}
- name: other
  class_name: bus
  start: {kind: lane, lane: oncoming_1, station_m: 10}
  speed_mps: 10
"""


def largest_gap(one: Scenario, two: Scenario, seconds: float) -> float:
    """How far anybody, at any time, is from where the other scenario has them; an absent one must be so in both."""
    gaps = []
    tracks = []
    for scenario in (one, two):
        roads = build_roads(scenario.road)
        script = Script(scenario=scenario, roads=roads)
        way, station, left = ego_way(scenario.ego, roads)
        state, speed, track = script.start(), float(scenario.ego.speed_mps), []
        for step in range(round(seconds / DRIVE_STEP_S)):
            x, y, yaw = way.pose(station + speed * step * DRIVE_STEP_S, left)
            ego = EgoMotion(x=x, y=y, yaw=yaw, speed_mps=speed, travelled_m=speed * step * DRIVE_STEP_S)
            track.append({name: (body.x, body.y, body.yaw) for name, body in bodies(script, state, ego).items()})
            state = advance(script, state, ego)
        tracks.append(track)
    for first, second in zip(*tracks, strict=True):
        assert first.keys() == second.keys()
        gaps += [math.dist(first[name][:2], second[name][:2]) for name in first]
        assert all(math.cos(first[name][2] - second[name][2]) > math.cos(math.radians(1)) for name in first)
    return max(gaps)


@pytest.mark.parametrize("text", [CUT_IN, CROSSING, CURVE])
def test_everybody_moves_alike_after_a_round_trip(tmp_path, text):
    scenario = read_scenario(text, "own.yaml")
    losses = save_xosc(scenario, tmp_path / "own.xosc")
    imported = import_xosc(tmp_path / "own.xosc")
    assert not imported.losses, imported.losses
    assert not [loss for loss in losses if "manoeuvre" in loss]
    assert largest_gap(scenario, imported.scenario, float(scenario.duration_s)) < 0.05


@pytest.mark.parametrize("road", [StraightRoad(lanes_ahead=2), CurvedRoad(radius_m=80.0), CrossingRoads()])
def test_lanes_are_where_they_were(road):
    ours = build_roads(road)
    written = lay_network(roads_of(parse_xml(opendrive_text(road), "own.xodr")))
    assert len(written.network.lanes) == len(ours.network.lanes)
    for lane in ours.network.lanes:
        gaps = [max(_gap(other, lane), _gap(lane, other)) for other in written.network.lanes]
        assert min(gaps) < 0.03
    assert written.network.drivable.area == pytest.approx(ours.network.drivable.area, rel=0.05)


def _gap(one, other):
    way = Way.along((other,))
    ends = [one.pose_at(share * one.length_m) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return max(math.dist(way.pose(min(max(way.station_of(x, y)[0], 0.0), way.length_m))[:2], (x, y)) +
               (10.0 if math.cos(way.pose(way.station_of(x, y)[0])[2] - yaw) < 0.9 else 0.0)
               for x, y, yaw in ends)  # fmt: skip


def test_what_has_no_element_is_named():
    text = CUT_IN.replace("  speed_mps: 12", "  speed_mps: 12\n  behaviour: {kind: idm, wished_mps: 14}")
    exported = export_xosc(read_scenario(text, "own.yaml"), "own.xodr")
    assert "actor oncoming: the behaviour 'idm'" in exported.losses


def test_a_town_is_not_written():
    with pytest.raises(ValueError, match="roads of kind 'town' are not written"):
        opendrive_text(TownRoads(town="straight"))


def test_free_parameters_must_be_chosen_first():
    text = CUT_IN + "parameters:\n- {name: v, low: 1, high: 2}\n"
    with pytest.raises(ValueError, match="make it concrete first"):
        export_xosc(read_scenario(text, "own.yaml"), "own.xodr")
