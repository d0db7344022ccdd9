"""Pinhole projection and its inverse, also with the full matrices that augmentation makes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bevstack.data.augment import image_map
from bevstack.geometry.cameras import project, unproject

K_CAM = np.array([[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]])

camera_matrices = st.builds(
    lambda zoom, rotation_rad, flip: (
        image_map(900, 1600, zoom=zoom, shift=(0.3, 0.8), rotation_rad=rotation_rad, flip=flip) @ K_CAM
    ),
    st.floats(0.5, 2),
    st.floats(-1, 1),
    st.booleans(),
)
points = st.tuples(st.floats(-20, 20), st.floats(-5, 5), st.floats(0.5, 80)).map(np.array)


def test_a_point_on_the_optical_axis_lands_on_the_principal_point() -> None:
    pixels, depth_m = project(K_CAM, np.array([[0.0, 0.0, 10.0]]))
    np.testing.assert_allclose(pixels, [[816.3, 491.5]])
    np.testing.assert_allclose(depth_m, [10.0])


def test_a_point_one_metre_to_the_right_at_ten_metres_lands_a_tenth_of_the_focal_length_right() -> None:
    pixels, _ = project(K_CAM, np.array([[1.0, -0.5, 10.0]]))
    np.testing.assert_allclose(pixels, [[816.3 + 126.64, 491.5 - 63.32]])


@given(camera_matrices, points)
def test_a_pixel_at_its_depth_is_the_point_that_was_projected(K_cam: np.ndarray, point: np.ndarray) -> None:
    pixels, depth_m = project(K_cam, point[None])
    back = unproject(torch.tensor(K_cam).inverse(), torch.tensor(pixels), torch.tensor(depth_m))
    np.testing.assert_allclose(back.numpy(), point[None], atol=1e-8)


@given(camera_matrices, points, st.floats(1.1, 5))
def test_points_on_one_ray_share_their_pixel(K_cam: np.ndarray, point: np.ndarray, stretch: float) -> None:
    pixels, depth_m = project(K_cam, np.stack((point, stretch * point)))
    np.testing.assert_allclose(pixels[0], pixels[1], atol=1e-6)
    assert depth_m[1] == pytest.approx(stretch * depth_m[0])


def test_points_behind_the_camera_keep_their_negative_depth_and_finite_pixels() -> None:
    pixels, depth_m = project(K_CAM, np.array([[1.0, 1.0, -5.0], [1.0, 1.0, 0.0]]))
    assert depth_m.tolist() == [-5.0, 0.0]
    assert np.isfinite(pixels).all()


def test_a_batch_of_cameras_equals_a_loop() -> None:
    K_cam = torch.tensor(K_CAM).repeat(2, 3, 1, 1) * torch.rand(2, 3, 1, 1, dtype=torch.float64)
    K_cam[..., 2, 2] = 1.0
    points_cam = torch.rand(2, 3, 5, 3, dtype=torch.float64) + 1
    pixels, depth_m = project(K_cam, points_cam)
    back = unproject(K_cam.inverse(), pixels, depth_m)
    for b in range(2):
        for n in range(3):
            single, _ = project(K_cam[b, n], points_cam[b, n])
            torch.testing.assert_close(pixels[b, n], single)
    torch.testing.assert_close(back, points_cam)


def test_no_points_give_no_pixels() -> None:
    pixels, depth_m = project(K_CAM, np.zeros((0, 3)))
    assert pixels.shape == (0, 2)
    assert depth_m.shape == (0,)
    assert unproject(torch.eye(3), torch.zeros(0, 2), torch.zeros(0)).shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_give_the_numbers_of_arrays_in_their_own_precision(dtype: torch.dtype) -> None:
    points_cam = np.random.default_rng(0).uniform(1, 20, (6, 3))
    pixels, depth_m = project(torch.tensor(K_CAM, dtype=dtype), torch.tensor(points_cam, dtype=dtype))
    expected, _ = project(K_CAM, points_cam)
    assert pixels.dtype == depth_m.dtype == dtype
    np.testing.assert_allclose(pixels.numpy(), expected, rtol=1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    K_cam = torch.tensor(K_CAM, requires_grad=True)
    points_cam = (torch.rand(4, 3, dtype=torch.float64) + 1).requires_grad_()
    assert torch.autograd.gradcheck(project, (K_cam, points_cam), atol=1e-3)
    pixels = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    depth_m = torch.rand(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unproject, (torch.eye(3, dtype=torch.float64), pixels, depth_m))
