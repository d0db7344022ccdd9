import dataclasses

import numpy as np
import pytest
from shapely.geometry import Point, Polygon
from shapely.ops import unary_union

from bevstack.sim.world.presets import PRESETS, STANDARD, preset_hash, preset_named
from bevstack.sim.world.town import TOWN_KINDS, make_town
from bevstack.sim.world.traffic import EGO_CENTER_AHEAD_M, EGO_SIZE_LWH, simulate_traffic
from bevstack.sim.world.traffic_kernels import footprint_circles, free_gap, overlapping_pairs, rectangles_overlap
from bevstack.sim.world.vehicles import BRAKING_MPS2, EMERGENCY_BRAKING_MPS2, idm_acceleration

DURATION_S = 4.0
STEP_S = 0.05


@pytest.fixture(scope="module")
def played():
    scenes = {}
    for seed, kind in enumerate(TOWN_KINDS):
        town = make_town(kind, np.random.default_rng(seed))
        scenes[kind] = town, simulate_traffic(town, seed=seed, duration_s=DURATION_S, preset=STANDARD)
    return scenes


def corners(x, y, yaw, length, width):
    c, s = np.cos(yaw), np.sin(yaw)
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    local = [(a * length / 2, b * width / 2) for a, b in signs]
    return Polygon([(x + a * c - b * s, y + a * s + b * c) for a, b in local])


def boxes_at(traffic, step):
    boxes = []
    for track in traffic.actors:
        if step < len(track.times_s):
            x, y, _, yaw = track.poses[step]
            boxes.append(corners(x, y, yaw, *track.model.size_lwh[:2]))
    x, y, _, yaw = traffic.ego.poses[step]
    ahead = EGO_CENTER_AHEAD_M
    boxes.append(corners(x + ahead * np.cos(yaw), y + ahead * np.sin(yaw), yaw, *EGO_SIZE_LWH[:2]))
    return boxes


@pytest.mark.parametrize("kind", TOWN_KINDS)
def test_no_two_boxes_ever_intersect_by_an_independent_check(played, kind):
    _, traffic = played[kind]
    for step in range(0, len(traffic.ego.times_s), 10):
        boxes = boxes_at(traffic, step)
        union = unary_union(boxes).area
        assert union == pytest.approx(sum(box.area for box in boxes), abs=1e-6)


@pytest.mark.parametrize("kind", TOWN_KINDS)
def test_vehicles_on_lanes_stay_on_the_road(played, kind):
    town, traffic = played[kind]
    wide = town.roads.drivable.buffer(0.6)
    for track in traffic.actors:
        if track.model.class_name in ("car", "truck", "bus") and track.attributes[0] == "vehicle.moving":
            inside = [p for p in track.poses[::20, :2] if np.abs(p).max() < 120]
            assert all(wide.contains(Point(*p)) for p in inside), track.model


@pytest.mark.parametrize("kind", TOWN_KINDS)
def test_speed_and_yaw_change_as_vehicles_can(played, kind):
    _, traffic = played[kind]
    ego = traffic.ego
    tracks = [ego.poses] + [t.poses for t in traffic.actors if t.model.class_name in ("car", "bus", "motorcycle")]
    for poses in tracks:
        if len(poses) < 5:
            continue
        speed = np.hypot(*np.diff(poses[:, :2], axis=0).T) / STEP_S
        assert speed.max() < 20.0
        assert np.abs(np.diff(speed)).max() / STEP_S < EMERGENCY_BRAKING_MPS2 + 2.5
        turn = np.abs((np.diff(poses[:, 3]) + np.pi) % (2 * np.pi) - np.pi) / STEP_S
        assert turn.max() < 1.6


def test_ego_speed_is_the_speed_of_its_poses(played):
    for _, traffic in played.values():
        ego = traffic.ego
        measured = np.hypot(*np.diff(ego.poses[:, :2], axis=0).T) / STEP_S
        between = 0.5 * (ego.speeds_mps[1:] + ego.speeds_mps[:-1])
        np.testing.assert_allclose(measured, between, atol=0.25)


