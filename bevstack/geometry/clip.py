"""Rings and lines cut off at a rectangle that has one corner at the origin.

Rings by Sutherland and Hodgman (Reentrant polygon clipping, CACM 1974), lines by Liang and Barsky (A new concept and
method for line clipping, TOG 1984).
"""

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float


def clip_ring(ring: Float[np.ndarray, "P 2"], width: float, height: float) -> tuple[Float[np.ndarray, "Q 2"], int]:
    """What of a ring's inside lies in [0, width] x [0, height], and how often its outline enters the rectangle.

    With more than one entry the inside may fall into parts, which the returned ring joins along the rim of the
    rectangle: right as an area, wrong as an outline.

    Args:
        ring: Corners (x, y); the last may or may not repeat the first.
        width: Extent of the rectangle along x.
        height: Extent of the rectangle along y.
    """
    return _clip_ring(np.ascontiguousarray(ring, np.float64), float(width), float(height))


def clip_line(line: Float[np.ndarray, "P 2"], width: float, height: float) -> list[Float[np.ndarray, "_ 2"]]:
    """The pieces of a polyline that lie in [0, width] x [0, height], in order; a mere touch is not a piece."""
    points, starts = _clip_line(np.ascontiguousarray(line, np.float64), float(width), float(height))
    return [points[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]


@numba.njit(nogil=True, cache=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _visible_share(ax, ay, bx, by, width, height):
    """The part of a segment inside the rectangle, as shares (from, to) of its length; from > to where there is none."""
    first, last = 0.0, 1.0
    for step, to_low, to_high in ((bx - ax, -ax, width - ax), (by - ay, -ay, height - ay)):
        if step == 0.0:
            if to_low > 0.0 or to_high < 0.0:
                return 1.0, 0.0
            continue
        enter, leave = to_low / step, to_high / step
        if enter > leave:
            enter, leave = leave, enter
        first, last = max(first, enter), min(last, leave)
    return first, last


@numba.njit(nogil=True, cache=True)
@no_type_check
def _clip_ring(ring, width, height):
    count = len(ring)
    entries = 0
    for i in range(count):
        j = (i + 1) % count
        first, last = _visible_share(ring[i, 0], ring[i, 1], ring[j, 0], ring[j, 1], width, height)
        if 0.0 < first < last:
            entries += 1
    points = ring
    for axis in range(2):
        for limit, sign in ((0.0, 1.0), (width if axis == 0 else height, -1.0)):
            kept = np.empty((2 * len(points), 2))
            n = 0
            for i in range(len(points)):
                a, b = points[i - 1], points[i]
                depth_a, depth_b = sign * (a[axis] - limit), sign * (b[axis] - limit)
                if (depth_a < 0.0) != (depth_b < 0.0):
                    share = depth_a / (depth_a - depth_b)
                    kept[n, axis] = limit
                    kept[n, 1 - axis] = a[1 - axis] + share * (b[1 - axis] - a[1 - axis])
                    n += 1
                if depth_b >= 0.0:
                    kept[n] = b
                    n += 1
            points = kept[:n]
    return points, entries


@numba.njit(nogil=True, cache=True)
@no_type_check
def _clip_line(line, width, height):
    points = np.empty((2 * len(line), 2))
    starts = np.empty(len(line) + 1, np.int64)
    n, pieces = 0, 0
    is_open = False
    for i in range(len(line) - 1):
        a, b = line[i], line[i + 1]
        first, last = _visible_share(a[0], a[1], b[0], b[1], width, height)
        if first >= last:
            is_open = False
            continue
        if not is_open or first > 0.0:
            starts[pieces] = n
            pieces += 1
            points[n] = a + first * (b - a)
            n += 1
        points[n] = b if last == 1.0 else a + last * (b - a)
        n += 1
        is_open = last == 1.0
    starts[pieces] = n
    return points[:n], starts[: pieces + 1]
