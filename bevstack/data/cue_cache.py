"""The cache of cues: what a captioner said of each key frame, embedded, one Parquet file a scene in `ROOT/cues/NAME/`.

`cues.json` beside the scenes says how all of them were made: captioner, prompts, refinement, text encoder, cameras. A
scene file holds any number of its frames, so that an interrupted call goes on frame by frame; it is written under a
temporary name and renamed. A row without an embedding is an answer that is no cue, with the name of its fault.
"""

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from bevstack.types.cue import Cue
from bevstack.types.errors import DatasetError

_LOG = logging.getLogger(__name__)

FOLDER = "cues"
MANIFEST_NAME = "cues.json"
SCHEMA_VERSION = 1

Refinement = Literal["none", "annotations", "estimates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CueSettings:
    """How the cues of a cache are made."""

    captioner: str
    prompt_version: str
    encoder: str
    refinement: Refinement
    cameras: tuple[str, ...]
    width: int
    """Numbers in an embedding."""

    @property
    def source(self) -> str:
        """As `Cue.source` has it."""
        return f"{self.captioner}, prompts {self.prompt_version}, refinement {self.refinement}, {self.encoder}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CueRow:
    """What the cache holds of one frame."""

    sample_token: str
    timestamp_us: int
    picture_hash: str
    """`picture_hash` of the pictures that it describes."""
    raw_text: str
    """Of the captioner."""
    text: str
    """After refinement; "" where the answer was no cue."""
    fault: str
    """Why the answer is no cue; "" where it is one."""
    embedding: Float32[np.ndarray, " E"] | None
    mirrored_embedding: Float32[np.ndarray, " E"] | None

    def cue(self, source: str) -> Cue:
        """As a frame carries it.

        Raises:
            ValueError: there is no embedding, or its length is not 1.
        """
        if self.embedding is None:
            raise ValueError(f"the answer about frame {self.sample_token} is no cue: {self.fault}")
        return Cue(
            text=self.text,
            embedding=self.embedding,
            mirrored_embedding=self.mirrored_embedding,
            frame_token=self.sample_token,
            timestamp_us=self.timestamp_us,
            source=source,
        )


class CueCache:
    """The cues of a data set. Scenes are read when they are first asked for.

    Args:
        folder: the cache, `cue_folder(root, name)`.

    Raises:
        DatasetError: there is none, or its `cues.json` is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.settings = _read_settings(self.folder)
        self._scenes: dict[str, tuple[CueRow, ...]] = {}

    @property
    def scene_names(self) -> tuple[str, ...]:
        """Scenes of which there is a file."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.parquet")))

    def rows(self, scene: str) -> tuple[CueRow, ...]:
        """The rows of a scene by time; none where it has no file. A damaged file is named in the log and has none."""
        if scene not in self._scenes:
            try:
                self._scenes[scene] = read_scene(self.folder / f"{scene}.parquet", self.settings)
            except DatasetError as error:
                _LOG.warning("%s; its frames go on without a cue", error)
                self._scenes[scene] = ()
        return self._scenes[scene]

    def row(self, scene: str, token: str) -> CueRow | None:
        """The row of a frame."""
        return next((row for row in self.rows(scene) if row.sample_token == token), None)


