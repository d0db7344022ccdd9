"""Semantic segmentation of LiDAR points: intersection over union of each class, counted over all points of the set.

`lidarseg/nusc` (Fong et al., Panoptic nuScenes, RA-L 2022; nuscenes-devkit, `eval/lidarseg`): one class of 16 for each
point of each key sweep, in the order of the file. Points that the labels leave out (class 0: noise, the vehicle itself,
animals, ...) do not count, whatever is predicted there. mIoU is the mean over the classes that labels or predictions
have; with it comes the IoU weighted by the share of each class.

A submission is a folder: `lidarseg/SPLIT/DATA_TOKEN_lidarseg.bin` for every key sweep of the split, one byte (1 to 16)
for each point, and `SPLIT/submission.json` with the sensors that were used. Traps: all points count, also those that
models drop for being close to the sensor or out of range; 0 is not allowed as a prediction; the token is that of the
LiDAR reading, not of the sample; the labels of the data set are 32 categories (`bevstack.data.lidarseg`), not classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from jaxtyping import Int64, UInt8

from bevstack.data.class_names import LIDAR_NAME, OCCUPANCY_CLASSES, OCCUPANCY_FREE
from bevstack.data.index import DatasetIndex
from bevstack.data.lidarseg import CHALLENGE_CLASS, labels_path, read_categories
from bevstack.evaluation.dense.counted_once import CountedOnce
from bevstack.types.errors import DatasetError

PROTOCOL = "lidarseg/nusc"
LIDARSEG_CLASSES = OCCUPANCY_CLASSES[1:OCCUPANCY_FREE]
"""The 16 classes; the first is number 1."""

_NUM_CLASSES = len(LIDARSEG_CLASSES) + 1
_SENSORS = ("use_camera", "use_lidar", "use_radar", "use_map", "use_external")


@dataclass(frozen=True, slots=True, kw_only=True)
class LidarsegScores:
    """The numbers of the protocol; None where nothing could be counted."""

    protocol: str
    num_frames: int
    num_points: int
    """Points that count."""
    mean_iou: float | None
    """The protocol's: over the classes that labels or predictions have."""
    mean_iou_of_labelled: float | None
    """Over the classes that the labels have."""
    frequency_weighted_iou: float | None
    """Each class weighted by its share of the labels."""
    class_iou: dict[str, float | None]
    class_share: dict[str, float]
    """Share of the counted points that the labels give the class."""
    confusion: list[list[int]]
    """Counted points by class of the labels (rows) and of the prediction (columns), in the order of
    `LIDARSEG_CLASSES`."""


class LidarsegScorer:
    """Takes one sweep after the other; keeps a confusion matrix of each."""

    def __init__(self) -> None:
        self.counts = CountedOnce[Int64[np.ndarray, "16 16"]]()
        """By sample token: sums over any choice of frames go to `score`."""

    def add(self, token: str, prediction: UInt8[np.ndarray, " M"], truth: UInt8[np.ndarray, " M"]) -> None:
        """Count one sweep.

        Args:
            token: of the sample.
            prediction: class of each point, 1 to 16.
            truth: the same from the labels; 0 does not count.

        Raises:
            ValueError: the lengths differ, a class is impossible, or the sample was counted already.
        """
        self.counts[token] = count_points(prediction, truth)

    def merge(self, other: "LidarsegScorer") -> None:
        """Count the frames of another scorer too, for example of another process.

        Raises:
            ValueError: it has counted one of the same frames.
        """
        self.counts.merge(other.counts)

    @property
    def num_frames(self) -> int:
        """Frames counted so far."""
        return len(self.counts)

    def result(self) -> LidarsegScores:
        """The numbers over all frames so far."""
        return score(self.counts.values())


def count_points(prediction: UInt8[np.ndarray, " M"], truth: UInt8[np.ndarray, " M"]) -> Int64[np.ndarray, "16 16"]:
    """Points of one sweep by true and predicted class, those that the labels leave out left out.

    Raises:
        ValueError: the lengths differ, or a class is impossible.
    """
    if prediction.shape != truth.shape or prediction.ndim != 1:
        raise ValueError(f"{prediction.shape} predicted classes do not fit the {truth.shape} points of the sweep")
    if len(truth) and truth.max() >= _NUM_CLASSES:
        raise ValueError(f"class {truth.max()} of the labels is none of 0 to {_NUM_CLASSES - 1}")
    _check_classes(prediction)
    flat = truth.astype(np.int64) * _NUM_CLASSES + prediction
    counts = np.bincount(flat, minlength=_NUM_CLASSES**2).reshape(_NUM_CLASSES, _NUM_CLASSES)
    return counts[1:, 1:]


def score(counts: Iterable[Int64[np.ndarray, "16 16"]]) -> LidarsegScores:
    """The numbers of some frames, from their confusion matrices."""
    frames = list(counts)
    total = np.sum(frames, axis=0) if frames else np.zeros((_NUM_CLASSES - 1, _NUM_CLASSES - 1), np.int64)
    return score_total(total, len(frames))


def score_total(total: Int64[np.ndarray, "16 16"], num_frames: int) -> LidarsegScores:
    """The numbers of some frames, from the sum of their confusion matrices."""
    true, right = total.sum(axis=1), np.diagonal(total)
    union = true + total.sum(axis=0) - right
    iou = np.divide(right, union, out=np.full(len(union), np.nan), where=union > 0)
    weighted = float(np.nansum(true * iou) / true.sum()) if true.any() else None
    return LidarsegScores(
        protocol=PROTOCOL,
        num_frames=num_frames,
        num_points=int(true.sum()),
        mean_iou=_mean(iou),
        mean_iou_of_labelled=_mean(iou[true > 0]),
        frequency_weighted_iou=weighted,
        class_iou={name: _mean(value) for name, value in zip(LIDARSEG_CLASSES, iou, strict=True)},
        class_share={
            name: float(value / max(true.sum(), 1)) for name, value in zip(LIDARSEG_CLASSES, true, strict=True)
        },
        confusion=total.tolist(),
    )


