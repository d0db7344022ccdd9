"""Boxes of many samples as columns: what every protocol on boxes scores, a hundredth of the size of objects.

All values are those of the official files, bit for bit: the nuScenes `global` frame, w l h, quaternions w x y z,
float64. The order of samples and of boxes within a sample is kept, since it decides between boxes of equal score.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from gc import disable, enable, isenabled
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int8, Int32, Int64

from bevstack.data.class_names import ATTRIBUTES, DETECTION_CLASSES, NO_ATTRIBUTE
from bevstack.evaluation.predictions.box_records import Task, columns_of, task_of
from bevstack.evaluation.predictions.submission_stream import CHUNK_BYTES, Samples, read_in_pieces

GROUND_TRUTH_SCORE = -1.0
"""What an annotated box has in the place of a score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxColumns:
    """N boxes of S samples. Boxes with identities carry `track_index`, others None."""

    sample_tokens: tuple[str, ...]
    sample_index: Int32[np.ndarray, " N"]
    """Which sample; ascending."""
    translation: Float64[np.ndarray, "N 3"]
    size_wlh: Float64[np.ndarray, "N 3"]
    rotation_wxyz: Float64[np.ndarray, "N 4"]
    velocity: Float64[np.ndarray, "N 2"]
    """Metres per second in the global frame; NaN where unknown."""
    class_index: Int8[np.ndarray, " N"]
    """Index into `DETECTION_CLASSES`."""
    score: Float64[np.ndarray, " N"]
    """-1 in annotated boxes."""
    attribute_index: Int8[np.ndarray, " N"]
    """Index into `ATTRIBUTES`, -1 for none."""
    track_index: Int64[np.ndarray, " N"] | None = None
    """Index into `track_ids`."""
    track_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in self.column_names}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns must be of one length, they are {lengths}")
        index = self.sample_index
        if len(index) and (index[0] < 0 or index[-1] >= len(self.sample_tokens) or (np.diff(index) < 0).any()):
            raise ValueError(
                f"sample_index must ascend within [0, {len(self.sample_tokens)}), see the order of samples"
            )

    def __len__(self) -> int:
        return len(self.sample_index)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the arrays with a row for each box."""
        names = (field.name for field in fields(self) if field.name not in ("sample_tokens", "track_ids"))
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def sample_first(self) -> Int64[np.ndarray, " S+1"]:
        """Boxes of sample s are the rows from `sample_first[s]` to `sample_first[s + 1] - 1`."""
        return np.searchsorted(self.sample_index, np.arange(len(self.sample_tokens) + 1))

    @classmethod
    def empty(cls, sample_tokens: Sequence[str] = ()) -> "BoxColumns":
        """Samples without a box."""
        return cls(
            sample_tokens=tuple(sample_tokens),
            sample_index=np.zeros(0, np.int32),
            translation=np.zeros((0, 3)),
            size_wlh=np.zeros((0, 3)),
            rotation_wxyz=np.zeros((0, 4)),
            velocity=np.zeros((0, 2)),
            class_index=np.zeros(0, np.int8),
            score=np.zeros(0),
            attribute_index=np.zeros(0, np.int8),
        )

    def take(self, rows: np.ndarray) -> "BoxColumns":
        """Some boxes of the same samples: a mask, or row numbers whose samples ascend."""
        return replace(self, **{name: getattr(self, name)[rows] for name in self.column_names})

    def select(self, sample_tokens: Sequence[str]) -> "BoxColumns":
        """The boxes of some samples, in the order given; the others are left out.

        Raises:
            ValueError: a sample is missing; one without objects needs an empty list.
        """
        place = {token: index for index, token in enumerate(self.sample_tokens)}
        missing = [token for token in sample_tokens if token not in place]
        if missing:
            raise ValueError(
                f"the predictions lack {len(missing)} of {len(sample_tokens)} samples, the first is {missing[0]}; "
                "a sample without objects needs an empty list"
            )
        chosen = np.fromiter((place[token] for token in sample_tokens), np.int64, len(sample_tokens))
        first = self.sample_first
        counts = (first[1:] - first[:-1])[chosen]
        rows = np.repeat(first[chosen] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        index = np.repeat(np.arange(len(chosen), dtype=np.int32), counts)
        columns = {name: getattr(self, name)[rows] for name in self.column_names}
        return replace(self, sample_tokens=tuple(sample_tokens), **(columns | {"sample_index": index}))

    @classmethod
    def concatenate(cls, parts: Iterable["BoxColumns"]) -> "BoxColumns":
        """Several sets one after the other.

        Raises:
            ValueError: two of them hold the same sample, or only some of them have identities.
        """
        parts = list(parts)
        if not parts:
            return cls.empty()
        tokens = tuple(token for part in parts for token in part.sample_tokens)
        _check_unique(tokens)
        names = set(parts[0].column_names)
        if any(set(part.column_names) != names for part in parts):
            raise ValueError("either all sets of boxes have a track_index or none, they are mixed")
        firsts = accumulate((len(part.sample_tokens) for part in parts), initial=0)
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        columns["sample_index"] = np.concatenate(
            [part.sample_index + np.int32(first) for part, first in zip(parts, firsts, strict=False)]
        )
        ids: tuple[str, ...] = ()
        if "track_index" in names:
            columns["track_index"], ids = _joined_tracks([(part.track_index, part.track_ids) for part in parts])
        return cls(sample_tokens=tokens, track_ids=ids, **columns)

    @classmethod
    def from_records(
        cls, results: Mapping[str, Any], *, task: Task | None = None, source: str = "the predictions"
    ) -> "BoxColumns":
        """Checked columns of the official box records (sample token -> records).

        Args:
            results: As under `results` in an official file.
            task: The format; by default that of the first record.
            source: What messages call it.

        Raises:
            ValueError: a record is malformed; the message names sample, box and field.
        """
        builder = _Builder(source, task)
        builder.add(results)
        return builder.columns()

    def to_records(self) -> dict[str, list[dict[str, Any]]]:
        """The official box records by sample token; those of tracking where there is a `track_index`."""
        geometry = zip(
            self.translation.tolist(), self.size_wlh.tolist(), self.rotation_wxyz.tolist(), self.velocity.tolist()
        )
        names = [DETECTION_CLASSES[index] for index in self.class_index.tolist()]
        if self.track_index is None:
            keys = ("detection_name", "detection_score", "attribute_name")
            labels = [ATTRIBUTES[k] if k != NO_ATTRIBUTE else "" for k in self.attribute_index.tolist()]
        else:
            keys = ("tracking_name", "tracking_score", "tracking_id")
            labels = [self.track_ids[index] for index in self.track_index.tolist()]
        records: dict[str, list[dict[str, Any]]] = {token: [] for token in self.sample_tokens}
        rows = zip(self.sample_index.tolist(), geometry, names, self.score.tolist(), labels)
        for index, (translation, size, rotation, velocity), name, score, label in rows:
            token = self.sample_tokens[index]
            box = {"translation": translation, "size": size, "rotation": rotation, "velocity": velocity}
            records[token].append({"sample_token": token, **box, **dict(zip(keys, (name, score, label)))})
        return records


def read_submission_columns(
    path: str | Path, *, task: Task | None = None, chunk_bytes: int = CHUNK_BYTES
) -> tuple[BoxColumns, dict[str, Any]]:
    """Boxes and `meta` of an official detection or tracking file.

    Args:
        path: The JSON file.
        task: The format; by default that of the first record.
        chunk_bytes: How much text is parsed at once.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is cut short, or a record is malformed; the message names file, sample, box and field.
    """
    builder = _Builder(str(path), task)
    with _no_garbage_collection():
        meta = read_in_pieces(path, builder.add, chunk_bytes)
    return builder.columns(), meta


class _Builder:
    """Columns that grow by the samples of one piece of a file at a time."""

    def __init__(self, source: str, task: Task | None) -> None:
        self.source, self.task = source, task
        self.tokens: list[str] = []
        self.counts: list[int] = []
        self.pieces: dict[str, list[np.ndarray]] = {}
        self.track_of: dict[str, int] = {}

    def add(self, samples: Mapping[str, Any] | Samples) -> None:
        self.task = self.task or task_of(samples)
        columns = columns_of(samples, self.task or "detection", self.source)
        labels = columns.pop("labels")
        if self.task == "tracking":
            labels = np.array([self.track_of.setdefault(name, len(self.track_of)) for name in labels], np.int64)
        for name, column in (columns | {"labels": labels}).items():
            self.pieces.setdefault(name, []).append(column)
        self.tokens += samples
        self.counts += map(len, samples.values())

    def columns(self) -> BoxColumns:
        _check_unique(self.tokens, self.source)
        if not self.tokens:
            return BoxColumns.empty()
        joined = {name: np.concatenate(self.pieces.pop(name)) for name in list(self.pieces)}
        labels, count = joined.pop("labels"), len(joined["score"])
        is_tracking = self.task == "tracking"
        return BoxColumns(
            sample_tokens=tuple(self.tokens),
            sample_index=np.repeat(np.arange(len(self.tokens), dtype=np.int32), self.counts),
            size_wlh=joined.pop("size"),
            rotation_wxyz=joined.pop("rotation"),
            attribute_index=np.full(count, NO_ATTRIBUTE, np.int8) if is_tracking else labels,
            track_index=labels if is_tracking else None,
            track_ids=tuple(self.track_of),
            **joined,
        )


def _check_unique(tokens: Sequence[str], source: str = "the predictions") -> None:
    if len(set(tokens)) < len(tokens):
        twice = next(token for place, token in enumerate(tokens) if token in tokens[:place])
        raise ValueError(f"{source}: sample {twice} is there twice")


def _joined_tracks(parts: Sequence[tuple[Any, tuple[str, ...]]]) -> tuple[np.ndarray, tuple[str, ...]]:
    """One numbering of the identities of all parts; equal names are one identity."""
    track_of: dict[str, int] = {}
    joined = []
    for index, ids in parts:
        number = np.array([track_of.setdefault(name, len(track_of)) for name in ids], np.int64)
        joined.append(number[index] if len(ids) else index)
    return np.concatenate(joined), tuple(track_of)


@contextmanager
def _no_garbage_collection():  # type: ignore[no-untyped-def]
    """Millions of short-lived records without cycles: collecting only costs time."""
    collects = isenabled()
    disable()
    try:
        yield
    finally:
        if collects:
            enable()
