"""Predictions of all tasks in one Parquet file, with all that is needed to score them again: `predictions.parquet`.

One row for each sample, one column for each task (`prediction_arrow`), and in the metadata of the file the protocols,
the model and the data with their hashes, the sensors, the grids and the resolved configuration. Samples are written in
row groups of at most some megabytes under a temporary name, which is renamed when the file is whole: what exists is
complete. Every page carries a checksum.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bevstack.data.class_names import ATTRIBUTES, DETECTION_CLASSES, OCCUPANCY_CLASSES
from bevstack.data.maps import MAP_CLASSES
from bevstack.evaluation.predictions.arrow import EARLIER_TYPES, TOKEN_COLUMN, schema_of
from bevstack.evaluation.predictions.predicted import DENSE_TASKS, TASKS, Predicted, Task
from bevstack.evaluation.predictions.reader import TableReader
from bevstack.types.bev import BevGrid, VoxelGrid
from bevstack.types.trajectory import COMMANDS

FORMAT = "bevstack-predictions-1"
SUFFIX = ".parquet"
META_KEY, CONFIG_KEY = b"bevstack.predictions", b"bevstack.config"
NAMES: dict[str, tuple[str, ...]] = {
    "detection_classes": DETECTION_CLASSES,
    "attributes": ATTRIBUTES,
    "map_classes": tuple(MAP_CLASSES),
    "occupancy_classes": OCCUPANCY_CLASSES,
    "commands": tuple(command.value for command in COMMANDS),
}
"""What the numbers in the columns mean; a file with other names is refused."""


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
            if schema.field(at).type not in (expected.type, EARLIER_TYPES.get(expected.name)):
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
        description = json.loads(metadata[META_KEY])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is a Parquet file, but its metadata has no field '{META_KEY.decode()}'") from error
    if description.get("format") != FORMAT:
        raise ValueError(f"{path}: meta field 'format' is {description.get('format')!r}, not '{FORMAT}'")
    for name, expected in NAMES.items():
        if description.get(name) != list(expected):
            raise ValueError(f"{path}: meta field '{name}' is {description.get(name)!r}, not {list(expected)}")
    return description, metadata.get(CONFIG_KEY, b"").decode()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
