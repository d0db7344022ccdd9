"""Augmentation folded into the calibration: what is true of a frame stays true of the augmented frame."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.scenes import one_car_ahead, pedestrian_left, scene_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.data.augment import (
    ImageAugmentation,
    SensorDropout,
    WorldAugmentation,
    image_map,
    warp_image,
)
from bevstack.data.augment_world import move_boxes, move_world, world_map
from bevstack.geometry.boxes import corners, points_in_boxes
from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import inverse, rigid_inverse, transform_points
from bevstack.types import BoxIndex, CameraImage, Frame

TWO_OBJECTS = scene_of([("car", 12.0, 2.0, 0.4, 5.0), ("pedestrian", -6.0, -3.0, 2.9, 1.0)])
RED = (200, 40, 40)

maps = st.builds(
    world_map,
    rotation_rad=st.floats(-np.pi, np.pi),
    scale=st.floats(0.8, 1.25),
    translation_m=st.tuples(*[st.floats(-3, 3)] * 3),
    flip_x=st.booleans(),
    flip_y=st.booleans(),
)
image_maps = st.builds(
    image_map,
    st.just(64),
    st.just(176),
    zoom=st.floats(0.7, 1.5),
    shift=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    rotation_rad=st.floats(-0.5, 0.5),
    flip=st.booleans(),
)


def pixels_of(camera: CameraImage, points_ego: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return project(camera.K_cam, transform_points(inverse(camera.T_ego_cam), points_ego.astype(np.float64)))


def centroid(rgb: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Mean (u, v) of pixels close to a colour."""
    rows, columns = np.nonzero(np.abs(rgb.astype(int) - colour).max(axis=-1) < 30)
    assert len(rows) > 20
    return np.array((columns.mean(), rows.mean()))


@given(image_maps)
def test_projecting_after_the_warp_equals_warping_the_projection(A_img: np.ndarray) -> None:
    camera = TWO_OBJECTS.cameras[0]
    points = corners(TWO_OBJECTS.annotations.boxes.rows)[0]
    before, depth_before = pixels_of(camera, points)
    after, depth_after = pixels_of(warp_image(camera, A_img), points)
    moved = np.column_stack((before, np.ones(len(before)))) @ A_img.T
    np.testing.assert_allclose(after, moved[:, :2], atol=1e-6)
    np.testing.assert_allclose(depth_after, depth_before)


@pytest.mark.parametrize(
    ("zoom", "shift", "rotation_rad", "flip"),
    [
        (1.0, (0.5, 0.5), 0.0, True),
        (1.3, (0.5, 0.6), 0.0, False),
        (0.8, (0.2, 0.9), 0.0, False),
        (1.0, (0.5, 0.5), 0.2, False),
        (1.2, (0.4, 0.5), -0.15, True),
    ],
)
def test_the_painted_car_moves_with_its_projected_box(
    zoom: float, shift: tuple[float, float], rotation_rad: float, flip: bool
) -> None:
    camera = one_car_ahead(distance_m=12.0).cameras[0]
    A_img = image_map(64, 176, zoom=zoom, shift=shift, rotation_rad=rotation_rad, flip=flip)
    warped = warp_image(camera, A_img)
    expected = A_img @ np.append(centroid(camera.rgb, RED), 1.0)
    np.testing.assert_allclose(centroid(warped.rgb, RED), expected[:2], atol=0.4)


def test_mirroring_a_picture_twice_gives_it_back() -> None:
    camera = one_car_ahead().cameras[0]
    flip = image_map(64, 176, zoom=1.0, shift=(0.5, 0.5), rotation_rad=0.0, flip=True)
    once = warp_image(camera, flip)
    np.testing.assert_array_equal(once.rgb, camera.rgb[:, ::-1])
    twice = warp_image(once, flip)
    np.testing.assert_array_equal(twice.rgb, camera.rgb)
    np.testing.assert_allclose(twice.K_cam, camera.K_cam)


def test_zooming_in_keeps_the_chosen_corner_of_the_picture() -> None:
    A_img = image_map(64, 176, zoom=2.0, shift=(1.0, 1.0), rotation_rad=0.0, flip=False)
    np.testing.assert_allclose(A_img @ (175.5, 63.5, 1.0), (175.5, 63.5, 1.0))  # the outer edge of the last pixel
    A_img = image_map(64, 176, zoom=2.0, shift=(0.0, 0.0), rotation_rad=0.0, flip=False)
    np.testing.assert_allclose(A_img @ (-0.5, -0.5, 1.0), (-0.5, -0.5, 1.0))


