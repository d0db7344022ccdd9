"""Plans are refused for what they would hit, with its name and time, and only for that."""

import time
from dataclasses import replace

import numpy as np
import pytest
import shapely
from fixtures.road_scenes import cruising, driving, forecasts, occupied, road, scene, things
from hypothesis import given
from hypothesis import strategies as st

from bevstack.planning.agent_futures import BeliefRules
from bevstack.planning.obstacles import SceneObstacles
from bevstack.planning.safety import SafetyRules, Verdict, check_plan
from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.types import SceneEstimate, Tracks, Trajectory

BARE = SafetyRules(agent_margin_m=0.0, person_margin_m=0.0)


def verdict(
    estimate: SceneEstimate, speed: float = 8.0, rules: SafetyRules | None = None, plan: Trajectory | None = None
) -> Verdict:
    obstacles = SceneObstacles.of(estimate, NUSCENES_VEHICLE, BeliefRules())
    return check_plan(plan or cruising(speed), obstacles, driving(speed), NUSCENES_VEHICLE, rules or SafetyRules())


def test_an_empty_scene_is_safe_with_and_without_parts() -> None:
    assert verdict(SceneEstimate(token="", timestamp_us=0)).is_safe
    assert verdict(scene()) == Verdict(violations=(), warnings=(), contact_s=np.inf, contact_mps=0.0)


def test_a_standing_car_ahead_is_hit_when_the_nose_reaches_its_tail() -> None:
    found = verdict(scene(("car", 20.0, 0.0, 0.0, 0.0, 0.0)), rules=BARE)
    # tail at 17.7 m, nose 3.342 m ahead of the axle: 14.358 m at 8 m/s are 1.79 s
    assert found.violations == ("collides with car 0 at 1.8 s",)
    assert found.contact_s == pytest.approx(1.8) and found.contact_mps == pytest.approx(8.0)


def test_a_car_that_drives_ahead_as_fast_is_no_obstacle() -> None:
    assert verdict(scene(("car", 12.0, 0.0, 0.0, 8.0, 0.0))).is_safe


def test_oncoming_traffic_on_its_own_lane_is_no_obstacle() -> None:
    assert verdict(scene(("car", 40.0, 3.4, np.pi, -10.0, 0.0))).is_safe


def test_a_car_that_passes_closer_than_the_margin_is_an_obstacle() -> None:
    beside = ("car", 15.0, 2.0, 0.0, 0.0, 0.0)  # 0.125 m between the sides
    assert not verdict(scene(beside)).is_safe
    assert verdict(scene(beside), rules=BARE).is_safe


def test_an_object_that_is_near_already_may_stay_as_near() -> None:
    beside = ("car", 1.5, 2.0, 0.0, 8.0, 0.0)
    assert verdict(scene(beside)).is_safe
    assert verdict(scene(("car", 1.5, 1.8, 0.0, 8.0, 0.0))).is_safe  # the boxes overlap by 7 cm: an error of the box


def test_an_object_that_is_deep_in_the_vehicle_is_touched_now() -> None:
    assert verdict(scene(("truck", 6.5, 0.0, 0.0, 0.0, 0.0))).violations[0] == "touches truck 0 now"


def test_an_object_inside_the_vehicle_is_a_mistake_and_noted() -> None:
    obstacles = SceneObstacles.of(scene(("pedestrian", 1.0, 0.2, 0.0, 0.0, 0.0)), NUSCENES_VEHICLE, BeliefRules())
    assert len(obstacles.agents) == 0
    assert obstacles.notes == ("1 object inside the vehicle itself: left out",)


def test_a_follower_that_runs_into_the_rear_is_its_own_fault() -> None:
    follower = scene(("car", -12.0, 0.0, 0.0, 14.0, 0.0))
    assert verdict(follower).is_safe
    assert not verdict(scene(("car", -2.0, -12.0, np.pi / 4, 14.0, 14.0))).is_safe  # from the side it is not


def test_a_pedestrian_who_steps_onto_the_way_is_hit_at_the_moment_of_crossing() -> None:
    found = verdict(scene(("pedestrian", 16.0, 3.0, -np.pi / 2, 0.0, -1.5)))
    assert found.violations[0].startswith("collides with pedestrian 0 at 1.6 s")


def test_forecasts_go_before_the_present_velocity_and_unlikely_ones_are_left_out() -> None:
    stays = [(16.0, 4.0)] * 12
    crosses = [(16.0, 4.0 - 1.0 * k) for k in range(1, 13)]
    walker = ("pedestrian", 16.0, 4.0, -np.pi / 2, 0.0, -2.0)
    assert not verdict(scene(walker)).is_safe
    assert verdict(scene(walker, motion=forecasts([(0.9, stays), (0.1, crosses)]))).is_safe
    found = verdict(scene(walker, motion=forecasts([(0.7, stays), (0.3, crosses)])))
    assert found.violations == ("collides with pedestrian 0 (forecast of 30%) at 1.6 s",)


