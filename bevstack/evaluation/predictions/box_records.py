"""Box records of the official submission formats, checked and turned into columns, many samples at once.

Sound records are seen to be sound by a few passes over whole columns; only where one of these fails are the records
looked at one by one, to name the fault.
"""

import math
import operator
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, Literal

import numpy as np

from bevstack.data.class_names import ATTRIBUTES, DETECTION_CLASSES
from bevstack.types.errors import did_you_mean

Task = Literal["detection", "tracking"]

MAX_BOXES_PER_SAMPLE = 500
TRACKING_CLASSES = ("bicycle", "bus", "car", "motorcycle", "pedestrian", "trailer", "truck")
"""The classes of nuScenes tracking; a subset of `DETECTION_CLASSES`."""

GEOMETRY_FIELDS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}
"""Field -> numbers in it."""
NAME_FIELD: dict[Task, str] = {"detection": "detection_name", "tracking": "tracking_name"}
SCORE_FIELD: dict[Task, str] = {"detection": "detection_score", "tracking": "tracking_score"}
LABEL_FIELD: dict[Task, str] = {"detection": "attribute_name", "tracking": "tracking_id"}
"""The last field of a record: what sets the two formats apart beside the names."""

_CLASSES: dict[Task, tuple[str, ...]] = {"detection": DETECTION_CLASSES, "tracking": TRACKING_CLASSES}
_CLASS_INDEX: dict[Task, dict[str, int]] = {
    task: {name: DETECTION_CLASSES.index(name) for name in names} for task, names in _CLASSES.items()
}
_ATTRIBUTE_BYTE = {"": 255} | {name: index for index, name in enumerate(ATTRIBUTES)}
_NUM_FIELDS = 8


def task_of(samples: Mapping[str, Any]) -> Task | None:
    """Which format the first box record has; None where there is no record to tell from."""
    for records in samples.values():
        if isinstance(records, list | tuple) and records and isinstance(records[0], dict):
            return "tracking" if "tracking_name" in records[0] else "detection"
    return None


def columns_of(samples: Mapping[str, Any], task: Task, source: str) -> dict[str, Any]:
    """Columns of the boxes of some samples, in order: the geometry, `class_index`, `score`, and `labels`.

    Args:
        samples: Sample token -> box records, as they were parsed.
        task: Which of the two formats.
        source: What the records are called in a message, such as the name of the file.

    Raises:
        ValueError: a record is malformed, or a sample has more than 500 boxes.
    """
    try:
        columns = _columns_of_sound(samples, task)
    except (KeyError, TypeError, ValueError, OverflowError):
        columns = None
    if columns is None:
        _raise_fault(samples, task, source)
        raise ValueError(f"{source}: the samples from {next(iter(samples), None)} on hold values that are not boxes")
    return columns


def _columns_of_sound(samples: Mapping[str, Any], task: Task) -> dict[str, Any] | None:
    counts = list(map(len, samples.values()))
    if max(counts, default=0) > MAX_BOXES_PER_SAMPLE or not set(map(type, samples.values())) <= {list, tuple}:
        return None
    records = list(chain.from_iterable(samples.values()))
    fields = ("sample_token", *GEOMETRY_FIELDS, NAME_FIELD[task], SCORE_FIELD[task], LABEL_FIELD[task])
    values = list(zip(*map(operator.itemgetter(*fields), records))) or [()] * _NUM_FIELDS
    tokens, translation, size, rotation, velocity, names, scores, labels = values
    if not all(map(operator.eq, tokens, chain.from_iterable(map(repeat, samples, counts)))):
        return None
    if any(length != _NUM_FIELDS for length in set(map(len, records))) and _have_no_points(records):
        return None
    columns: dict[str, Any] = {
        "translation": _numbers(translation, 3),
        "size": _numbers(size, 3),
        "rotation": _numbers(rotation, 4),
        "velocity": _velocities(velocity),
        "score": np.array(array("d", scores)),
        "class_index": np.frombuffer(bytes(map(_CLASS_INDEX[task].__getitem__, names)), np.int8),
        "labels": _attributes(labels) if task == "detection" else list(map(_track_id, labels)),
    }
    finite = all(np.isfinite(columns[name]).all() for name in ("translation", "size", "rotation", "score"))
    return columns if finite and bool((columns["size"] > 0).all()) else None


