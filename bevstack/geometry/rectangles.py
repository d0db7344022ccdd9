"""Turned rectangles on the ground, rows of centre x, y, length, width, heading: which of them touch.

A kernel for numba, to be called from others: it takes float64 rows.
"""

from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def rectangles_touch(a: np.ndarray, b: np.ndarray) -> bool:
    """Separating axes: two rectangles are apart if and only if they are along a side of one of them."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    reach = 0.5 * (np.hypot(a[2], a[3]) + np.hypot(b[2], b[3]))
    if dx * dx + dy * dy > reach * reach:
        return False
    turn_cos, turn_sin = abs(np.cos(b[4] - a[4])), abs(np.sin(b[4] - a[4]))
    for own, other in ((a, b), (b, a)):
        c, s = np.cos(own[4]), np.sin(own[4])
        along, across = abs(dx * c + dy * s), abs(dy * c - dx * s)
        if along > 0.5 * (own[2] + other[2] * turn_cos + other[3] * turn_sin):
            return False
        if across > 0.5 * (own[3] + other[2] * turn_sin + other[3] * turn_cos):
            return False
    return True
