"""Any file of predictions, recognised by its content: ours, and those that other systems write.

A bevstack store (Parquet), the official JSON of nuScenes detection, tracking and the prediction challenge, a planning
file (`planning/file`), map lines (`map_vectors_file`), answers of DriveLM, classes of LiDAR points (`lidarseg`), and
folders of maps, of Occ3D occupancy (`dense/folder`) or of future instances (`instance_folder`).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bevstack.evaluation.dense.folder import DenseFolder, write_dense_folder
from bevstack.evaluation.dense.instance_folder import InstanceFolder, is_instances
from bevstack.evaluation.dense.lidarseg import is_submission
from bevstack.evaluation.dense.map_vectors_file import read_map_lines
from bevstack.evaluation.language.driving_qa_files import read_answers
from bevstack.evaluation.motion.predictions import read_motion_predictions, write_motion_predictions
from bevstack.evaluation.planning.file import FORMAT as PLANNING_FORMAT
from bevstack.evaluation.planning.file import read_planning, write_planning
from bevstack.evaluation.predictions.box_columns import BoxColumns, read_submission_columns
from bevstack.evaluation.predictions.predicted import DENSE_TASKS, Predicted, Task
from bevstack.evaluation.predictions.store import SUFFIX, PredictionMeta, PredictionStore
from bevstack.evaluation.predictions.submission import write_json
from bevstack.evaluation.predictions.writer import PredictionWriter
from bevstack.types.errors import did_you_mean

MAP_LINES, LIDARSEG, ANSWERS = "map lines", "nuScenes-lidarseg", "DriveLM answers"
"""Kinds that are scored from the file itself and fill no field of `Predicted`."""
_PARQUET, _ZIP = b"PAR1", b"PK\x03\x04"
_LOOK_BYTES = 1 << 16
_OFFICIAL_SENSORS = ("use_camera", "use_lidar", "use_radar", "use_map", "use_external")


class PredictionFile(Protocol):
    """An open file: what it is, and its predictions, whole or in parts that fit into memory."""

    @property
    def path(self) -> Path:
        """The file or folder."""

    @property
    def kind(self) -> str:
        """In words for people."""

    @property
    def meta(self) -> PredictionMeta:
        """Where the predictions come from."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it holds."""

    @property
    def sample_tokens(self) -> tuple[str, ...]:
        """The samples, in the order of the file."""

    def read(self, *tasks: Task) -> Predicted:
        """All samples of some tasks, by default of all."""

    def parts(self, *tasks: Task) -> Iterator[Predicted]:
        """The same, some samples at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeFile:
    """A file that was read at once."""

    path: Path
    kind: str
    meta: PredictionMeta
    predicted: Predicted

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it holds."""
        return self.predicted.tasks

    @property
    def sample_tokens(self) -> tuple[str, ...]:
        """The samples, in the order of the file."""
        return self.predicted.sample_tokens

    def read(self, *tasks: Task) -> Predicted:
        """Some tasks, by default all."""
        chosen = {task: getattr(self.predicted, task) for task in self.tasks if not tasks or task in tasks}
        return Predicted(sample_tokens=self.sample_tokens, **chosen)

    def parts(self, *tasks: Task) -> Iterator[Predicted]:
        """All samples in one part."""
        yield self.read(*tasks)


