"""Occupancy as a LiDAR would see it: intersection over union of the first surface that each ray meets.

`occ/rayiou` (Liu et al., SparseOcc, ECCV 2024, section 5, and the authors' evaluation code). Rays leave up to eight
places of the LiDAR in the same scene, past and future ones, that lie within 39 m along x and y of the present vehicle.
From each go 360 azimuths of one degree at 39 pitch angles: those at which a sensor one metre high meets the ground 1 to
10 m ahead (-45 to -5.7 degrees), then on upwards by the last step until 12.6 degrees: 14,040 rays. (The text of the
paper and comments in its code count 44 pitch angles and 15,840 rays; its code makes 39.) A ray's class is that of the
first voxel that is not free, its depth the way to where it *leaves* that voxel. It is right at 1, 2 or 4 m if the
classes agree and the depths differ by less. IoU = right / (true + predicted - right); RayIoU is the mean over classes
and over the three distances.

Only rays that meet something in the labels count, so what is predicted where nothing is goes unpunished. No mask is
used. Traps: the voxels behind the first surface do not matter, whatever their class; a class that is predicted but
nowhere in the labels counts as zero. Beyond the published rule, a ray does not count if a voxel of unknown label comes
before its first surface, and one that never enters the grid meets nothing (the published code then looks at the corner
of the grid).
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8, UInt16

from bevstack.data.class_names import LIDAR_NAME, OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.data.index import DatasetIndex
from bevstack.evaluation.dense.counted_once import CountedOnce
from bevstack.geometry.transforms import inverse
from bevstack.types.bev import OCC3D_GRID, VoxelGrid
from bevstack.types.frame import OccupancyGrid
from bevstack.types.scene import Occupancy

PROTOCOL = "occ/rayiou"
OTHER_GRID_PROTOCOL = "occ/rayiou-other-grid"
"""The same rays on a grid other than that of Occ3D, on which no published number stands."""

DISTANCES_M = (1.0, 2.0, 4.0)
MAX_ORIGINS, ORIGIN_RANGE_M = 8, 39.0

_FIRST_GROUND_M, _LAST_PITCH_RAD = 10, 0.21
_NUM_AZIMUTHS = 360
_MAX_STEPS = 1000
_TRUE, _PREDICTED, _RIGHT = 0, 1, 2
"""Rows of `RayCounts.rays`; the right ones take one row for each distance."""
_UNKNOWN = 255
_PRECISION = np.float32
"""The published code holds origins, ray ends and depths in single precision, and marches in double."""


@dataclass(frozen=True, slots=True, eq=False)
class RayCounts:
    """How many rays are true, predicted and right; those of any frames add up to those of the set."""

    rays: Int64[np.ndarray, "5 17"]
    """By class, "free" left out: rays of the labels, rays of the prediction, and right ones at 1, 2 and 4 m."""

    @classmethod
    def total(cls, counts: Iterable["RayCounts"]) -> "RayCounts":
        """All together; zero of none."""
        return cls(sum((each.rays for each in counts), np.zeros((_RIGHT + len(DISTANCES_M), OCCUPANCY_FREE), np.int64)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RayScores:
    """The numbers of the protocol; None where nothing could be counted."""

    protocol: str
    num_frames: int
    num_rays: int
    """Rays that meet something in the labels."""
    mean_iou: float | None
    """RayIoU: over its classes that labels or predictions have, and over the distances."""
    mean_iou_of_labelled: float | None
    """Over the classes that the labels have."""
    mean_iou_at: dict[str, float | None]
    """Distance ("1 m") -> mean over the classes."""
    class_iou: dict[str, float | None]
    """Mean over the distances."""
    class_iou_at: dict[str, dict[str, float | None]]
    class_share: dict[str, float]
    """Share of the rays that the labels give the class."""


@functools.cache
def ray_directions() -> Float32[np.ndarray, "R 3"]:
    """Unit vectors of the 14,040 rays of one origin: all azimuths of the lowest pitch first."""
    pitch = [-(np.pi / 2 - np.arctan(ground_m)) for ground_m in range(1, _FIRST_GROUND_M + 1)]
    while pitch[-1] < _LAST_PITCH_RAD:
        pitch.append(pitch[-1] + (pitch[-1] - pitch[-2]))
    up, around = np.meshgrid(pitch, np.deg2rad(np.arange(_NUM_AZIMUTHS)), indexing="ij")
    rays = np.stack((np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)), axis=-1)
    return rays.reshape(-1, 3).astype(np.float32)


def lidar_origins(index: DatasetIndex, sample: int) -> Float64[np.ndarray, "O 3"]:
    """Where the LiDAR was in the key frames of a sample's scene, in the sample's `ego`; up to eight, in time order.

    Places further than 39 m along x or y are left out; of more than eight, eight spread evenly over time are taken.

    Raises:
        CalibrationError: a pose or mounting is not usable.
    """
    scene = index.scene_of_sample(sample)
    samples = range(scene.first_sample, scene.first_sample + scene.num_samples)
    rows = [row for row in (index.key_data_row(each, LIDAR_NAME) for each in samples) if row >= 0]
    own = index.key_data_row(sample, LIDAR_NAME)
    T_ego_lidar = index.T_ego_sensor([own])[0]
    T_lidar_global = inverse(index.T_global_ego([own])[0] @ T_ego_lidar)
    in_lidar = (T_lidar_global @ index.T_global_ego(rows) @ index.T_ego_sensor(rows))[:, :3, 3]
    in_lidar = in_lidar.astype(_PRECISION).astype(np.float64)
    in_lidar[rows.index(own)] = 0.0
    origins = in_lidar @ T_ego_lidar[:3, :3].T + T_ego_lidar[:3, 3]
    near = origins[(np.abs(origins[:, :2]) < ORIGIN_RANGE_M).all(axis=1)]
    if len(near) > MAX_ORIGINS:
        near = near[np.round(np.linspace(0, len(near) - 1, MAX_ORIGINS)).astype(np.int64)]
    return near


def count_rays(prediction: Occupancy, truth: OccupancyGrid, origins: Float64[np.ndarray, "O 3"]) -> RayCounts:
    """March the rays of one frame through labels and prediction at once.

    Args:
        prediction: what the model says.
        truth: the labels, on the same grid.
        origins: places of the LiDAR in `ego`, metres; see `lidar_origins`.

    Raises:
        ValueError: the two lie on different grids, a class is none of `OCCUPANCY_CLASSES`, or an origin is no number.
    """
    grid = truth.grid
    if prediction.grid != grid or prediction.semantics.shape != truth.semantics.shape:
        raise ValueError(
            f"the predicted occupancy {prediction.semantics.shape} on {prediction.grid} does not lie on the grid "
            f"of the true one, {truth.semantics.shape} on {grid}: score it with labels of the model's format"
        )
    origins = np.asarray(origins, np.float64)
    if origins.ndim != 2 or origins.shape[1] != 3 or not np.isfinite(origins).all():
        raise ValueError(f"origins must be finite numbers of shape (O, 3), not {origins.dtype} of {origins.shape}")
    surfaces, wrong = _surfaces(truth.semantics, prediction.semantics)
    if wrong >= 0:
        raise ValueError(f"class {wrong} of a voxel is none of 0 to {OCCUPANCY_FREE}")
    counts = np.zeros((_RIGHT + len(DISTANCES_M), OCCUPANCY_FREE), np.int64)
    for start, ends in rays_in_voxels(grid, origins):
        _march(surfaces, start, ends, np.float32(grid.voxel_m), np.array(DISTANCES_M, np.float32), counts)
    return RayCounts(counts)


def rays_in_voxels(grid: VoxelGrid, origins: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each origin, itself (3) and a point on each ray (R, 3), in voxels from the corner of the grid."""
    low, voxel = np.array(grid.low_m, np.float32), np.float32(grid.voxel_m).astype(np.float64)
    in_voxels = []
    for origin in origins:
        both = ((origin - low) / voxel, (ray_directions() + origin - low) / voxel)
        in_voxels.append((both[0].astype(_PRECISION).astype(np.float64), both[1].astype(_PRECISION).astype(np.float64)))
    return in_voxels


