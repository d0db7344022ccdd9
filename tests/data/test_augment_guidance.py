"""World augmentation of what planners read and learn, and inputs that go missing."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.planned_frames import cue_of, planned_frame
from fixtures.scenes import one_car_ahead
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from bevstack.build import compose, experiment_names, instantiate
from bevstack.data.augment import WorldAugmentation
from bevstack.data.augment_world import move_in_plane, move_poses, move_world, world_map
from bevstack.data.routes import command_ahead
from bevstack.geometry.transforms import from_xy_yaw, transform_points, yaw_of
from bevstack.types import FUTURE_STEP_S, BoxIndex, RouteCommand

PLANNED = planned_frame()
MIRROR = world_map(flip_y=True)

maps = st.builds(
    world_map,
    rotation_rad=st.floats(-np.pi, np.pi),
    scale=st.floats(0.8, 1.25),
    translation_m=st.tuples(*[st.floats(-3, 3)] * 3),
    flip_x=st.booleans(),
    flip_y=st.booleans(),
)


def test_mirroring_twice_gives_everything_back() -> None:
    twice = move_world(move_world(PLANNED, MIRROR), MIRROR)
    assert twice.route.command is PLANNED.route.command and twice.cue is not None
    np.testing.assert_array_equal(twice.route.waypoints_ego, PLANNED.route.waypoints_ego)
    np.testing.assert_array_equal(twice.cue.embedding, PLANNED.cue.embedding)
    np.testing.assert_array_equal(twice.cue.mirrored_embedding, PLANNED.cue.mirrored_embedding)
    np.testing.assert_array_equal(twice.annotations.agent_futures_ego, PLANNED.annotations.agent_futures_ego)
    np.testing.assert_allclose(twice.annotations.ego_future, PLANNED.annotations.ego_future, atol=1e-12)


def test_a_mirror_turns_left_into_right_everywhere() -> None:
    mirrored = move_world(PLANNED, MIRROR)
    assert PLANNED.route.command is RouteCommand.LEFT and mirrored.route.command is RouteCommand.RIGHT
    np.testing.assert_array_equal(mirrored.route.waypoints_ego, PLANNED.route.waypoints_ego * (1, -1))
    np.testing.assert_allclose(mirrored.annotations.ego_future, PLANNED.annotations.ego_future * (1, -1, -1))
    np.testing.assert_array_equal(mirrored.cue.embedding, PLANNED.cue.mirrored_embedding)
    assert mirrored.route.speed_limit_mps == PLANNED.route.speed_limit_mps


def test_a_cue_without_a_mirrored_embedding_is_dropped_by_a_mirror_and_kept_by_a_rotation() -> None:
    frame = replace(PLANNED, cue=cue_of(PLANNED, with_mirror=False))
    assert move_world(frame, MIRROR).cue is None
    assert move_world(frame, world_map(rotation_rad=0.3)).cue is frame.cue
    assert move_world(frame, world_map(flip_x=True, flip_y=True)).cue is frame.cue, "two mirrors make half a turn"


@given(maps)
def test_the_command_stays_that_of_the_waypoints(G_ego: np.ndarray) -> None:
    route = move_world(PLANNED, G_ego).route
    assert route.command is command_ahead(route.waypoints_ego)


@given(maps)
def test_objects_still_go_where_their_velocity_points(G_ego: np.ndarray) -> None:
    moved = move_world(PLANNED, G_ego).annotations
    rows = moved.boxes.rows.astype(np.float64)
    first = rows[:, : BoxIndex.Y + 1] + FUTURE_STEP_S * rows[:, BoxIndex.VX :]
    np.testing.assert_allclose(moved.agent_futures_ego[:, 0], first, atol=1e-4)
    np.testing.assert_array_equal(np.isnan(moved.agent_futures_ego), np.isnan(PLANNED.annotations.agent_futures_ego))


@given(maps)
def test_the_own_future_ends_at_the_same_place_of_the_map(G_ego: np.ndarray) -> None:
    moved = move_world(PLANNED, G_ego)

    def on_the_map(frame: object) -> np.ndarray:
        future = frame.annotations.ego_future
        points = np.column_stack((future[:, :2], np.full(len(future), G_ego[2, 3] if frame is moved else 0.0)))
        return transform_points(frame.ego.T_global_ego, points)[:, :2]

    np.testing.assert_allclose(on_the_map(moved), on_the_map(PLANNED), atol=1e-6)


@given(st.floats(-np.pi, 3.14), st.floats(-5, 5), st.floats(-3, 3))
def test_a_pose_under_a_rotation_is_the_product_of_transforms(yaw: float, x: float, turn: float) -> None:
    G_ego = world_map(rotation_rad=turn, translation_m=(1.0, 2.0, 0.0))
    expected = G_ego @ from_xy_yaw(x, 2.0, yaw)
    moved = move_poses(np.array([[x, 2.0, yaw]]), G_ego)[0]
    np.testing.assert_allclose(moved[:2], expected[:2, 3], atol=1e-9)
    assert np.isclose(np.cos(moved[2] - yaw_of(expected)), 1.0)


def test_nothing_at_all_may_be_moved() -> None:
    assert move_in_plane(np.zeros((0, 12, 2)), MIRROR).shape == (0, 12, 2)
    assert move_poses(np.zeros((0, 3)), MIRROR).shape == (0, 3)
    plain = move_world(one_car_ahead(), MIRROR)
    assert plain.route is None and plain.cue is None and plain.annotations.ego_future is None


@pytest.mark.parametrize("name", experiment_names())
def test_experiments_that_read_a_route_or_a_text_never_turn_the_vehicle(name: str) -> None:
    config = compose([f"experiment={name}"])
    reads = [OmegaConf.select(config, key) for key in ("model.language", "model.behaviour.planning")]
    if reads == [None, None] or config.augment.world is None:
        return
    world = instantiate(config, "augment.world")
    moved = [world(PLANNED, np.random.default_rng(seed)).annotations.ego_future for seed in range(8)]
    assert all(np.allclose(np.abs(future), np.abs(PLANNED.annotations.ego_future)) for future in moved)


def test_the_mirror_configuration_mirrors_left_and_right_and_nothing_else() -> None:
    config = compose(["experiment=fusion_small", "augment=mirror"])
    world = instantiate(config, "augment.world")
    assert isinstance(world, WorldAugmentation)
    futures = [world(PLANNED, np.random.default_rng(seed)).annotations.ego_future for seed in range(16)]
    is_same = [np.allclose(future, PLANNED.annotations.ego_future) for future in futures]
    is_mirrored = [np.allclose(future, PLANNED.annotations.ego_future * (1, -1, -1)) for future in futures]
    assert any(is_same) and any(is_mirrored)
    assert all(a != b for a, b in zip(is_same, is_mirrored, strict=True))