def open_predictions(path: str | Path) -> PredictionFile:
    """Open any file or folder of predictions.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: it is of no known kind, cut short, or what it holds is not sound; the message names the file, and
            the sample and field where there is one.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there are no predictions {path}; 'bevstack predict' writes a file of them")
    if path.is_dir():
        return _lidarseg(path) if is_submission(path) else _arrays(path)
    head, tail = _ends(path)
    if head.startswith(_PARQUET) or path.suffix == SUFFIX:
        return PredictionStore(path)
    if head.startswith(_ZIP) or path.suffix == ".zip":
        return _arrays(path)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if b'"answer"' in head:
        return _answers(path)
    if text.startswith(b"["):
        return _challenge(path)
    if text.startswith(b"{"):
        if PLANNING_FORMAT.encode() in head + tail:
            return _planning(path)
        return _map_lines(path) if b'"vectors"' in head else _boxes(path)
    raise ValueError(
        f"{path} is no file of predictions: it is neither Parquet, JSON, a zip nor a folder (it begins with "
        f"{head[:16]!r}); 'bevstack predictions --help' lists the kinds"
    )


# ---------------------------------------------------------------- official formats


def _boxes(path: Path) -> WholeFile:
    boxes, said = read_submission_columns(path)
    is_tracking = boxes.track_index is not None
    predicted = Predicted(
        sample_tokens=boxes.sample_tokens,
        detection=None if is_tracking else boxes,
        tracking=boxes if is_tracking else None,
    )
    kind = "nuScenes tracking" if is_tracking else "nuScenes detection"
    return WholeFile(path=path, kind=kind, meta=_official_meta(path, said), predicted=predicted)


def _challenge(path: Path) -> WholeFile:
    motion = read_motion_predictions(path)
    tokens = tuple(dict.fromkeys(motion.sample_tokens))
    meta = PredictionMeta(model={"name": str(path)})
    return WholeFile(
        path=path, kind="nuScenes prediction", meta=meta, predicted=Predicted(sample_tokens=tokens, motion=motion)
    )


def _planning(path: Path) -> WholeFile:
    plans = read_planning(path)
    meta = PredictionMeta(model={"name": str(path)})
    predicted = Predicted(sample_tokens=plans.sample_tokens, planning=plans)
    return WholeFile(path=path, kind="planning", meta=meta, predicted=predicted)


def _map_lines(path: Path) -> WholeFile:
    found = read_map_lines(path)
    predicted = Predicted(sample_tokens=tuple(found.lines))
    return WholeFile(path=path, kind=MAP_LINES, meta=_official_meta(path, found.meta), predicted=predicted)


def _answers(path: Path) -> WholeFile:
    """Whether all questions are answered is looked at when it is scored: that depends on the file of questions."""
    read_answers(path)
    return WholeFile(
        path=path, kind=ANSWERS, meta=PredictionMeta(model={"name": str(path)}), predicted=Predicted(sample_tokens=())
    )


def _arrays(path: Path) -> PredictionFile:
    return InstanceFolder(path) if is_instances(path) else DenseFolder(path)


def _lidarseg(path: Path) -> WholeFile:
    """Its points, and whether its declaration is whole, are looked at when it is scored: that depends on the split."""
    declared = list(path.glob("*/submission.json"))
    try:
        said = json.loads(declared[0].read_bytes()).get("meta") if len(declared) == 1 else {}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{declared[0]} is no JSON object with a field 'meta' ({error})") from error
    meta = _official_meta(path, said if isinstance(said, dict) else {})
    return WholeFile(path=path, kind=LIDARSEG, meta=meta, predicted=Predicted(sample_tokens=()))


def _official_meta(path: Path, said: dict[str, Any]) -> PredictionMeta:
    try:
        sensors = {name: value for name, value in said.items() if name in _OFFICIAL_SENSORS}
        return PredictionMeta(model={"name": str(path)}, sensors=sensors)
    except ValueError as error:
        raise ValueError(f"{path}: meta: {error}") from error


def _ends(path: Path) -> tuple[bytes, bytes]:
    with open(path, "rb") as file:
        head = file.read(_LOOK_BYTES)
        file.seek(max(0, path.stat().st_size - _LOOK_BYTES))
        return head, file.read(_LOOK_BYTES)


# ---------------------------------------------------------------- writing any kind


def _write_boxes(path: Path, boxes: BoxColumns, meta: PredictionMeta) -> None:
    sensors = {name: bool(meta.sensors.get(name, False)) for name in _OFFICIAL_SENSORS}
    write_json(path, {"meta": sensors, "results": boxes.to_records()})


_JSON_WRITERS: dict[Task, Callable[[Path, Predicted, PredictionMeta], object]] = {
    "detection": lambda path, predicted, meta: _write_boxes(path, _part(predicted, "detection"), meta),
    "tracking": lambda path, predicted, meta: _write_boxes(path, _part(predicted, "tracking"), meta),
    "motion": lambda path, predicted, meta: write_motion_predictions(path, _part(predicted, "motion")),
    "planning": lambda path, predicted, meta: write_planning(path, _part(predicted, "planning")),
}
EXPORTS: dict[str, str] = {
    "store": f"bevstack store ({SUFFIX}): all tasks",
    "detection": "nuScenes detection submission (.json)",
    "tracking": "nuScenes tracking submission (.json)",
    "motion": "nuScenes prediction challenge (.json)",
    "planning": "planning file (.json)",
    "map": "folder of map probabilities",
    "occupancy": "Occ3D submission: folder of occupancy",
}
"""What `write_as` writes -> a line about it."""


def write_as(form: str, path: str | Path, file: PredictionFile) -> Path:
    """Write an open file in another format.

    Args:
        form: A key of `EXPORTS`.
        path: The new file or folder.
        file: What to write.

    Raises:
        ValueError: there is no such format, or the file lacks the task that it is for.
    """
    path = Path(path)
    if form not in EXPORTS:
        raise ValueError(f"there is no format '{form}'{did_you_mean(form, EXPORTS)}; there are {', '.join(EXPORTS)}")
    if form == "store":
        with PredictionWriter(path, file.meta) as writer:
            for part in file.parts():
                writer.add(part)
        return path
    task = _task(form, file.tasks, file.path)
    if task in DENSE_TASKS:
        return write_dense_folder(path, task, file.parts(task), file.meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    _JSON_WRITERS[task](path, file.read(task), file.meta)
    return path


def _task(form: str, tasks: Sequence[Task], path: Path) -> Task:
    for task in tasks:
        if task == form:
            return task
    raise ValueError(f"{path} has nothing of '{form}' to write; it has {', '.join(tasks) or 'nothing'}")


def _part(predicted: Predicted, task: Task) -> Any:
    return getattr(predicted, task)