def test_forecasts_of_other_detections_are_left_out_and_noted() -> None:
    one = forecasts([(1.0, [(16.0, 4.0)] * 12)])
    two_walkers = scene(("pedestrian", 16.0, 4.0, 0.0, 0.0, -2.0), ("pedestrian", 16.0, 9.0, 0.0, 0.0, 0.0), motion=one)
    obstacles = SceneObstacles.of(two_walkers, NUSCENES_VEHICLE, BeliefRules())
    assert obstacles.notes == ("forecasts of 1 objects do not belong to 2 detections: left out",)
    assert len(obstacles.agents) == 2


def test_objects_are_named_by_their_track_and_unseen_tracks_count() -> None:
    seen = things(("car", 20.0, 0.0, 0.0, 0.0, 0.0))
    both = things(("car", 20.0, 0.0, 0.0, 0.0, 0.0), ("bicycle", 10.0, 0.0, 0.0, 0.0, 0.0))
    tracks = Tracks(
        boxes=both.boxes, scores=both.scores, attribute_index=both.attribute_index, identity=np.array([7, 3]),
        num_hits=np.array([4, 4]), unseen_s=np.array([0.0, 0.5], np.float32), detection_index=np.array([0, -1]),
    )  # fmt: skip
    found = verdict(SceneEstimate(token="", timestamp_us=0, detections=seen, tracks=tracks))
    assert [words.split(" at ")[0] for words in found.violations] == ["collides with bicycle 3", "collides with car 7"]


def test_boxes_with_nan_are_left_out_counted_and_do_not_stop_the_check() -> None:
    estimate = scene(("car", 20.0, 0.0, 0.0, 0.0, 0.0), ("car", 30.0, 0.0, 0.0, 0.0, 0.0))
    estimate.detections.boxes.rows[0, 0] = np.nan
    obstacles = SceneObstacles.of(estimate, NUSCENES_VEHICLE, BeliefRules())
    assert obstacles.notes == ("1 object with numbers that are not finite or no sizes: left out",)
    assert obstacles.agents.names == ("car 1",)
    estimate.detections.boxes.rows[1, 7:] = np.nan  # an unknown velocity is none
    assert not verdict(estimate, plan=cruising(12.0), speed=12.0).is_safe


def test_objects_below_the_score_are_not_believed() -> None:
    assert verdict(scene(("car", 20.0, 0.0, 0.0, 0.0, 0.0), scores=[0.1])).is_safe


def test_a_wall_stops_a_plan_but_the_ground_and_a_bridge_do_not() -> None:
    assert verdict(scene(occupancy=occupied((15, 16, -3, 3, 0.2, 3, "manmade")))).violations == (
        "collides with occupied space (manmade) at 1.6 s",
    )
    flat = occupied((0, 39, -3, 3, -0.2, 0.6, "driveable_surface"), (10, 12, -9, 9, 3.4, 5, "manmade"))
    assert verdict(scene(occupancy=flat)).is_safe


def test_voxels_of_a_car_that_drives_away_drive_with_it() -> None:
    cloud = occupied((10, 14.4, -0.8, 0.8, 0.2, 1.8, "car"))
    assert verdict(scene(("car", 12.2, 0.0, 0.0, 8.0, 0.0), occupancy=cloud)).is_safe
    assert not verdict(scene(occupancy=cloud)).is_safe


def test_voxels_predicted_wider_than_the_box_drive_with_it_too_but_a_wall_beside_it_stands() -> None:
    lead = ("car", 12.2, 0.0, 0.0, 8.0, 0.0)
    assert verdict(scene(lead, occupancy=occupied((8.8, 15.6, -1.2, 1.2, 0.2, 1.8, "car")))).is_safe
    for name in ("manmade", "barrier"):
        assert not verdict(scene(lead, occupancy=occupied((8.8, 9.2, -1.2, 1.2, 0.2, 1.8, name)))).is_safe


def test_a_single_voxel_is_noise_unless_one_is_asked_for() -> None:
    dust = occupied((15.2, 15.6, 0.0, 0.4, 0.6, 1.0, "others"))
    assert verdict(scene(occupancy=dust)).is_safe
    assert not verdict(scene(occupancy=dust), rules=SafetyRules(min_cells=1)).is_safe


def test_leaving_the_road_is_a_warning_a_violation_or_nothing() -> None:
    ends = scene(map=road((-40, 20, -4, 4)))
    words = ("leaves the road at 2.2 s",)
    assert verdict(ends).warnings == words and verdict(ends).is_safe
    assert verdict(ends, rules=SafetyRules(road="hard")).violations == words
    assert verdict(ends, rules=SafetyRules(road="off")).warnings == ()
    assert verdict(scene(map=road((5, 20, 8, 16)))).warnings == ()  # not on it now: nothing to leave
    assert verdict(scene(map=road())).warnings == ()  # a map without any road is no map


