"""Pairs of annotated and predicted boxes that may match, with the distances that the official code computes.

The devkit takes distances from scikit-learn as sqrt(|x|^2 - 2 x.y + |y|^2), and x.y from BLAS. With coordinates of a
kilometre in the squares, this leaves errors of 1e-10 m^2: a prediction exactly on its object is up to 2e-5 m away. To
be equal in MOTP to the last digits, each product is rounded as BLAS does here; how, depends on the shape of the matrix,
and so each pair has a distance for each kind of shape.
"""

from functools import cache

import numba
import numpy as np
from jaxtyping import Float64, Int64

from bevstack.evaluation.detection.devkit_arithmetic import FUSED_FIRST, FUSED_SECOND, PLAIN, planar_product
from bevstack.evaluation.tracking.rules import MATCH_DISTANCE_M

ONE_BY_ONE, ONE_BY_MANY, MANY_BY_MANY = 0, 1, 2
"""Kinds of matrices: how many objects and boxes a frame has."""
_SHAPES = {ONE_BY_ONE: ((1, 1),), ONE_BY_MANY: ((1, 2), (2, 1), (1, 9), (9, 1)), MANY_BY_MANY: ((2, 2), (3, 7), (9, 5))}
_MARGIN_M = 0.01
"""How much farther than the matching distance the rough test reaches, for the sake of rounding."""
_TRIALS = 64


@cache
def product_roundings() -> Int64[np.ndarray, " 3"]:
    """How BLAS rounds x.y in each kind of matrix on this machine; the way that fits best where none fits always."""
    rng = np.random.default_rng(0)
    found = np.full(len(_SHAPES), FUSED_SECOND)
    for kind, shapes in _SHAPES.items():
        equal = {rounding: 0 for rounding in (FUSED_SECOND, FUSED_FIRST, PLAIN)}
        for rows, columns in shapes * _TRIALS:
            x, y = rng.uniform(0, 2000, (rows, 2)), rng.uniform(0, 2000, (columns, 2))
            expected = x @ y.T
            for rounding in equal:
                equal[rounding] += int((_products(x, y, rounding) == expected).sum())
        found[kind] = max(equal, key=lambda rounding: equal[rounding])
    return found


@numba.njit(cache=True, nogil=True)
def _products(x, y, rounding):  # type: ignore[no-untyped-def]
    products = np.empty((len(x), len(y)))
    for i in range(len(x)):
        for j in range(len(y)):
            products[i, j] = planar_product(x[i, 0], x[i, 1], y[j, 0], y[j, 1], rounding)
    return products


def near_pairs(
    truth_first: Int64[np.ndarray, " F+1"],
    truth_xy: Float64[np.ndarray, "N 2"],
    first: Int64[np.ndarray, " F+1"],
    xy: Float64[np.ndarray, "P 2"],
) -> tuple[Int64[np.ndarray, " N+1"], Int64[np.ndarray, " E"], Float64[np.ndarray, "E 3"]]:
    """Pairs of one frame that are close to each other.

    Args:
        truth_first: Objects of frame f are rows `truth_first[f]` to `truth_first[f + 1] - 1`.
        truth_xy: Their centres on the ground.
        first: The same for predicted boxes.
        xy: Their centres.

    Returns:
        Where the pairs of each object begin, the box of each pair (ascending), and its distances by kind of matrix.
    """
    reach = MATCH_DISTANCE_M + _MARGIN_M
    return _near_pairs(truth_first, truth_xy, first, xy, reach, product_roundings())


@numba.njit(cache=True, nogil=True)
def _near_pairs(truth_first, truth_xy, first, xy, reach, roundings):  # type: ignore[no-untyped-def]
    starts = np.zeros(len(truth_xy) + 1, np.int64)
    for frame in range(len(first) - 1):
        for row in range(truth_first[frame], truth_first[frame + 1]):
            count = 0
            for box in range(first[frame], first[frame + 1]):
                near_x = abs(truth_xy[row, 0] - xy[box, 0]) < reach
                count += near_x and abs(truth_xy[row, 1] - xy[box, 1]) < reach
            starts[row + 1] = starts[row] + count
    boxes, distances = np.empty(starts[-1], np.int64), np.empty((starts[-1], len(roundings)))
    for frame in range(len(first) - 1):
        for row in range(truth_first[frame], truth_first[frame + 1]):
            pair = starts[row]
            for box in range(first[frame], first[frame + 1]):
                near_x = abs(truth_xy[row, 0] - xy[box, 0]) < reach
                if near_x and abs(truth_xy[row, 1] - xy[box, 1]) < reach:
                    boxes[pair] = box
                    for kind in range(len(roundings)):
                        distances[pair, kind] = _distance(truth_xy[row], xy[box], roundings[kind])
                    pair += 1
    return starts, boxes, distances


@numba.njit(cache=True, nogil=True)
def _distance(x, y, rounding):  # type: ignore[no-untyped-def]
    squared = -2 * planar_product(x[0], x[1], y[0], y[1], rounding)
    squared += x[0] * x[0] + x[1] * x[1]
    squared += y[0] * y[0] + y[1] * y[1]
    return np.sqrt(max(squared, 0.0))
