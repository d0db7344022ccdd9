"""Files of predicted map lines, read, written and scored on a data set.

Two layouts are in use, both JSON with `meta` and `results`:

* VectorMapNet and StreamMapNet (the layout of the online map construction challenge): `results` maps a sample token to
  `vectors` (lists of x, y), `scores` and `labels` (0 ped_crossing, 1 divider, 2 boundary), in `ego`: x forward, y left.
* MapTR: `results` is a list of samples with `sample_token` and `vectors`, each with `pts`, `cls_name` and
  `confidence_level`, in the frame of the LiDAR: x to the right, y forward.

Here all lines are x forward, y left, and the file says around what its patch lies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.index import DatasetIndex
from bevstack.data.map_lines import MAP_LINE_CLASSES, MapLines, map_lines
from bevstack.data.maps import map_of_location
from bevstack.evaluation.dense.map_vectors import LineScorer, LineScores, PredictedLines, count_lines
from bevstack.geometry.transforms import from_xy_yaw, yaw_of

PatchOrigin = Literal["ego", "lidar"]

_LABELS = ("ped_crossing", "divider", "boundary")
_CLASS_OF_LABEL = np.array([MAP_LINE_CLASSES.index(name) for name in _LABELS])


@dataclass(frozen=True, slots=True, kw_only=True)
class MapLineFile:
    """What a file says."""

    lines: dict[str, PredictedLines]
    """By sample token."""
    origin: PatchOrigin
    """The middle of the patch: the vehicle's origin, or the LiDAR."""
    meta: dict[str, Any]


def read_map_lines(path: str | Path) -> MapLineFile:
    """Read a file of either layout.

    Raises:
        ValueError: it is missing, no complete JSON or of neither layout, or a sample is damaged; the message names the
            file, the sample and the field.
    """
    path = Path(path)
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; give a file of predicted map lines") from error
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{path} is no complete JSON ({error}): write it again") from error
    results = content.get("results") if isinstance(content, dict) else None
    if isinstance(results, dict):
        return MapLineFile(lines=_each(path, results.items(), _of_ego), origin="ego", meta=content.get("meta") or {})
    if isinstance(results, list):
        samples = [(_token(path, number, sample), sample) for number, sample in enumerate(results)]
        return MapLineFile(lines=_each(path, samples, _of_lidar), origin="lidar", meta=content.get("meta") or {})
    raise ValueError(f'{path}: "results" must map sample tokens to their lines, or list samples')


def write_map_lines(path: str | Path, lines: Mapping[str, PredictedLines], meta: Mapping[str, Any]) -> None:
    """Write predictions in `ego` in the layout of the challenge; `read_map_lines` gives them back bit for bit."""
    label_of_class = np.argsort(_CLASS_OF_LABEL)
    results = {
        token: {
            "vectors": [line.tolist() for line in found.lines],
            "scores": found.scores.tolist(),
            "labels": label_of_class[found.class_index].tolist(),
        }
        for token, found in lines.items()
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(orjson.dumps({"meta": {"output_format": "vector", **meta}, "results": results}))
    partial.replace(path)


def true_map_lines(index: DatasetIndex, token: str, origin: PatchOrigin = "ego") -> MapLines:
    """Lines of the map around a sample, in the patch around its vehicle or around its LiDAR.

    Raises:
        DatasetError: there is no such sample, or no map of its location.
        ValueError: the map lacks a layer.
    """
    sample = index.sample_row(token)
    row = index.key_data_row(sample, LIDAR_NAME)
    T_global_patch = index.T_global_ego([row])[0]
    if origin == "lidar":  # its y axis points ahead
        T_global_lidar = T_global_patch @ index.T_ego_sensor([row])[0]
        x, y, z = T_global_lidar[:3, 3].tolist()
        T_global_patch = from_xy_yaw(x, y, float(yaw_of(T_global_lidar[None])[0]) + np.pi / 2, z)
    return map_lines(map_of_location(index.root, index.scene_of_sample(sample).location), T_global_patch)


def score_map_line_file(path: str | Path, index: DatasetIndex, tokens: Sequence[str]) -> LineScores:
    """Score a file on some samples of a data set; as `count_map_line_file`."""
    return count_map_line_file(path, index, tokens).result()


def count_map_line_file(path: str | Path, index: DatasetIndex, tokens: Sequence[str]) -> LineScorer:
    """Count a file on some samples of a data set, in the patch that its layout lies in.

    Args:
        path: the file; samples that it has beyond those to score are not looked at.
        index: the data set.
        tokens: the samples to score.

    Raises:
        ValueError: as `read_map_lines`, or a sample to score is not in the file.
        DatasetError: there is no map of a location.
    """
    file = read_map_lines(path)
    if absent := [token for token in tokens if token not in file.lines]:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise ValueError(f"{path}: sample {absent[0]}{more} to score is missing: score the split that the file is for")
    wanted = {token: file.lines[token] for token in tokens}
    return count_lines(wanted, {token: true_map_lines(index, token, file.origin) for token in tokens})


def _each(path: Path, samples: Any, read: Callable[[Any], PredictedLines]) -> dict[str, PredictedLines]:
    found: dict[str, PredictedLines] = {}
    for token, sample in samples:
        if token in found:
            raise ValueError(f"{path}: sample {token} is listed twice")
        try:
            found[token] = read(sample)
        except KeyError as error:
            raise ValueError(f"{path}: sample {token} has no field {error}") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: sample {token}: {error}") from error
    return found


def _token(path: Path, number: int, sample: Any) -> str:
    if not isinstance(sample, dict) or not isinstance(sample.get("sample_token"), str):
        raise ValueError(f"{path}: entry {number} of results has no sample_token")
    return sample["sample_token"]


def _of_ego(sample: Any) -> PredictedLines:
    labels = [_label(label) for label in sample["labels"]]
    return PredictedLines(
        lines=_points(sample["vectors"], "vectors"),
        class_index=_CLASS_OF_LABEL[np.array(labels, np.int64)],
        scores=_scores(sample["scores"], "scores"),
    )


def _of_lidar(sample: Any) -> PredictedLines:
    vectors = sample["vectors"]
    lines = _points([vector["pts"] for vector in vectors], "pts")
    return PredictedLines(
        lines=tuple(np.stack((line[:, 1], -line[:, 0]), axis=-1) for line in lines),
        class_index=np.array([_class(vector["cls_name"]) for vector in vectors], np.int64),
        scores=_scores([vector["confidence_level"] for vector in vectors], "confidence_level"),
    )


def _points(lines: Any, field: str) -> tuple[np.ndarray, ...]:
    points = []
    for number, line in enumerate(lines):
        try:
            array = np.array(line, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{field} of line {number} are no list of (x, y)") from error
        if array.ndim != 2 or array.shape[1] not in (2, 3):
            raise ValueError(f"{field} of line {number} are no list of (x, y)")
        points.append(array[:, :2])  # some add a height
    return tuple(points)


def _scores(values: Any, field: str) -> np.ndarray:
    try:
        return np.array(values, np.float64).reshape(len(values))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{field} are not one number for each line") from error


def _label(label: Any) -> int:
    if not isinstance(label, int) or not 0 <= label < len(_LABELS):
        listed = ", ".join(f"{number} ({name})" for number, name in enumerate(_LABELS))
        raise ValueError(f"labels holds {label!r}, which is none of {listed}")
    return label


def _class(name: Any) -> int:
    if name not in MAP_LINE_CLASSES:
        raise ValueError(f"cls_name {name!r} is none of {', '.join(MAP_LINE_CLASSES)}")
    return MAP_LINE_CLASSES.index(name)