def _numbers(rows: Sequence[Sequence[float]], width: int) -> np.ndarray:
    """(N, width). `array` refuses text and null, which NumPy would convert."""
    if not set(map(len, rows)) <= {width}:
        raise ValueError(f"not {width} numbers in each row")
    return np.array(array("d", list(chain.from_iterable(rows)))).reshape(-1, width)


def _velocities(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    """(N, 2); null is how strict JSON writes an unknown velocity, and becomes NaN."""
    try:
        return _numbers(rows, 2)  # type: ignore[arg-type]
    except TypeError:
        return _numbers([[math.nan if value is None else value for value in row] for row in rows], 2)


def _attributes(names: Sequence[str]) -> np.ndarray:
    return np.frombuffer(bytes(map(_ATTRIBUTE_BYTE.__getitem__, names)), np.int8)


def _track_id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"{value!r} is no identity")
    return str(value)


def _have_no_points(records: Sequence[dict[str, Any]]) -> bool:
    return any(record.get("num_pts", -1) == 0 for record in records)


# ---------------------------------------------------------------- naming a fault


def _raise_fault(samples: Mapping[str, Any], task: Task, source: str) -> None:
    """Raise for the first fault in the order of the file."""
    for token, records in samples.items():
        if not isinstance(records, list | tuple):
            raise ValueError(f"{source}: sample {token} is {_shown(records)}; it must be a list of boxes")
        if len(records) > MAX_BOXES_PER_SAMPLE:
            raise ValueError(
                f"{source}: sample {token} has {len(records)} boxes; the protocol allows {MAX_BOXES_PER_SAMPLE}, "
                "keep those with the best scores"
            )
        for number, record in enumerate(records):
            if fault := _fault_of(record, token, task):
                raise ValueError(f"{source}: sample {token}, box {number}: {fault}")


def _fault_of(record: Any, token: str, task: Task) -> str | None:
    if not isinstance(record, dict):
        return f"is {_shown(record)}; it must be an object with the fields of a box"
    name, score, label = NAME_FIELD[task], SCORE_FIELD[task], LABEL_FIELD[task]
    checks: dict[str, Callable[[Any], str | None]] = {
        "sample_token": lambda value: None if value == token else f"is {_shown(value)}; it stands under {token}",
        "translation": lambda value: _fault_of_numbers(value, 3),
        "size": lambda value: _fault_of_numbers(value, 3, positive=True),
        "rotation": lambda value: _fault_of_numbers(value, 4),
        "velocity": _fault_of_velocity,
        name: lambda value: _fault_of_name(value, _CLASSES[task], "class"),
        score: lambda value: _fault_of_numbers([value], 1),
        label: _fault_of_attribute if task == "detection" else _fault_of_track,
    }
    for field, check in checks.items():
        if field not in record:
            return f"field '{field}' is missing"
        if fault := check(record[field]):
            return f"field '{field}' {fault}"
    if record.get("num_pts", -1) == 0:
        return "field 'num_pts' is 0; points are counted in annotated boxes only, leave the field out"
    return None


def _fault_of_numbers(value: Any, width: int, positive: bool = False) -> str | None:
    shown = _shown(value[0] if width == 1 else value)
    if not isinstance(value, list | tuple) or len(value) != width:
        return f"is {shown}; it must be {width} numbers"
    for number in value:
        if not isinstance(number, int | float):
            return f"is {shown}; it must be {'a number' if width == 1 else f'{width} numbers'}"
        if not math.isfinite(number):
            return f"is {shown}; it must be finite"
        if positive and number <= 0:
            return f"is {shown}; it must be positive"
    return None


def _fault_of_velocity(value: Any) -> str | None:
    if (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(v is None or isinstance(v, int | float) for v in value)
    ):
        return None
    return f"is {_shown(value)}; it must be 2 numbers (NaN or null where unknown)"


def _fault_of_name(value: Any, valid: Sequence[str], what: str) -> str | None:
    if value in valid:
        return None
    hint = did_you_mean(value, valid) if isinstance(value, str) else ""
    return f"is {_shown(value)}, an unknown {what}{hint}; it must be one of {', '.join(valid)}"


def _fault_of_attribute(value: Any) -> str | None:
    return None if value == "" else _fault_of_name(value, ATTRIBUTES, "attribute")


def _fault_of_track(value: Any) -> str | None:
    try:
        _track_id(value)
    except ValueError:
        return f"is {_shown(value)}; it must be a text that names the object"
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