def test_attributes_say_what_the_tracks_do(played):
    for _, traffic in played.values():
        for track in traffic.actors:
            moved = np.hypot(*(track.poses[-1, :2] - track.poses[0, :2]))
            if set(track.attributes) <= {"vehicle.parked", "pedestrian.sitting_lying_down", "cycle.without_rider", ""}:
                assert moved == 0.0
            if set(track.attributes) == {"vehicle.moving"}:
                assert moved > 0.2
            if track.model.class_name in ("traffic_cone", "barrier"):
                assert set(track.attributes) == {""}
            if track.model.class_name in ("bicycle", "motorcycle"):
                assert (track.attributes[0] == "cycle.with_rider") == track.model.has_rider


def test_all_ten_classes_appear_near_the_ego_in_a_handful_of_scenes(played):
    seen = set()
    for _, traffic in played.values():
        for track in traffic.actors:
            if np.hypot(*(track.poses[0, :2] - traffic.ego.poses[0, :2])) < 60:
                seen.add(track.model.class_name)
    assert len(seen) == 10


def test_the_same_seed_gives_the_same_tracks(played):
    town, first = played["t_junction"]
    second = simulate_traffic(town, seed=2, duration_s=DURATION_S, preset=STANDARD)
    assert len(first.actors) == len(second.actors)
    np.testing.assert_array_equal(first.ego.poses, second.ego.poses)
    for a, b in zip(first.actors, second.actors, strict=True):
        np.testing.assert_array_equal(a.poses, b.poses)


def test_a_pose_between_two_steps_lies_between_them_also_across_the_yaw_seam(played):
    _, traffic = played["curve"]
    ego = traffic.ego
    middle = ego.pose_at(1.025)
    np.testing.assert_allclose(middle[:2], 0.5 * (ego.poses[20, :2] + ego.poses[21, :2]))
    turned = dataclasses.replace(ego, poses=np.array([[0, 0, 0, 3.1], [1, 0, 0, -3.1]]), times_s=np.array([0.0, 0.05]))
    assert abs(abs(turned.pose_at(0.025)[3]) - np.pi) < 1e-9


def test_idm_brakes_for_a_standing_leader_and_accelerates_on_a_free_road():
    assert idm_acceleration(10.0, 12.0, 60.0, 12.0) > 0
    assert idm_acceleration(10.0, 12.0, 15.0, 0.0) < -BRAKING_MPS2
    assert idm_acceleration(12.0, 12.0, 1e6, 12.0) == pytest.approx(0.0, abs=0.01)


def test_the_free_gap_ends_at_the_first_circle_on_the_path_and_ignores_the_own_body():
    path = np.stack((np.arange(0, 100, 0.5), np.zeros(200)), axis=1)
    circles = np.array([[5.0, 0, 1, 0, 0, 3], [30.0, 0.5, 1, 4.0, 0, 7], [20.0, 5.0, 1, 0, 0, 8]])
    gap, speed = free_gap(path, 0.5, 5.0, 1.0, circles, 3, 60.0)
    assert gap == pytest.approx(30 - 5 - np.sqrt(4 - 0.25), abs=0.51)
    assert speed == pytest.approx(4.0)
    assert free_gap(path, 0.5, 5.0, 1.0, circles[:1], 3, 60.0)[0] == 60.0


def test_rectangles_overlap_only_when_they_share_a_point():
    a = np.array((0.0, 0.0, 0.0, 2.0, 1.0))
    assert rectangles_overlap(a, np.array((2.9, 0.0, 0.0, 1.0, 1.0)))
    assert not rectangles_overlap(a, np.array((3.1, 0.0, 0.0, 1.0, 1.0)))
    # Their bounding boxes touch, the turned rectangle itself does not.
    assert not rectangles_overlap(a, np.array((3.3, 2.1, np.pi / 4, 1.5, 0.2)))
    pairs = overlapping_pairs(np.stack((a, a))[None], np.array([[True, False]]))
    assert not pairs.any()


def test_circles_of_a_barrier_are_as_thin_as_the_barrier():
    circles = footprint_circles((0.0, 0.0, 0.0), 0.5, 2.5)
    assert circles[:, 2].max() == 0.25
    assert np.abs(circles[:, 0]).max() < 1e-9
    assert np.ptp(circles[:, 1]) == pytest.approx(2.0)


def test_a_preset_hash_changes_with_any_number_in_the_preset():
    other = dataclasses.replace(STANDARD, jpeg_quality=STANDARD.jpeg_quality - 1)
    assert preset_hash(other) != preset_hash(STANDARD)
    assert len({preset_hash(preset) for preset in PRESETS.values()}) == len(PRESETS)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="known: standard, smoke"):
        preset_named("hard")
