"""What a report shows, collected from a results folder, a training run, or both."""

import base64
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bevstack.evaluation.dense.frame_store import read_frames
from bevstack.evaluation.runner import CURVES_FILE, FRAMES_FOLDER, METRICS_FILE
from bevstack.report.spread import Spread, spread_of
from bevstack.training.metrics_log import read_metrics

_LOG = logging.getLogger(__name__)

TRAINING_FILE = "metrics.csv"
EVALUATION_FOLDER = "eval"
MAX_FRAMES = 24
MAX_FRAME_BYTES = 23_000_000
"""All embedded frames together; the page stays below 25 MB with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """Everything that a page needs."""

    title: str
    metrics: dict[str, Any] | None
    curves: dict[str, Any]
    frames: list[dict[str, Any]]
    """Worst first; pictures embedded as data URIs."""
    num_left_out: int
    """Stored frames that did not fit."""
    spread: Spread
    """Intervals and slices of the first row."""
    training: list[dict[str, float]]
    run: dict[str, Any]
    """Versions, seed and command of the training run."""
    config_text: str


def collect(folder: str | Path, *, max_frames: int = MAX_FRAMES) -> ReportContent:
    """Content for a results folder of `bevstack eval`, a training run, or a run with an evaluation in it.

    Raises:
        ValueError: the folder is neither.
        FileNotFoundError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}; give a training run or the OUT folder of 'bevstack eval'"
        )
    evaluation, training = _locate(folder)
    metrics: dict[str, Any] | None = None
    curves: dict[str, Any] = {}
    frames: list[dict[str, Any]] = []
    left_out, spread = 0, Spread()
    if evaluation is not None:
        metrics = _read_json(evaluation / METRICS_FILE)
        curves = _read_json(evaluation / CURVES_FILE) if (evaluation / CURVES_FILE).is_file() else {}
        spread = spread_of(evaluation, next(iter(metrics["results"])))
        frames, left_out = _embedded(read_frames(evaluation / FRAMES_FOLDER), max_frames)
    run: dict[str, Any] = {}
    config_text = ""
    if training is not None:
        run = _read_json(training / "versions.json") if (training / "versions.json").is_file() else {}
        config = training / "config.yaml"
        config_text = config.read_text() if config.is_file() else ""
    return ReportContent(
        title=_title(training or folder),
        metrics=metrics,
        curves=curves,
        frames=frames,
        num_left_out=left_out,
        spread=spread,
        training=read_metrics(training / TRAINING_FILE) if training is not None else [],
        run=run,
        config_text=config_text,
    )


def _locate(folder: Path) -> tuple[Path | None, Path | None]:
    """(results folder, training run) that belong together."""
    if (folder / METRICS_FILE).is_file():
        parents = (folder, folder.resolve().parent)
        return folder, next((parent for parent in parents if (parent / TRAINING_FILE).is_file()), None)
    if (folder / TRAINING_FILE).is_file():
        inner = folder / EVALUATION_FOLDER
        return (inner if (inner / METRICS_FILE).is_file() else None), folder
    raise ValueError(
        f"{folder} has neither {METRICS_FILE} (of 'bevstack eval') nor {TRAINING_FILE} (of 'bevstack train'); "
        "run one of them first"
    )


def _title(folder: Path) -> str:
    """`experiment/time` of a training run, else the folder's own name."""
    path = folder.resolve()
    return f"{path.parent.name}/{path.name}" if (path / TRAINING_FILE).is_file() else path.name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); run the evaluation again") from error


def _embedded(frames: list[dict[str, Any]], limit: int) -> tuple[list[dict[str, Any]], int]:
    """Frames with their pictures inside, as many as fit; and how many did not."""
    chosen: list[dict[str, Any]] = []
    total = 0
    for frame in frames[:limit]:
        place: Path = frame["folder"]
        cameras = [{**camera, "src": _data_uri(place / camera["file"])} for camera in frame["cameras"]]
        whole = {key: value for key, value in frame.items() if key != "folder"} | {"cameras": cameras}
        size = len(orjson.dumps(whole))
        if total + size > MAX_FRAME_BYTES:
            break
        total += size
        chosen.append(whole)
    left_out = len(frames) - len(chosen)
    if left_out:
        _LOG.warning("%d of %d stored frames are not in the report, to keep the page small", left_out, len(frames))
    return chosen, left_out


def _data_uri(picture: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture.read_bytes()).decode()