class RayScorer:
    """Takes one frame after the other and keeps a few hundred numbers of each, from which any part can be scored."""

    def __init__(self) -> None:
        self.counts = CountedOnce[RayCounts]()
        """By sample token: sums over any choice of frames (a scene, a bootstrap draw) go to `score`."""
        self._grid: VoxelGrid | None = None

    def add(self, token: str, prediction: Occupancy, truth: OccupancyGrid, origins: np.ndarray) -> None:
        """Count one frame.

        Raises:
            ValueError: as `count_rays`, or the frame was counted already, or lies on another grid than earlier ones.
        """
        self._check_grid(truth.grid)
        self.counts[token] = count_rays(prediction, truth, origins)
        self._grid = truth.grid

    def merge(self, other: "RayScorer") -> None:
        """Count the frames of another scorer too, for example of another process.

        Raises:
            ValueError: it has counted on another grid, or one of the same frames.
        """
        if other._grid is not None:
            self._check_grid(other._grid)
        self.counts.merge(other.counts)
        self._grid = self._grid or other._grid

    def _check_grid(self, grid: VoxelGrid) -> None:
        if self._grid is not None and self._grid != grid:
            raise ValueError(f"frames on {self._grid} and on {grid} have no common score: use one scorer for each")

    @property
    def num_frames(self) -> int:
        """Frames counted so far."""
        return len(self.counts)

    def result(self) -> dict[str, RayScores]:
        """Protocol -> its numbers over all frames so far; empty without a frame."""
        if self._grid is None:
            return {}
        protocol = PROTOCOL if self._grid == OCC3D_GRID else OTHER_GRID_PROTOCOL
        return {protocol: score(RayCounts.total(self.counts.values()), len(self.counts), protocol=protocol)}


