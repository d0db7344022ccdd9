"""Annotated objects of a data set, cut out one by one: their points, their image patches, their voxels.

What ground-truth paste draws from (`object_paste`). A folder of `.npy` columns and a `manifest.json`, written by
`object_database_build`; columns are memory maps, so opening costs nothing, workers share the pages, and what is not
drawn is not read. Rows that belong to an object lie together: `point_first[i]` to `point_first[i + 1]` of `points`,
and likewise `patch_first` and `voxel_first`.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from jaxtyping import Float, Float32, Float64, Int64, UInt8

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.types.errors import DatasetError

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"

COLUMNS: dict[str, tuple[type, tuple[int, ...]]] = {
    "box": (np.float32, (9,)),
    "class_index": (np.int8, ()),
    "attribute_index": (np.int8, ()),
    "visibility": (np.int8, ()),
    "num_points": (np.int32, ()),
    "num_radar_points": (np.int32, ()),
    "point_first": (np.int64, ()),
    "points": (np.float32, (5,)),
    "patch_first": (np.int64, ()),
    "patch_camera": (np.int8, ()),
    "patch_corner": (np.float32, (2,)),
    "patch_K": (np.float64, (3, 3)),
    "patch_pose": (np.float64, (4, 4)),
    "patch_jpeg_first": (np.int64, ()),
    "patch_jpeg": (np.uint8, ()),
    "voxel_first": (np.int64, ()),
    "voxels": (np.float32, (3,)),
}
"""Every column with its type and the shape of one row. The `..._first` columns have one row more than what they count;
`num_points` is the data set's own count, of the key sweep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePatch:
    """What one camera saw of an object."""

    camera: str
    rgb: UInt8[np.ndarray, "h w 3"]
    corner_px: Float[np.ndarray, "2"]
    """(u, v) of the patch's top-left pixel in the picture that it was cut from."""
    K_cam: Float64[np.ndarray, "3 3"]
    """Camera matrix of that picture."""
    T_ego_cam: Float64[np.ndarray, "4 4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseObject:
    """One object where it stood: `ego` is that of the frame that it was cut from."""

    row: int
    """Position in the database."""
    box: Float32[np.ndarray, "9"]
    """In `ego`."""
    class_index: int
    attribute_index: int
    visibility: int
    num_lidar_points: int
    num_radar_points: int
    points_box: Float32[np.ndarray, "M 5"]
    """Accumulated points in the frame of the box (centre; x along the heading, z up), columns as in `PointIndex`."""
    patches: tuple[ImagePatch, ...]
    voxels_box: Float32[np.ndarray, "V 3"]
    """Centres of the occupancy voxels of its class, in the frame of the box."""
    voxel_m: float
    """Side of those voxels; 0 where the data set had no occupancy labels."""


class ObjectDatabase:
    """Read access to the objects in one folder.

    Args:
        path: the folder that `bevstack data objects` made.

    Raises:
        DatasetError: there is no database, it is of another version, or a column is missing or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = _read_manifest(self.path)
        self._columns = {name: _open_column(self.path, name, self.manifest) for name in COLUMNS}

    def __reduce__(self) -> tuple[type["ObjectDatabase"], tuple[Path]]:
        return ObjectDatabase, (self.path,)  # workers open the same pages instead of receiving copies

    def __len__(self) -> int:
        return len(self._columns["class_index"])

    def __getitem__(self, row: int) -> DatabaseObject:
        """Object `row`, read now.

        Raises:
            IndexError: there is no such row.
            DatasetError: its picture is damaged.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"object {row} of {len(self)} in {self.path}")
        column, patches = self._columns, self._part("patch_first", row)
        return DatabaseObject(
            row=row,
            box=np.array(column["box"][row]),
            class_index=int(column["class_index"][row]),
            attribute_index=int(column["attribute_index"][row]),
            visibility=int(column["visibility"][row]),
            num_lidar_points=int(column["num_points"][row]),
            num_radar_points=int(column["num_radar_points"][row]),
            points_box=np.array(column["points"][self._part("point_first", row)]),
            patches=tuple(self._patch(patch) for patch in range(patches.start, patches.stop)),
            voxels_box=np.array(column["voxels"][self._part("voxel_first", row)]),
            voxel_m=float(self.manifest["voxel_m"]),
        )

    @property
    def data_hash(self) -> str:
        """SHA-256 of the tables that the objects come from."""
        return self.manifest["data_sha256"]

    @cached_property
    def num_points(self) -> Int64[np.ndarray, " N"]:
        """Accumulated points of each object."""
        return np.diff(self._columns["point_first"])

    @cached_property
    def class_index(self) -> Int64[np.ndarray, " N"]:
        """Class of each object."""
        return np.asarray(self._columns["class_index"], np.int64)

    def box(self, row: int) -> Float32[np.ndarray, "9"]:
        """Box of an object in `ego`, without reading the rest of it."""
        return np.array(self._columns["box"][row])

    def rows_of_class(self, class_index: int, min_points: int = 0) -> Int64[np.ndarray, " R"]:
        """The objects of a class that have at least so many accumulated points."""
        return np.flatnonzero((self.class_index == class_index) & (self.num_points >= min_points))

    def class_counts(self) -> dict[str, int]:
        """Objects of each class."""
        counts = np.bincount(self.class_index, minlength=len(DETECTION_CLASSES))
        return dict(zip(DETECTION_CLASSES, counts.tolist(), strict=True))

    def _part(self, name: str, row: int) -> slice:
        first = self._columns[name]
        return slice(int(first[row]), int(first[row + 1]))

    def _patch(self, row: int) -> ImagePatch:
        column = self._columns
        jpeg = column["patch_jpeg"][self._part("patch_jpeg_first", row)].tobytes()
        try:
            rgb = simplejpeg.decode_jpeg(jpeg, "RGB")
        except ValueError as error:
            path = self.path / "patch_jpeg.npy"
            raise DatasetError(f"{path}: patch {row} is damaged ({error}); {_REMEDY}") from error
        return ImagePatch(
            camera=self.manifest["cameras"][int(column["patch_camera"][row])],
            rgb=rgb,
            corner_px=np.array(column["patch_corner"][row], np.float64),
            K_cam=np.array(column["patch_K"][row]),
            T_ego_cam=np.array(column["patch_pose"][row]),
        )


_REMEDY = "make it again with `bevstack data objects ROOT --force`"


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise DatasetError(
            f"there is no object database in {folder}: make one with `bevstack data objects ROOT --split SPLIT "
            f"--out {folder}`, where ROOT is the data set"
        ) from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is damaged ({error}); {_REMEDY}") from error
    if manifest.get("schema") != SCHEMA_VERSION:
        raise DatasetError(f"{folder} has schema {manifest.get('schema')}, needed is {SCHEMA_VERSION}; {_REMEDY}")
    return manifest


def _open_column(folder: Path, name: str, manifest: dict[str, Any]) -> np.ndarray:
    path = folder / f"{name}.npy"
    dtype, row_shape = COLUMNS[name]
    expected = (int(manifest["rows"][name]), *row_shape)
    try:
        empty = 0 in expected  # an array without bytes cannot be mapped
        column = np.load(path, mmap_mode=None if empty else "r").view(np.ndarray)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; {_REMEDY}") from error
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path} is damaged ({error}); {_REMEDY}") from error
    if column.shape != expected or column.dtype != dtype:
        raise DatasetError(
            f"{path} is damaged: {column.dtype} of {column.shape}, the manifest says {np.dtype(dtype)} of {expected}; "
            f"{_REMEDY}"
        )
    return column
