"""Cuts the annotated objects of a split out of its frames and writes them as an `ObjectDatabase`.

Each scene becomes a part of its own beneath `OUT.partial`, written under a temporary name and renamed; an interrupted
build goes on after the last whole part. When all are there, the parts are strung together column by column, and the
folder takes its final name: a database is either whole or not there.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from tqdm import tqdm

from bevstack.data.class_names import CAMERA_NAMES, DETECTION_CLASSES
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.data.object_database import COLUMNS, MANIFEST_NAME, SCHEMA_VERSION, ObjectDatabase
from bevstack.data.object_images import rectangles_in_camera
from bevstack.data.object_occupancy import voxels_of_object
from bevstack.geometry.boxes import box_of_points, box_pose
from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.types.errors import DatasetError
from bevstack.types.frame import CameraImage, Frame

MIN_POINTS = 5
_JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSummary:
    """What a build made or found."""

    database: ObjectDatabase
    was_there: bool
    """True where a database of the same content was there already."""


def build_object_database(
    frames: NuScenesFrames,
    out: str | Path,
    *,
    min_points: int = MIN_POINTS,
    force: bool = False,
    progress: bool = False,
) -> DatabaseSummary:
    """Write the objects of a split to the folder `out`, or go on where an interrupted call stopped.

    Args:
        frames: the split, with the number of sweeps, the picture size and the occupancy labels that objects shall
            have.
        out: folder of the database.
        min_points: accumulated LiDAR points that an object needs to be taken.
        force: replace a database of other content.
        progress: show a progress bar.

    Raises:
        DatasetError: `out` holds something else, a frame cannot be read, or the disk is full.
        ValueError: the frames have no LiDAR or no annotations.
    """
    if not frames.num_sweeps or not frames.with_annotations:
        raise ValueError("an object database needs frames with LiDAR (num_sweeps >= 1) and with annotations")
    out, source = Path(out), _source_record(frames, min_points)
    if out.exists() and _is_current(out, source, force):
        return DatabaseSummary(database=ObjectDatabase(out), was_there=True)
    partial = out.with_name(f"{out.name}.partial")
    _open_partial(partial, source)
    try:
        with tqdm(total=len(frames), unit="frame", desc="objects", disable=not progress) as bar:
            for scene in frames.scenes:
                for done in _make_part(frames, scene.name, partial / scene.name, min_points):
                    bar.update(done)
        _string_together(partial, [partial / scene.name for scene in frames.scenes], source)
    except OSError as error:  # numpy reports a full disk as "N requested and M written"
        cause = error.strerror or f"the disk is full ({error})"
        raise DatasetError(f"{partial} cannot be written: {cause}; free some space and call again to go on") from error
    if out.exists():
        shutil.rmtree(out)
    partial.rename(out)
    return DatabaseSummary(database=ObjectDatabase(out), was_there=False)


def write_object_database(
    frames: Iterable[Frame], out: str | Path, *, min_points: int = MIN_POINTS, data_hash: str = ""
) -> ObjectDatabase:
    """Write the objects of any frames to the folder `out`, which must not exist: for data sets of other formats.

    Raises:
        DatasetError: `out` is there already.
    """
    out = Path(out)
    if out.exists():
        raise DatasetError(f"{out} is there already: choose another folder, or delete it")
    partial = out.with_name(f"{out.name}.partial")
    source = {"schema": SCHEMA_VERSION, "data_sha256": data_hash, "min_points": min_points}
    _open_partial(partial, source)
    part = _Part()
    for frame in frames:
        part.add(frame, min_points)
    folder = partial / "frames"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    part.save(folder)
    _string_together(partial, [folder], source)
    partial.rename(out)
    return ObjectDatabase(out)


def _source_record(frames: NuScenesFrames, min_points: int) -> dict[str, Any]:
    """Everything that decides the content."""
    return {
        "schema": SCHEMA_VERSION,
        "data_sha256": frames.index.data_hash,
        "version": frames.index.version,
        "split": frames.split,
        "num_sweeps": frames.num_sweeps,
        "image_size": list(frames.image_size.height_width),
        "cameras": list(frames.cameras),
        "occupancy": frames.occupancy,
        "min_points": min_points,
    }


def _is_current(out: Path, source: dict[str, Any], force: bool) -> bool:
    """Whether `out` is what would be made; False where it may be replaced."""
    try:
        manifest = json.loads((out / MANIFEST_NAME).read_text())
    except (OSError, ValueError):
        if any(out.iterdir()) and not (force and (out / MANIFEST_NAME).is_file()):
            raise DatasetError(f"{out} is no object database: choose another folder with --out") from None
        return False
    if manifest.get("source") != source and not force:
        raise DatasetError(f"{out} holds objects of other data or settings: choose another --out, or use --force")
    return not force


def _open_partial(partial: Path, source: dict[str, Any]) -> None:
    """The folder of the parts; those of other data or settings are thrown away."""
    note, content = partial / "source.json", json.dumps(source)
    if not note.is_file() or note.read_text() != content:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        note.write_text(content)


def _make_part(frames: NuScenesFrames, scene: str, folder: Path, min_points: int) -> Iterator[int]:
    """Write the part of one scene unless it is there; yields numbers of frames done."""
    positions = frames.frames_of_scene(scene)
    if folder.is_dir():
        yield len(positions)
        return
    part = _Part()
    for position in positions:
        part.add(frames[position], min_points)
        yield 1
    scratch = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    part.save(scratch)
    scratch.rename(folder)


class _Part:
    """The objects of some frames as rows of the columns; `..._first` columns hold lengths until parts are joined."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.voxel_m = 0.0

    def add(self, frame: Frame, min_points: int) -> None:
        """Cut out the objects of a frame that have enough points."""
        if frame.lidar is None or frame.annotations is None or not len(frame.annotations.boxes):
            return
        annotations, points = frame.annotations, frame.lidar.points_ego
        boxes = annotations.boxes
        views = [(camera, rectangles_in_camera(camera, boxes.rows)) for camera in frame.cameras]
        owner = box_of_points(points, boxes.rows)
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(boxes) + 1))
        for i in range(len(boxes)):
            mine = points[order[bounds[i] : bounds[i + 1]]]
            if len(mine) < min_points:
                continue
            box, class_index = boxes.rows[i], int(boxes.class_index[i])
            self._append(
                box=box,
                class_index=class_index,
                attribute_index=annotations.attribute_index[i],
                visibility=annotations.visibility[i],
                num_points=annotations.num_lidar_points[i],
                num_radar_points=annotations.num_radar_points[i],
            )
            self._append_many("point_first", points=_in_box_frame(box, mine))
            self._add_patches([(camera, seen[i]) for camera, seen in views if i in seen])
            voxels = np.zeros((0, 3), np.float32)
            if annotations.occupancy is not None:
                self.voxel_m = annotations.occupancy.grid.voxel_m
                voxels = voxels_of_object(annotations.occupancy, box, class_index)
            self._append_many("voxel_first", voxels=voxels)

    def save(self, folder: Path) -> None:
        """Write the columns."""
        for name, (dtype, row_shape) in COLUMNS.items():
            rows = self.rows[name]
            if name in _FLAT_COLUMNS:
                column = np.concatenate(rows) if rows else np.zeros((0, *row_shape))
            else:
                column = np.array(rows).reshape(-1, *row_shape)
            np.save(folder / f"{name}.npy", column.astype(dtype))
        np.save(folder / "voxel_m.npy", np.array(self.voxel_m))

    def _append(self, **values: Any) -> None:
        for name, value in values.items():
            self.rows[name].append(value)

    def _append_many(self, counter: str, **values: np.ndarray) -> None:
        for name, rows in values.items():
            self.rows[name].append(rows)
            self.rows[counter].append(len(rows))

    def _add_patches(self, views: list[tuple[CameraImage, tuple[int, int, int, int]]]) -> None:
        for camera, (u0, v0, u1, v1) in views:
            pixels = np.ascontiguousarray(camera.rgb[v0:v1, u0:u1])
            jpeg = simplejpeg.encode_jpeg(pixels, _JPEG_QUALITY, colorsubsampling="444")
            self._append(
                patch_camera=CAMERA_NAMES.index(camera.name),
                patch_corner=(u0, v0),
                patch_K=camera.K_cam,
                patch_pose=camera.T_ego_cam,
            )
            self._append_many("patch_jpeg_first", patch_jpeg=np.frombuffer(jpeg, np.uint8))
        self._append(patch_first=len(views))


