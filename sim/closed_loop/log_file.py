"""A `DriveLog` as one compressed file, and back; and the hash that says whether two runs are the same.

The log is taken apart into a tree of plain values and flat arrays of numbers. Geometry is well-known binary. The file
(.npz) holds both parts; the hash is over both, without wall times.
"""

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from bevstack.planning.vehicle import VehicleParams
from bevstack.sim.drive_log import ActorLog, DriveLog, RedLight
from bevstack.sim.world.roads import Lane, RoadBlock, RoadNetwork, StopLine
from bevstack.types.trajectory import Plan, Trajectory

LOG_FORMAT = "drive-log/1"
"""Changes whenever a file of before could not be read any more, or the same run has another hash."""
NOT_HASHED = ("step_seconds",)
"""Fields of a log that differ from run to run."""

_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (DriveLog, ActorLog, RedLight, VehicleParams, RoadNetwork, Lane, RoadBlock, StopLine, Plan, Trajectory)
}


def drive_hash(log: DriveLog) -> str:
    """SHA-256 of everything that happened; wall time is left out."""
    still = dataclasses.replace(log, step_seconds=np.zeros(0))
    tree, numbers = _taken_apart(still)
    return hashlib.sha256(LOG_FORMAT.encode() + tree + numbers.tobytes()).hexdigest()


def write_log(log: DriveLog, path: Path) -> None:
    """Write a log; the same log gives the same bytes but for wall times."""
    tree, numbers = _taken_apart(log)
    content = io.BytesIO()
    np.savez_compressed(content, tree=np.frombuffer(tree, np.uint8), numbers=numbers, format=np.array(LOG_FORMAT))
    path.write_bytes(content.getvalue())


def read_log(path: Path) -> DriveLog:
    """Read what `write_log` wrote.

    Raises:
        ValueError: the file is no log, or one of another format.
        OSError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            known, tree, numbers = str(file["format"]), bytes(file["tree"]), file["numbers"]
    except (ValueError, KeyError, EOFError) as error:
        raise ValueError(f"{path} is no log of a drive: {error}") from None
    if known != LOG_FORMAT:
        raise ValueError(f"{path} has the format {known}; this version reads {LOG_FORMAT}")
    return _put_together(json.loads(tree), numbers)


def _taken_apart(log: DriveLog) -> tuple[bytes, np.ndarray]:
    """The tree as JSON, and all numbers of arrays one after the other."""
    arrays: list[np.ndarray] = []
    count = 0

    def plain(value: Any) -> Any:
        nonlocal count
        if isinstance(value, np.ndarray):
            # -0.0 and 0.0 are the same place.
            flat = np.ascontiguousarray(value, np.float64).reshape(-1) + 0.0
            arrays.append(flat)
            count += flat.size
            return {"array": [count - flat.size, *value.shape]}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
            return {"kind": type(value).__name__, "of": fields}
        if isinstance(value, shapely.Geometry):
            return {"wkb": shapely.to_wkb(value, hex=True, byte_order=1)}
        if isinstance(value, dict):
            return {"dict": [[key, plain(entry)] for key, entry in sorted(value.items())]}
        if isinstance(value, list | tuple):
            return [plain(entry) for entry in value]
        return value.item() if isinstance(value, np.generic) else value

    tree = plain(log)
    return json.dumps(tree, separators=(",", ":")).encode(), np.concatenate([np.zeros(0), *arrays])


def _put_together(tree: Any, numbers: np.ndarray) -> Any:
    if isinstance(tree, list):
        return tuple(_put_together(entry, numbers) for entry in tree)
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        begin, *shape = tree["array"]
        return numbers[begin : begin + int(np.prod(shape))].reshape(shape)
    if "wkb" in tree:
        return shapely.from_wkb(tree["wkb"])
    if "dict" in tree:
        return {key: _put_together(entry, numbers) for key, entry in tree["dict"]}
    kind = _KINDS[tree["kind"]]
    return kind(**{name: _put_together(entry, numbers) for name, entry in tree["of"].items()})
