"""LiDAR files and the accumulation of sweeps into one cloud in `ego` at reference time.

Raw points are in the sensor's own frame (nuScenes' LIDAR_TOP: x right, y forward, z up) and stay in this module: what
leaves it has gone through `T_ego_lidar`. The accumulation follows nuScenes (Caesar et al., CVPR 2020, and its
development kit's `from_file_multisweep`): returns from the vehicle itself are cut by a square around the sensor, then
each sweep is moved by the ego motion since it was taken. Here it is one pass from file buffer to result.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float, Float32

from bevstack.types.errors import DatasetError
from bevstack.types.frame import POINT_COLUMNS

FILE_COLUMNS = 5
"""x, y, z in metres, intensity 0 to 255, ring index: float32, as nuScenes stores a sweep."""

_ROW_BYTES = 4 * FILE_COLUMNS
_LOG = logging.getLogger(__name__)


def read_points(path: Path | str) -> Float32[np.ndarray, "M 5"]:
    """Points of one sweep in the raw sensor frame: x, y, z (metres), intensity (0 to 255), ring. May be empty.

    Rows without a finite position and intensity (some drivers write NaN for "no return") are left out and counted in
    the log.

    Raises:
        DatasetError: the file is missing, unreadable, or does not hold whole rows of five float32.
    """
    raw = read_rows(path)
    usable = np.isfinite(raw[:, :4]).all(axis=1)
    if usable.all():
        return raw
    _report_dropped(path, len(raw) - int(usable.sum()), len(raw))
    return raw[usable]


def read_rows(path: Path | str) -> Float32[np.ndarray, "M 5"]:
    """All rows of a sweep as they are, also those that are not finite: row i is the point that label i is about.

    Raises:
        DatasetError: as for `read_points`.
    """
    raw = np.empty((_row_count(path), FILE_COLUMNS), np.float32)
    _read_into(path, raw)
    return raw


def accumulate_sweeps(
    paths: Sequence[Path | str],
    T_ego_lidar: Float[np.ndarray, "S 4 4"],
    ages_s: Float[np.ndarray, " S"],
    min_distance_m: float = 1.0,
) -> Float32[np.ndarray, "M 5"]:
    """Points of several sweeps in `ego` at reference time, columns as in `PointIndex`, in the order of `paths`.

    Args:
        paths: sweep files, the key sweep first by custom.
        T_ego_lidar: for each sweep, its raw sensor frame (at its own time) -> `ego` at reference time; ego motion is
            included.
        ages_s: for each sweep, reference time minus sweep time in seconds.
        min_distance_m: half side of the square around the sensor whose returns are the vehicle's own.

    Raises:
        DatasetError: a file is missing or damaged.
        ValueError: the numbers of paths, transforms and ages differ, or a transform or age is not finite.
    """
    transforms, ages = _checked(len(paths), T_ego_lidar, ages_s)
    counts = [_row_count(path) for path in paths]
    scratch = np.empty((max(counts, default=0), FILE_COLUMNS), np.float32)  # reused: fresh pages cost as much as reads
    out = np.empty((sum(counts), POINT_COLUMNS), np.float32)
    used = 0
    for path, count, T_moved, age_s in zip(paths, counts, transforms, ages, strict=True):
        _read_into(path, scratch[:count])
        used, dropped = _append_moved(scratch[:count], T_moved, float(age_s), float(min_distance_m), out, used)
        if dropped:
            _report_dropped(path, dropped, count)
    return out[:used]


def accumulate_points(
    sweeps: Sequence[Float32[np.ndarray, "_ 5"]],
    T_ego_lidar: Float[np.ndarray, "S 4 4"],
    ages_s: Float[np.ndarray, " S"],
    min_distance_m: float = 1.0,
) -> Float32[np.ndarray, "M 5"]:
    """As `accumulate_sweeps`, of raw points that are at hand already.

    Raises:
        ValueError: as for `accumulate_sweeps`.
    """
    transforms, ages = _checked(len(sweeps), T_ego_lidar, ages_s)
    out = np.empty((sum(map(len, sweeps)), POINT_COLUMNS), np.float32)
    used = 0
    for raw, T_moved, age_s in zip(sweeps, transforms, ages, strict=True):
        used, _ = _append_moved(raw, T_moved, float(age_s), float(min_distance_m), out, used)
    return out[:used]


def _checked(count: int, T_ego_lidar: np.ndarray, ages_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transforms and ages in double precision, one per sweep and finite."""
    if not count == len(T_ego_lidar) == len(ages_s):
        raise ValueError(f"{count} sweeps need as many transforms and ages: {len(T_ego_lidar)}, {len(ages_s)}")
    transforms, ages = np.asarray(T_ego_lidar, np.float64), np.asarray(ages_s, np.float64)
    if not (np.isfinite(transforms).all() and np.isfinite(ages).all()):
        raise ValueError("a sweep's T_ego_lidar or age is not finite: its ego pose or calibration is damaged")
    return transforms, ages


@numba.njit(nogil=True, cache=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _append_moved(
    raw: np.ndarray, T_moved: np.ndarray, age: float, min_distance: float, out: np.ndarray, used: int
) -> tuple[int, int]:
    """Move the usable rows of `raw` to `out[used:]`; (rows used afterwards, rows that were not finite)."""
    dropped = 0
    for i in range(len(raw)):
        x, y, z, intensity = raw[i, 0], raw[i, 1], raw[i, 2], raw[i, 3]
        if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z) and np.isfinite(intensity)):
            dropped += 1
            continue
        if abs(x) < min_distance and abs(y) < min_distance:
            continue
        out[used, 0] = T_moved[0, 0] * x + T_moved[0, 1] * y + T_moved[0, 2] * z + T_moved[0, 3]
        out[used, 1] = T_moved[1, 0] * x + T_moved[1, 1] * y + T_moved[1, 2] * z + T_moved[1, 3]
        out[used, 2] = T_moved[2, 0] * x + T_moved[2, 1] * y + T_moved[2, 2] * z + T_moved[2, 3]
        out[used, 3] = intensity
        out[used, 4] = age
        used += 1
    return used, dropped


def _row_count(path: Path | str) -> int:
    try:
        num_bytes = Path(path).stat().st_size
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; extract the archive that holds this sweep again") from error
    if num_bytes % _ROW_BYTES:
        raise DatasetError(
            f"{path}: {num_bytes} bytes are not whole points of {_ROW_BYTES} bytes (5 x float32): "
            "the file is truncated or of another format; fetch this file again"
        )
    return num_bytes // _ROW_BYTES


def _read_into(path: Path | str, rows: np.ndarray) -> None:
    """Fill `rows` from the file."""
    try:
        with open(path, "rb", buffering=0) as file:
            num_read = file.readinto(rows.data.cast("B")) if rows.size else 0
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; extract the archive that holds this sweep again") from error
    if num_read != rows.nbytes:
        raise DatasetError(f"{path}: {num_read} of {rows.nbytes} bytes could be read: fetch this file again")


def _report_dropped(path: Path | str, dropped: int, count: int) -> None:
    _LOG.warning("%s: %d of %d points are not finite and were left out", path, dropped, count)
