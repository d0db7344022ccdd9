"""Rigid transforms: known values, round trips, batches, tensors."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from pyquaternion import Quaternion

from bevstack.geometry.transforms import (
    from_quaternion,
    from_xy_yaw,
    inverse,
    rigid_inverse,
    to_quaternion,
    transform_points,
    wrap_angle,
    yaw_of,
)

finite = st.floats(-1000, 1000)
quaternions = st.tuples(*[st.floats(-1, 1)] * 4).map(np.array).filter(lambda q: np.linalg.norm(q) > 0.1)
transforms = st.builds(from_quaternion, quaternions, st.tuples(finite, finite, finite).map(np.array))


def test_a_quarter_turn_to_the_left_carries_forward_to_left() -> None:
    moved = transform_points(from_xy_yaw(10.0, 2.0, np.pi / 2, 0.5), np.array([[3.0, 1.0, 0.0]]))
    np.testing.assert_allclose(moved, [[9.0, 5.0, 0.5]])


@given(quaternions)
def test_rotations_equal_those_of_the_development_kits_quaternion_package(q: np.ndarray) -> None:
    ours = from_quaternion(q, np.zeros(3))[:3, :3]
    np.testing.assert_allclose(ours, Quaternion(q).normalised.rotation_matrix, atol=1e-12)


@given(quaternions)
def test_a_quaternion_survives_the_round_trip_up_to_its_sign(q: np.ndarray) -> None:
    unit = q / np.linalg.norm(q)
    back = to_quaternion(from_quaternion(q, np.zeros(3)))
    assert back[0] >= 0
    assert abs(abs(back @ unit) - 1) < 1e-12


@pytest.mark.parametrize("axis", [(0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 0, 0), (0, 0.6, 0.8, 0)])
def test_half_turns_survive_the_round_trip(axis: tuple[float, ...]) -> None:
    back = to_quaternion(from_quaternion(np.array(axis, float), np.zeros(3)))
    np.testing.assert_allclose(np.abs(back), np.abs(axis), atol=1e-12)


@pytest.mark.parametrize("q", [(0.0, 0.0, 0.0, 0.0), (np.nan, 0.0, 0.0, 1.0), (np.inf, 0.0, 0.0, 1.0)])
def test_a_quaternion_that_is_none_is_refused(q: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="zero or not finite"):
        from_quaternion(np.array(q), np.zeros(3))


@given(transforms)
def test_both_inverses_undo_a_rigid_transform(T_target_source: np.ndarray) -> None:
    np.testing.assert_allclose(rigid_inverse(T_target_source) @ T_target_source, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(inverse(T_target_source), rigid_inverse(T_target_source), atol=1e-9)


@given(transforms, transforms)
def test_composition_is_one_transform_after_the_other(T_c_b: np.ndarray, T_b_a: np.ndarray) -> None:
    points_a = np.array([[1.0, 2.0, 3.0], [-4.0, 0.0, 7.0]])
    stepwise = transform_points(T_c_b, transform_points(T_b_a, points_a))
    np.testing.assert_allclose(transform_points(T_c_b @ T_b_a, points_a), stepwise, atol=1e-8)


@given(transforms)
def test_rigid_transforms_keep_distances(T_target_source: np.ndarray) -> None:
    points = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]])
    moved = transform_points(T_target_source, points)
    assert np.linalg.norm(moved[1] - moved[0]) == pytest.approx(3.0)


def test_a_batch_of_transforms_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    q, t, points = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 3, 5, 3))
    T_target_source = from_quaternion(q, t)
    moved, undone = transform_points(T_target_source, points), rigid_inverse(T_target_source)
    yaws = yaw_of(T_target_source)
    for b in range(2):
        for n in range(3):
            single = from_quaternion(q[b, n], t[b, n])
            np.testing.assert_allclose(T_target_source[b, n], single)
            np.testing.assert_allclose(moved[b, n], transform_points(single, points[b, n]))
            np.testing.assert_allclose(undone[b, n], rigid_inverse(single))
            assert yaws[b, n] == pytest.approx(float(yaw_of(single)))


def test_no_points_stay_no_points() -> None:
    assert transform_points(np.eye(4), np.zeros((0, 3))).shape == (0, 3)
    assert transform_points(torch.eye(4).repeat(2, 1, 1), torch.zeros(2, 0, 3)).shape == (2, 0, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_give_the_numbers_and_the_type_of_arrays(dtype: torch.dtype) -> None:
    T_target_source = from_quaternion(np.array([0.9, 0.1, -0.2, 0.3]), np.array([1.0, 2.0, 3.0]))
    points = np.random.default_rng(0).normal(size=(7, 3))
    moved = transform_points(torch.tensor(T_target_source, dtype=dtype), torch.tensor(points, dtype=dtype))
    assert moved.dtype == dtype
    np.testing.assert_allclose(moved.numpy(), transform_points(T_target_source, points), atol=1e-5)
    undone = inverse(torch.tensor(T_target_source, dtype=dtype))
    np.testing.assert_allclose(undone.numpy(), inverse(T_target_source), atol=1e-5)


def test_gradients_reach_points_and_transform() -> None:
    T_target_source = torch.tensor(from_xy_yaw(1.0, 2.0, 0.3)).requires_grad_()
    points = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(transform_points, (T_target_source, points))
    assert torch.autograd.gradcheck(inverse, (T_target_source,))


@given(st.floats(-100, 100))
def test_the_yaw_of_an_upright_pose_is_the_one_it_was_made_with(yaw_rad: float) -> None:
    difference = float(yaw_of(from_xy_yaw(3.0, 4.0, yaw_rad))) - yaw_rad
    assert np.cos(difference) == pytest.approx(1.0)


@given(st.floats(-1e3, 1e3))
@example(-np.pi)
@example(np.pi)
@example(np.nextafter(-np.pi, -4))
@example(np.nextafter(np.pi, 0))
def test_a_wrapped_angle_is_the_same_direction_in_the_half_open_circle(angle: float) -> None:
    wrapped = float(wrap_angle(np.array(angle)))
    assert -np.pi <= wrapped < np.pi
    assert np.cos(wrapped - angle) == pytest.approx(1.0)
    assert float(wrap_angle(torch.tensor(angle, dtype=torch.float64))) == pytest.approx(wrapped)


@given(st.floats(-50, 50, width=32))
@example(np.float32(np.nextafter(np.float32(-np.pi), np.float32(-4))))
@example(np.float32(-np.pi))
def test_wrapping_single_precision_stays_single_and_in_the_circle(angle: float) -> None:
    wrapped = wrap_angle(np.array([angle], np.float32))
    assert wrapped.dtype == np.float32
    assert -np.float32(np.pi) <= wrapped[0] < np.float32(np.pi)