def cue_folder(root: str | Path, name: str) -> Path:
    """Where the cues of this name are.

    Raises:
        ValueError: the name is no name of a folder.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ValueError(f"cue name {name!r} must be the name of a folder in {Path(root) / FOLDER}")
    return Path(root) / FOLDER / name


def find_cue_cache(root: str | Path, name: str) -> CueCache | None:
    """The cues of this name, or None where there are none: said once in the log, and a model runs on without them."""
    folder = cue_folder(root, name)
    try:
        return CueCache(folder)
    except DatasetError as error:
        _LOG.warning("%s; all frames go on without a cue", error)
        return None


def claim_cache(folder: Path, settings: CueSettings) -> None:
    """Make the folder for cues of these settings, or accept the one that has them.

    Raises:
        DatasetError: it holds cues of other settings, or the note about them is damaged.
    """
    note = folder / MANIFEST_NAME
    if note.exists():
        present = _read_settings(folder)
        if present != settings:
            different = [key for key, value in asdict(settings).items() if getattr(present, key) != value]
            raise DatasetError(
                f"{folder} holds cues made otherwise ({', '.join(different)}: {getattr(present, different[0])}): "
                "choose another --name, or delete the folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    _replace(note, json.dumps({"schema": SCHEMA_VERSION, **asdict(settings)}, indent=1).encode())


def read_scene(path: Path, settings: CueSettings) -> tuple[CueRow, ...]:
    """The rows of a scene file by time; none where there is no file.

    Raises:
        DatasetError: the file is damaged, or its rows were made otherwise than the cache says.
    """
    if not path.is_file():
        return ()
    try:
        table = pq.read_table(path)
        made = {name: set(table.column(name).to_pylist()) for name in _CONSTANT}
        fields: dict[str, list] = {name: table.column(name).to_pylist() for name in _PLAIN}
        fields |= {name: _vectors(table.column(name), settings.width) for name in _VECTORS}
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DatasetError(
            f"{path} is damaged ({' '.join(str(error).split())[:120]}): delete it and make its cues again"
        ) from error
    for name, values in made.items():
        others = values - {getattr(settings, name)}
        if others:
            raise DatasetError(f"{path} has cues with {name} {others.pop()}, the cache is of {getattr(settings, name)}")
    rows = [
        CueRow(**{name: column[i] for name, column in fields.items()})  # type: ignore[arg-type]
        for i in range(table.num_rows)
    ]
    return tuple(sorted(rows, key=lambda row: row.timestamp_us))


def write_scene(path: Path, rows: Iterable[CueRow], settings: CueSettings) -> None:
    """Write the rows of a scene, by time, under a temporary name, and rename it."""
    ordered = sorted(rows, key=lambda row: row.timestamp_us)
    columns: dict[str, list] = {name: [getattr(row, name) for row in ordered] for name in _PLAIN}
    for name in _VECTORS:
        vectors = (getattr(row, name) for row in ordered)
        columns[name] = [None if vector is None else vector.tolist() for vector in vectors]
    columns |= {name: [getattr(settings, name)] * len(ordered) for name in _CONSTANT}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=_schema(settings)), sink, compression="zstd")
    _replace(path, sink.getvalue().to_pybytes())


_PLAIN = ("sample_token", "timestamp_us", "picture_hash", "raw_text", "text", "fault")
_VECTORS = ("embedding", "mirrored_embedding")
_CONSTANT = ("captioner", "prompt_version", "encoder", "refinement")


def _schema(settings: CueSettings) -> pa.Schema:
    texts = {name: pa.int64() if name == "timestamp_us" else pa.string() for name in _PLAIN}
    vectors = {name: pa.list_(pa.float32()) for name in _VECTORS}
    return pa.schema({**texts, **vectors, **{name: pa.string() for name in _CONSTANT}})


def _vectors(column: pa.ChunkedArray, width: int) -> list[np.ndarray | None]:
    vectors = [None if row is None else np.asarray(row, np.float32) for row in column.to_pylist()]
    for vector in (vector for vector in vectors if vector is not None):
        if vector.shape != (width,) or not abs(float(np.linalg.norm(vector)) - 1.0) < 1e-3:
            raise ValueError(f"an embedding has not {width} numbers, or not the length 1")
    return vectors


def _read_settings(folder: Path) -> CueSettings:
    note = folder / MANIFEST_NAME
    try:
        content = json.loads(note.read_text())
    except OSError as error:
        raise DatasetError(f"there are no cues in {folder}: make them with bevstack cues make ROOT") from error
    except ValueError as error:
        raise DatasetError(f"{note} is damaged ({error}): delete {folder} and make the cues again") from error
    if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA_VERSION:
        raise DatasetError(f"{note} is of another version of this program: make the cues again under another name")
    try:
        return CueSettings(**{**content, "cameras": tuple(content["cameras"])})
    except (TypeError, KeyError) as error:
        raise DatasetError(f"{note} is damaged ({error}): delete {folder} and make the cues again") from error


def _replace(path: Path, content: bytes) -> None:
    scratch = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
