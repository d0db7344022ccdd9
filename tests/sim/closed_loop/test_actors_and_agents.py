"""Actors who react, the future that the oracle knows, red lights, the map, logs, and the pytest plugin."""

from dataclasses import replace

import numpy as np
import pytest

from bevstack.sim.closed_loop.agents.constant_velocity import ConstantVelocityAgent, UnprotectedAgent
from bevstack.sim.closed_loop.agents.oracle import OracleAgent
from bevstack.sim.closed_loop.agents.protocol import DriveState, Truth
from bevstack.sim.closed_loop.agents.true_scene import MAP_GRID, TrueScene
from bevstack.sim.closed_loop.course import BEHIND_M
from bevstack.sim.closed_loop.log_file import drive_hash, read_log, write_log
from bevstack.sim.closed_loop.loop import drive
from bevstack.sim.closed_loop.stage import set_up
from bevstack.sim.scenario.catalogue import load_scenario, read_scenario
from bevstack.sim.scenario.schema import FaultEntry
from bevstack.sim.scenario.variations import concrete

LIGHT = """
name: light
duration_s: 20
road: {kind: crossing, arm_m: 100}
ego:
  start: {kind: lane, lane: south_in, station_m: 30}
  speed_mps: 8
  route: [south_in, south_to_north, north_out]
red_lights: [{lanes: [south_in], from_s: 0, until_s: 100}]
expectations: [{kind: stops_at_red}]
"""
BEHIND = """
name: behind
duration_s: 12
road: {kind: straight, length_m: 400}
ego: {start: {kind: lane, lane: ahead_1, station_m: 60}, speed_mps: 3}
actors:
- name: follower
  class_name: car
  start: {kind: lane, lane: ahead_1, station_m: 20}
  speed_mps: 12
  behaviour: {kind: idm, wished_mps: 12}
expectations: [{kind: no_collision}]
"""


def stage_of(text):
    return set_up(concrete(read_scenario(text, "test")))


def first_state(stage):
    course = stage.course
    truth = Truth(world=stage.world, course=course, red_line=course.red_line(BEHIND_M, 0.0))
    route = course.route(course.start, BEHIND_M)
    return DriveState(step=0, time_s=0.0, ego=course.start.as_ego(), route=route, vehicle=course.vehicle, truth=truth)


def test_a_driver_behind_a_slow_ego_vehicle_keeps_its_distance():
    log = drive(stage_of(BEHIND), ConstantVelocityAgent())
    assert log.ending == "duration"
    gaps = log.ego_poses[:, 0] - log.actors[0].poses[:, 0]
    assert gaps.min() > 5.0
    assert np.hypot(*log.actors[0].velocities[-1]) == pytest.approx(3.0, abs=1.0)


def test_manoeuvres_of_somebody_who_decides_for_itself_are_refused():
    text = BEHIND.replace(
        "wished_mps: 12}",
        "wished_mps: 12}\n  maneuvers:\n  - name: stops\n    when: {kind: time, at_s: 1}\n"
        "    action: {kind: speed, speed_mps: 0}",
    )
    with pytest.raises(ValueError, match="decides for itself"):
        stage_of(text)


def test_the_oracle_stops_at_a_red_light_and_an_unprotected_vehicle_does_not():
    careful, careless = drive(stage_of(LIGHT), OracleAgent()), drive(stage_of(LIGHT), UnprotectedAgent())
    line = -8.0
    front = careful.vehicle.front_ahead_m
    assert line - 4.0 < careful.ego_poses[-1, 1] + front < line + 0.2
    assert careless.ego_poses[-1, 1] > line


def test_what_is_foreseen_of_scripted_actors_is_what_they_then_do():
    stage = set_up(concrete(load_scenario("4_4_1_cut_in")))
    foreseen = stage.world.foreseen()[0]
    log = drive(stage, ConstantVelocityAgent())
    steps = min(len(log.ego_poses), 81)
    seen = log.actors[0].poses[2:steps:2, :2]
    np.testing.assert_allclose(foreseen[: len(seen)], seen, atol=1e-6)


def test_the_true_scene_has_boxes_in_the_ego_frame_and_the_road_around_it():
    stage = set_up(concrete(load_scenario("CCRs")))
    scene = TrueScene(stage.course.roads).at(first_state(stage))
    x, y, _ = scene.detections.boxes.rows[0, :3]
    target = stage.world.now()[0].pose
    start = stage.course.start
    assert (x, y) == pytest.approx((target[0] - start.x_m, target[1] - start.y_m), abs=1e-4)
    road = scene.map.probabilities.max(axis=0)
    row = round((0.0 - MAP_GRID.y_range_m[0]) / MAP_GRID.cell_m)
    assert road[row, -1] == 1.0
    assert road[0, 0] == road[-1, 0] == 0.0


def test_a_route_begins_abeam_and_keeps_the_wished_speed():
    stage = set_up(concrete(load_scenario("CCRs")))
    route = stage.course.route(stage.course.start, BEHIND_M)
    assert route.waypoints_ego[0] == pytest.approx((0.0, 0.0), abs=1e-6)
    assert np.diff(route.waypoints_ego[:, 0]) == pytest.approx(2.0)
    assert route.speed_limit_mps == pytest.approx(stage.course.start.speed_mps)


def test_a_log_comes_back_from_its_file_with_the_same_hash(tmp_path):
    log = drive(set_up(concrete(load_scenario("CPNA-50"))), ConstantVelocityAgent())
    write_log(log, tmp_path / "log.npz")
    again = read_log(tmp_path / "log.npz")
    assert drive_hash(again) == drive_hash(log)
    np.testing.assert_array_equal(again.ego_poses, log.ego_poses)
    assert again.roads.drivable.equals(log.roads.drivable)
    assert again.plans[0].reasons == log.plans[0].reasons


def test_the_hash_leaves_out_wall_time_and_nothing_else():
    log = drive(set_up(concrete(load_scenario("CCRs"))), ConstantVelocityAgent())
    poses = log.ego_poses.copy()
    poses[-1, 0] = np.nextafter(poses[-1, 0], np.inf)
    assert drive_hash(replace(log, step_seconds=log.step_seconds + 1)) == drive_hash(log)
    for changed in (replace(log, ego_poses=poses), replace(log, seed=1), replace(log, remark="x")):
        assert drive_hash(changed) != drive_hash(log)


@pytest.mark.slow
def test_control_latency_makes_the_vehicle_brake_later():
    scenario = concrete(load_scenario("CCRs"))
    late = replace(scenario, faults=(FaultEntry(kind="control_latency", parameters={"delay_s": 0.4}),))
    speeds = [drive(set_up(one), OracleAgent()).ego_speeds_mps for one in (scenario, late)]
    braking = [int(np.argmax(speed < speed[0] - 0.5)) for speed in speeds]
    assert braking[1] >= braking[0] + 3


def test_a_fault_that_does_not_exist_makes_the_scenario_impossible():
    scenario = replace(concrete(load_scenario("CCRs")), faults=(FaultEntry(kind="camera_melts"),))
    with pytest.raises(ValueError, match="camera_melts"):
        set_up(scenario)