@given(maps)
def test_pixels_do_not_move_when_the_world_does(G_ego: np.ndarray) -> None:
    moved = move_world(TWO_OBJECTS, G_ego)
    for before, after in zip(TWO_OBJECTS.cameras, moved.cameras, strict=True):
        pixels, depth = pixels_of(before, TWO_OBJECTS.lidar.points_ego[::37, :3])
        pixels_after, depth_after = pixels_of(after, moved.lidar.points_ego[::37, :3])
        seen = depth > 0.5
        np.testing.assert_allclose(pixels_after[seen], pixels[seen], atol=2e-2)
        np.testing.assert_allclose(depth_after, depth, atol=1e-4)  # real metres, whatever the scale of G_ego


@given(maps)
def test_the_same_points_stay_inside_the_same_boxes(G_ego: np.ndarray) -> None:
    moved = move_world(TWO_OBJECTS, G_ego)
    before = points_in_boxes(TWO_OBJECTS.lidar.points_ego, TWO_OBJECTS.annotations.boxes.rows)
    after = points_in_boxes(moved.lidar.points_ego, moved.annotations.boxes.rows)
    np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(before.sum(axis=1), TWO_OBJECTS.annotations.num_lidar_points)


@given(maps, st.floats(-np.pi, 3.14), st.floats(0.5, 20))
def test_the_nose_of_a_box_goes_where_a_point_there_goes(G_ego: np.ndarray, yaw: float, speed: float) -> None:
    heading = np.array((np.cos(yaw), np.sin(yaw)))
    row = np.array([[5, -3, 1, 4, 2, 1.5, yaw, *(speed * heading)]], np.float32)
    moved = move_boxes(row, G_ego)[0].astype(np.float64)
    nose = np.array((5 + 2 * heading[0], -3 + 2 * heading[1], 1.0))
    half = moved[BoxIndex.LENGTH] / 2
    new_heading = np.array((np.cos(moved[BoxIndex.YAW]), np.sin(moved[BoxIndex.YAW])))
    np.testing.assert_allclose(
        moved[:2] + half * new_heading, transform_points(G_ego, nose[None])[0, :2], atol=1e-4, rtol=1e-5
    )
    # An object that drives forward still drives forward, at a speed scaled like everything else.
    scale = moved[BoxIndex.LENGTH] / 4
    np.testing.assert_allclose(moved[BoxIndex.VX :], scale * speed * new_heading, atol=1e-3)
    assert -np.float32(np.pi) <= np.float32(moved[BoxIndex.YAW]) < np.float32(np.pi)


def test_a_left_right_mirror_negates_yaw_and_lateral_velocity() -> None:
    row = np.array([[10, 3, 1, 4, 2, 1.5, 0.3, 5, 1.5]], np.float32)
    mirrored = move_boxes(row, world_map(flip_y=True))[0]
    np.testing.assert_allclose(mirrored, [10, -3, 1, 4, 2, 1.5, -0.3, 5, -1.5], rtol=1e-6)


def test_a_front_back_mirror_reflects_yaw_about_the_lateral_axis() -> None:
    row = np.array([[10, 3, 1, 4, 2, 1.5, 0.3, 5, 1.5]], np.float32)
    mirrored = move_boxes(row, world_map(flip_x=True))[0]
    np.testing.assert_allclose(mirrored, [-10, 3, 1, 4, 2, 1.5, np.pi - 0.3, -5, 1.5], rtol=1e-6)


def test_an_unknown_velocity_stays_unknown_and_harms_nothing_else() -> None:
    row = np.array([[10, 3, 1, 4, 2, 1.5, 0.3, np.nan, np.nan]], np.float32)
    moved = move_boxes(row, world_map(rotation_rad=0.5, flip_y=True))[0]
    assert np.isnan(moved[BoxIndex.VX :]).all()
    assert np.isfinite(moved[: BoxIndex.VX]).all()


@pytest.mark.parametrize("flips", [{"flip_x": True}, {"flip_y": True}, {"flip_x": True, "flip_y": True}])
def test_mirroring_the_world_twice_gives_it_back(flips: dict[str, bool]) -> None:
    G_ego = world_map(**flips)
    twice = move_world(move_world(TWO_OBJECTS, G_ego), G_ego)
    np.testing.assert_array_equal(twice.lidar.points_ego, TWO_OBJECTS.lidar.points_ego)
    np.testing.assert_allclose(twice.annotations.boxes.rows, TWO_OBJECTS.annotations.boxes.rows, atol=1e-6)
    np.testing.assert_allclose(twice.cameras[3].T_ego_cam, TWO_OBJECTS.cameras[3].T_ego_cam, atol=1e-12)
    np.testing.assert_allclose(twice.ego.T_global_ego, TWO_OBJECTS.ego.T_global_ego, atol=1e-9)
    assert twice.ego.yaw_rate_radps == TWO_OBJECTS.ego.yaw_rate_radps


