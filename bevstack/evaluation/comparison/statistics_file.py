"""Dataclasses of arrays, texts and numbers as one compressed file of arrays, and back: nothing in it is ever run.

The entry `head` is JSON that says how the parts hang together, every other entry is an array. A dataclass is written
with the name of its kind; reading knows the kinds that it is given, and no others.
"""

import json
import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

_HEAD = "head"


def write_arrays(path: str | Path, value: Any, form: str) -> Path:
    """Write the file, complete or not at all.

    Args:
        path: The file.
        value: A dataclass whose fields are dataclasses, mappings, sequences, arrays, texts, numbers, bools or None.
        form: Name and version of the format.

    Raises:
        TypeError: a part is of another kind.
    """
    path, arrays = Path(path), dict[str, np.ndarray]()
    head = json.dumps({"format": form, "content": _taken_apart(value, "", arrays)})
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **{_HEAD: np.frombuffer(head.encode(), np.uint8)}, **arrays)  # type: ignore[arg-type]
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def read_arrays(path: str | Path, form: str, kinds: Sequence[type]) -> Any:
    """The value that was written. Sequences come back as tuples.

    Args:
        path: The file.
        form: The format that it must have.
        kinds: Every dataclass that it may hold.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: evaluate the run again with 'bevstack eval', which writes it")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        head = json.loads(arrays[_HEAD].tobytes())
        if head["format"] != form:
            raise ValueError(f"format {head['format']}, not {form}")
        return _put_together(head["content"], arrays, {kind.__name__: kind for kind in kinds})
    except (KeyError, ValueError, TypeError, OSError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged or of another version ({error}): evaluate the run again") from error


def _taken_apart(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """The value as JSON; its arrays go to `arrays` under their place in it."""
    if isinstance(value, np.ndarray):
        place = name.rstrip("/")
        arrays[place] = value
        return {"array": place}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {of.name: _taken_apart(getattr(value, of.name), f"{name}{of.name}/", arrays) for of in fields(value)}
        return {"kind": type(value).__name__, "parts": parts}
    if isinstance(value, Mapping):
        return {"map": {str(key): _taken_apart(of, f"{name}{key}/", arrays) for key, of in value.items()}}
    if isinstance(value, list | tuple):
        return [_taken_apart(of, f"{name}{number}/", arrays) for number, of in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which a file of statistics cannot hold")


def _put_together(value: Any, arrays: Mapping[str, np.ndarray], kinds: Mapping[str, type]) -> Any:
    if isinstance(value, list):
        return tuple(_put_together(of, arrays, kinds) for of in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "map" in value:
        return {key: _put_together(of, arrays, kinds) for key, of in value["map"].items()}
    return kinds[value["kind"]](**{key: _put_together(of, arrays, kinds) for key, of in value["parts"].items()})
