"""Lengths and headings computed in the very steps of the official code, so that results are equal to the last bit.

The devkit measures a distance with `numpy.linalg.norm` and a heading with pyquaternion; both end in BLAS, which on most
processors keeps more digits between a product and a sum (a fused multiply-add). Where two boxes are equally far from a
third, such a last bit decides which one is matched. Compiled code cannot call BLAS for every pair, so it fuses as BLAS
was seen to do; headings go through BLAS itself, in batches.
"""

from functools import cache
from typing import Any

import numba
import numpy as np
from jaxtyping import Float64
from numba.core import types
from numba.extending import intrinsic

_BLOCK = 1 << 15
"""Quaternions in one batch: their matrices stay in the cache."""

PLAIN, FUSED_SECOND, FUSED_FIRST = 0, 1, 2
"""How BLAS adds two squares: round both, or keep the second or the first exact until the sum."""


@intrinsic
def _fma(_: Any, a: Any, b: Any, c: Any) -> Any:
    """A * b + c with one rounding."""
    return types.float64(types.float64, types.float64, types.float64), lambda _c, builder, _s, args: builder.fma(*args)


@numba.njit(cache=True, nogil=True, inline="always")
def planar_norm(dx: float, dy: float, rounding: int) -> float:
    """Length of (dx, dy) as `numpy.linalg.norm` gives it; `rounding` is that of `blas_rounding`."""
    if rounding == FUSED_SECOND:
        return np.sqrt(_fma(dy, dy, dx * dx))  # type: ignore[call-arg]
    if rounding == FUSED_FIRST:
        return np.sqrt(_fma(dx, dx, dy * dy))  # type: ignore[call-arg]
    return np.sqrt(dx * dx + dy * dy)


@numba.njit(cache=True, nogil=True, inline="always")
def planar_product(ax: float, ay: float, bx: float, by: float, rounding: int) -> float:
    """The product (ax, ay) . (bx, by), rounded in one of the three ways."""
    if rounding == FUSED_SECOND:
        return _fma(ay, by, ax * bx)  # type: ignore[call-arg]
    if rounding == FUSED_FIRST:
        return _fma(ax, bx, ay * by)  # type: ignore[call-arg]
    return ax * bx + ay * by


@numba.njit(cache=True, nogil=True)
def _planar_norms(offsets: np.ndarray, rounding: int) -> np.ndarray:
    norms = np.empty(len(offsets))
    for i in range(len(offsets)):
        norms[i] = planar_norm(offsets[i, 0], offsets[i, 1], rounding)
    return norms


def planar_norms(offsets: Float64[np.ndarray, "N 2"]) -> Float64[np.ndarray, " N"]:
    """`numpy.linalg.norm` of each row; NaN where a part is NaN."""
    return _planar_norms(offsets, blas_rounding())


@cache
def blas_rounding() -> int:
    """How the BLAS below NumPy adds two squares on this machine.

    Raises:
        RuntimeError: in none of the known ways.
    """
    samples = np.random.default_rng(0).normal(size=(4096, 2))
    expected = np.sqrt(np.matmul(samples[:, None, :], samples[:, :, None])[:, 0, 0])
    for rounding in (PLAIN, FUSED_SECOND, FUSED_FIRST):
        if np.array_equal(_planar_norms(samples, rounding), expected):
            return rounding
    raise RuntimeError("the BLAS of this NumPy adds two squares in an unknown way; install NumPy from its own wheels")


def rotation_matrices(rotation_wxyz: Float64[np.ndarray, "N 4"]) -> Float64[np.ndarray, "N 3 3"]:
    """Rotation of each quaternion as pyquaternion gives it: normalised unless its length is 1 within 1e-14."""
    squares = np.matmul(rotation_wxyz[:, None, :], rotation_wxyz[:, :, None])[:, 0, 0]
    is_kept = (np.abs(1.0 - squares) < 1e-14) | (squares <= 0)
    w, x, y, z = (rotation_wxyz / np.where(is_kept, 1.0, np.sqrt(squares))[:, None]).T
    left = np.stack((w, -x, -y, -z, x, w, -z, y, y, z, w, -x, z, -y, x, w), axis=-1).reshape(-1, 4, 4)
    right = np.stack((w, -x, -y, -z, x, w, z, -y, y, -z, w, x, z, y, -x, w), axis=-1).reshape(-1, 4, 4)
    return np.matmul(left, right.transpose(0, 2, 1))[:, 1:, 1:]


def headings(rotation_wxyz: Float64[np.ndarray, "N 4"]) -> Float64[np.ndarray, " N"]:
    """Heading of each box in its frame, in radians, as the devkit's `quaternion_yaw` gives it."""
    yaws = np.empty(len(rotation_wxyz))
    for start in range(0, len(yaws), _BLOCK):
        block = slice(start, start + _BLOCK)
        rotation = rotation_matrices(rotation_wxyz[block])
        yaws[block] = np.arctan2(rotation[:, 1, 0] + 0.0, rotation[:, 0, 0] + 0.0)  # + 0.0: no negative zero
    return yaws
