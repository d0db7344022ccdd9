"""The two inner loops of traffic: how far the road ahead is free, and which rectangles ever overlap."""

import numba
import numpy as np

HORIZON_M = 60.0


@numba.njit(cache=True)
def free_gap(
    points: np.ndarray,
    step_m: float,
    front_m: float,
    half_width_m: float,
    circles: np.ndarray,
    owner: int,
    horizon_m: float,
) -> tuple[float, float]:
    """Free distance ahead of a front bumper along a path, and the speed along the path of what ends it.

    `points` (P, 2) is the path, `circles` (K, 6) rows of x, y, radius, vx, vy, owner index. Rows of `owner` itself are
    ignored. A disc as wide as the vehicle runs along the path until it meets a circle: distance in metres, or
    `horizon_m` when the way is free.
    """
    first = int(front_m / step_m) + 1
    count = int(horizon_m / step_m)
    last = min(first + count, len(points) - 1)
    if first >= last:
        return horizon_m, 0.0
    x0, y0 = points[first]
    best, best_speed = last, 0.0
    for k in range(len(circles)):
        if int(circles[k, 5]) == owner:
            continue
        dx, dy = circles[k, 0] - x0, circles[k, 1] - y0
        reach = half_width_m + circles[k, 2]
        if dx * dx + dy * dy > (horizon_m + reach + 5.0) ** 2:
            continue
        for p in range(first, best):
            ex, ey = circles[k, 0] - points[p, 0], circles[k, 1] - points[p, 1]
            if ex * ex + ey * ey < reach * reach:
                best = p
                tx, ty = points[p + 1, 0] - points[p, 0], points[p + 1, 1] - points[p, 1]
                best_speed = (circles[k, 3] * tx + circles[k, 4] * ty) / step_m
                break
    if best == last:
        return horizon_m, 0.0
    return best * step_m - front_m, best_speed


@numba.njit(cache=True)
def _separated(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether an edge of rectangle a (x, y, yaw, half length, half width) separates it from rectangle b."""
    ca, sa = np.cos(a[2]), np.sin(a[2])
    cb, sb = np.cos(b[2]), np.sin(b[2])
    dx, dy = b[0] - a[0], b[1] - a[1]
    along, across = dx * ca + dy * sa, -dx * sa + dy * ca
    cosine, sine = abs(ca * cb + sa * sb), abs(sa * cb - ca * sb)
    if abs(along) > a[3] + b[3] * cosine + b[4] * sine:
        return True
    return abs(across) > a[4] + b[3] * sine + b[4] * cosine


@numba.njit(cache=True)
def rectangles_overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two rectangles (x, y, yaw, half length, half width) share a point (separating axes)."""
    return not (_separated(a, b) or _separated(b, a))


@numba.njit(cache=True)
def overlapping_pairs(rectangles: np.ndarray, is_present: np.ndarray) -> np.ndarray:
    """Pairs (A, A), true where actors ever overlap. Rectangles (T, A, 5), presence (T, A)."""
    times, actors, _ = rectangles.shape
    out = np.zeros((actors, actors), np.bool_)
    for i in range(actors):
        for j in range(i + 1, actors):
            for t in range(times):
                if not (is_present[t, i] and is_present[t, j]):
                    continue
                a, b = rectangles[t, i], rectangles[t, j]
                reach = np.hypot(a[3], a[4]) + np.hypot(b[3], b[4])
                if (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 < reach * reach and rectangles_overlap(a, b):
                    out[i, j] = out[j, i] = True
                    break
    return out


def footprint_circles(pose: tuple[float, float, float], length_m: float, width_m: float) -> np.ndarray:
    """Circles (K, 3) x, y, radius in a row along the longer side of a rectangle at x, y, yaw."""
    x, y, yaw = pose
    if width_m > length_m:
        length_m, width_m, yaw = width_m, length_m, yaw + np.pi / 2
    radius = width_m / 2
    count = max(1, int(np.ceil(length_m / (1.4 * radius + 0.4))))
    reach = max(length_m / 2 - radius, 0.0)
    along = np.arange(count) * (2 * reach / max(count - 1, 1)) - (reach if count > 1 else 0.0)
    rows = np.empty((count, 3))
    rows[:, 0], rows[:, 1], rows[:, 2] = x + along * np.cos(yaw), y + along * np.sin(yaw), radius
    return rows
