import json
from dataclasses import replace

import numpy as np
import pytest
from fixtures.drive_logs import NO_ROADS, actor, drive_log, moving, road_network, straight
from shapely import affinity

from bevstack.sim.drive_log import DriveLog, RedLight
from bevstack.sim.metrics.summary import METRICS_VERSION, SCORE_NAMES, DriveScores, json_ready, record_of
from bevstack.types.trajectory import Plan, Trajectory


def busy_log(steps=60):
    """Braking behind a slower car, with one crossing, one in the next lane, one that appears late and a cone."""
    poses, speeds = straight(steps, 12.0, acceleration=-1.0, y=0.1)
    rows = np.stack((70.0 - 8.0 * np.arange(steps) * 0.1, np.full(steps, 7.1), np.full(steps, np.pi)), axis=1)
    rows[:20] = np.nan
    t = np.arange(1, 41) * 0.1
    plan = Plan(
        trajectory=Trajectory(
            poses_ego=np.stack((11.0 * t, 0.01 * t, 0.002 * t), axis=1), speeds_mps=np.full(40, 11.0), dt_s=0.1
        ),
        source="learned",
        reasons=(),
    )
    actors = (
        moving("lead", steps, 7.0, x=30.3),
        moving("cross", steps, 5.0, x=50.217, y=-20.313, yaw=np.pi / 2),
        moving("beside", steps, 11.0, x=3.3, y=3.6),
        actor("late", rows),
        moving("cone", steps, 0.0, x=45.0, y=-1.9, class_name="traffic_cone", size=(0.4, 0.4, 0.8)),
    )
    return drive_log(poses, speeds, actors=actors, plans=(plan,) * steps)


def turned(log: DriveLog, turn: float, shift: tuple[float, float]) -> DriveLog:
    """The whole world of a run, moved."""
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array(((c, -s), (s, c)))

    def poses(rows):
        return np.concatenate((rows[:, :2] @ rotation.T + shift, rows[:, 2:] + turn), axis=1)

    roads = log.roads
    lanes = tuple(replace(lane, centerline=lane.centerline @ rotation.T + shift) for lane in roads.lanes)
    area = affinity.affine_transform(roads.drivable, (c, -s, s, c, *shift))
    return replace(
        log,
        roads=road_network(lanes, drivable=area),
        route=log.route @ rotation.T + shift,
        ego_poses=poses(log.ego_poses),
        actors=tuple(
            replace(one, poses=poses(one.poses), velocities=one.velocities @ rotation.T) for one in log.actors
        ),
    )


def assert_same(first, second, tolerance=1e-6):
    assert list(first) == list(second)
    for name, value in first.items():
        if isinstance(value, str):
            assert value == second[name], name
        else:
            np.testing.assert_allclose(second[name], value, atol=tolerance, err_msg=name)


def test_turning_and_moving_the_whole_world_changes_no_number():
    log = busy_log()
    record = DriveScores.of(log, log).record()
    for turn, shift in ((2.0, (300.0, -120.0)), (-3.1, (-5.0, 4.0))):
        moved = turned(log, turn, shift)
        assert_same(record, DriveScores.of(moved, moved).record(), tolerance=1e-4)


def test_a_run_measured_by_itself_has_all_progress_and_every_score():
    log = busy_log()
    record = DriveScores.of(log, log).record()
    assert record["metrics_version"] == METRICS_VERSION
    assert record["ep"] == 1.0 and record["route_completion_pct"] == 100.0
    assert record["collided"] == 0.0 and record["outcome"] == "avoided" and record["neuroncap_score"] == 5.0
    assert all(np.isfinite(record[name]) for name in SCORE_NAMES)
    assert record["min_thw_s"] > 0 and record["min_pet_s"] > 0 and record["max_btn"] > 0


def test_scores_can_be_the_reference_as_well_as_its_run():
    log, slow = busy_log(), drive_log(*straight(60, 3.0))
    assert_same(DriveScores.of(slow, log).record(), DriveScores.of(slow, DriveScores.of(log)).record(), 0.0)
    assert DriveScores.of(slow, log).navsim.ep < 0.5


def test_without_a_reference_only_what_asks_for_progress_is_unknown():
    record = DriveScores.of(busy_log()).record()
    for name in ("ep", "pdms", "epdms", "nuplan_score", "nuplan_progress", "reference_progress_m"):
        assert np.isnan(record[name])
    assert np.isfinite(record["carla_driving_score"]) and np.isfinite(record["hd_score"])


def test_the_same_run_gives_the_same_bits():
    assert repr(DriveScores.of(busy_log()).record()) == repr(DriveScores.of(busy_log()).record())


