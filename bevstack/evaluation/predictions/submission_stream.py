"""A submission file read in pieces: half a gigabyte of JSON without ever holding more than a few megabytes as objects.

The file is cut between two samples, and each piece is parsed by itself. A cut at a wrong place (inside a string, say)
leaves quotes or brackets open, so it cannot parse; the file is then read as a whole, which is slow and always right.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import orjson

CHUNK_BYTES = 256 << 10
"""So little that its objects stay in the processor's cache."""

Samples = dict[str, Any]
"""Sample token -> what the file says are its box records."""

_RESULTS = re.compile(rb'"results"\s*:\s*\{')
_BETWEEN_SAMPLES = re.compile(rb"\}\s*\]\s*(,)\s*\"")
_SAMPLE_BEGINS = re.compile(rb'"([^"\\]*)"\s*:\s*\[\s*\{')
_FIELD = re.compile(rb'"([^"\\]*)"\s*:')


def read_in_pieces(path: str | Path, on_samples: Callable[[Samples], None], chunk_bytes: int = CHUNK_BYTES) -> Any:
    """Hand the samples of a submission file to `on_samples`, some at a time and in file order; returns its `meta`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not JSON, cut short, or without the two top-level fields.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no submission file {path}; 'bevstack predict' writes one")
    with open(path, "rb") as file:
        meta = _read_cut(file, on_samples, chunk_bytes)
    return meta


def _read_cut(file: BinaryIO, on_samples: Callable[[Samples], None], chunk_bytes: int) -> Any:
    head, pending = _head(file, chunk_bytes)
    if head is None:
        return _read_whole(file, on_samples, skip=0)
    given = 0
    is_last = False
    while not is_last:
        chunk = file.read(chunk_bytes)
        is_last = not chunk
        pending += chunk
        end = _last_cut(pending)
        if end < 0:
            continue
        samples = parse_json(b"{" + pending[: end + 1] + b"}")
        if samples is None:
            return _read_whole(file, on_samples, skip=given)
        on_samples(samples)
        given += len(samples)
        pending = pending[end + 2 :]
        pending = pending[pending.index(b'"') :]
    try:
        text = ("{" + pending.decode()).lstrip()
        samples, end = json.JSONDecoder().raw_decode(text)
        content = json.loads(head.decode() + "}" + text[end:])
    except ValueError:
        return _read_whole(file, on_samples, skip=given)
    meta = _checked(content, file.name)["meta"]
    on_samples(samples)
    return meta


def _head(file: BinaryIO, chunk_bytes: int) -> tuple[bytes | None, bytes]:
    """Text up to the opening brace of `results`, and what was read behind it; (None, all) where there is none."""
    text = b""
    while chunk := file.read(chunk_bytes):
        text += chunk
        if match := _RESULTS.search(text):
            return text[: match.end()], text[match.end() :]
    return None, text


def _last_cut(text: bytes) -> int:
    """Place of the bracket that ends the last sample which another one follows, -1 where there is none."""
    end = len(text)
    while (end := text.rfind(b"}", 0, end)) >= 0:
        if match := _BETWEEN_SAMPLES.match(text, end):
            return match.start(1) - 1
    return -1


def parse_json(text: bytes) -> Any:
    """The value of a JSON text, None where it is none. NaN and Infinity, which Python writes, are understood."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if b"NaN" not in text and b"Infinity" not in text:
            return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _read_whole(file: BinaryIO, on_samples: Callable[[Samples], None], skip: int) -> Any:
    file.seek(0)
    text = file.read()
    try:
        content = _checked(json.loads(text), file.name)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(_where_it_breaks(file.name, text[-CHUNK_BYTES:], error)) from error
    on_samples(dict(list(content["results"].items())[skip:]))
    return content["meta"]


def _checked(content: Any, name: str) -> dict[str, Any]:
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict) or "meta" not in content:
        raise ValueError(f"{name} is no submission: it needs 'meta' and 'results' (sample token -> boxes)")
    if not isinstance(content["meta"], dict):
        raise ValueError(f"{name}: field 'meta' is {content['meta']!r}; it must say which sensors were used")
    for field, value in content["meta"].items():
        if field.startswith("use_") and not isinstance(value, bool):
            raise ValueError(f"{name}: field '{field}' of 'meta' is {value!r}; it must be true or false")
    return content


def _where_it_breaks(name: str, rest: bytes, error: ValueError) -> str:
    """What to say of a text that is not JSON: the sample and field that came last."""
    place = ""
    if samples := _SAMPLE_BEGINS.findall(rest):
        field = _FIELD.findall(rest)[-1].decode(errors="replace")
        place = f" in sample {samples[-1].decode(errors='replace')} after field '{field}'"
    return f"{name} is not JSON{place} ({error}); was it written to the end? 'bevstack predict' writes a whole file"
