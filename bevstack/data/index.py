"""The memory-mapped index of a data set in nuScenes format: opens in milliseconds, shares its pages between processes.

`open_index(root, version)` builds it on first use (one pass over the JSON tables, see `index_build`), opens it, and
builds it again when a table has changed. An index is valid while every table has the size and modification time that
it had; a table with another time but the same size is hashed, and a copy or a touch leaves the index valid.

Rows: *scene* and *sample* rows are in scene order and time order; *data* rows are `sample_data`; *annotation* rows are
grouped by sample. Coordinates and rotations (w, x, y, z) are those of the tables, float64.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.index_build import MANIFEST_NAME, SCHEMA_VERSION, build_index, table_paths
from bevstack.data.tables import StringColumn, TokenColumn, TokenLookup
from bevstack.geometry.transforms import from_quaternion
from bevstack.types.errors import CalibrationError, DatasetError, did_you_mean

logger = logging.getLogger(__name__)

_OFFICIAL_FAMILY = {
    "train": "trainval",
    "val": "trainval",
    "train_detect": "trainval",
    "train_track": "trainval",
    "test": "test",
    "mini_train": "mini",
    "mini_val": "mini",
}
_UNIT_TOLERANCE = 1e-3
"""How far the norm of a rotation quaternion may be from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRecord:
    """One scene: its samples are rows `first_sample` to `first_sample + num_samples - 1`."""

    name: str
    token: str
    description: str
    location: str
    log_file: str
    vehicle: str
    date: str
    first_sample: int
    num_samples: int


