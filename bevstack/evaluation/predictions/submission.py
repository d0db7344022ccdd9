"""The official submission file: what a model found in every sample of a split, and which sensors it used."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bevstack.evaluation.modality import Modality


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionMeta:
    """Which inputs the results rest on, as the benchmark's rules ask every entry to declare."""

    use_camera: bool
    use_lidar: bool
    use_radar: bool = False
    use_map: bool = False
    use_external: bool = False

    @classmethod
    def of_modality(cls, modality: Modality) -> "SubmissionMeta":
        """The declaration of a run with some of the sensors."""
        return cls(use_camera=modality != "lidar", use_lidar=modality != "camera")


def write_submission(path: str | Path, meta: SubmissionMeta, results: Mapping[str, Sequence[dict[str, Any]]]) -> Path:
    """Write the file, complete or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    fields = ("use_camera", "use_lidar", "use_radar", "use_map", "use_external")
    content = {"meta": {name: getattr(meta, name) for name in fields}, "results": results}
    return write_json(path, content)


def write_json(path: str | Path, content: Any) -> Path:
    """JSON to a file by way of a temporary name, so that a reader sees the old file or the whole new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path