def score(counts: RayCounts, num_frames: int, *, protocol: str = PROTOCOL) -> RayScores:
    """The numbers of some frames whose counts were added up."""
    true, predicted, right = counts.rays[_TRUE], counts.rays[_PREDICTED], counts.rays[_RIGHT:]
    union = true + predicted - right
    iou = np.divide(right, union, out=np.full(union.shape, np.nan), where=union > 0)  # (3, 17)
    names = OCCUPANCY_CLASSES[:OCCUPANCY_FREE]
    distances = [f"{distance:g} m" for distance in DISTANCES_M]
    return RayScores(
        protocol=protocol,
        num_frames=num_frames,
        num_rays=int(true.sum()),
        mean_iou=_mean(iou),
        mean_iou_of_labelled=_mean(iou[:, true > 0]),
        mean_iou_at={name: _mean(row) for name, row in zip(distances, iou, strict=True)},
        class_iou={name: _mean(column) for name, column in zip(names, iou.T, strict=True)},
        class_iou_at={
            name: {of_class: _mean(value) for of_class, value in zip(names, row, strict=True)}
            for name, row in zip(distances, iou, strict=True)
        },
        class_share={name: float(count / max(true.sum(), 1)) for name, count in zip(names, true, strict=True)},
    )


def _mean(values: np.ndarray | float) -> float | None:
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _surfaces(
    truth: UInt8[np.ndarray, "X Y Z"], prediction: UInt8[np.ndarray, "X Y Z"]
) -> tuple[UInt16[np.ndarray, "X Y Z"], int]:
    """What `_march` meets in each voxel, and the first impossible class or -1.

    Zero is free in both; else the low byte is the true class + 1 or `_UNKNOWN`, the high byte the predicted class + 1.
    """
    of_class = np.full(256, _UNKNOWN - 1, np.uint16)
    of_class[: OCCUPANCY_FREE + 1] = (*range(1, OCCUPANCY_FREE + 1), 0)
    of_truth = of_class.copy()
    of_truth[OCCUPANCY_IGNORE] = _UNKNOWN
    surfaces = np.empty(truth.shape, np.uint16)
    flat = (np.ascontiguousarray(array).reshape(-1) for array in (truth, prediction))
    return surfaces, int(_join(*flat, of_truth, of_class, surfaces.reshape(-1)))


