"""Writes a store of predictions (`prediction_store`), complete or not at all, a row group at a time."""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

import bevstack
from bevstack.evaluation.predictions.arrow import ARROW_TYPES, schema_of, to_table
from bevstack.evaluation.predictions.predicted import DENSE_TASKS, Predicted, Task
from bevstack.evaluation.predictions.store import (
    CONFIG_KEY,
    FORMAT,
    META_KEY,
    NAMES,
    PredictionMeta,
    PredictionStore,
)
from bevstack.evaluation.protocols import protocols_of
from bevstack.types.bev import OCC3D_GRID, OPENOCCUPANCY_GRID, VoxelGrid

ROW_GROUP_BYTES, ROW_GROUP_SAMPLES = 32 << 20, 256
"""A row group is written when it reaches one of the two."""

_ROWS_PER_PAGE = 4
"""Where a value is as large as an occupancy grid: pages stay small, and what is damaged can be named."""

_OF_GRID: dict[VoxelGrid, tuple[str, ...]] = {
    OCC3D_GRID: ("occ/occ3d-miou", "occ/occ3d-miou-lidar-mask", "occ/occ3d-miou-no-mask", "occ/rayiou"),
    OPENOCCUPANCY_GRID: ("occ/openoccupancy", "occ/openoccupancy-in-ego", "occ/rayiou-other-grid"),
}
_OF_OTHER_GRID = ("occ/all-voxels", "occ/rayiou-other-grid")
"""Protocols of occupancy, by grid."""
_OF_LINES = "map/chamfer-ap"
"""The protocol of map lines, which are no part of a store."""
_REPEATING = ("class_index", "attribute_index", "track_id", "instance")
"""Fields of few different values."""


class PredictionWriter:
    """Writes a store sample by sample; memory does not grow with their number. A context manager.

    Leaving the context by an exception leaves no file behind, and an older one untouched.

    Args:
        path: The file; one that exists is replaced when the new one is whole.
        meta: Where the predictions come from.
    """

    def __init__(self, path: str | Path, meta: PredictionMeta) -> None:
        self.path, self.meta = Path(path), meta
        self._common: dict[str, Any] | None = None
        self._tasks: tuple[Task, ...] = ()
        self._waiting: list[pa.Table] = []
        self._tokens: set[str] = set()
        self._writer: pq.ParquetWriter | None = None
        self._temporary: Path | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        os.close(handle)
        self._temporary = Path(name)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._temporary is not None
        try:
            if kind is None:
                self._flush()
            if self._writer is not None:
                self._writer.close()
            if kind is None:
                os.chmod(self._temporary, 0o644)
                os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def add(self, predicted: Predicted) -> None:
        """Write some samples.

        Raises:
            ValueError: a sample is there already, or the tasks or grids are not those of the first samples.
        """
        common = _common(predicted)
        if self._common is None:
            self._common, self._tasks = common, predicted.tasks
        first = predicted.sample_tokens[0] if predicted.sample_tokens else "none"
        if predicted.tasks != self._tasks:
            odd = sorted(set(predicted.tasks) ^ set(self._tasks))
            raise ValueError(
                f"{self.path}: sample {first}: field '{odd[0]}' must be in all samples of a file or in none"
            )
        for name, value in common.items():
            if value != self._common[name]:
                raise ValueError(
                    f"{self.path}: sample {first}: '{name}' is {value}, before it was {self._common[name]}"
                )
        for token in predicted.sample_tokens:
            if token in self._tokens:
                raise ValueError(f"{self.path}: sample {token} is there twice")
            self._tokens.add(token)
        self._waiting.append(to_table(predicted))
        waiting = sum(table.nbytes for table in self._waiting), sum(table.num_rows for table in self._waiting)
        if waiting[0] >= ROW_GROUP_BYTES or waiting[1] >= ROW_GROUP_SAMPLES:
            self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = self._open()
        if self._waiting:
            table = pa.concat_tables(self._waiting).combine_chunks()
            self._writer.write_table(table.cast(self._writer.schema), row_group_size=ROW_GROUP_SAMPLES)
            self._waiting.clear()

    def _open(self) -> pq.ParquetWriter:
        description = {
            "format": FORMAT,
            "tasks": list(self._tasks),
            "protocols": list(_protocols(self._tasks, (self._common or {}).get("occupancy_grid"))),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "bevstack_version": bevstack.__version__,
            **{name: value for name, value in asdict(self.meta).items() if name != "config"},
            **(self._common or {}),
            **NAMES,
        }
        schema = schema_of(self._tasks).with_metadata({META_KEY: json.dumps(description), CONFIG_KEY: self.meta.config})
        leaves = [f"{task}.list.element.{name}" for task in self._tasks for name in _REPEATING if _has(task, name)]
        return pq.ParquetWriter(
            self._temporary,
            schema,
            compression="zstd",
            use_dictionary=leaves,
            use_byte_stream_split=["map.list.element"] if "map" in self._tasks else False,
            write_statistics=False,
            write_page_checksum=True,
            write_batch_size=_ROWS_PER_PAGE if "occupancy" in self._tasks else None,
        )


def write_predictions(path: str | Path, predicted: Predicted, meta: PredictionMeta) -> Path:
    """Write a store of predictions that are in memory."""
    with PredictionWriter(path, meta) as writer:
        writer.add(predicted)
    return Path(path)


def join_stores(path: str | Path, parts: Sequence[Path]) -> Path:
    """Write the samples of several stores of one model, one after the other, as one store, and remove the parts."""
    stores = [PredictionStore(part) for part in parts]
    with PredictionWriter(path, stores[0].meta) as writer:
        for store in stores:
            for predicted in store.parts():
                writer.add(predicted)
    for part in parts:
        part.unlink()
    return Path(path)


def _has(task: Task, name: str) -> bool:
    kind = ARROW_TYPES[task]
    return pa.types.is_list(kind) and pa.types.is_struct(kind.value_type) and kind.value_type.get_field_index(name) >= 0


def _common(predicted: Predicted) -> dict[str, Any]:
    """What is the same for all samples, as it stands in the metadata."""
    common: dict[str, Any] = {}
    for task in DENSE_TASKS:
        grids = {each.grid for each in getattr(predicted, task) or ()}
        if len(grids) > 1:
            raise ValueError(
                f"sample {predicted.sample_tokens[0]}: field '{task}' lies on {len(grids)} different grids"
            )
        common |= {f"{task}_grid": asdict(grid) for grid in grids}
    if (plans := predicted.planning) is not None:
        names = ("uses_ego_status", "command_source", "frame")
        common["planning"] = {name: getattr(plans, name) for name in names}
    return json.loads(json.dumps(common))


def _protocols(tasks: Sequence[Task], occupancy_grid: Mapping[str, Any] | None) -> Iterator[str]:
    """Identities of the protocols that score these tasks."""
    for task in tasks:
        if task == "occupancy":
            grid = VoxelGrid(**occupancy_grid) if occupancy_grid else None
            yield from _OF_GRID.get(grid, _OF_OTHER_GRID) if grid else ()
        elif task in ("motion", "found_motion"):
            is_named = task == "motion"
            yield from (each for each in protocols_of("motion") if each.startswith("motion/nusc") == is_named)
        else:
            yield from (each for each in protocols_of(task) if each != _OF_LINES)
