"""Predictions of all tasks in one Parquet file, with all that is needed to score them again: `predictions.parquet`.

One row for each sample, one column for each task (`prediction_arrow`), and in the metadata of the file the protocols,
the model and the data with their hashes, the sensors, the grids and the resolved configuration. Samples are written in
row groups of at most some megabytes under a temporary name, which is renamed when the file is whole: what exists is
complete. Every page carries a checksum.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

import bevstack
from bevstack.data.class_names import ATTRIBUTES, DETECTION_CLASSES, OCCUPANCY_CLASSES
from bevstack.data.maps import MAP_CLASSES
from bevstack.evaluation.ego_future import COMMANDS
from bevstack.evaluation.predicted import DENSE_TASKS, TASKS, Predicted, Task
from bevstack.evaluation.prediction_arrow import ARROW_TYPES, TOKEN_COLUMN, schema_of, to_table
from bevstack.evaluation.prediction_reader import TableReader
from bevstack.evaluation.protocols import protocols_of
from bevstack.types.bev import OCC3D_GRID, OPENOCCUPANCY_GRID, BevGrid, VoxelGrid

FORMAT = "bevstack-predictions-1"
SUFFIX = ".parquet"
ROW_GROUP_BYTES, ROW_GROUP_SAMPLES = 32 << 20, 256
"""A row group is written when it reaches one of the two."""

_ROWS_PER_PAGE = 4
"""Where a value is as large as an occupancy grid: pages stay small, and what is damaged can be named."""

_META_KEY, _CONFIG_KEY = b"bevstack.predictions", b"bevstack.config"
_NAMES: dict[str, tuple[str, ...]] = {
    "detection_classes": DETECTION_CLASSES,
    "attributes": ATTRIBUTES,
    "map_classes": tuple(MAP_CLASSES),
    "occupancy_classes": OCCUPANCY_CLASSES,
    "commands": tuple(command.value for command in COMMANDS),
}
"""What the numbers in the columns mean; a file with other names is refused."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionMeta:
    """Where predictions come from. What a file of another system does not say is empty."""

    row: str = "submission"
    """Name of the row in a table: the sensors of a model (`fusion`, `lidar`, `camera`), or "submission"."""
    sensors: Mapping[str, bool] = field(default_factory=dict)
    """As in the official files: `use_camera`, `use_lidar`, `use_radar`, `use_map`, `use_external`."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Name, `weights_sha256`, parameters, versions."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Version, split and hash of the tables that were predicted on."""
    config: str = ""
    """The resolved configuration as YAML."""

    def __post_init__(self) -> None:
        for name, value in self.sensors.items():
            if not isinstance(value, bool):
                raise ValueError(f"field '{name}' of 'sensors' is {value!r}; it must be true or false")


# ---------------------------------------------------------------- writing


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
            **_NAMES,
        }
        schema = schema_of(self._tasks).with_metadata(
            {_META_KEY: json.dumps(description), _CONFIG_KEY: self.meta.config}
        )
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


# ---------------------------------------------------------------- reading


