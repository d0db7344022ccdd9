"""Writes occupancy labels for a whole split: one file a key frame, one scene in memory at a time, resumable.

The layout is that of Occ3D-nuScenes, `SCENE/SAMPLE/labels.npz`, beneath `gts/` of the data set or another folder. A
file is written under a temporary name and renamed; what is there already is not made again. `made_from_lidar.json`
beside the scenes says from what they come, so that labels of another origin are never overwritten or mixed.
"""

import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bevstack.data.class_names import CAMERA_NAMES, LIDAR_NAME
from bevstack.data.index import DatasetIndex, SceneRecord, open_index
from bevstack.data.lidarseg import labels_path
from bevstack.data.occupancy import occupancy_path
from bevstack.data.occupancy_from_lidar import CameraView, frame_occupancy
from bevstack.data.scene_cloud import accumulate_scene, objects_of_sample
from bevstack.geometry.transforms import rigid_inverse
from bevstack.types.errors import DatasetError
from bevstack.types.frame import OccupancyGrid

SCHEMA_VERSION = 1
RECORD_NAME = "made_from_lidar.json"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupancySummary:
    """What was made."""

    folder: Path
    num_made: int
    num_present: int
    """Frames that had labels from an earlier call."""
    has_point_labels: bool
    """False where no key sweep has lidarseg labels: then all that is not an annotated object is "others"."""


def make_occupancy(
    root: str | Path,
    split: str,
    *,
    version: str | None = None,
    out: str | Path | None = None,
    all_sweeps: bool = False,
    workers: int = 1,
    progress: bool = False,
) -> OccupancySummary:
    """Make labels in the Occ3D format for every key frame of a split.

    Args:
        root: folder of the data set.
        split: an official split, or one from `splits.json`.
        version: version folder; may be left out where there is only one.
        out: folder of the scenes; by default `root/gts`.
        all_sweeps: also use the sweeps between key frames: denser, and slower by their number.
        workers: processes; each holds the points of one scene.
        progress: show a progress bar.

    Raises:
        DatasetError: the data set is damaged, or `out` holds labels of another origin.
        ValueError: there are no workers.
    """
    if workers < 1:
        raise ValueError(f"workers={workers} must be at least 1")
    index = open_index(root, version)
    folder = Path(out) if out is not None else Path(root) / "gts"
    scenes = [index.scenes[row] for row in index.scenes_of_split(split)]
    _claim(folder, index, all_sweeps)
    missing = [scene for scene in scenes if _missing_frames(index, scene, folder)]
    num_made = sum(len(_missing_frames(index, scene, folder)) for scene in missing)
    total = sum(scene.num_samples for scene in scenes)
    has_point_labels = _has_point_labels(index, scenes)
    if not has_point_labels:
        _LOG.warning("no lidarseg labels in %s: what is no annotated object gets the class 'others'", root)
    with tqdm(total=total, initial=total - num_made, unit="frame", desc="occupancy", disable=not progress) as bar:
        for done in _run(index, missing, folder, all_sweeps, min(workers, max(1, len(missing)))):
            bar.update(done)
    return OccupancySummary(
        folder=folder, num_made=num_made, num_present=total - num_made, has_point_labels=has_point_labels
    )


def make_scene(index: DatasetIndex, scene: SceneRecord, folder: Path, *, all_sweeps: bool = False) -> Iterator[int]:
    """Write the labels of a scene's frames that are missing; yields 1 after each.

    Raises:
        DatasetError: a file of the scene is missing or damaged.
    """
    samples = _missing_frames(index, scene, folder)
    if not samples:
        return
    cloud = accumulate_scene(index, scene, all_sweeps=all_sweeps)
    for sample in samples:
        reference = index.key_data_row(sample, LIDAR_NAME)
        T_global_ego = index.T_global_ego([reference])[0]
        labels = frame_occupancy(
            cloud,
            objects_of_sample(index, sample, cloud.T_scene_global),
            key_frame=sample - scene.first_sample,
            T_global_ego=T_global_ego,
            cameras=_camera_views(index, sample, T_global_ego),
        )
        write_occ3d(_labels_file(index, scene, sample, folder), labels)
        yield 1