def test_a_parked_vehicle_in_an_empty_world_without_roads_is_measured_without_a_number_it_cannot_have():
    log = drive_log(*straight(50, 0.0), roads=NO_ROADS, route=np.zeros((0, 2)), speed_limit_mps=np.nan)
    record = DriveScores.of(log).record()
    for name in ("dac", "ddc", "lk", "ep", "min_ttc_s", "min_thw_s", "rss_dangerous_share", "route_completion_pct"):
        assert np.isnan(record[name]), name
    assert record["collided"] == 0.0 and record["c"] == 1.0 and record["impact_speed_mps"] is not None
    assert np.isnan(record["impact_speed_mps"])


def test_a_collision_fills_every_column_of_its_contact():
    poses, speeds = straight(21, 10.0)
    lead = moving("lead", 21, 0.0, x=25.0, y=0.5)
    record = DriveScores.of(drive_log(poses, speeds, actors=[lead], ending="collision")).record()
    assert (record["contact_with"], record["contact_class"]) == ("lead", "car")
    assert (record["contact_kind"], record["contact_face"], record["outcome"]) == ("stopped_track", "front", "hit")
    assert record["contact_s"] == pytest.approx(2.0, abs=1e-4)
    assert record["contact_ahead_m"] == pytest.approx(2.0, abs=0.01)
    assert record["contact_left_m"] == pytest.approx(0.25)  # between y = -0.5 and 1
    assert record["nc"] == 0.0 and record["carla_penalty"] == 0.6


def test_a_run_whose_state_stops_being_finite_is_measured_until_then_and_scores_nothing():
    log = busy_log()
    poses, speeds = log.ego_poses.copy(), log.ego_speeds_mps.copy()
    poses[30:], speeds[30:] = np.nan, np.nan
    record = record_of(replace(log, ego_poses=poses, ego_speeds_mps=speeds, ending="diverged"))
    assert record["steps"] == 30
    assert [record[name] for name in SCORE_NAMES] == [0.0] * len(SCORE_NAMES)
    assert np.isfinite(record["min_ttc_s"])


def test_a_run_that_never_began_has_the_names_and_no_numbers():
    names = list(DriveScores.of(busy_log()).record())
    empty = busy_log(1)
    impossible = record_of(replace(empty, ending="impossible"))
    diverged = record_of(replace(empty, ego_poses=np.full((1, 3), np.nan), ending="diverged"))
    assert list(impossible) == list(diverged) == names
    assert all(np.isnan(impossible[name]) for name in SCORE_NAMES)
    assert [diverged[name] for name in SCORE_NAMES] == [0.0] * len(SCORE_NAMES)
    assert np.isnan(diverged["nc"]) and diverged["ending"] == "diverged"
    with pytest.raises(ValueError, match="finite ego state"):
        DriveScores.of(replace(empty, ego_poses=np.full((1, 3), np.nan)))


def test_every_column_has_one_type_whatever_happened():
    records = [record_of(log) for log in (busy_log(), busy_log(1), replace(busy_log(2), ending="impossible"))]
    types = [{name: type(value) for name, value in record.items()} for record in records]
    assert types[0] == types[1] == types[2]
    assert {name for name, kind in types[0].items() if kind is int} == {"seed", "steps"}


def test_the_record_is_strict_json():
    record = json_ready(DriveScores.of(busy_log()).record())
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["pdms"] is None


def test_an_agent_that_raised_scores_nothing_and_one_that_timed_out_pays_for_it():
    log = busy_log()
    raised = DriveScores.of(replace(log, ending="agent_error"), log).record()
    assert [raised[name] for name in SCORE_NAMES] == [0.0] * len(SCORE_NAMES)
    assert DriveScores.of(replace(log, ending="timeout"), log).record()["carla_driving_score"] == pytest.approx(70.0)


def test_a_red_light_costs_navsim_all_and_carla_three_tenths_unless_the_reference_runs_it_too():
    known = {"red_lights": (RedLight(lanes=(0,), from_s=0.0, until_s=60.0),), "route": np.array(((200.0, 0), (400, 0)))}
    log, slow = (drive_log(*straight(60, speed, x=270.0), **known) for speed in (10.0, 4.0))
    record = DriveScores.of(log, slow).record()
    assert (record["red_lights_run"], record["tlc"], record["epdms"]) == (1.0, 0.0, 0.0)
    assert record["carla_penalty"] == pytest.approx(0.7)
    assert DriveScores.of(log, log).record()["epdms"] == 1.0
