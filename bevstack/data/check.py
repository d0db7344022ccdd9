"""What of a data set is really on disk: every file that the tables name, by folder, and what works without it."""

import os
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.data.check_frames import frame_sanity_of
from bevstack.data.class_names import CAMERA_NAMES, LIDAR_NAME
from bevstack.data.frame_sanity import FrameVerdict
from bevstack.data.index import DatasetIndex
from bevstack.data.occupancy import OccupancyFormat, occupancy_path
from bevstack.data.tables import read_records

POINT_BYTES = 20
JPEG_END = b"\xff\xd9"
_TAIL_BYTES = 64
_UNIT_TOLERANCE = 1e-3
_EXAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FileGroup:
    """The files of one folder that the tables (or the optional packages) ask for."""

    name: str
    expected: int
    missing: int
    damaged: int
    examples: tuple[str, ...]
    """The first missing or damaged files."""
    needed: bool
    """Whether training and evaluation in this project stop without them."""
    archive: str
    """What to download, or how to make them."""
    without: str
    """What still works when they are missing."""

    @property
    def is_complete(self) -> bool:
        """Nothing is missing or damaged."""
        return not (self.missing or self.damaged)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The answer of `check_dataset`."""

    root: str
    version: str
    split: str | None
    num_scenes: int
    num_samples: int
    complete_scenes: tuple[str, ...]
    """Scenes all of whose needed files are there and sound."""
    groups: tuple[FileGroup, ...]
    problems: tuple[str, ...]
    """Damage in the tables: transforms that are not rigid, key frames that do not exist, boxes where no points are."""
    sanity: FrameVerdict | None = None
    """Whether boxes and points belong together; None where it was not looked at."""

    @property
    def is_usable(self) -> bool:
        """Whether everything needed is there."""
        return not self.problems and all(group.is_complete for group in self.groups if group.needed)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        return {**asdict(self), "is_usable": self.is_usable}


@dataclass(slots=True)
class _Tally:
    expected: int = 0
    missing: int = 0
    damaged: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, path: str, state: str) -> None:
        self.expected += 1
        if state == "present":
            return
        self.missing += state == "missing"
        self.damaged += state == "damaged"
        if len(self.examples) < _EXAMPLES:
            self.examples.append(path)


class _Disk:
    """Answers whether files exist, reading each folder once."""

    def __init__(self, root: Path, deep: bool) -> None:
        self.root, self.deep = root, deep
        self._folders: dict[str, frozenset[str]] = {}

    def state(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            try:
                self._folders[folder] = frozenset(os.listdir(self.root / folder))
            except OSError:
                self._folders[folder] = frozenset()
        if name not in self._folders[folder] or not (self.root / path).exists():
            return "missing"
        return "damaged" if self.deep and not is_sound(self.root / path) else "present"


def is_sound(path: Path) -> bool:
    """Whether a sensor file has a plausible length and end: whole LiDAR points, a JPEG that is not cut short."""
    num_bytes = path.stat().st_size
    if not num_bytes:
        return False
    if path.name.endswith(".pcd.bin"):
        return num_bytes % POINT_BYTES == 0
    if path.suffix in (".jpg", ".jpeg"):
        with open(path, "rb") as file:
            file.seek(max(0, num_bytes - _TAIL_BYTES))
            return JPEG_END in file.read()
    return True


def check_dataset(index: DatasetIndex, split: str | None = None, *, deep: bool = False) -> CheckReport:
    """Compare the tables with the disk.

    Args:
        index: The data set.
        split: Look at the scenes of this split only.
        deep: Also open every needed file and look at its length and end, and look whether boxes and points of some
            frames belong together.

    Raises:
        DatasetError: there is no such split.
    """
    scenes = index.scenes_of_split(split) if split else list(range(len(index.scenes)))
    disk = _Disk(index.root, deep)
    groups, incomplete = _sensor_groups(index, scenes, disk)
    groups += _optional_groups(index, scenes, disk)
    problems, scenes_with_problems = _table_problems(index, scenes)
    bad = incomplete | scenes_with_problems
    sanity = None
    if deep and not bad and index.num_annotations:
        sanity = frame_sanity_of(index, split).verdict()
        if sanity.status == "fault":
            problems.append(f"sample_annotation.json: boxes and points do not belong together: {sanity.sentence}")
    return CheckReport(
        root=str(index.root),
        version=index.version,
        split=split,
        num_scenes=len(scenes),
        num_samples=sum(index.scenes[row].num_samples for row in scenes),
        complete_scenes=tuple(index.scenes[row].name for row in scenes if row not in bad),
        groups=tuple(groups),
        problems=tuple(problems),
        sanity=sanity,
    )


def _sensor_groups(index: DatasetIndex, scenes: list[int], disk: _Disk) -> tuple[list[FileGroup], set[int]]:
    """Groups of samples/ and sweeps/, and the scenes in which a needed file is not usable."""
    scene_of_data = index["sample_scene"][index["data_sample"]]
    wanted = np.isin(scene_of_data, scenes)
    tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
    incomplete: set[int] = set()
    channels, is_key = index["data_channel"], index["data_is_key"]
    for row in np.flatnonzero(wanted):
        kind, channel = "samples" if is_key[row] else "sweeps", index.channels[channels[row]]
        path = index.data_paths[int(row)]
        state = disk.state(path)
        tallies[kind, channel].add(path, state)
        if state != "present" and _is_needed(kind, channel):
            incomplete.add(int(scene_of_data[row]))
    groups = [_sensor_group(index.version, *key, tally) for key, tally in sorted(tallies.items())]
    return groups, incomplete


def _is_needed(kind: str, channel: str) -> bool:
    return channel == LIDAR_NAME or (kind == "samples" and channel in CAMERA_NAMES)


def _sensor_group(version: str, kind: str, channel: str, tally: _Tally) -> FileGroup:
    without = "everything: nothing reads them yet"
    if channel in CAMERA_NAMES:
        without = (
            "models without this camera (missing=mask)" if kind == "samples" else "everything that uses key frames"
        )
    if channel == LIDAR_NAME:
        without = "camera-only models (num_sweeps=0)" if kind == "samples" else "one sweep a frame (num_sweeps=1)"
    return FileGroup(
        name=f"{kind}/{channel}",
        expected=tally.expected,
        missing=tally.missing,
        damaged=tally.damaged,
        examples=tuple(tally.examples),
        needed=_is_needed(kind, channel),
        archive=_sensor_archive(version),
        without=without,
    )


def _sensor_archive(version: str) -> str:
    if version.endswith("-trainval"):
        return "v1.0-trainval01_blobs.tgz to v1.0-trainval10_blobs.tgz (85 scenes each; the tables do not say which)"
    if version.endswith("-test"):
        return "v1.0-test_blobs.tgz"
    if version.endswith("-mini"):
        return "v1.0-mini.tgz"
    if version.endswith("-world"):
        return "`bevstack sim make` with the seed of this data set"
    return "where this data set came from"


def _optional_groups(index: DatasetIndex, scenes: list[int], disk: _Disk) -> list[FileGroup]:
    records = [index.scenes[row] for row in scenes]
    locations = sorted({record.location for record in records})
    maps = read_records(index.folder / "map.json") if (index.folder / "map.json").is_file() else []
    sample_rows = np.flatnonzero(np.isin(index["sample_scene"], scenes))
    lidar = index.channel_index(LIDAR_NAME)
    lidar_rows = [int(row) for row in index["sample_key_data"][sample_rows, lidar] if row >= 0]
    world = index.version.endswith("-world")
    asked = [
        (
            "maps/expansion",
            [f"maps/expansion/{location}.json" for location in locations],
            "nuScenes-map-expansion-v1.3.zip, unpacked in maps/",
            "detection and occupancy; not map segmentation and planning (labels=null, or missing=mask)",
        ),
        (
            "maps (base)",
            [record["filename"] for record in maps],
            "the metadata archive",
            "everything here; nuscenes-devkit itself refuses to open the data set",
        ),
        (
            "can_bus",
            [f"can_bus/{record.name}_pose.json" for record in records],
            "can_bus.zip",
            "everything: ego motion comes from the poses",
        ),
        (
            "can_bus (routes)",
            [f"can_bus/{record.name}_route.json" for record in records],
            "can_bus.zip (about 3 % of the nuScenes scenes have none)",
            "everything but planning by a route: its frames come without",
        ),
        (
            "lidarseg",
            [f"lidarseg/{index.version}/{index.data_tokens[row]}_lidarseg.bin" for row in lidar_rows],
            "nuScenes-lidarseg-mini-v1.0.tar.bz2"
            if index.version.endswith("-mini")
            else "nuScenes-lidarseg-all-v1.0.tar.bz2",
            "everything but point labels",
        ),
        (
            "gts (Occ3D)",
            _occupancy_files(index, sample_rows, "occ3d"),
            "gts.tar.gz of Occ3D-nuScenes, or `bevstack data occupancy` makes labels from the LiDAR",
            "detection and maps; not occupancy in this format (input.occupancy=null, or missing=mask)",
        ),
        (
            "nuScenes-Occupancy-v0.1 (OpenOccupancy)",
            _occupancy_files(index, sample_rows, "openoccupancy"),
            "nuScenes-Occupancy-v0.1.7z, unpacked beside samples/",
            "detection and maps; not occupancy in this format (input.occupancy=null, or missing=mask)",
        ),
    ]
    return [
        _optional_group(
            name, paths, disk, archive=_world_archive(index.version, name) if world else archive, without=without
        )
        for name, paths, archive, without in asked
    ]


def _optional_group(name: str, paths: list[str], disk: _Disk, *, archive: str, without: str) -> FileGroup:
    """What is on the disk of one kind of files that some can do without."""
    tally = _Tally()
    for path in paths:
        tally.add(path, disk.state(path))
    return FileGroup(
        name=name,
        expected=tally.expected,
        missing=tally.missing,
        damaged=tally.damaged,
        examples=tuple(tally.examples),
        needed=False,
        archive=archive,
        without=without,
    )


def _occupancy_files(index: DatasetIndex, sample_rows: np.ndarray, layout: OccupancyFormat) -> list[str]:
    """The label file of every sample that has a LiDAR key frame."""
    lidar = index.channel_index(LIDAR_NAME)
    files = []
    for row in map(int, sample_rows):
        scene, reference = index.scene_of_sample(row), int(index["sample_key_data"][row, lidar])
        if reference >= 0:
            files.append(
                occupancy_path(
                    layout,
                    scene_name=scene.name,
                    scene_token=scene.token,
                    sample_token=index.sample_tokens[row],
                    lidar_token=index.data_tokens[reference],
                )
            )
    return files


def _world_archive(version: str, name: str) -> str:
    option = {"gts (Occ3D)": " and --occupancy", "nuScenes-Occupancy-v0.1 (OpenOccupancy)": " and --occupancy both"}
    return _sensor_archive(version) + option.get(name, "")


def _table_problems(index: DatasetIndex, scenes: list[int]) -> tuple[list[str], set[int]]:
    problems, bad_scenes = [], set()
    scene_of_data = index["sample_scene"][index["data_sample"]]
    wanted = np.isin(scene_of_data, scenes)
    pose = index["data_pose"]
    calibration = np.concatenate((index["calibration_translation"], index["calibration_rotation"]), axis=1)
    for table, good in (
        ("ego_pose.json", _is_rigid(pose)),
        ("calibrated_sensor.json", _is_rigid(calibration)[index["data_calibration"]]),
    ):
        bad = np.flatnonzero(wanted & ~good)
        if len(bad):
            first = int(bad[0])
            problems.append(
                f"{table}: {len(bad)} readings have a transform that is not rigid or not finite, first "
                f"{index.data_tokens[first]} ({index.data_paths[first]})"
            )
            bad_scenes |= set(scene_of_data[bad].tolist())
    for channel in (LIDAR_NAME, *CAMERA_NAMES):
        if channel not in index.channels:
            problems.append(f"sensor.json: there is no {channel}")
            continue
        column = index["sample_key_data"][:, index.channel_index(channel)]
        empty = np.flatnonzero(np.isin(index["sample_scene"], scenes) & (column < 0))
        if len(empty):
            token = index.sample_tokens[int(empty[0])]
            problems.append(f"sample_data.json: {len(empty)} samples have no {channel} key frame, first {token}")
            bad_scenes |= set(index["sample_scene"][empty].tolist())
    return problems, bad_scenes


def _is_rigid(rows: np.ndarray) -> np.ndarray:
    """Which rows of translation (3) and quaternion (4) are finite and of unit norm."""
    norm = np.linalg.norm(rows[:, 3:], axis=1)
    return np.isfinite(rows[:, :3]).all(axis=1) & (np.abs(norm - 1) < _UNIT_TOLERANCE)
