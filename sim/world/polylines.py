"""Plane curves as sampled points: resampling, parallel offsets, strips and smooth joins."""

import numpy as np
import shapely
from jaxtyping import Float
from shapely.geometry import Polygon


def arc_lengths(points: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, " P"]:
    """Distance travelled from the first point to each point, metres."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    return np.concatenate(([0.0], np.cumsum(steps)))


def resample(points: Float[np.ndarray, "P 2"], spacing_m: float) -> Float[np.ndarray, "R 2"]:
    """The same curve with equal steps of at most `spacing_m`; both ends stay."""
    stations = arc_lengths(points)
    count = max(int(np.ceil(stations[-1] / spacing_m - 1e-9)), 1) + 1
    wanted = np.linspace(0.0, stations[-1], count)
    return np.stack([np.interp(wanted, stations, points[:, axis]) for axis in range(2)], axis=1)


def at_stations(points: Float[np.ndarray, "P 2"], stations_m: Float[np.ndarray, " S"]) -> Float[np.ndarray, "S 3"]:
    """x, y, yaw at distances along a curve (clamped to its ends)."""
    own = arc_lengths(points)
    yaws = np.unwrap(headings(points))
    columns = [np.interp(stations_m, own, values) for values in (points[:, 0], points[:, 1], yaws)]
    return np.stack(columns, axis=1)


def cut(points: Float[np.ndarray, "P 2"], start_m: float, end_m: float) -> Float[np.ndarray, "R 2"]:
    """The part of a curve between two distances along it."""
    own = arc_lengths(points)
    start_m, end_m = max(start_m, 0.0), min(end_m, own[-1])
    inside = points[(own > start_m + 1e-6) & (own < end_m - 1e-6)]
    ends = at_stations(points, np.array((start_m, end_m)))[:, :2]
    return np.concatenate((ends[:1], inside, ends[1:]))


def headings(points: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, " P"]:
    """Direction of travel at each point, radians counter-clockwise from x."""
    steps = np.gradient(points, axis=0) if len(points) > 2 else np.repeat(np.diff(points, axis=0), 2, axis=0)
    return np.arctan2(steps[:, 1], steps[:, 0])


def offset(points: Float[np.ndarray, "P 2"], left_m: float) -> Float[np.ndarray, "P 2"]:
    """The parallel curve `left_m` to the left (negative: to the right)."""
    yaws = headings(points)
    return points + left_m * np.stack((-np.sin(yaws), np.cos(yaws)), axis=1)


def strip(points: Float[np.ndarray, "P 2"], left_m: float, right_m: float) -> Polygon:
    """The band between two parallel curves, `left_m` > `right_m`, counter-clockwise."""
    ring = np.concatenate((offset(points, right_m), offset(points, left_m)[::-1]))
    band = Polygon(ring)
    return band if band.is_valid else shapely.make_valid(band).buffer(0)


def clip_to_square(points: Float[np.ndarray, "P 2"], half_m: float) -> Float[np.ndarray, "R 2"]:
    """The longest run of a densely sampled curve inside the square |x|, |y| <= half_m."""
    inside = (np.abs(points) <= half_m + 1e-9).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], inside.astype(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return points[starts[longest] : ends[longest]]


def integrate(curvatures: Float[np.ndarray, " P"], step_m: float, yaw_rad: float) -> Float[np.ndarray, "_ 2"]:
    """The curve that leaves the origin at `yaw_rad` and bends by the given curvature (1/m, left positive) per step."""
    yaws = yaw_rad + np.concatenate(([0.0], np.cumsum(curvatures[:-1] * step_m)))
    middle = yaws + 0.5 * step_m * curvatures
    steps = step_m * np.stack((np.cos(middle), np.sin(middle)), axis=1)
    return np.concatenate((np.zeros((1, 2)), np.cumsum(steps, axis=0)))


def join(start_pose: Float[np.ndarray, " 3"], end_pose: Float[np.ndarray, " 3"], spacing_m: float) -> np.ndarray:
    """A smooth curve (P, 2) from one x, y, yaw to another: straight, nearly circular bend, straight, where that fits.

    The bend is a cubic Bezier with the handles of an arc; poses without a corner between them get one S-shaped Bezier.
    """
    start, end = start_pose[:2], end_pose[:2]
    ahead = np.array((np.cos(start_pose[2]), np.sin(start_pose[2])))
    arriving = np.array((np.cos(end_pose[2]), np.sin(end_pose[2])))
    chord = end - start
    turn = abs((end_pose[2] - start_pose[2] + np.pi) % (2 * np.pi) - np.pi)
    handle = float(np.hypot(*chord)) / 3
    first, last = start, end
    cross = ahead[0] * arriving[1] - ahead[1] * arriving[0]
    if 0.2 < turn < 2.6 and abs(cross) > 1e-6:
        # The tangents meet at a corner; the bend takes the shorter leg on both sides of it, the rest is straight.
        before = (chord[0] * arriving[1] - chord[1] * arriving[0]) / cross
        behind = (chord[1] * ahead[0] - chord[0] * ahead[1]) / cross
        if before > 0 and behind > 0:
            leg = min(before, behind)
            first, last = start + (before - leg) * ahead, end - (behind - leg) * arriving
            handle = float(4 / 3 * np.tan(turn / 4) / np.tan(turn / 2) * leg)
    t = np.linspace(0.0, 1.0, 65)[:, None]
    a, b = first + handle * ahead, last - handle * arriving
    curve = (1 - t) ** 3 * first + 3 * (1 - t) ** 2 * t * a + 3 * (1 - t) * t**2 * b + t**3 * last
    return resample(np.concatenate((start[None], curve, end[None])), spacing_m)
