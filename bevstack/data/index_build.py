"""Builds the memory-mapped index of a data set in nuScenes format: every JSON table is read once, as a stream.

The index is a folder of `.npy` columns and a `manifest.json`. It is written under a temporary name and renamed when it
is complete, so that an interrupted build leaves nothing behind that looks like an index.
"""

import gc
import hashlib
import json
import logging
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bevstack.data.tables import TokenLookup, are_hex_tokens, pack_strings, read_records, stream_records, token_keys
from bevstack.types.errors import DatasetError

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
REQUIRED_TABLES = ("sensor", "calibrated_sensor", "category", "log", "scene", "sample", "ego_pose", "sample_data")
OPTIONAL_TABLES = ("attribute", "visibility", "instance", "sample_annotation", "map")
"""A data set without annotations (the test split) has no use for the rest."""

MAX_VELOCITY_GAP_S = 1.5
"""nuScenes devkit `box_velocity`: no velocity across a longer gap (twice that for the central difference)."""

_OFFICIAL_SCENE = re.compile(r"scene-(0\d{3}|1[01]\d{2})$")


def build_index(root: Path, version: str, out: Path, *, progress: bool = False) -> None:
    """Write the index of `root/version` to the folder `out`, replacing an older one.

    Raises:
        DatasetError: a table is missing, cut short, or refers to a token that does not exist.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for leftover in out.parent.glob(f"{out.name}.tmp-*"):  # of a build that was killed; the caller holds the lock
        shutil.rmtree(leftover, ignore_errors=True)
    scratch, retired = (out.parent / f"{out.name}.tmp-{name}" for name in ("new", "old"))
    scratch.mkdir()
    try:
        start = time.perf_counter()
        builder = _Builder(root / version, scratch, progress)
        builder.build()
        builder.write_manifest(version, time.perf_counter() - start)
        if out.exists():
            out.rename(retired)  # processes that have it open keep its pages
        scratch.rename(out)
    finally:
        for folder in (scratch, retired):
            shutil.rmtree(folder, ignore_errors=True)


def table_paths(folder: Path) -> dict[str, Path]:
    """The table files of a version folder that exist.

    Raises:
        DatasetError: a table that nothing works without is missing.
    """
    missing = [name for name in REQUIRED_TABLES if not (folder / f"{name}.json").is_file()]
    if missing:
        raise DatasetError(
            f"{folder} lacks {', '.join(f'{name}.json' for name in missing)}; "
            "unpack the metadata archive (v1.0-trainval_meta.tgz, v1.0-test_meta.tgz or v1.0-mini.tgz) there"
        )
    present = (name for name in (*REQUIRED_TABLES, *OPTIONAL_TABLES) if (folder / f"{name}.json").is_file())
    return {name: folder / f"{name}.json" for name in present}


class _Builder:
    """One pass over the tables; small ones first, so that the large ones can be joined piece by piece."""

    def __init__(self, folder: Path, out: Path, progress: bool) -> None:
        self.folder, self.out = folder, out
        self.paths = table_paths(folder)
        self.digests = {name: hashlib.sha256() for name in self.paths}
        self.stats = {name: path.stat() for name, path in self.paths.items()}  # before reading: a later change shows
        total = sum(stat.st_size for stat in self.stats.values())
        self.bar = tqdm(total=total, unit="B", unit_scale=True, desc="index", disable=not progress)
        self.counts: dict[str, int] = {}
        self.names: dict[str, Any] = {}

    def build(self) -> None:
        collects = gc.isenabled()
        gc.disable()  # millions of short-lived records without cycles: collecting only costs time
        try:
            with self.bar:
                self._sensors()
                self._scenes_and_samples()
                self._sample_data()
                self._annotations()
                self._hash_rest()
        finally:
            if collects:
                gc.enable()

    # -- reading and writing ------------------------------------------------------------------------------------------
    def _on_bytes(self, name: str) -> Any:
        def count(piece: bytes) -> None:
            self.digests[name].update(piece)
            self.bar.update(len(piece))

        return count

    def _read(self, name: str) -> list[dict[str, Any]]:
        records = read_records(self.paths[name], self._on_bytes(name)) if name in self.paths else []
        self.counts[name] = len(records)
        return records

    def _save(self, name: str, column: np.ndarray) -> None:
        try:
            np.save(self.out / f"{name}.npy", np.ascontiguousarray(column))
        except OSError as error:  # numpy reports a full disk as "N requested and M written"
            cause = error.strerror or f"the disk is full ({error})"
            raise DatasetError(
                f"the index cannot be written to {self.out.parent}: {cause}; free some space or choose a folder with "
                "`bevstack data index ROOT --out DIR`"
            ) from error

    def _save_tokens(self, name: str, tokens: list[str]) -> np.ndarray:
        keys = token_keys(tokens)
        self._save(f"{name}_key", keys)
        if not are_hex_tokens(tokens):
            self._save_strings(name, tokens)
        return keys

    def _save_strings(self, name: str, texts: list[str]) -> None:
        data, offsets = pack_strings(texts)
        self._save(f"{name}_text", data)
        self._save(f"{name}_offset", offsets)

    def _join(self, lookup: TokenLookup, records: list[dict[str, Any]], table: str, field: str) -> np.ndarray:
        """Rows that a token field refers to; every reference must exist."""
        rows = lookup.rows(token_keys([record[field] for record in records]))
        if (rows < 0).any():
            bad = records[int(np.argmax(rows < 0))]
            raise DatasetError(
                f"{self.folder / table}.json: {bad['token']} refers to {field} {bad[field]}, which does not exist; "
                "the tables come from different versions"
            )
        return rows

    # -- tables -------------------------------------------------------------------------------------------------------
    def _sensors(self) -> None:
        sensors, calibrations = self._read("sensor"), self._read("calibrated_sensor")
        self.names["channels"] = [record["channel"] for record in sensors]
        self.names["modalities"] = [record["modality"] for record in sensors]
        of_sensor = self._join(_lookup(sensors), calibrations, "calibrated_sensor", "sensor_token")
        intrinsics = np.zeros((len(calibrations), 3, 3))
        for row, record in enumerate(calibrations):
            if record["camera_intrinsic"]:
                intrinsics[row] = _numbers([record["camera_intrinsic"]], (3, 3), record["token"])[0]
        self._save("calibration_channel", of_sensor.astype(np.int16))
        self._save("calibration_translation", _vectors(calibrations, "translation", 3))
        self._save("calibration_rotation", _vectors(calibrations, "rotation", 4))
        self._save("calibration_K", intrinsics)
        self._save_tokens("calibration_token", [record["token"] for record in calibrations])
        self.calibration_lookup, self.calibration_channel = _lookup(calibrations), of_sensor
        self.names["categories"] = [record["name"] for record in self._read("category")]
        self.names["attributes"] = [record["name"] for record in self._read("attribute")]

    def _scenes_and_samples(self) -> None:
        logs, scenes, samples = self._read("log"), self._read("scene"), self._read("sample")
        log_rows = self._join(_lookup(logs), scenes, "scene", "log_token")
        scene_rows = self._join(_lookup(scenes), samples, "sample", "scene_token")
        times = np.array([record["timestamp"] for record in samples], np.int64)
        order = np.lexsort((times, scene_rows))
        samples = [samples[row] for row in order]
        self.sample_times = times[order]
        keys = self._save_tokens("sample_token", [record["token"] for record in samples])
        self.sample_lookup = TokenLookup(keys)
        self._save("sample_timestamp_us", self.sample_times)
        self._save("sample_scene", scene_rows[order].astype(np.int32))
        first = np.searchsorted(scene_rows[order], np.arange(len(scenes) + 1))
        self.names["scenes"] = [
            {
                "name": scene["name"],
                "token": scene["token"],
                "description": scene.get("description", ""),
                "location": logs[log_row].get("location", ""),
                "log_file": logs[log_row].get("logfile", ""),
                "vehicle": logs[log_row].get("vehicle", ""),
                "date": logs[log_row].get("date_captured", ""),
                "first_sample": int(first[row]),
                "num_samples": int(first[row + 1] - first[row]),
            }
            for row, (scene, log_row) in enumerate(zip(scenes, log_rows))
        ]
        self.names["predefined_splits"] = predefined_splits([scene["name"] for scene in scenes])

    def _ego_poses(self) -> tuple[TokenLookup, np.ndarray]:
        """Lookup of pose tokens, and rows of translation (3) and quaternion (4)."""
        keys, poses = [np.zeros((0, 16), np.uint8)], [np.zeros((0, 7))]
        for records in stream_records(self.paths["ego_pose"], self._on_bytes("ego_pose")):
            keys.append(token_keys([record["token"] for record in records]))
            poses.append(
                np.concatenate((_vectors(records, "translation", 3), _vectors(records, "rotation", 4)), axis=1)
            )
        self.counts["ego_pose"] = sum(map(len, keys))
        return TokenLookup(np.concatenate(keys)), np.concatenate(poses)

    def _sample_data(self) -> None:
        pose_lookup, poses = self._ego_poses()
        parts: dict[str, list[np.ndarray]] = {}
        tokens_are_hex, paths = True, []
        texts: list[str] = []
        for records in stream_records(self.paths["sample_data"], self._on_bytes("sample_data")):
            tokens = [record["token"] for record in records]
            if tokens_are_hex and not are_hex_tokens(tokens):
                tokens_are_hex = False
                texts = [key.tobytes().hex() for part in parts.get("key", []) for key in part]
            texts += tokens if not tokens_are_hex else []
            columns = {
                "key": token_keys(tokens),
                "previous": token_keys([record.get("prev") or "" for record in records]),
                "sample": self._join(self.sample_lookup, records, "sample_data", "sample_token").astype(np.int32),
                "pose": self._join(pose_lookup, records, "sample_data", "ego_pose_token"),
                "calibration": self._join(
                    self.calibration_lookup, records, "sample_data", "calibrated_sensor_token"
                ).astype(np.int32),
                "timestamp_us": np.array([record["timestamp"] for record in records], np.int64),
                "is_key": np.array([record["is_key_frame"] for record in records], bool),
                "size": np.array([(record["width"], record["height"]) for record in records], np.int16).reshape(-1, 2),
            }
            for name, column in columns.items():
                parts.setdefault(name, []).append(column)
            paths.append(pack_strings([record["filename"] for record in records]))
        data = {name: np.concatenate(parts.pop(name)) for name in list(parts)}
        self.counts["sample_data"] = len(data["key"])
        self._save("data_token_key", data["key"])
        if not tokens_are_hex:
            self._save_strings("data_token", texts)
        self._save_paths(paths)
        self._save("data_pose", poses[data.pop("pose")])
        previous = TokenLookup(data["key"]).rows(data.pop("previous"))
        for name in ("sample", "calibration", "timestamp_us", "is_key", "size"):
            self._save(f"data_{name}", data[name])
        channel = self.calibration_channel[data["calibration"]]
        self._save("data_channel", channel.astype(np.int8))
        self._save("data_previous", _chain(previous, channel).astype(np.int32))
        key_rows = np.full((len(self.sample_times), len(self.names["channels"])), -1, np.int32)
        chosen = np.flatnonzero(data["is_key"])
        key_rows[data["sample"][chosen], channel[chosen]] = chosen
        self._save("sample_key_data", key_rows)

    def _save_paths(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
        starts = np.cumsum([0] + [int(offsets[-1]) for _, offsets in parts])
        self._save("data_path_text", np.concatenate([data for data, _ in parts]))
        shifted = [offsets[:-1] + start for (_, offsets), start in zip(parts, starts)]
        self._save("data_path_offset", np.concatenate([*shifted, starts[-1:]]))

    def _annotations(self) -> None:
        instances = self._read("instance")
        category_lookup = _lookup(read_records(self.paths["category"]))
        category = self._join(category_lookup, instances, "instance", "category_token")
        self._save_tokens("instance_token", [record["token"] for record in instances])
        self._save("instance_category", category.astype(np.int16))
        lookups = {"instance": _lookup(instances), "attribute": TokenLookup(np.zeros((0, 16), np.uint8))}
        if "attribute" in self.paths:
            lookups["attribute"] = _lookup(read_records(self.paths["attribute"]))
        parts: dict[str, list[np.ndarray]] = {}
        texts: list[str] = []
        if "sample_annotation" in self.paths:
            path = self.paths["sample_annotation"]
            for records in stream_records(path, self._on_bytes("sample_annotation")):
                texts += [record["token"] for record in records]
                for name, column in self._annotation_columns(records, lookups).items():
                    parts.setdefault(name, []).append(column)
        self.counts["sample_annotation"] = len(texts)
        self._save_annotations(parts, texts)

    def _annotation_columns(
        self, records: list[dict[str, Any]], lookups: dict[str, TokenLookup]
    ) -> dict[str, np.ndarray]:
        attributes = token_keys([(record.get("attribute_tokens") or [""])[0] for record in records])
        visibility = [str(record.get("visibility_token") or "0") for record in records]
        instance = self._join(lookups["instance"], records, "sample_annotation", "instance_token")
        return {
            "sample": self._join(self.sample_lookup, records, "sample_annotation", "sample_token").astype(np.int32),
            "instance": instance.astype(np.int32),
            "attribute": lookups["attribute"].rows(attributes).astype(np.int8),
            "visibility": np.array([int(text) if text.isdigit() else 0 for text in visibility], np.int8),
            "translation": _vectors(records, "translation", 3),
            "size_wlh": _vectors(records, "size", 3),
            "rotation": _vectors(records, "rotation", 4),
            "num_lidar_points": np.array([record["num_lidar_pts"] for record in records], np.int32),
            "num_radar_points": np.array([record["num_radar_pts"] for record in records], np.int32),
            "previous": token_keys([record.get("prev") or "" for record in records]),
            "next": token_keys([record.get("next") or "" for record in records]),
        }

    def _save_annotations(self, parts: dict[str, list[np.ndarray]], texts: list[str]) -> None:
        if not texts:
            self._save("sample_annotation_first", np.zeros(len(self.sample_times) + 1, np.int64))
            return
        data = {name: np.concatenate(column) for name, column in parts.items()}
        lookup = TokenLookup(token_keys(texts))
        previous, following = lookup.rows(data.pop("previous")), lookup.rows(data.pop("next"))
        times = 1e-6 * self.sample_times[data["sample"]]
        data["velocity"] = central_difference(data["translation"], times, previous, following)
        order = np.argsort(data["sample"], kind="stable")  # file order within a sample, as the devkit has it
        for name, column in data.items():
            self._save(f"annotation_{name}", column[order])
        self._save_tokens("annotation_token", [texts[row] for row in order])
        first = np.searchsorted(data["sample"][order], np.arange(len(self.sample_times) + 1))
        self._save("sample_annotation_first", first)

    def _hash_rest(self) -> None:
        for name in ("visibility", "map"):
            if name in self.paths:
                self._read(name)

    def write_manifest(self, version: str, build_s: float) -> None:
        """The last file of an index: its presence says that the others are complete."""
        tables = {
            name: {
                "bytes": self.stats[name].st_size,
                "mtime_ns": self.stats[name].st_mtime_ns,
                "sha256": self.digests[name].hexdigest(),
            }
            for name in self.paths
        }
        joined = "".join(f"{name}:{tables[name]['sha256']}\n" for name in sorted(tables))
        manifest = {
            "schema": SCHEMA_VERSION,
            "version": version,
            "source_sha256": hashlib.sha256(joined.encode()).hexdigest(),
            "tables": tables,
            "counts": self.counts,
            "build_s": round(build_s, 3),
            **self.names,
        }
        (self.out / MANIFEST_NAME).write_text(json.dumps(manifest))


def _lookup(records: list[dict[str, Any]]) -> TokenLookup:
    return TokenLookup(token_keys([record["token"] for record in records]))


def _vectors(records: list[dict[str, Any]], field: str, length: int) -> np.ndarray:
    """Rows of one numeric list field; null becomes NaN, which the checks on use name."""
    try:
        rows = np.array([record[field] for record in records], np.float64)
    except (TypeError, ValueError):
        rows = np.zeros(0)
    if rows.shape == (len(records), length) or not records:
        return rows.reshape(-1, length)
    for record in records:
        _numbers([record[field]], (length,), record["token"])
    raise AssertionError("a ragged column has a ragged row")


def _numbers(values: list[Any], shape: tuple[int, ...], token: str) -> np.ndarray:
    try:
        rows = np.array(values, np.float64)
    except (TypeError, ValueError):
        rows = np.zeros(0)
    if rows.shape != (1, *shape):
        raise DatasetError(f"record {token}: {values[0]} is not an array of numbers of shape {shape}")
    return rows


def _chain(previous: np.ndarray, channel: np.ndarray) -> np.ndarray:
    """Previous rows of the same sensor only: a damaged link ends the chain instead of joining two sensors."""
    linked = previous >= 0
    linked[linked] = channel[previous[linked]] == channel[linked]
    return np.where(linked, previous, -1)


def central_difference(
    translation: np.ndarray, times_s: np.ndarray, previous: np.ndarray, following: np.ndarray
) -> np.ndarray:
    """Velocities (N, 3) of annotations in m/s along the global axes, by the devkit's rule and bit for bit its result.

    Between the previous and the next annotation of the instance where both exist, else from or to the one that does;
    NaN where there is neither or the gap is longer than `MAX_VELOCITY_GAP_S` (twice that for the central difference).
    """
    here = np.arange(len(translation))
    has_previous, has_next = previous >= 0, following >= 0
    first, last = np.where(has_previous, previous, here), np.where(has_next, following, here)
    gap_s = times_s[last] - times_s[first]
    limit_s = np.where(has_previous & has_next, MAX_VELOCITY_GAP_S * 2, MAX_VELOCITY_GAP_S)
    with np.errstate(divide="ignore", invalid="ignore"):
        velocity = (translation[last] - translation[first]) / gap_s[:, None]
    velocity[(gap_s > limit_s) | ~(has_previous | has_next)] = np.nan
    return velocity


def predefined_splits(scene_names: list[str]) -> dict[str, list[str]]:
    """The official splits of nuScenes, restricted to scenes of this data set; splits without any are left out."""
    present = set(scene_names)
    if not any(map(_OFFICIAL_SCENE.match, scene_names)):
        return {}
    from nuscenes.utils.splits import create_splits_scenes  # imports all of the devkit: only where it is needed

    kept = {name: [s for s in scenes if s in present] for name, scenes in create_splits_scenes().items()}
    return {name: scenes for name, scenes in kept.items() if scenes}