def test_parts_that_do_not_lie_on_their_grid_are_left_out_and_noted() -> None:
    wrong = replace(road((-40, 40, -4, 4)), probabilities=np.zeros((6, 10, 10), np.float32))
    cloud = replace(occupied(), semantics=np.zeros((3, 3, 3), np.uint8))
    notes = SceneObstacles.of(scene(map=wrong, occupancy=cloud), NUSCENES_VEHICLE, BeliefRules()).notes
    assert len(notes) == 2 and all("does not lie on its grid" in note for note in notes)


def test_a_plan_that_ends_too_fast_in_front_of_something_cannot_stop() -> None:
    # 24 m in 3 s, the nose then at 27.3 m; at 8 m/s it needs another 4 m
    wall = scene(occupancy=occupied((29, 30, -3, 3, 0.2, 3, "manmade")))
    assert verdict(wall).violations == ("cannot stop before occupied space (manmade) after its end",)
    far = scene(occupancy=occupied((32, 33, -3, 3, 0.2, 3, "manmade")))
    assert verdict(far).is_safe


def test_what_the_vehicle_cannot_drive_is_said_before_anything_else() -> None:
    found = verdict(scene(("car", 20.0, 0.0, 0.0, 0.0, 0.0)), speed=8.0, plan=cruising(20.0))
    assert found.violations[0].startswith("accelerates by 24.0 m/s2 at 0.5 s")
    nowhere = Trajectory(poses_ego=np.full((6, 3), np.nan), speeds_mps=np.ones(6), dt_s=0.5)
    assert verdict(scene(), plan=nowhere).violations == ("is not finite",)


@given(x=st.floats(6, 26), y=st.floats(-6, 6), yaw=st.floats(-3, 3), vx=st.floats(-6, 6), vy=st.floats(-6, 6))
def test_contacts_are_those_of_polygons_at_the_same_times(x, y, yaw, vx, vy) -> None:
    estimate = scene(("car", x, y, yaw, vx, vy))
    obstacles = SceneObstacles.of(estimate, NUSCENES_VEHICLE, BeliefRules())
    plan = cruising(8.0, steps=30, dt_s=0.1)
    found = check_plan(plan, obstacles, driving(8.0), NUSCENES_VEHICLE, BARE)
    boxes = obstacles.agents.boxes[0]
    hit = np.inf
    for step in range(1, 16):
        pose = np.array([[8.0 * 0.2 * step, 0.0, 0.0]])
        own = shapely.Polygon(NUSCENES_VEHICLE.footprints(pose)[0])
        cx, cy, length, width, heading = boxes[step]
        corners = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * (length / 2, width / 2)
        turn = np.array([(np.cos(heading), np.sin(heading)), (-np.sin(heading), np.cos(heading))])
        other = shapely.Polygon(corners @ turn + (cx, cy))
        if own.distance(other) < 1e-9 and own.intersection(other).area < 1e-6:
            return  # on the very edge rounding decides
        if own.intersects(other):
            hit = 0.2 * step
            break
    is_rear_end = any("collides" in words for words in found.violations) is False and hit < np.inf
    if not is_rear_end and hit < np.inf:
        assert found.contact_s == pytest.approx(hit)
    if hit == np.inf:
        assert not any("collides" in words for words in found.violations)


@pytest.mark.parametrize("change", [{"agent_margin_m": -0.1}, {"min_cells": 0}])
def test_rules_out_of_their_range_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        SafetyRules(**change)
    with pytest.raises(ValueError, match="min_score=2.0"):
        BeliefRules(min_score=2.0)


def test_a_plan_among_a_hundred_objects_and_full_voxels_is_checked_in_a_few_milliseconds() -> None:
    rng = np.random.default_rng(0)
    places = np.stack((rng.uniform(-40, 40, 100), rng.choice((-1, 1), 100) * rng.uniform(3, 30, 100)), axis=1)
    crowd = [("car", float(x), float(y), 0.0, 3.0, 0.0) for x, y in places]
    cloud = occupied(*[(x, x + 2, 6, 20, 0.2, 3, "manmade") for x in range(-38, 38, 4)])
    estimate = scene(*crowd, occupancy=cloud)
    obstacles = SceneObstacles.of(estimate, NUSCENES_VEHICLE, BeliefRules())
    plan, ego = cruising(8.0), driving(8.0)
    check_plan(plan, obstacles, ego, NUSCENES_VEHICLE, SafetyRules())
    spent = []
    for _ in range(20):
        start = time.process_time()
        check_plan(plan, obstacles, ego, NUSCENES_VEHICLE, SafetyRules())
        spent.append(time.process_time() - start)
    assert min(spent) < 5e-3
