"""What the vehicle did after each frame, what it knew of itself, and where its obstacles are read from."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import real_nuscenes_root
from fixtures.drives import SPLIT, Track, annotation_row, drive, straight
from fixtures.nuscenes_tiny import T_EGO_LIDAR
from fixtures.planned_drives import future_of, left_turn_poses, straight_poses

from bevstack.data.index import DatasetIndex, open_index
from bevstack.evaluation.planning.ego_future import PLAN_STEPS, command_from_future, read_ego_future
from bevstack.evaluation.planning.ego_status import read_ego_status
from bevstack.evaluation.planning.obstacles import (
    OTHER,
    PEDESTRIAN,
    VEHICLE,
    BoxesByStep,
    annotated_agents,
    stp3_obstacles,
    uniad_obstacles,
    vad_obstacles,
)
from bevstack.types.trajectory import COMMANDS, RouteCommand

SCENES = ("scene-9001", "scene-9002")
SPEED_MPS, RADIUS_M = 4.0, 8.0
NUM_KEYFRAMES = 9


def quarter_circle(t: float) -> tuple[float, float, float]:
    """Starts at (200, 200) along x and turns left at a constant rate."""
    angle = SPEED_MPS / RADIUS_M * t
    return 200.0 + RADIUS_M * float(np.sin(angle)), 200.0 + RADIUS_M * float(1 - np.cos(angle)), angle


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DatasetIndex:
    """The vehicle turns left in two scenes; objects around it in the first."""
    tracks = {
        "ahead": Track(path=straight(210.0, 200.0, speed=2.0)),
        "bicycle": Track(path=straight(205.0, 205.0), category="vehicle.bicycle"),
        "walker": Track(path=straight(205.0, 195.0), category="human.pedestrian.adult"),
        "stroller": Track(path=straight(206.0, 195.0), category="human.pedestrian.stroller"),
        "cone": Track(path=straight(207.0, 195.0), category="movable_object.trafficcone"),
        "far": Track(path=straight(200.0, 240.0)),
        "late": Track(path=straight(203.0, 203.0), frames=(4, 5)),
        "hidden": Track(path=straight(203.0, 197.0), visibility="1"),
        "unseen": Track(path=straight(204.0, 197.0), num_lidar_points=0),
    }
    scenes = {SCENES[0]: tracks, SCENES[1]: {"other": Track(path=straight(0.0, 0.0))}}
    root = tmp_path_factory.mktemp("drive") / "root"
    return drive(root, scenes, num_keyframes=NUM_KEYFRAMES, ego=quarter_circle, T_ego_lidar=T_EGO_LIDAR)


def names_at(index: DatasetIndex, boxes: BoxesByStep, frame: int, step: int, in_lidar: bool) -> set[str]:
    """Which objects of the first scene the boxes at a step are, found by where they are."""
    T_global_ego = index.T_global_ego([index.key_data_row(frame, "LIDAR_TOP")])[0]
    T_global_frame = T_global_ego @ T_EGO_LIDAR if in_lidar else T_global_ego
    slot = frame * PLAN_STEPS + step
    found = set()
    for x, y, *_ in boxes.boxes[boxes.first[slot] : boxes.first[slot + 1]]:
        place = (T_global_frame @ (x, y, 0.0, 1.0))[:2]
        for name in ("ahead", "bicycle", "walker", "stroller", "cone", "far", "late", "hidden", "unseen"):
            try:
                row = annotation_row(index, SCENES[0], name, frame + step + 1)
            except ValueError:
                continue
            if np.allclose(index["annotation_translation"][row][:2], place, atol=1e-6):
                found.add(name)
    return found


def test_the_future_of_a_circle_is_the_circle_in_the_frame_of_the_present(index: DatasetIndex) -> None:
    future = read_ego_future(index, SPLIT)
    angle = SPEED_MPS / RADIUS_M * 0.5 * np.arange(1, 7)
    circle = np.stack((RADIUS_M * np.sin(angle), RADIUS_M * (1 - np.cos(angle)), angle), axis=1)
    for frame in (0, 1, 2, NUM_KEYFRAMES):
        np.testing.assert_allclose(future.poses_ego[frame], circle, atol=1e-9)
    assert future.scene_names == SCENES and future.num_past[:3].tolist() == [0, 1, 2]


def test_steps_beyond_the_end_of_a_scene_are_not_valid_and_never_come_from_the_next(index: DatasetIndex) -> None:
    future = read_ego_future(index, SPLIT)
    assert future.valid.sum(axis=1).tolist() == 2 * [6, 6, 6, 5, 4, 3, 2, 1, 0]
    assert not future.poses_ego[~future.valid].any() and not future.path_lidar[~future.valid].any()
    assert future.has_full_future.sum() == 6


def test_the_lidar_runs_ahead_of_the_rear_axle_with_x_to_the_right(index: DatasetIndex) -> None:
    path = read_ego_future(index, SPLIT).path_lidar[0]
    angle = SPEED_MPS / RADIUS_M * 0.5 * np.arange(1, 7)
    # One metre ahead of the axle, seen from where it is now: left is negative x, forward is y.
    left = RADIUS_M * (1 - np.cos(angle)) + np.sin(angle)
    forward = RADIUS_M * np.sin(angle) + np.cos(angle) - 1.0
    np.testing.assert_allclose(path, np.stack((-left, forward), axis=1), atol=1e-9)


def test_the_released_command_tells_a_turn_from_the_last_known_step() -> None:
    right = left_turn_poses() * np.array((1.0, -1.0, -1.0))
    future = future_of(np.concatenate((straight_poses(5.0), left_turn_poses(), right, right)), num_known=(6, 6, 6, 0))
    commands = [COMMANDS[code] for code in command_from_future(future)]
    expected = [RouteCommand.STRAIGHT, RouteCommand.LEFT, RouteCommand.RIGHT, RouteCommand.STRAIGHT]
    assert commands == expected
    slightly = straight_poses(5.0)
    slightly[:, :, 1] = -np.linspace(0, 1.99, 6)
    assert command_from_future(future_of(slightly)).tolist() == [2]
    slightly[:, 5, 1] = -2.0
    assert command_from_future(future_of(slightly)).tolist() == [0]


def test_a_frame_turns_from_fifteen_degrees_within_the_known_future() -> None:
    poses = np.concatenate([straight_poses(5.0)] * 4)
    poses[1, 5, 2], poses[2, 3, 2], poses[3, 5, 2] = np.radians(15.1), -np.radians(20), np.radians(14.9)
    assert future_of(poses).is_turning.tolist() == [False, True, True, False]
    assert future_of(poses, num_known=(6, 5, 6, 6)).is_turning.tolist() == [False, False, True, False]


def test_the_status_of_a_frame_comes_from_earlier_poses_only(index: DatasetIndex) -> None:
    status = read_ego_status(index, SPLIT)
    chord = 2 * RADIUS_M * np.sin(SPEED_MPS / RADIUS_M * 0.25) / 0.5  # what two poses half a second apart say
    for frame in range(1, NUM_KEYFRAMES):
        assert status.speed_mps[frame] == pytest.approx(chord, rel=0.05)
        assert status.yaw_rate_radps[frame] == pytest.approx(SPEED_MPS / RADIUS_M)
    firsts = [0, NUM_KEYFRAMES]
    assert np.isnan(status.speed_mps[firsts]).all() and np.isnan(status.yaw_rate_radps[firsts]).all()
    assert status.history_valid.sum(axis=1)[:6].tolist() == [0, 1, 2, 3, 4, 4]
    assert np.isnan(status.steering_rad).all() and status.history_ego[2, 0, 0] < 0


def test_can_messages_give_the_steering_and_never_one_that_is_yet_to_come(tmp_path: Path) -> None:
    index = drive(tmp_path / "root", {"scene-9001": {"a": Track(path=straight(0, 0))}}, num_keyframes=3)
    start = int(index["sample_timestamp_us"][0])
    messages = {
        "steeranglefeedback": [{"utime": start + offset, "value": value} for offset, value in ((-9, 0.1), (9, 0.2))],
        "pose": [{"utime": start, "vel": [7.0, 0, 0], "rotation_rate": [0, 0, 0.3]}],
    }
    (index.root / "can_bus").mkdir()
    for kind, content in messages.items():
        (index.root / "can_bus" / f"scene-9001_{kind}.json").write_text(json.dumps(content))
    status = read_ego_status(index, SPLIT)
    assert status.steering_rad.tolist() == [0.1, 0.2, 0.2]
    assert status.speed_mps[0] == 7.0 and status.yaw_rate_radps[0] == 0.3
    assert status.speed_mps[1] == pytest.approx(0.0)  # the poses say that it stands


def test_each_code_base_sees_the_obstacles_that_its_rules_let_it_see(index: DatasetIndex) -> None:
    uniad = uniad_obstacles(index, SPLIT)
    vehicles = {"ahead", "bicycle", "far", "hidden", "unseen"}
    assert names_at(index, uniad, 0, 2, in_lidar=True) == vehicles
    assert names_at(index, uniad, 0, 3, in_lidar=True) == vehicles | {"late"}
    vad = vad_obstacles(index, SPLIT)
    near = {"ahead", "bicycle", "walker", "hidden"}  # neither far, nor without points, nor yet to come
    assert names_at(index, vad, 0, 3, in_lidar=True) == near
    assert names_at(index, vad, 4, 0, in_lidar=True) >= {"late"}
    stp3 = stp3_obstacles(index, SPLIT)
    seen = {"ahead", "bicycle", "walker", "stroller", "far", "unseen"}
    assert names_at(index, stp3, 0, 3, in_lidar=False) == seen
    assert names_at(index, stp3, 4, 0, in_lidar=False) == seen | {"late"}


def test_annotated_agents_keep_their_kind_and_lie_in_ego(index: DatasetIndex) -> None:
    agents = annotated_agents(index, SPLIT)
    assert sorted(agents.kind[: agents.first[1]].tolist()) == [VEHICLE] * 5 + [PEDESTRIAN] * 2 + [OTHER]
    boxes = agents.boxes[agents.first[0] : agents.first[1]]
    # Frame 0 stands at (200, 200) along x: the car ahead is at (211, 200) after half a second.
    assert np.isclose(boxes, (11.0, 0.0, 4.0, 2.0, 0.0)).all(axis=1).any()
    last = len(agents.first) - 1 - PLAN_STEPS
    assert agents.first[last] == agents.first[-1] == len(agents.boxes)  # the last frame has no later ones


def test_frames_taken_out_keep_their_boxes(index: DatasetIndex) -> None:
    agents = annotated_agents(index, SPLIT)
    some = agents.of_frames(np.array([2, 0]))
    for place, frame in enumerate((2, 0)):
        for step in range(PLAN_STEPS):
            a, b = place * PLAN_STEPS + step, frame * PLAN_STEPS + step
            np.testing.assert_array_equal(
                some.boxes[some.first[a] : some.first[a + 1]], agents.boxes[agents.first[b] : agents.first[b + 1]]
            )


@pytest.mark.skipif(real_nuscenes_root() is None, reason="no real nuScenes data")
def test_real_drives_have_speeds_that_fit_their_future(nuscenes_real: Path, tmp_path: Path) -> None:
    tables = nuscenes_real / "mini_val" / "derived_tables"
    index = open_index(tables, "v1.0-mini", out=tmp_path / "index")
    future, status = read_ego_future(index, "mini_val"), read_ego_status(index, "mini_val")
    assert len(future) == len(status) == 81 and future.has_full_future.sum() == 69
    known = np.isfinite(status.speed_mps) & future.valid[:, 0]
    driven = np.linalg.norm(future.poses_ego[known, 0, :2], axis=1) / 0.5
    assert known.sum() == 77 and np.abs(driven - status.speed_mps[known]).mean() < 0.3
    assert future.T_ego_lidar[0, 0, 3] == pytest.approx(0.98, abs=0.06)
    # The LiDAR's axes: a car that drives forward goes along y.
    assert (future.path_lidar[future.valid][:, 1] > 0).mean() > 0.95