@given(maps)
def test_global_positions_do_not_depend_on_the_augmentation(G_ego: np.ndarray) -> None:
    moved = move_world(TWO_OBJECTS, G_ego)
    before = transform_points(TWO_OBJECTS.ego.T_global_ego, TWO_OBJECTS.annotations.boxes.centers.astype(np.float64))
    after = transform_points(moved.ego.T_global_ego, moved.annotations.boxes.centers.astype(np.float64))
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_a_mirror_reverses_the_turn_of_the_vehicle_and_a_scale_its_speed() -> None:
    moved = move_world(TWO_OBJECTS, world_map(flip_y=True, scale=1.1))
    assert moved.ego.yaw_rate_radps == -TWO_OBJECTS.ego.yaw_rate_radps
    assert moved.ego.speed_mps == pytest.approx(1.1 * TWO_OBJECTS.ego.speed_mps)


def test_a_scaled_camera_needs_the_general_inverse() -> None:
    camera = move_world(TWO_OBJECTS, world_map(scale=1.1)).cameras[0]
    np.testing.assert_allclose(inverse(camera.T_ego_cam) @ camera.T_ego_cam, np.eye(4), atol=1e-12)
    assert np.abs(rigid_inverse(camera.T_ego_cam) @ camera.T_ego_cam - np.eye(4)).max() > 0.05


@pytest.mark.parametrize("augmentation", [ImageAugmentation(brightness=0.2, saturation=0.3), WorldAugmentation()])
def test_the_same_generator_state_gives_the_same_frame_and_the_input_stays_untouched(augmentation: object) -> None:
    frame, copy = pedestrian_left(), pedestrian_left()
    first, second = (augmentation(frame, np.random.default_rng(7)) for _ in range(2))
    other = augmentation(frame, np.random.default_rng(8))
    assert same(first, second)
    assert not same(first, other)
    assert same(frame, copy)


def same(a: Frame, b: Frame) -> bool:
    pictures = all(
        np.array_equal(p.rgb, q.rgb) and np.array_equal(p.K_cam, q.K_cam) and np.array_equal(p.T_ego_cam, q.T_ego_cam)
        for p, q in zip(a.cameras, b.cameras, strict=True)
    )
    points = np.array_equal(a.lidar.points_ego, b.lidar.points_ego)
    return pictures and points and np.array_equal(a.annotations.boxes.rows, b.annotations.boxes.rows)


def test_brightness_alone_multiplies_every_value() -> None:
    frame = one_car_ahead()
    still = ImageAugmentation(zoom_range=(1.0, 1.0), rotation_rad=0.0, flip_probability=0.0, brightness=0.3)
    dark = frame.cameras[0].rgb[40:]  # the road: far from white, where values would be cut off
    ratio = still(frame, np.random.default_rng(0)).cameras[0].rgb[40:] / dark.astype(float)
    assert 0.7 <= ratio.mean() <= 1.3
    assert abs(ratio.mean() - 1) > 0.01
    assert ratio.std() < 0.02


def test_no_augmentation_is_the_identity() -> None:
    frame = one_car_ahead()
    image = ImageAugmentation(zoom_range=(1.0, 1.0), rotation_rad=0.0, flip_probability=0.0)
    world = WorldAugmentation(
        rotation_rad=0.0,
        scale_range=(1.0, 1.0),
        translation_std_m=(0.0, 0.0, 0.0),
        flip_x_probability=0.0,
        flip_y_probability=0.0,
    )
    rng = np.random.default_rng(0)
    assert same(world(image(frame, rng), rng), frame)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_dropout_never_leaves_a_frame_blind(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dropout = SensorDropout(p_no_cameras=0.5, p_no_lidar=0.5, p_one_camera=1.0)
    frame = one_car_ahead()
    for start in (
        frame,
        replace(frame, lidar=None),
        replace(frame, cameras=()),
        replace(frame, cameras=frame.cameras[:1]),
    ):
        left = dropout(start, rng)
        assert left.cameras or left.lidar is not None


def test_dropout_happens_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    dropout = SensorDropout(p_no_cameras=0.2, p_no_lidar=0.3, p_one_camera=0.1)
    drawn = [dropout(one_car_ahead_once, rng) for one_car_ahead_once in [one_car_ahead()] * 2000]
    assert np.mean([not frame.cameras for frame in drawn]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([frame.lidar is None for frame in drawn]) == pytest.approx(0.3, abs=0.03)
    assert np.mean([len(frame.cameras) == 5 for frame in drawn]) == pytest.approx(0.08, abs=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImageAugmentation(zoom_range=(1.2, 0.9)), "zoom_range"),
        (lambda: ImageAugmentation(brightness=1.5), "brightness"),
        (lambda: WorldAugmentation(scale_range=(0.0, 1.0)), "scale_range"),
        (lambda: WorldAugmentation(flip_x_probability=2.0), "flip_x_probability"),
        (lambda: SensorDropout(p_no_cameras=0.7, p_no_lidar=0.5), "more than 1"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