# -- submissions ------------------------------------------------------------------------------------------------------
def is_submission(folder: str | Path) -> bool:
    """Whether this is a folder of point classes, for any split."""
    return (Path(folder) / "lidarseg").is_dir()


def score_submission(
    folder: str | Path, index: DatasetIndex, split: str, tokens: Sequence[str] | None = None
) -> tuple[LidarsegScores, dict[str, bool]]:
    """Score a submission folder on a split; also gives the sensors that it declares. As `count_submission`."""
    scorer, sensors = count_submission(folder, index, split, tokens)
    return scorer.result(), sensors


def count_submission(
    folder: str | Path, index: DatasetIndex, split: str, tokens: Sequence[str] | None = None
) -> tuple[LidarsegScorer, dict[str, bool]]:
    """Count a submission folder on a split; also gives the sensors that it declares.

    Every file of the split is there and has the right length before the first point is counted.

    Args:
        folder: the submission.
        index: the data set.
        split: which the submission is for.
        tokens: samples to score, by default all of the split.

    Raises:
        ValueError: the folder, its `submission.json` or a file is missing or damaged; the message says which, and of
            which sample.
        DatasetError: the data set has no point labels, or a label file is damaged.
    """
    folder = Path(folder)
    sensors = _read_sensors(folder / split / "submission.json")
    samples = {index.sample_tokens[row]: _data_token(index, row) for row in index.samples_of_split(split).tolist()}
    truth_paths = {token: labels_path(index.root, index.version, data) for token, data in samples.items()}
    for token, data in samples.items():
        _check_file(submission_path(folder, split, data), truth_paths[token], token)
    scorer = LidarsegScorer()
    for token in samples if tokens is None else tokens:
        path = submission_path(folder, split, samples[token])
        prediction = np.fromfile(path, np.uint8)
        truth = CHALLENGE_CLASS[read_categories(truth_paths[token], len(prediction))]
        try:
            scorer.add(token, prediction, truth)
        except ValueError as error:
            raise ValueError(f"{path} of sample {token}: {error}") from error
    return scorer, sensors


def write_submission(
    folder: str | Path, split: str, classes: Mapping[str, UInt8[np.ndarray, " M"]], sensors: Mapping[str, bool]
) -> None:
    """Write the folder of a submission.

    Args:
        folder: where.
        split: of the samples.
        classes: token of the LiDAR reading -> class of each of its points, 1 to 16.
        sensors: `use_camera`, `use_lidar`, `use_radar`, `use_map` and `use_external`.

    Raises:
        ValueError: a class is impossible, or not exactly these sensors are declared.
    """
    folder = Path(folder)
    _check_sensors(sensors, "sensors")
    for token, of_points in classes.items():
        _check_classes(of_points)
        path = submission_path(folder, split, token)
        path.parent.mkdir(parents=True, exist_ok=True)
        of_points.astype(np.uint8).tofile(path)
    meta = folder / split / "submission.json"
    meta.parent.mkdir(parents=True, exist_ok=True)
    meta.write_bytes(orjson.dumps({"meta": dict(sensors)}))


def submission_path(folder: Path, split: str, data_token: str) -> Path:
    """Where a submission has the classes of a LiDAR reading."""
    return folder / "lidarseg" / split / f"{data_token}_lidarseg.bin"


def _read_sensors(path: Path) -> dict[str, bool]:
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; a submission declares its sensors there") from error
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{path} is no complete JSON ({error}): write it again") from error
    sensors = content.get("meta") if isinstance(content, dict) else None
    if not isinstance(sensors, dict):
        raise ValueError(f'{path} must have the field "meta"')
    _check_sensors(sensors, f'"meta" of {path}')
    return sensors


def _check_sensors(sensors: Mapping[str, bool], where: str) -> None:
    if set(sensors) != set(_SENSORS) or not all(isinstance(value, bool) for value in sensors.values()):
        raise ValueError(f"{where} must say true or false for {', '.join(_SENSORS)}, and nothing else: {dict(sensors)}")


def _data_token(index: DatasetIndex, sample: int) -> str:
    row = index.key_data_row(sample, LIDAR_NAME)
    if row < 0:
        raise DatasetError(f"sample {index.sample_tokens[sample]} in {index.folder} has no {LIDAR_NAME} key frame")
    return index.data_tokens[row]


def _check_file(path: Path, truth: Path, token: str) -> None:
    if not truth.is_file():
        raise DatasetError(f"{truth} of sample {token} is missing: unpack the lidarseg archive in the data root")
    if not path.is_file():
        raise ValueError(f"{path} of sample {token} is missing: a submission has every key sweep of its split")
    found, wanted = path.stat().st_size, truth.stat().st_size
    if found != wanted:
        raise ValueError(f"{path} of sample {token} has {found} classes for a sweep of {wanted} points")


def _check_classes(prediction: np.ndarray) -> None:
    if len(prediction) and not 1 <= prediction.min() <= prediction.max() < _NUM_CLASSES:
        at = int(((prediction < 1) | (prediction >= _NUM_CLASSES)).argmax())
        raise ValueError(f"class {prediction[at]} of point {at} is none of 1 to {_NUM_CLASSES - 1}")


def _mean(values: np.ndarray | float) -> float | None:
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.mean()) if known.size else None