_FLAT_COLUMNS = ("points", "voxels", "patch_jpeg")
_LENGTH_COLUMNS = tuple(name for name in COLUMNS if name.endswith("_first"))


def _in_box_frame(box: np.ndarray, points: np.ndarray) -> np.ndarray:
    local = points.copy()
    local[:, :3] = transform_points(rigid_inverse(box_pose(box)), points[:, :3].astype(np.float64))
    return local


def _string_together(partial: Path, parts: list[Path], source: dict[str, Any]) -> None:
    """Join the parts column by column in `partial`; the manifest comes last, then the parts go."""
    rows = {name: _join_column(partial, parts, name) for name in COLUMNS}
    manifest = {
        "schema": SCHEMA_VERSION,
        "data_sha256": source["data_sha256"],
        "source": source,
        "cameras": list(CAMERA_NAMES),
        "classes": list(DETECTION_CLASSES),
        "voxel_m": max((float(np.load(part / "voxel_m.npy")) for part in parts), default=0.0),
        "rows": rows,
    }
    (partial / MANIFEST_NAME).write_text(json.dumps(manifest, indent=1))
    for part in parts:
        shutil.rmtree(part)
    (partial / "source.json").unlink()


def _join_column(partial: Path, parts: list[Path], name: str) -> int:
    """Write one column, a part in memory at a time; returns its rows."""
    dtype, row_shape = COLUMNS[name]
    path = partial / f"{name}.npy"
    if name in _LENGTH_COLUMNS:
        lengths = [np.load(part / f"{name}.npy") for part in parts]
        np.save(path, np.cumsum(np.concatenate([np.zeros(1, dtype), *lengths]), dtype=dtype))
        return 1 + sum(map(len, lengths))
    counts = [_num_rows(part / f"{name}.npy") for part in parts]
    if not sum(counts):
        np.save(path, np.zeros((0, *row_shape), dtype))
        return 0
    joined = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(sum(counts), *row_shape))
    start = 0
    for part, count in zip(parts, counts, strict=True):
        joined[start : start + count] = np.load(part / f"{name}.npy")
        start += count
    joined.flush()
    return sum(counts)


def _num_rows(path: Path) -> int:
    """Rows of a column, from its header alone."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        return np.lib.format.read_array_header_1_0(file)[0][0]