@numba.njit(cache=True, nogil=True)
@no_type_check
def _join(truth, prediction, of_truth, of_class, surfaces):
    wrong = -1
    for k in range(len(surfaces)):
        low, high = of_truth[truth[k]], of_class[prediction[k]]
        if low == 254:
            wrong = truth[k]
        if high == 254:
            wrong = prediction[k]
        surfaces[k] = low | (high << 8)
    return wrong


@numba.njit(cache=True, nogil=True)
@no_type_check
def _march(surfaces, start, ends, voxel_m, distances_m, counts):
    """Count the rays from `start` through `ends` by what they meet first."""
    for m in range(len(ends)):
        true, true_way, predicted, predicted_way = _first_surfaces(surfaces, start, ends[m])
        if true == 0 or true == _UNKNOWN:
            continue
        counts[_TRUE, true - 1] += 1
        if predicted:
            counts[_PREDICTED, predicted - 1] += 1
        if true == predicted:
            off_m = abs(np.float32(true_way) * voxel_m - np.float32(predicted_way) * voxel_m)
            for k in range(len(distances_m)):
                if off_m < distances_m[k]:
                    counts[_RIGHT + k, true - 1] += 1


@numba.njit(cache=True, nogil=True)
@no_type_check
def _first_surfaces(surfaces, start, end):
    """What a ray meets first in labels and prediction (see `_surfaces`), and how far it is to where it leaves that.

    One walk (Amanatides and Woo, 1987) serves both: the voxels on the way are the same. The order of comparisons and
    sums is that of the published code, since it decides which voxel of an edge comes first.
    """
    size_x, size_y, size_z = surfaces.shape
    rx, ry, rz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    length = np.sqrt(rx * rx + ry * ry + rz * rz)
    x, step_x, next_x, add_x = _axis(start[0], rx / length)
    y, step_y, next_y, add_y = _axis(start[1], ry / length)
    z, step_z, next_z, add_z = _axis(start[2], rz / length)
    was_inside = False
    true = predicted = 0
    true_way = predicted_way = 0.0
    for _ in range(_MAX_STEPS + 1):
        surface = 0
        if 0 <= x < size_x and 0 <= y < size_y and 0 <= z < size_z:
            was_inside = True
            surface = surfaces[x, y, z]
        elif was_inside:
            break
        if next_x < next_y and next_x < next_z:
            way = next_x
            x += step_x
            next_x += add_x
        elif next_y < next_z and not next_x < next_y:
            way = next_y
            y += step_y
            next_y += add_y
        else:
            way = next_z
            z += step_z
            next_z += add_z
        if surface == 0:
            continue
        if true == 0 and surface & 255:
            true, true_way = surface & 255, way
        if predicted == 0 and surface >> 8:
            predicted, predicted_way = surface >> 8, way
        if true and (predicted or true == _UNKNOWN):
            break
    return true, true_way, predicted, predicted_way


@numba.njit(cache=True, nogil=True, inline="always")
@no_type_check
def _axis(start, direction):
    """First voxel along one axis, the way it counts, how far it is to its border and from border to border."""
    voxel, step = int(start), 1 if direction >= 0 else -1
    if direction == 0:
        return voxel, step, np.inf, np.inf
    return voxel, step, (voxel + max(step, 0) - start) / direction, step / direction
