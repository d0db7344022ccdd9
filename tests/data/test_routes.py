"""Routes of frames: what lies ahead of the vehicle on the navigation's way, and the command for it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.drives import EGO_XY_YAW, Track, drive, straight
from fixtures.nuscenes_tiny import SCENE, SPLIT, write_tiny
from hypothesis import given
from hypothesis import strategies as st

from bevstack.data.images import ImageSize
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.data.routes import (
    ROUTE_WAYPOINTS,
    TURN_RAD,
    SceneRoutes,
    command_ahead,
    points_at,
    read_route,
    route_ahead,
)
from bevstack.geometry.transforms import from_xy_yaw
from bevstack.types import ROUTE_STEP_M, RouteCommand
from bevstack.types.errors import DatasetError


def line(*corners: tuple[float, float]) -> np.ndarray:
    """A polyline through corners, a point every metre."""
    points = np.array(corners, np.float64)
    length = np.hypot(*np.diff(points, axis=0).T).sum()
    return points_at(points, np.arange(0.0, length + 1e-9, 1.0))


def arc(radius_m: float, angle_rad: float, before_m: float = 10.0) -> np.ndarray:
    """Waypoints that go straight along x, turn by an angle (positive to the left), and go straight on."""
    angles = np.linspace(0.0, abs(angle_rad), 200)
    x, y = radius_m * np.sin(angles), radius_m * (1 - np.cos(angles))
    end = np.array((np.cos(angles[-1]), np.sin(angles[-1])))
    bend = np.stack((before_m + x, y), axis=1)
    points = np.concatenate(([(0.0, 0.0)], bend, [bend[-1] + 40 * end])) * (1.0, np.sign(angle_rad) or 1.0)
    length = np.hypot(*np.diff(points, axis=0).T).sum()
    return points_at(points, np.arange(0.0, min(length, 58.0), ROUTE_STEP_M))


NORTH_THEN_WEST = line((0, 0), (0, 80), (-80, 80))
CROSSING = line((-60, 0), (60, 0), (60, 40), (0, 40), (0, -60))
"""East through the origin, then round to the left and southwards through it."""


# -- what lies ahead --------------------------------------------------------------------------------------------------
def test_waypoints_start_abeam_of_the_vehicle_and_follow_every_two_metres() -> None:
    route = route_ahead(line((0, 0), (0, 200)), from_xy_yaw(1.5, 20.0, np.pi / 2))
    assert route is not None and route.command is RouteCommand.STRAIGHT and np.isnan(route.speed_limit_mps)
    steps = np.arange(ROUTE_WAYPOINTS)
    expected = np.stack((ROUTE_STEP_M * steps, np.full(len(steps), 1.5)), axis=1)  # the vehicle is right of its route
    np.testing.assert_allclose(route.waypoints_ego, expected, atol=1e-9)


def test_a_route_that_ends_soon_has_fewer_waypoints() -> None:
    route = route_ahead(line((0, 0), (100, 0)), from_xy_yaw(93.0, 0.0, 0.0))
    assert route is not None
    np.testing.assert_allclose(route.waypoints_ego[:, 0], (0.0, 2.0, 4.0, 6.0), atol=1e-9)


@given(st.floats(-np.pi, np.pi), st.floats(-500, 500), st.floats(-500, 500))
def test_where_on_the_map_it_is_does_not_matter(yaw: float, x: float, y: float) -> None:
    pose = from_xy_yaw(0.5, 60.0, np.pi / 2 - 0.1)
    T_moved = from_xy_yaw(x, y, yaw)
    points = np.column_stack((NORTH_THEN_WEST, np.zeros(len(NORTH_THEN_WEST)), np.ones(len(NORTH_THEN_WEST))))
    moved = (points @ T_moved.T)[:, :2]
    here, there = route_ahead(NORTH_THEN_WEST, pose), route_ahead(moved, T_moved @ pose)
    assert here is not None and there is not None and here.command is there.command
    np.testing.assert_allclose(here.waypoints_ego, there.waypoints_ego, atol=1e-6)


@pytest.mark.parametrize(
    ("yaw", "ahead"), [(0.0, RouteCommand.STRAIGHT), (0.3, RouteCommand.STRAIGHT), (-np.pi / 2, RouteCommand.STRAIGHT)]
)
def test_where_a_route_crosses_itself_the_heading_says_which_branch(yaw: float, ahead: RouteCommand) -> None:
    route = route_ahead(CROSSING, from_xy_yaw(0.4, 0.3, yaw))
    assert route is not None and route.command is ahead
    along = route.waypoints_ego[10] - route.waypoints_ego[0]
    assert along[0] > 19.0, "twenty metres on, straight ahead of the vehicle (give or take its own angle)"


def test_on_a_road_driven_both_ways_the_side_that_leads_the_vehicles_way_is_taken() -> None:
    there_and_back = line((0, 0), (100, 0), (100, 3.5), (0, 3.5))
    for pose, left in ((from_xy_yaw(50.0, 1.9, 0.0), -1.9), (from_xy_yaw(50.0, 1.6, np.pi), -1.9)):
        route = route_ahead(there_and_back, pose)  # nearer to the wrong side both times
        assert route is not None
        np.testing.assert_allclose(route.waypoints_ego[:20, 1], left, atol=1e-6)


def test_a_vehicle_off_its_route_or_against_it_has_none() -> None:
    east = line((0, 0), (200, 0))
    assert route_ahead(east, from_xy_yaw(50.0, 9.9, 0.0)) is not None
    assert route_ahead(east, from_xy_yaw(50.0, 10.1, 0.0)) is None
    assert route_ahead(east, from_xy_yaw(50.0, 10.1, 0.0), max_offset_m=20.0) is not None
    assert route_ahead(east, from_xy_yaw(50.0, 0.0, np.pi)) is None


# -- the command ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("y", "command"),
    [
        (45.0, RouteCommand.STRAIGHT),
        (53.0, RouteCommand.LEFT),
        (78.0, RouteCommand.LEFT),
        (40.0, RouteCommand.STRAIGHT),
    ],
)
def test_a_corner_is_announced_less_than_thirty_metres_ahead(y: float, command: RouteCommand) -> None:
    route = route_ahead(NORTH_THEN_WEST, from_xy_yaw(0.0, y, np.pi / 2))
    assert route is not None and route.command is command


@given(st.floats(6.0, 20.0), st.floats(0.7, 2.5))
def test_a_turn_at_a_junction_is_named_by_its_side(radius_m: float, angle_rad: float) -> None:
    assert command_ahead(arc(radius_m, angle_rad)) is RouteCommand.LEFT
    assert command_ahead(arc(radius_m, -angle_rad)) is RouteCommand.RIGHT


@given(st.floats(70.0, 500.0), st.floats(-1.5, 1.5))
def test_a_bend_of_the_road_is_no_turn(radius_m: float, angle_rad: float) -> None:
    assert command_ahead(arc(radius_m, angle_rad)) is RouteCommand.STRAIGHT


def test_the_first_of_two_turns_counts_and_a_lane_change_is_none() -> None:
    assert command_ahead(line((0, 0), (10, 0), (10, 8), (60, 8))[::2]) is RouteCommand.LEFT
    assert command_ahead(line((0, 0), (10, 0), (25, 3.5), (60, 3.5))[::2]) is RouteCommand.STRAIGHT


def test_too_few_waypoints_say_straight_on() -> None:
    for count in range(3):
        assert command_ahead(np.arange(2.0 * count).reshape(count, 2)) is RouteCommand.STRAIGHT
    assert np.isclose(np.degrees(TURN_RAD), 30.0)


# -- files ------------------------------------------------------------------------------------------------------------
def write_route(root: Path, scene: str, points: object) -> Path:
    (root / "can_bus").mkdir(exist_ok=True)
    path = root / "can_bus" / f"{scene}_route.json"
    path.write_text(points if isinstance(points, str) else json.dumps(points))
    return path


def test_a_frame_has_the_route_of_its_scene(tmp_path: Path) -> None:
    root = write_tiny(tmp_path / "tiny")
    without = NuScenesFrames(root=root, split=SPLIT, image_size=ImageSize(90, 160))[1]
    assert without.route is None
    # The vehicle drives north from (100, 200) at 10 m/s: after half a second the corner is 20 m ahead.
    write_route(root, SCENE, [[100, 150], [100, 225], [160, 225]])
    frame = NuScenesFrames(root=root, split=SPLIT, image_size=ImageSize(90, 160))[1]
    assert frame.route is not None and frame.route.command is RouteCommand.RIGHT
    np.testing.assert_allclose(frame.route.waypoints_ego[10], (20.0, 0.0), atol=0.5)
    np.testing.assert_allclose(frame.route.waypoints_ego[20], (20.0, -20.0), atol=0.5)
    assert replace(frame, route=None, annotations=None).token == without.token


@pytest.mark.parametrize(
    "text",
    ["[[1, 2], [3", '{"a": 1}', "[[1, 2, 3], [4, 5, 6]]", "[[1, null], [3, 4]]", '[["a", 1]]', "[[1, 2], [3]]", "7"],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = write_route(tmp_path, SCENE, text)
    with pytest.raises(DatasetError, match=path.name):
        SceneRoutes(tmp_path).route(SCENE, np.eye(4))


@pytest.mark.parametrize("points", [[], [[1.0, 2.0]], [[1.0, 2.0]] * 5])
def test_a_file_without_a_way_gives_no_route(tmp_path: Path, points: object) -> None:
    path = write_route(tmp_path, SCENE, points)
    assert read_route(path) is None and SceneRoutes(tmp_path).route(SCENE, np.eye(4)) is None


def test_points_of_a_file_may_be_dense_and_repeated(tmp_path: Path) -> None:
    x = np.repeat(np.arange(0.0, 50.0, 0.2), 3)
    points = read_route(write_route(tmp_path, SCENE, np.stack((x, 0 * x), axis=1).tolist()))
    assert points is not None
    steps = np.hypot(*np.diff(points, axis=0).T)
    assert steps.min() > 0.9 and steps.max() < 1.1 and np.isclose(points[-1, 0], x[-1])


def test_frames_off_their_route_are_counted(tmp_path: Path) -> None:
    index = drive(tmp_path / "root", {SCENE: {"a": Track(path=straight(0, 0))}}, num_keyframes=4)
    x, y, _ = EGO_XY_YAW
    write_route(index.root, SCENE, [[x + 30, y - 50], [x + 30, y + 100]])
    frames = NuScenesFrames(root=index.root, split="drives", image_size=ImageSize(8, 8), cameras=(), num_sweeps=0)
    assert [frames[k].route for k in range(4)] == [None] * 4
    assert frames.routes.num_off_route == 4


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        SceneRoutes(tmp_path, look_ahead_m=0.0)


def test_the_poses_of_a_real_drive_make_a_route_ahead_of_the_first(nuscenes_real: Path) -> None:
    """There are no real route files here; the CAN bus poses of scene-0061 stand for one, in its frame and its units."""
    messages = json.loads((nuscenes_real / "can_bus" / "scene-0061_pose_first26.json").read_text())
    positions = np.array([message["pos"][:2] for message in messages])
    w, x, y, z = messages[0]["orientation"]
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    route = route_ahead(positions, from_xy_yaw(*positions[0], yaw))
    assert route is not None and route.command is RouteCommand.STRAIGHT
    driven_m = np.hypot(*(positions[-1] - positions[0]))
    assert len(route.waypoints_ego) == 1 + int(driven_m / ROUTE_STEP_M)
    assert np.abs(route.waypoints_ego[:, 1]).max() < 0.2
