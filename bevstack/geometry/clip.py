"""Rings and lines cut off at a rectangle that has one corner at the origin.

Rings by Sutherland and Hodgman (Reentrant polygon clipping, CACM 1974), lines by Liang and Barsky (A new concept and
method for line clipping, TOG 1984).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlines:
    """Rings of polygons (the outline, then its holes), or lines, of many shapes, one after the other."""

    points: Float[np.ndarray, "P 2"]
    ring_starts: Int[np.ndarray, " _"]
    """First point of each ring or line, and one end more."""
    shape_starts: Int[np.ndarray, " _"]
    """First ring of each shape, and one end more."""
    bounds: Float[np.ndarray, "N 4"]
    """Of each shape: least x and y, largest x and y."""
    is_closed: bool
    """Rings; else lines."""

    @classmethod
    def of(cls, shapes: Sequence[Sequence[np.ndarray]], bounds: np.ndarray, *, is_closed: bool) -> "Outlines":
        """From the rings of each shape, (P, 2) each."""
        rings = [ring for shape in shapes for ring in shape]
        return cls(
            points=np.concatenate([*rings, np.empty((0, 2))]).astype(np.float64),
            ring_starts=np.cumsum([0, *map(len, rings)]),
            shape_starts=np.cumsum([0, *map(len, shapes)]),
            bounds=bounds,
            is_closed=is_closed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFrame:
    """A rectangle [0, width] x [0, height] and how points reach its coordinates: `points @ matrix + shift`."""

    matrix: Float[np.ndarray, "2 2"]
    shift: Float[np.ndarray, "2"]
    size: tuple[float, float]
    rim: float
    """How far outside an outline in several parts is cut off."""


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


def clip_outlines(
    outlines: Outlines, chosen_bounds: tuple[float, float, float, float], to_local: LocalFrame
) -> tuple[Float[np.ndarray, "Q 2"], Int[np.ndarray, " S"], Int[np.ndarray, " T"]]:
    """What of many outlines lies in a rectangle, in one pass: `clip_ring` and `clip_line` for each that is near.

    A ring that enters the rectangle more than once is cut off `to_local.rim` outside it instead, so that what joins
    its parts lies outside.

    Args:
        outlines: All outlines of a layer.
        chosen_bounds: Least x and y, largest x and y: shapes whose bounds miss this rectangle are left out.
        to_local: Where the rectangle lies.

    Returns:
        Points in the rectangle's own coordinates; where each piece starts among them, and one end more; and at which
        piece each shape starts, and one end more. Shapes of which nothing is left have no pieces, or empty ones.
    """
    return _clip_outlines(
        outlines.points, outlines.ring_starts, outlines.shape_starts, outlines.bounds, outlines.is_closed,
        np.array(chosen_bounds, np.float64), to_local.matrix, to_local.shift, *to_local.size, to_local.rim,
    )  # fmt: skip


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


@numba.njit(nogil=True, cache=True)
@no_type_check
def _clip_outlines(
    points, ring_starts, shape_starts, bounds, is_closed, chosen, matrix, shift, width, height, rim
):  # fmt: skip
    room = 4096
    found = np.empty((room, 2))
    piece_starts = np.empty(len(points) + len(ring_starts) + 1, np.int64)
    shape_pieces = np.empty(len(bounds) + 1, np.int64)
    shape_pieces[0] = 0
    n, pieces, shapes = 0, 0, 0
    for k in range(len(bounds)):
        if bounds[k, 0] > chosen[2] or bounds[k, 1] > chosen[3] or bounds[k, 2] < chosen[0] or bounds[k, 3] < chosen[1]:
            continue
        for r in range(shape_starts[k], shape_starts[k + 1]):
            own = points[ring_starts[r] : ring_starts[r + 1]]
            local = np.empty((len(own), 2))
            for i in range(len(own)):
                for axis in range(2):
                    local[i, axis] = own[i, 0] * matrix[0, axis] + own[i, 1] * matrix[1, axis] + shift[axis]
            if is_closed:
                clipped, entries = _clip_ring(local, width, height)
                if entries > 1:
                    clipped, _ = _clip_ring(local + rim, width + 2 * rim, height + 2 * rim)
                    clipped = clipped - rim
                ends = np.array((0, len(clipped)))
            else:
                clipped, ends = _clip_line(local, width, height)
            while n + len(clipped) > room:
                room *= 2
                larger = np.empty((room, 2))
                larger[:n] = found[:n]
                found = larger
            found[n : n + len(clipped)] = clipped
            for piece in range(len(ends) - 1):
                piece_starts[pieces] = n + ends[piece]
                pieces += 1
            n += len(clipped)
        shapes += 1
        shape_pieces[shapes] = pieces
    piece_starts[pieces] = n
    return found[:n], piece_starts[: pieces + 1], shape_pieces[: shapes + 1]
