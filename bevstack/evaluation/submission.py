"""The official submission file: what a model found in every sample of a split, and which sensors it used."""

import json
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Content of a submission file. `results` has the benchmark's own keys: box records by sample token."""

    meta: dict[str, Any]
    results: Mapping[str, Sequence[dict[str, Any]]]


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


def read_submission(path: str | Path) -> Submission:
    """Content of a submission file.

    Raises:
        ValueError: not JSON, or without the two top-level fields.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no submission file {path}; 'bevstack predict' writes one")
    try:
        content = json.loads(path.read_bytes())  # the devkit's parser: it accepts NaN, which strict JSON does not
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}); a submission is the file that 'bevstack predict' writes"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict) or "meta" not in content:
        raise ValueError(f"{path} is no detection submission: it needs 'meta' and 'results' (sample token -> boxes)")
    return Submission(meta=content["meta"], results=content["results"])
