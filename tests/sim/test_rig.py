import numpy as np
import pytest

from bevstack.data.class_names import CAMERA_NAMES
from bevstack.data.images import ImageSize
from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.sim.sensors.rig import NUSCENES_CAMERAS, T_EGO_LIDAR, camera_matrix


def test_cameras_come_in_the_order_of_the_camera_axis():
    assert tuple(camera.name for camera in NUSCENES_CAMERAS) == CAMERA_NAMES


@pytest.mark.parametrize(
    ("name", "bearing_deg"),
    [
        ("CAM_FRONT", 0),
        ("CAM_FRONT_LEFT", 55),
        ("CAM_BACK_LEFT", 110),
        ("CAM_BACK", 180),
        ("CAM_BACK_RIGHT", -110),
        ("CAM_FRONT_RIGHT", -55),
    ],
)
def test_each_camera_looks_where_its_name_says(name, bearing_deg):
    spec = next(camera for camera in NUSCENES_CAMERAS if camera.name == name)
    x, y, z = spec.T_ego_cam[:3, 2]
    difference = (np.rad2deg(np.arctan2(y, x)) - bearing_deg + 180) % 360 - 180
    assert abs(difference) < 3 and abs(z) < 0.03


def test_camera_poses_are_rigid_and_upright():
    for spec in NUSCENES_CAMERAS:
        rotation = spec.T_ego_cam[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) > 0
        assert rotation[2, 1] < -0.99  # image rows run downwards


def test_lidar_x_points_right_and_y_forward():
    np.testing.assert_allclose(transform_points(T_EGO_LIDAR, np.array([[1.0, 0, 0]]))[0], [0.94, -1.0, 1.84])
    np.testing.assert_allclose(transform_points(T_EGO_LIDAR, np.array([[0, 1.0, 0]]))[0], [1.94, 0.0, 1.84])


def test_full_size_matrix_is_the_calibration():
    spec = NUSCENES_CAMERAS[0]
    np.testing.assert_allclose(camera_matrix(spec, ImageSize(height=900, width=1600)), spec.K_cam)


def test_small_matrix_scales_pixel_centres_and_crops_the_top():
    spec = NUSCENES_CAMERAS[0]
    point = np.array([[1.3, 0.4, 12.0]])
    (full,), _ = project(spec.K_cam, point)
    (small,), _ = project(camera_matrix(spec, ImageSize(height=256, width=704)), point)
    np.testing.assert_allclose(small, [0.44 * (full[0] + 0.5) - 0.5, 0.44 * (full[1] + 0.5) - 0.5 - 140], atol=1e-9)


def test_a_height_that_the_picture_does_not_have_is_refused():
    with pytest.raises(ValueError, match="396 rows"):
        camera_matrix(NUSCENES_CAMERAS[0], ImageSize(height=400, width=704))


def test_a_point_ahead_appears_in_the_front_camera_only():
    point_ego = np.array([[20.0, 0.0, 1.0]])
    seen = []
    for spec in NUSCENES_CAMERAS:
        (pixel,), depth = project(spec.K_cam, transform_points(rigid_inverse(spec.T_ego_cam), point_ego))
        if depth[0] > 0 and 0 <= pixel[0] < 1600 and 0 <= pixel[1] < 900:
            seen.append(spec.name)
    assert seen == ["CAM_FRONT"]
