"""Rigid transforms as 4x4 matrices, named T_<target>_<source>: they map coordinates of source into target.

Functions take and return numpy arrays; `transform_points`, `inverse` and `wrap_angle` accept torch tensors too.
Angles are radians, counter-clockwise seen from above.
"""

from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

ArrayT = TypeVar("ArrayT", np.ndarray, Tensor)
AngleT = TypeVar("AngleT", np.ndarray, Tensor, float)


def transform_points(T_target_source: ArrayT, points_source: ArrayT) -> ArrayT:
    """Points (..., M, 3) in source coordinates -> (..., M, 3) in target coordinates; T is (..., 4, 4)."""
    rotation, translation = T_target_source[..., :3, :3], T_target_source[..., :3, 3]
    return points_source @ rotation.swapaxes(-1, -2) + translation[..., None, :]


def inverse(T_target_source: ArrayT) -> ArrayT:
    """T_source_target of transforms (..., 4, 4) whose linear part is invertible (reflections and scales too)."""
    return torch.linalg.inv(T_target_source) if isinstance(T_target_source, Tensor) else np.linalg.inv(T_target_source)


def rigid_inverse(T_target_source: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b 4 4"]:
    """T_source_target of rigid transforms; exact to rounding, faster than a general inverse."""
    rotation_t = np.swapaxes(T_target_source[..., :3, :3], -1, -2)
    out = np.zeros_like(T_target_source)
    out[..., :3, :3] = rotation_t
    out[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation_t, T_target_source[..., :3, 3])
    out[..., 3, 3] = 1.0
    return out


def from_quaternion(
    quaternion_wxyz: Float[np.ndarray, "*b 4"], translation: Float[np.ndarray, "*b 3"]
) -> Float[np.ndarray, "*b 4 4"]:
    """Transforms from unit quaternions (w, x, y, z) and translations in metres.

    Raises:
        ValueError: a quaternion is zero or not finite.
    """
    q = np.asarray(quaternion_wxyz, np.float64)
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if not np.all(np.isfinite(norm)) or np.any(norm < 1e-9):
        raise ValueError(f"quaternion {q.tolist()} is zero or not finite")
    w, x, y, z = np.moveaxis(q / norm, -1, 0)
    out = np.zeros((*q.shape[:-1], 4, 4))
    out[..., 0, 0], out[..., 0, 1], out[..., 0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    out[..., 1, 0], out[..., 1, 1], out[..., 1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    out[..., 2, 0], out[..., 2, 1], out[..., 2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    out[..., :3, 3] = translation
    out[..., 3, 3] = 1.0
    return out


def to_quaternion(T_target_source: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4"]:
    """Unit quaternion (w, x, y, z), w >= 0, of the rotation part (Shepperd's method)."""
    m = np.asarray(T_target_source, np.float64)[:3, :3]
    squares = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    largest = int(np.argmax(squares))
    products = {
        0: (squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]),
        1: (m[2, 1] - m[1, 2], squares[1], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0]),
        2: (m[0, 2] - m[2, 0], m[1, 0] + m[0, 1], squares[2], m[2, 1] + m[1, 2]),
        3: (m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], squares[3]),
    }[largest]
    q = np.array(products) / (2 * np.sqrt(squares[largest]))
    return q if q[0] >= 0 else -q


def from_xy_yaw(x_m: float, y_m: float, yaw_rad: float, z_m: float = 0.0) -> Float[np.ndarray, "4 4"]:
    """Transform of an upright pose: rotation about z by yaw, then translation."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, -s, 0, x_m], [s, c, 0, y_m], [0, 0, 1, z_m], [0, 0, 0, 1]], np.float64)


def yaw_of(T_target_source: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b"]:
    """Heading of the transformed x axis, in [-pi, pi)."""
    return wrap_angle(np.asarray(np.arctan2(T_target_source[..., 1, 0], T_target_source[..., 0, 0])))


def wrap_angle(angle: AngleT) -> AngleT:
    """The same angle in [-pi, pi), also where rounding would give pi."""
    wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
    if isinstance(wrapped, Tensor):
        return torch.where(wrapped >= np.pi, -np.pi, wrapped)
    if isinstance(angle, np.ndarray):
        return np.where(wrapped >= np.pi, -np.pi, wrapped).astype(angle.dtype)
    return -np.pi if wrapped >= np.pi else wrapped