class DatasetIndex:
    """Read access to one index folder. Columns are memory maps; copies of the object in workers share the pages."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path = Path(root), Path(path)
        self.manifest: dict[str, Any] = json.loads((self.path / MANIFEST_NAME).read_text())
        self.version: str = self.manifest["version"]
        self.channels: tuple[str, ...] = tuple(self.manifest["channels"])
        self.categories: tuple[str, ...] = tuple(self.manifest["categories"])
        self.attributes: tuple[str, ...] = tuple(self.manifest["attributes"])
        self.scenes: tuple[SceneRecord, ...] = tuple(SceneRecord(**record) for record in self.manifest["scenes"])
        self._columns = {file.stem: np.load(file, mmap_mode="r").view(np.ndarray) for file in self.path.glob("*.npy")}

    def __reduce__(self) -> tuple[type["DatasetIndex"], tuple[Path, Path]]:
        return DatasetIndex, (self.root, self.path)  # a pickled memory map would carry its contents

    def __getitem__(self, column: str) -> np.ndarray:
        """One column by name, as `index_build` wrote it."""
        return self._columns[column]

    @property
    def folder(self) -> Path:
        """The folder of the JSON tables."""
        return self.root / self.version

    @property
    def data_hash(self) -> str:
        """SHA-256 over all tables: names the data set in a run's record."""
        return self.manifest["source_sha256"]

    @property
    def num_samples(self) -> int:
        """Number of key frames."""
        return len(self["sample_timestamp_us"])

    @property
    def num_data(self) -> int:
        """Number of sensor readings, key frames and sweeps of all channels."""
        return len(self["data_timestamp_us"])

    @property
    def num_annotations(self) -> int:
        """Number of annotated boxes."""
        return int(self["sample_annotation_first"][-1])

    @cached_property
    def sample_tokens(self) -> TokenColumn:
        """Token of each sample row."""
        return self._tokens("sample_token")

    @cached_property
    def data_tokens(self) -> TokenColumn:
        """Token of each `sample_data` row."""
        return self._tokens("data_token")

    @cached_property
    def annotation_tokens(self) -> TokenColumn:
        """Token of each annotation row."""
        return self._tokens("annotation_token")

    @cached_property
    def instance_tokens(self) -> TokenColumn:
        """Token of each instance row."""
        return self._tokens("instance_token")

    @cached_property
    def data_paths(self) -> StringColumn:
        """File of each `sample_data` row, relative to the root."""
        return StringColumn(self["data_path_text"], self["data_path_offset"])

    def _tokens(self, name: str) -> TokenColumn:
        texts = None
        if f"{name}_text" in self._columns:
            texts = StringColumn(self[f"{name}_text"], self[f"{name}_offset"])
        return TokenColumn(self[f"{name}_key"], texts)

    # -- samples ------------------------------------------------------------------------------------------------------
    @cached_property
    def _sample_lookup(self) -> TokenLookup:
        return TokenLookup(np.asarray(self["sample_token_key"]))

    def sample_row(self, token: str) -> int:
        """Row of a sample token.

        Raises:
            DatasetError: there is no such sample.
        """
        row = self._sample_lookup.row(token)
        if row < 0:
            raise DatasetError(f"there is no sample {token} in {self.folder}")
        return row

    def scene_of_sample(self, sample: int) -> SceneRecord:
        """The scene of a sample row."""
        return self.scenes[int(self["sample_scene"][sample])]

    def channel_index(self, channel: str) -> int:
        """Column of a sensor in `sample_key_data`.

        Raises:
            DatasetError: the data set has no such sensor.
        """
        if channel not in self.channels:
            raise DatasetError(f"{self.folder} has no sensor {channel}{did_you_mean(channel, self.channels)}")
        return self.channels.index(channel)

    def key_data_row(self, sample: int, channel: str) -> int:
        """Row of the key reading of one sensor at one sample, -1 where there is none."""
        return int(self["sample_key_data"][sample, self.channel_index(channel)])

    def sweep_rows(self, sample: int, count: int, channel: str = LIDAR_NAME) -> list[int]:
        """The key reading and up to `count - 1` readings before it, newest first; empty without a key reading."""
        rows: list[int] = []
        row = self.key_data_row(sample, channel)
        previous = self["data_previous"]
        while row >= 0 and len(rows) < count:
            rows.append(row)
            row = int(previous[row])
        return rows

    def annotation_rows(self, sample: int) -> range:
        """Annotation rows of a sample."""
        first = self["sample_annotation_first"]
        return range(int(first[sample]), int(first[sample + 1]))

    # -- geometry -----------------------------------------------------------------------------------------------------
    def T_global_ego(self, data_rows: Iterable[int]) -> Float64[np.ndarray, "N 4 4"]:
        """Ego pose at the time of each reading.

        Raises:
            CalibrationError: a pose is not finite or its rotation is not a unit quaternion.
        """
        rows = np.fromiter(data_rows, np.int64)
        poses = self["data_pose"][rows]
        self._check_rigid(poses[:, 3:], poses[:, :3], rows, "ego_pose.json")
        return from_quaternion(poses[:, 3:], poses[:, :3])

    def T_ego_sensor(self, data_rows: Iterable[int]) -> Float64[np.ndarray, "N 4 4"]:
        """Mounting of the sensor of each reading: sensor coordinates to ego coordinates at the reading's own time.

        Raises:
            CalibrationError: a mounting is not finite or its rotation is not a unit quaternion.
        """
        rows = np.fromiter(data_rows, np.int64)
        calibrations = self["data_calibration"][rows]
        rotation, translation = (
            self["calibration_rotation"][calibrations],
            self["calibration_translation"][calibrations],
        )
        self._check_rigid(rotation, translation, rows, "calibrated_sensor.json")
        return from_quaternion(rotation, translation)

    def K_sensor(self, data_row: int) -> Float64[np.ndarray, "3 3"]:
        """Camera matrix of a reading, for the picture as it is on disk.

        Raises:
            CalibrationError: it is not a camera matrix.
        """
        K = np.array(self["calibration_K"][self["data_calibration"][data_row]])
        if not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0 or not np.allclose(K[2], (0, 0, 1)):
            raise CalibrationError(
                f"camera_intrinsic of {self.data_tokens[data_row]} ({self.data_paths[data_row]}) in "
                f"{self.folder / 'calibrated_sensor.json'} is not a camera matrix: {K.tolist()}"
            )
        return K

    def _check_rigid(self, rotation: np.ndarray, translation: np.ndarray, rows: np.ndarray, table: str) -> None:
        norm = np.linalg.norm(rotation, axis=-1)
        good = np.isfinite(translation).all(axis=-1) & (np.abs(norm - 1) < _UNIT_TOLERANCE)  # NaN compares false
        if not good.all():
            at = int(np.argmin(good))
            row = int(rows[at])
            raise CalibrationError(
                f"the transform of {self.data_tokens[row]} ({self.data_paths[row]}) in {self.folder / table} is not "
                f"rigid: translation {translation[at].tolist()}, rotation {rotation[at].tolist()}; "
                "unpack the metadata archive again or leave the scene out of the split"
            )

    # -- splits -------------------------------------------------------------------------------------------------------
    def splits(self) -> dict[str, list[str]]:
        """Split name -> names of its scenes that are in the tables: `splits.json` of the version, then the official."""
        official = {
            name: scenes
            for name, scenes in self.manifest["predefined_splits"].items()
            if _fits_version(name, self.version)
        }
        return {**official, **read_custom_splits(self.folder)}

    def scenes_of_split(self, split: str) -> list[int]:
        """Scene rows of a split, in scene order.

        Raises:
            DatasetError: there is no such split, or it names a scene that the tables do not have.
        """
        splits = self.splits()
        if split not in splits:
            known = ", ".join(sorted(splits)) or "none"
            raise DatasetError(
                f"there is no split '{split}' in {self.folder}{did_you_mean(split, splits)}; it has: {known}. "
                f'Own splits go to {self.folder / "splits.json"} as {{"name": ["scene-0001", ...]}}'
            )
        row_of_name = {scene.name: row for row, scene in enumerate(self.scenes)}
        unknown = [name for name in splits[split] if name not in row_of_name]
        if unknown:
            raise DatasetError(
                f"split '{split}' in {self.folder / 'splits.json'} names {unknown[0]}"
                f"{did_you_mean(unknown[0], row_of_name)}, which is not in scene.json"
            )
        return sorted({row_of_name[name] for name in splits[split]})

    def samples_of_split(self, split: str) -> Int64[np.ndarray, " N"]:
        """Sample rows of a split, in order of scene and time.

        Raises:
            DatasetError: as `scenes_of_split`.
        """
        records = [self.scenes[row] for row in self.scenes_of_split(split)]
        rows = [np.arange(record.first_sample, record.first_sample + record.num_samples) for record in records]
        return np.concatenate([np.zeros(0, np.int64), *rows]).astype(np.int64)


