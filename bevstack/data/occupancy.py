"""Occupancy labels of a key frame, read into one `OccupancyGrid` in `ego` whatever their format.

Occ3D (Tian et al., NeurIPS 2023, nuScenes part): `gts/SCENE/SAMPLE_TOKEN/labels.npz` with `semantics` (0 to 16, 17 is
free), `mask_lidar` and `mask_camera`, each (200, 200, 16) over `OCC3D_GRID`, already in `ego`.

OpenOccupancy (Wang et al., ICCV 2023): `nuScenes-Occupancy-v0.1/scene_SCENE_TOKEN/occupancy/LIDAR_TOKEN.npy`, a row
for each occupied voxel: indices along z, y and x, then (in some releases) a velocity, then the class. The grid lies in
the frame of the *LiDAR*, whose x points to the right and which is tilted by a degree or so. Class 0 is noise. Here the
labels are moved to `OPENOCCUPANCY_GRID`: each of its voxels takes the label at its centre. `openoccupancy_in_lidar`
goes back, for scoring where the benchmark scores. With an upright LiDAR that gives every label back but those of the
last metre ahead, which `OPENOCCUPANCY_GRID` does not reach (1.5 % of the occupied voxels of a world); the tilt of a
real vehicle's LiDAR loses 2 % more. No prediction that goes through `ego` can do better.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Literal, no_type_check

import numba
import numpy as np
from jaxtyping import Float, UInt8

from bevstack.data.class_names import OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.geometry.transforms import inverse
from bevstack.geometry.voxels import resample_nearest
from bevstack.types.bev import OCC3D_GRID, OPENOCCUPANCY_GRID, VoxelGrid
from bevstack.types.errors import DatasetError
from bevstack.types.frame import OccupancyGrid

OccupancyFormat = Literal["occ3d", "openoccupancy"]
OCCUPANCY_FORMATS: tuple[OccupancyFormat, ...] = ("occ3d", "openoccupancy")

OPENOCCUPANCY_FOLDER = "nuScenes-Occupancy-v0.1"
OPENOCCUPANCY_LIDAR_GRID = VoxelGrid(
    x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), z_range_m=(-5.0, 3.0), voxel_m=0.2
)
"""The grid of the files, in the frame of LIDAR_TOP (x right, y forward, z up)."""

_NOISE = 0
_BEYOND = 254
"""Where the file does not reach, while its labels are moved."""
_OCC3D_ARRAYS = ("semantics", "mask_camera", "mask_lidar")


def occupancy_path(
    layout: OccupancyFormat, *, scene_name: str, scene_token: str, sample_token: str, lidar_token: str
) -> str:
    """Where the labels of a key frame are, below the root of the data set; `lidar_token` is that of its LIDAR_TOP."""
    if layout == "occ3d":
        return f"gts/{scene_name}/{sample_token}/labels.npz"
    return f"{OPENOCCUPANCY_FOLDER}/scene_{scene_token}/occupancy/{lidar_token}.npy"


def read_occupancy(
    path: Path, layout: OccupancyFormat, *, sample_token: str, T_ego_lidar: Float[np.ndarray, "4 4"]
) -> OccupancyGrid:
    """The labels of one key frame in `ego`.

    Args:
        path: the file.
        layout: what kind of file it is.
        sample_token: for messages.
        T_ego_lidar: mounting of the LiDAR; Occ3D does not need it.

    Raises:
        DatasetError: the file is missing, cut short, of another shape, holds unknown classes, or says nothing at all.
    """
    if layout == "occ3d":
        grid = _read_occ3d(path, sample_token)
    else:
        grid = _read_openoccupancy(path, sample_token, T_ego_lidar)
    parts = (grid.semantics, grid.camera_mask, grid.lidar_mask)
    if not _says_anything(*(part.reshape(-1) for part in parts), OCCUPANCY_IGNORE):
        raise _damaged(path, sample_token, "no voxel has a label")
    return grid


def read_openoccupancy(path: Path, *, sample_token: str) -> OccupancyGrid:
    """OpenOccupancy labels as they are in the file: on `OPENOCCUPANCY_LIDAR_GRID`, in the frame of the LiDAR.

    The benchmark scores here. Everything else in the stack lives in `ego`: see `read_occupancy`.

    Raises:
        DatasetError: the file is missing, cut short, or holds unknown classes or places.
    """
    semantics = _dense(_read_rows(path, sample_token), path, sample_token)
    everywhere = np.ones(semantics.shape, bool)
    return OccupancyGrid(
        semantics=semantics, camera_mask=everywhere, lidar_mask=everywhere, grid=OPENOCCUPANCY_LIDAR_GRID
    )


def openoccupancy_in_lidar(
    semantics: UInt8[np.ndarray, "X Y Z"], T_ego_lidar: Float[np.ndarray, "4 4"], *, outside: int = OCCUPANCY_FREE
) -> UInt8[np.ndarray, "X Y Z"]:
    """Classes on `OPENOCCUPANCY_GRID` moved back to the benchmark's own grid in the LiDAR frame.

    Args:
        semantics: labels or predictions in `ego`.
        T_ego_lidar: as it was for reading.
        outside: class of voxels that the grid in `ego` does not reach (a metre at the front end).
    """
    return resample_nearest([semantics], OPENOCCUPANCY_GRID, OPENOCCUPANCY_LIDAR_GRID, T_ego_lidar, [outside])[0]


def _read_occ3d(path: Path, sample_token: str) -> OccupancyGrid:
    try:
        with np.load(path) as archive:
            semantics, camera_mask, lidar_mask = (archive[name] for name in _OCC3D_ARRAYS)
    except FileNotFoundError as error:
        raise DatasetError(f"sample {sample_token}: {path} is missing: unpack gts.tar.gz of Occ3D-nuScenes") from error
    except KeyError as error:
        raise _damaged(path, sample_token, f"there is no array {error}") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, sample_token, f"it is no complete archive ({error})") from error
    for name, array in zip(_OCC3D_ARRAYS, (semantics, camera_mask, lidar_mask), strict=True):
        if array.shape != OCC3D_GRID.shape_xyz or array.dtype.kind not in "ui":
            raise _damaged(path, sample_token, f"{name} is {array.dtype} of shape {array.shape}")
    unknown = _unknown_class(semantics.reshape(-1), OCCUPANCY_FREE, OCCUPANCY_IGNORE)
    if unknown >= 0:
        raise _damaged(path, sample_token, f"class {unknown} is none of 0 to {OCCUPANCY_FREE}")
    semantics = semantics.astype(np.uint8, copy=False)
    return OccupancyGrid(
        semantics=semantics, camera_mask=camera_mask.astype(bool), lidar_mask=lidar_mask.astype(bool), grid=OCC3D_GRID
    )


def _read_openoccupancy(path: Path, sample_token: str, T_ego_lidar: np.ndarray) -> OccupancyGrid:
    in_lidar = _dense(_read_rows(path, sample_token), path, sample_token)
    T_lidar_ego = inverse(T_ego_lidar)
    (semantics,) = resample_nearest([in_lidar], OPENOCCUPANCY_LIDAR_GRID, OPENOCCUPANCY_GRID, T_lidar_ego, [_BEYOND])
    mask = semantics != _BEYOND
    semantics[~mask] = OCCUPANCY_IGNORE
    return OccupancyGrid(semantics=semantics, camera_mask=mask, lidar_mask=mask, grid=OPENOCCUPANCY_GRID)


def _read_rows(path: Path, sample_token: str) -> np.ndarray:
    """(N, 4) or (N, 7) numbers of a file."""
    try:
        rows = np.load(path)
    except FileNotFoundError as error:
        raise DatasetError(
            f"sample {sample_token}: {path} is missing: unpack nuScenes-Occupancy-v0.1.7z beside samples/"
        ) from error
    except (OSError, EOFError, ValueError) as error:
        raise _damaged(path, sample_token, f"it is no complete array ({error})") from error
    if not len(rows):
        raise _damaged(path, sample_token, "it lists no voxel")
    if rows.ndim != 2 or rows.shape[1] not in (4, 7) or rows.dtype.kind not in "uif":
        raise _damaged(path, sample_token, f"rows of 4 or 7 numbers are needed, not {rows.dtype} of {rows.shape}")
    return rows


def _dense(rows: np.ndarray, path: Path, sample_token: str) -> np.ndarray:
    """Classes on the grid of the file; where a voxel is listed twice, the later row counts."""
    z, y, x = (rows[:, column].astype(np.int64) for column in range(3))
    label = rows[:, -1].astype(np.int64)
    for axis, index, size in zip("xyz", (x, y, z), OPENOCCUPANCY_LIDAR_GRID.shape_xyz, strict=True):
        if index.min() < 0 or index.max() >= size:
            found = f"{index.min()} to {index.max()}"
            raise _damaged(path, sample_token, f"indices along {axis} run from {found}, outside of 0 to {size - 1}")
    if label.min() < 0 or label.max() >= OCCUPANCY_FREE:
        raise _damaged(path, sample_token, f"classes run from {label.min()} to {label.max()}, not within 0 to 16")
    dense = np.full(OPENOCCUPANCY_LIDAR_GRID.shape_xyz, OCCUPANCY_FREE, np.uint8)
    dense[x, y, z] = np.where(label == _NOISE, OCCUPANCY_IGNORE, label)
    return dense


@numba.njit(nogil=True, cache=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _says_anything(semantics: np.ndarray, camera_mask: np.ndarray, lidar_mask: np.ndarray, ignore: int) -> bool:
    """Whether any observed voxel has a class; in most files one of the first."""
    for k in range(len(semantics)):  # noqa: SIM110 - generators cannot be compiled
        if semantics[k] != ignore and (camera_mask[k] or lidar_mask[k]):
            return True
    return False


@numba.njit(nogil=True, cache=True)
@no_type_check
def _unknown_class(semantics: np.ndarray, last: int, ignore: int) -> int:
    """A label above the last class that is not the ignored one; -1 where there is none."""
    found = -1
    for k in range(len(semantics)):
        label = semantics[k]
        if label > last and label != ignore:
            found = label
    return found


def _damaged(path: Path, sample_token: str, what: str) -> DatasetError:
    return DatasetError(f"sample {sample_token}: {path} is damaged, {what}: unpack this file again")