class PredictionStore:
    """An open store. What it says of itself is checked when it is opened, values when they are read.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is cut short or no store, or its metadata or samples are not as they should be.
    """

    kind = "bevstack store"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {self.path}; 'bevstack predict' writes one")
        try:
            self._file = pq.ParquetFile(self.path, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{self.path} ({self.path.stat().st_size} bytes) is no whole Parquet file: its end, which says where "
                f"the samples are, cannot be read ({_short(error)}); copy or write it again"
            ) from error
        self.description, config = _described(self.path, self._file.schema_arrow.metadata or {})
        self.tasks: tuple[Task, ...] = self._checked_tasks()
        self.meta = self._meta(config)
        self._reader = self._table_reader()
        self._group_tokens = [self._read(group, ()).column(0).to_pylist() for group in range(self._file.num_row_groups)]
        self.sample_tokens = tuple(token for tokens in self._group_tokens for token in tokens)
        if len(set(self.sample_tokens)) < len(self.sample_tokens):
            seen: set[str] = set()
            twice = next(token for token in self.sample_tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
            raise ValueError(f"{self.path}: sample {twice} is there twice")

    def read(self, *tasks: Task) -> Predicted:
        """All samples of some tasks, by default of all.

        Raises:
            ValueError: a part of the file is damaged, or a value is not sound; names file, sample and field.
        """
        chosen = self._chosen(tasks)
        groups = [self._read(group, chosen) for group in range(self._file.num_row_groups)]
        return self._reader.read(pa.concat_tables(groups or [schema_of(chosen).empty_table()]))

    def parts(self, *tasks: Task) -> Iterator[Predicted]:
        """The same, a row group at a time."""
        chosen = self._chosen(tasks)
        for group in range(self._file.num_row_groups):
            yield self._reader.read(self._read(group, chosen))

    def _chosen(self, tasks: Sequence[Task]) -> tuple[Task, ...]:
        lacking = [task for task in tasks if task not in self.tasks]
        if lacking:
            raise ValueError(f"{self.path} has no field '{lacking[0]}'; it has {', '.join(self.tasks)}")
        return tuple(task for task in self.tasks if not tasks or task in tasks)

    def _read(self, group: int, tasks: Sequence[Task]) -> pa.Table:
        columns = [TOKEN_COLUMN, *tasks]
        try:
            return self._file.read_row_group(group, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(self._where_damaged(group, columns, error)) from error

    def _where_damaged(self, group: int, columns: Sequence[str], error: Exception) -> str:
        """The first field that cannot be read, and the first of its samples."""
        for column in columns:
            whole = 0
            try:
                for batch in self._file.iter_batches(1, row_groups=[group], columns=[column], use_threads=False):
                    whole += batch.num_rows
            except (pa.ArrowException, OSError):
                place = f"row group {group}"
                if column != TOKEN_COLUMN:
                    place = f"sample {self._group_tokens[group][whole]} (or one soon after it)"
                return (
                    f"{self.path}: {place}: field '{column}' is damaged ({_short(error)}); copy or write the file again"
                )
        return f"{self.path}: row group {group} cannot be read ({_short(error)})"

    def _checked_tasks(self) -> tuple[Task, ...]:
        schema, names = self._file.schema_arrow, self.description.get("tasks")
        if not isinstance(names, list) or any(name not in TASKS for name in names):
            raise ValueError(f"{self.path}: meta field 'tasks' is {names!r}; it must list some of {', '.join(TASKS)}")
        for expected in schema_of(names):
            at = schema.get_field_index(expected.name)
            if at < 0:
                raise ValueError(f"{self.path}: field '{expected.name}' is missing, though the file says it has it")
            if schema.field(at).type != expected.type:
                raise ValueError(
                    f"{self.path}: field '{expected.name}' is {schema.field(at).type}, not {expected.type}"
                )
        return tuple(names)

    def _meta(self, config: str) -> PredictionMeta:
        found = {name: self.description.get(name) for name in ("row", "sensors", "model", "data")}
        for name, value in found.items():
            if not isinstance(value, str if name == "row" else dict):
                raise ValueError(f"{self.path}: meta field '{name}' is {value!r}")
        try:
            return PredictionMeta(**found, config=config)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"{self.path}: meta {error}") from error

    def _table_reader(self) -> TableReader:
        kinds: dict[str, Any] = {"map": BevGrid, "occupancy": VoxelGrid}
        grids: dict[str, Any] = {}
        for task in (task for task in DENSE_TASKS if task in self.tasks and self._file.metadata.num_rows):
            name = f"{task}_grid"
            try:
                grids[name] = kinds[task](**self.description[name])
            except (KeyError, TypeError, ValueError) as error:
                found = self.description.get(name)
                raise ValueError(
                    f"{self.path}: meta field '{name}' is {found!r}, which is no grid ({error})"
                ) from error
        planning = self.description.get("planning")
        if "planning" in self.tasks and not isinstance(planning, dict):
            raise ValueError(f"{self.path}: meta field 'planning' is {planning!r}")
        return TableReader(str(self.path), planning=planning, **grids)


def _described(path: Path, metadata: Mapping[bytes, bytes]) -> tuple[dict[str, Any], str]:
    try:
        description = json.loads(metadata[_META_KEY])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is a Parquet file, but its metadata has no field '{_META_KEY.decode()}'") from error
    if description.get("format") != FORMAT:
        raise ValueError(f"{path}: meta field 'format' is {description.get('format')!r}, not '{FORMAT}'")
    for name, expected in _NAMES.items():
        if description.get(name) != list(expected):
            raise ValueError(f"{path}: meta field '{name}' is {description.get(name)!r}, not {list(expected)}")
    return description, metadata.get(_CONFIG_KEY, b"").decode()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