def open_index(
    root: str | Path, version: str | None = None, *, out: str | Path | None = None, progress: bool = False
) -> DatasetIndex:
    """Open the index of a data set; build it first where it is missing or out of date.

    Args:
        root: The folder that holds `samples/`, `sweeps/`, `maps/` and the version folder.
        version: Name of the version folder; may be left out where there is only one.
        out: Folder of the index; by default `index_folder(root, version)`.
        progress: Show a progress bar while building.

    Raises:
        DatasetError: the root is not a nuScenes data set, or its tables are damaged.
    """
    root = Path(root)
    version = find_version(root, version)
    folder = Path(out) if out is not None else index_folder(root, version)
    if not is_current(folder, root / version):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_builder(folder):
            if not is_current(folder, root / version):  # another process may have built it meanwhile
                logger.info("building the index of %s in %s (once; later starts open it at once)", root, folder)
                build_index(root, version, folder, progress=progress)
    return DatasetIndex(root, folder)


def find_version(root: Path, version: str | None = None) -> str:
    """The version folder to use: the given one, or the only one there is.

    Raises:
        DatasetError: the root has no version folder, not this one, or several to choose from.
    """
    if not root.is_dir():
        raise DatasetError(f"data root {root} does not exist; give the folder that holds samples/ and v1.0-*/")
    found = sorted(folder.parent.name for folder in root.glob("*/sample.json"))
    if version is None:
        if len(found) == 1:
            return found[0]
        if found:
            raise DatasetError(f"{root} has several versions, choose one: {', '.join(found)}")
    elif version in found:
        return version
    if not found:
        inside = " (this looks like a version folder: give its parent)" if (root / "sample.json").is_file() else ""
        wanted = f"{version}/sample.json" if version else "v1.0-*/sample.json"
        raise DatasetError(f"{root} is not a nuScenes data set: it has no {wanted}{inside}")
    raise DatasetError(
        f"{root} has no version '{version}'{did_you_mean(version or '', found)}; it has: {', '.join(found)}"
    )


def index_folder(root: Path, version: str) -> Path:
    """Where the index lies: in `ROOT/.bevstack/`, or in the user's cache where the root cannot be written."""
    beside = root / ".bevstack" / f"index-{version}"
    if os.access(root, os.W_OK) or is_current(beside, root / version):
        return beside
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return cache / "bevstack" / f"index-{name}-{version}"


def is_current(folder: Path, tables: Path) -> bool:
    """Whether the index in `folder` was built by this schema from the tables as they are."""
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text())
    except (OSError, ValueError):
        return False
    if manifest.get("schema") != SCHEMA_VERSION:
        return False
    known = manifest["tables"]
    paths = table_paths(tables)
    if set(known) != set(paths):
        return False
    for name, path in paths.items():
        stat = path.stat()
        if stat.st_size != known[name]["bytes"]:
            return False
        if stat.st_mtime_ns != known[name]["mtime_ns"] and _sha256(path) != known[name]["sha256"]:
            return False
    return True


def read_custom_splits(tables: Path) -> dict[str, list[str]]:
    """The splits that `splits.json` beside the tables defines; none where it does not exist.

    Raises:
        DatasetError: the file is not of the form {"name": ["scene-0001", ...]}.
    """
    path = tables / "splits.json"
    if not path.is_file():
        return {}
    try:
        splits = json.loads(path.read_text())
    except ValueError as error:
        raise DatasetError(f"{path} is not JSON: {error}") from error
    if not isinstance(splits, dict) or not all(isinstance(scenes, list) for scenes in splits.values()):
        raise DatasetError(f'{path} must have the form {{"name": ["scene-0001", ...]}}')
    return {name: [str(scene) for scene in scenes] for name, scenes in splits.items()}


@contextlib.contextmanager
def _only_builder(folder: Path) -> Iterator[None]:
    """Let one process at a time build this index; the others wait and then find it."""
    with open(folder.parent / f"{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fits_version(split: str, version: str) -> bool:
    """Official splits belong to their version (as in the devkit); under other version names all are allowed."""
    official = any(version.endswith(f"-{family}") for family in set(_OFFICIAL_FAMILY.values()))
    return not official or version.endswith(f"-{_OFFICIAL_FAMILY.get(split, '')}")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
