"""What a batch made from the probe says about its path's points: sweeps, times, ego motion, axes, extent, intensity."""

import numpy as np

from bevstack.lint import probe
from bevstack.lint.axes import axes_of
from bevstack.lint.card import Fact, Value
from bevstack.types.batch import Batch
from bevstack.types.frame import PointIndex

_SAME_AGE_S = 0.05
"""How far times may lie from a line through the ages of the sweeps."""
_STANDS_STILL = 0.05
"""Share of the uncompensated way up to which a landmark stands still."""


def measure_lidar(batch: Batch) -> dict[str, Fact | None]:
    """Facts of the LiDAR part of a batch of one frame; the facts are None where it has no LiDAR."""
    names = ("sweep_time_sign", "ego_motion_lidar", "axes_points", "extent", "intensity")
    points = batch.points_ego.numpy()
    if not bool(batch.lidar_mask[0]) or not len(points):
        return {"sweeps": {"count": 0.0}, **dict.fromkeys(names)}
    scale = probe.RANGE_INTENSITY / max(float(points[:, PointIndex.INTENSITY].max()), 1e-9)
    meaning = np.rint(points[:, PointIndex.INTENSITY] * scale).astype(int)
    landmark = (meaning >= probe.LANDMARK_INTENSITY) & (meaning < probe.LANDMARK_INTENSITY + probe.NUM_SWEEPS)
    number = meaning[landmark] - probe.LANDMARK_INTENSITY
    return {
        "sweeps": {
            "count": float(len(np.unique(number))),
            "the vehicle's own returns": "kept" if (meaning == probe.ROOF_INTENSITY).any() else "left out",
        },
        "sweep_time_sign": _times(points[landmark, PointIndex.AGE_S], number),
        "ego_motion_lidar": _ego_motion(points[landmark, :3], number),
        "axes_points": _axes(points[:, :3], meaning),
        "extent": _extent(points[meaning == probe.RANGE_INTENSITY, :3]),
        "intensity": {"intensity up to": probe.RANGE_INTENSITY / scale},
    }


def _times(times: np.ndarray, number: np.ndarray) -> Fact | None:
    """Unit and sign of the time column, and the order of sweeps; None with a single sweep."""
    ages_s = number * probe.SWEEP_US * 1e-6
    if len(np.unique(number)) < 2:
        return None
    slope, offset = np.polyfit(ages_s, times, 1)
    fits = np.abs(slope * ages_s + offset - times).max() < _SAME_AGE_S * max(1.0, abs(slope))
    sign = "past positive" if slope > 0 else "past negative"
    unit = f"{abs(slope):.4g} a second" if abs(abs(slope) - 1) > 0.01 else "seconds"
    if not fits or abs(slope) < 1e-6:
        sign, unit = "not the age of the sweep", "none"
    steps = np.diff(number)
    order = "newest first" if (steps >= 0).all() else "oldest first" if (steps <= 0).all() else "mixed"
    return {"sign": sign, "unit": unit, "time of the key sweep": float(np.round(offset, 3)), "order": order}


def _ego_motion(places: np.ndarray, number: np.ndarray) -> Fact | None:
    """How far a landmark that stands still moves between sweeps, against what it would without compensation."""
    old = number > 0
    if not old.any() or not (~old).any():
        return None
    newest = places[~old][0]
    expected = np.array([_uncompensated_m(int(k)) for k in number[old]])
    share = float(np.median(np.linalg.norm(places[old] - newest, axis=1) / expected))
    if share < _STANDS_STILL:
        return {"LiDAR": "compensated"}
    return {"LiDAR": "not compensated" if abs(share - 1) < 0.1 else f"wrong by {share:.2f} of the vehicle's way"}


def _uncompensated_m(number: int) -> float:
    age_s = number * probe.SWEEP_US * 1e-6
    T_then_now = np.linalg.inv(probe.T_global_ego_at(age_s)) @ probe.T_global_ego_at(0.0)
    there = T_then_now[:3, :3] @ probe.LANDMARK_EGO + T_then_now[:3, 3]
    return float(np.linalg.norm(there - probe.LANDMARK_EGO))


def _axes(places: np.ndarray, meaning: np.ndarray) -> Fact | None:
    rows = [np.flatnonzero(meaning == intensity) for intensity in probe.MARKER_INTENSITY]
    present = [k for k, found in enumerate(rows) if len(found) == 1]
    if len(present) < 4:
        return None
    measured = np.array([places[rows[k][0]] for k in present])
    return {"points": axes_of(probe.MARKERS_EGO[present], measured)}


def _extent(places: np.ndarray) -> Fact:
    """The farthest returns along each axis that reach the model, of those every five metres up to 120 m."""
    values: dict[str, Value] = {}
    for axis, letter in enumerate("xy"):
        along = places[:, axis] if len(places) else np.zeros(1)
        values[f"points in {letter}"] = f"{along.min():.0f} to {along.max():.0f} m"
    return values