def write_occ3d(path: Path, labels: OccupancyGrid) -> None:
    """Write one `labels.npz` of Occ3D under a temporary name and rename it; folders are made.

    Raises:
        DatasetError: the disk is full or not writable.
    """
    scratch = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as file:
            np.savez_compressed(
                file,
                semantics=labels.semantics,
                mask_lidar=labels.lidar_mask.astype(np.uint8),
                mask_camera=labels.camera_mask.astype(np.uint8),
            )
        scratch.replace(path)
    except OSError as error:
        cause = error.strerror or f"the disk is full ({error})"
        raise DatasetError(
            f"{path} cannot be written: {cause}; free some space or choose a folder with --out"
        ) from error
    finally:
        scratch.unlink(missing_ok=True)


def _run(index: DatasetIndex, scenes: list[SceneRecord], folder: Path, all_sweeps: bool, workers: int) -> Iterator[int]:
    """Make the scenes here or in processes; yields numbers of frames as they are done."""
    if workers == 1:
        for scene in scenes:
            yield from make_scene(index, scene, folder, all_sweeps=all_sweeps)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_whole_scene, index, scene, folder, all_sweeps) for scene in scenes]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:  # after an error or Ctrl-C no further scene is begun
            pool.shutdown(wait=False, cancel_futures=True)


def _whole_scene(index: DatasetIndex, scene: SceneRecord, folder: Path, all_sweeps: bool) -> int:
    return sum(make_scene(index, scene, folder, all_sweeps=all_sweeps))


def _claim(folder: Path, index: DatasetIndex, all_sweeps: bool) -> None:
    """Write down what the labels in a folder come from; refuse a folder with labels from elsewhere."""
    record: dict[str, Any] = {"schema": SCHEMA_VERSION, "data_sha256": index.data_hash, "all_sweeps": all_sweeps}
    path = folder / RECORD_NAME
    if path.is_file():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise DatasetError(f"{path} is damaged ({error}): delete {folder} and make the labels again") from error
        if found != record:
            raise DatasetError(
                f"{folder} holds labels made otherwise ({found}, now {record}): delete it or choose another --out"
            )
        return
    if folder.is_dir() and any(not item.name.startswith(".") for item in folder.iterdir()):
        raise DatasetError(
            f"{folder} holds labels that were not made from LiDAR here: choose another folder with --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    scratch.write_text(json.dumps(record, indent=1))
    scratch.replace(path)


def _missing_frames(index: DatasetIndex, scene: SceneRecord, folder: Path) -> list[int]:
    samples = range(scene.first_sample, scene.first_sample + scene.num_samples)
    return [sample for sample in samples if not _labels_file(index, scene, sample, folder).is_file()]


def _labels_file(index: DatasetIndex, scene: SceneRecord, sample: int, folder: Path) -> Path:
    inside = occupancy_path(
        "occ3d",
        scene_name=scene.name,
        scene_token=scene.token,
        sample_token=index.sample_tokens[sample],
        lidar_token="",
    )
    return folder / Path(inside).relative_to("gts")


def _has_point_labels(index: DatasetIndex, scenes: list[SceneRecord]) -> bool:
    for scene in scenes:
        row = index.key_data_row(scene.first_sample, LIDAR_NAME)
        if row >= 0 and labels_path(index.root, index.version, index.data_tokens[row]).is_file():
            return True
    return False


def _camera_views(index: DatasetIndex, sample: int, T_global_ego: np.ndarray) -> list[CameraView]:
    """The cameras of a key frame, from the tables alone."""
    present = [index.key_data_row(sample, name) for name in CAMERA_NAMES if name in index.channels]
    rows = [row for row in present if row >= 0]
    if not rows:
        return []
    T_ego_cam = rigid_inverse(T_global_ego) @ index.T_global_ego(rows) @ index.T_ego_sensor(rows)
    sizes = index["data_size"][rows].tolist()
    return [(index.K_sensor(row), T, height, width) for row, T, (width, height) in zip(rows, T_ego_cam, sizes)]
