"""nuScenes' JSON tables as streams of records, and 128-bit keys that join them without Python dictionaries.

A full `sample_data.json` is more than a gigabyte and three as Python objects. `stream_records` therefore parses it in
pieces cut between two records, so that memory stays at a few times the piece. Tokens become 16-byte keys: the token
itself where it is 32 hexadecimal digits (nuScenes), a hash of it otherwise (any other writer of the format).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from jaxtyping import Int64, UInt8

from bevstack.types.errors import DatasetError

KEY_BYTES = 16
CHUNK_BYTES = 8 << 20
_NO_TOKEN = "0" * 2 * KEY_BYTES

_BETWEEN_RECORDS = re.compile(rb"\}\s*,\s*\{")
_BOUNDARY_TRIES = 16


def stream_records(
    path: Path, on_bytes: Callable[[bytes], None] | None = None, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[list[dict[str, Any]]]:
    """The records of one table, in file order, in lists of bounded size.

    Args:
        path: A JSON file that holds one list of objects.
        on_bytes: Called with every piece of the file as it is read (for hashing and progress).
        chunk_bytes: How much text is parsed at once.

    Raises:
        DatasetError: the file is not a complete JSON list of objects.
    """
    with open(path, "rb") as file:
        pending = b""
        started = False
        while True:
            piece = file.read(chunk_bytes)
            if piece and on_bytes is not None:
                on_bytes(piece)
            pending += piece
            if not started:
                pending = pending.lstrip()
                if pending and not pending.startswith(b"["):
                    raise DatasetError(f"{path} is not a nuScenes table: it does not start with a JSON list")
                started = bool(pending)
                pending = pending[1:]
            if not piece:
                break
            records, pending = _complete_records(pending)
            if records:
                yield records
    rest = _parse(b"[" + pending)
    if not started or rest is None:
        raise DatasetError(f"{path} is not a complete JSON table; unpack it again from the metadata archive")
    yield rest


def read_records(path: Path, on_bytes: Callable[[bytes], None] | None = None) -> list[dict[str, Any]]:
    """All records of a small table."""
    return [record for part in stream_records(path, on_bytes) for record in part]


def _complete_records(text: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Records up to the last place where `text` can be cut between two of them, and the rest.

    A cut inside a string or a nested object leaves quotes or brackets open, so a wrong cut cannot parse.
    """
    end = len(text)
    for _ in range(_BOUNDARY_TRIES):
        end = text.rfind(b"}", 0, end)
        if end < 0:
            break
        match = _BETWEEN_RECORDS.match(text, end)
        if match is None:
            continue
        records = _parse(b"[" + text[: end + 1] + b"]")
        if records is not None:
            return records, text[match.end() - 1 :]
    return [], text


def _parse(text: bytes) -> list[dict[str, Any]] | None:
    try:
        records = orjson.loads(text)
    except orjson.JSONDecodeError:
        # orjson refuses NaN, which Python's json writes: damaged poses must reach the checks that name them.
        if b"NaN" not in text and b"Infinity" not in text:
            return None
        try:
            records = json.loads(text)
        except json.JSONDecodeError:
            return None
    if not isinstance(records, list) or not set(map(type, records)) <= {dict}:
        return None
    return records


def token_keys(tokens: Sequence[str]) -> UInt8[np.ndarray, "N 16"]:
    """One 16-byte key for each token; the empty token ("none") is all zeros."""
    packed = _packed_hex([token or _NO_TOKEN for token in tokens])
    if packed is None:
        packed = b"".join(map(_token_key, tokens))
    return np.frombuffer(packed, np.uint8).reshape(-1, KEY_BYTES)


def are_hex_tokens(tokens: Sequence[str]) -> bool:
    """Whether the key of each token is the token itself."""
    return _packed_hex(tokens) is not None


def _packed_hex(tokens: Sequence[str]) -> bytes | None:
    """The keys of tokens of 32 hexadecimal digits in one go; None where one of them is of another form."""
    return _from_hex("".join(tokens)) if set(map(len, tokens)) <= {2 * KEY_BYTES} else None


def _token_key(token: str) -> bytes:
    if not token:
        return bytes(KEY_BYTES)
    packed = _from_hex(token) if len(token) == 2 * KEY_BYTES else None
    return packed if packed is not None else hashlib.blake2b(token.encode(), digest_size=KEY_BYTES).digest()


def _from_hex(text: str) -> bytes | None:
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        return None
    return packed if packed.hex() == text else None  # upper case and spaces would not survive the round trip


class TokenLookup:
    """Rows of tokens in a table, by binary search in sorted 128-bit keys."""

    def __init__(self, keys: UInt8[np.ndarray, "N 16"]) -> None:
        high, low = _halves(keys)
        self._order = np.lexsort((low, high))
        self._high, self._low = high[self._order], low[self._order]

    def rows(self, keys: UInt8[np.ndarray, "K 16"]) -> Int64[np.ndarray, " K"]:
        """Row of each key, -1 where the table does not have it."""
        high, low = _halves(keys)
        found = np.full(len(keys), -1, np.int64)
        if not len(self._order) or not len(keys):
            return found
        first = np.searchsorted(self._high, high, side="left")
        last = np.searchsorted(self._high, high, side="right")
        for step in range(int((last - first).max(initial=0))):  # more than one only where 64 bits collide
            candidate = np.minimum(first + step, len(self._order) - 1)
            hit = (first + step < last) & (self._low[candidate] == low)
            found[hit] = self._order[candidate[hit]]
        return found

    def row(self, token: str) -> int:
        """Row of one token, -1 where the table does not have it."""
        return int(self.rows(token_keys([token]))[0])


def _halves(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    words = np.ascontiguousarray(keys).view(">u8").astype(np.uint64).reshape(-1, 2)
    return words[:, 0], words[:, 1]


def pack_strings(texts: Sequence[str]) -> tuple[UInt8[np.ndarray, " _"], Int64[np.ndarray, " _"]]:
    """Strings as one byte array and N + 1 offsets into it."""
    encoded = [text.encode() for text in texts]
    lengths = np.fromiter((len(text) for text in encoded), np.int64, len(encoded))
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


class StringColumn:
    """Strings in one (memory-mapped) byte array."""

    def __init__(self, data: UInt8[np.ndarray, " _"], offsets: Int64[np.ndarray, " _"]) -> None:
        self._data, self._offsets = data, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> str:
        return self._data[self._offsets[row] : self._offsets[row + 1]].tobytes().decode()


class TokenColumn:
    """Tokens: from their keys where all of them are 32 hexadecimal digits, else from stored strings."""

    def __init__(self, keys: UInt8[np.ndarray, "N 16"], texts: StringColumn | None) -> None:
        self.keys, self._texts = keys, texts

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> str:
        return self.keys[row].tobytes().hex() if self._texts is None else self._texts[row]
