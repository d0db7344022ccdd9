"""The official nuScenes detection metrics (Caesar et al., CVPR 2020; devkit configuration `detection_cvpr_2019`).

The numbers come from the devkit's own functions. What this file adds: boxes from `ego` to the devkit's conventions and
back (its w, l, h order and quaternions appear here and nowhere else), clear errors for the cases where the devkit stops
with an assertion, scores for the cases where it stops although the answer is zero, and speed: the devkit compares every
prediction with the ground truth of all classes, here it is handed one class at a time, which gives the same numbers.
"""

import contextlib
import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import add_center_dist, filter_eval_boxes, load_gt_of_sample_tokens
from nuscenes.eval.detection.algo import accumulate, calc_ap, calc_tp
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import (
    DetectionBox,
    DetectionConfig,
    DetectionMetricData,
    DetectionMetricDataList,
    DetectionMetrics,
)

from bevstack.data.class_names import ATTRIBUTES, DETECTION_CLASSES, NO_ATTRIBUTE
from bevstack.evaluation.nuscenes_tables import ScoringTables
from bevstack.evaluation.submission import MAX_BOXES_PER_SAMPLE
from bevstack.geometry.transforms import from_quaternion, rigid_inverse, to_quaternion, transform_points, wrap_angle
from bevstack.types.boxes import BOX_COLUMNS, Boxes3D, BoxIndex
from bevstack.types.scene import Detections

_LOG = logging.getLogger(__name__)

PROTOCOL = "det/nusc-cvpr19"
"""Identity of the protocol; numbers under different identities are not comparable."""

ERROR_NAMES = {"trans_err": "ATE", "scale_err": "ASE", "orient_err": "AOE", "vel_err": "AVE", "attr_err": "AAE"}
"""The devkit's field -> the name that papers use."""

_ATTRIBUTE_TEXTS = frozenset((*ATTRIBUTES, ""))
_UNDEFINED = {"traffic_cone": {"orient_err", "vel_err", "attr_err"}, "barrier": {"vel_err", "attr_err"}}


# ---------------------------------------------------------------- conversion


def to_records(token: str, detections: Detections, T_global_ego: Float[np.ndarray, "4 4"]) -> list[dict[str, Any]]:
    """Detections of one sample as the benchmark's box records: global frame, w l h, quaternion; the 500 best.

    The format has no way to say that a velocity is unknown, so an unknown one is written as standing still.

    Raises:
        ValueError: a centre, size, heading or score is not finite, or a size is not positive.
    """
    order = np.argsort(-detections.scores, kind="stable")[:MAX_BOXES_PER_SAMPLE]
    rows = detections.boxes.rows[order].astype(np.float64)
    scores = detections.scores[order].astype(np.float64)
    geometry = rows[:, : BoxIndex.VX]
    if not (np.isfinite(geometry).all() and np.isfinite(scores).all()):
        raise ValueError(f"sample {token}: a detection has a centre, size, heading or score that is not finite")
    if (rows[:, BoxIndex.LENGTH : BoxIndex.YAW] <= 0).any():
        raise ValueError(f"sample {token}: a detection has a size that is not positive")
    centers = transform_points(T_global_ego, rows[:, : BoxIndex.Z + 1])
    rotations = _times_yaw(to_quaternion(T_global_ego), rows[:, BoxIndex.YAW])
    planar = np.concatenate((rows[:, BoxIndex.VX :], np.zeros((len(rows), 1))), axis=1)
    velocities = np.nan_to_num(planar @ T_global_ego[:3, :3].T, nan=0.0, posinf=0.0, neginf=0.0)[:, :2]
    sizes_wlh = rows[:, [BoxIndex.WIDTH, BoxIndex.LENGTH, BoxIndex.HEIGHT]]
    classes = [DETECTION_CLASSES[k] for k in detections.boxes.class_index[order]]
    attributes = ["" if k == NO_ATTRIBUTE else ATTRIBUTES[k] for k in detections.attribute_index[order]]
    return [
        {
            "sample_token": token,
            "translation": centers[k].tolist(),
            "size": sizes_wlh[k].tolist(),
            "rotation": rotations[k].tolist(),
            "velocity": velocities[k].tolist(),
            "detection_name": classes[k],
            "detection_score": float(scores[k]),
            "attribute_name": attributes[k],
        }
        for k in range(len(rows))
    ]


def to_boxes_ego(boxes: Sequence[DetectionBox], T_global_ego: Float[np.ndarray, "4 4"]) -> Detections:
    """The inverse of `to_records`: the devkit's boxes of one sample in `ego`, in the order given.

    Ground truth has the score -1 there, and keeps it.
    """
    if not boxes:
        return Detections.empty()
    T_ego_global = rigid_inverse(np.asarray(T_global_ego, np.float64))
    centers = transform_points(T_ego_global, np.array([box.translation for box in boxes], np.float64))
    quaternions = np.array([box.rotation for box in boxes], np.float64)
    headings = (T_ego_global @ from_quaternion(quaternions, np.zeros((len(boxes), 3))))[:, :2, 0]
    planar = np.array([(*box.velocity, 0.0) for box in boxes], np.float64)
    rows = np.zeros((len(boxes), BOX_COLUMNS))
    rows[:, : BoxIndex.Z + 1] = centers
    rows[:, [BoxIndex.WIDTH, BoxIndex.LENGTH, BoxIndex.HEIGHT]] = [box.size for box in boxes]
    rows[:, BoxIndex.YAW] = wrap_angle(np.arctan2(headings[:, 1], headings[:, 0]))
    rows[:, BoxIndex.VX :] = (planar @ T_ego_global[:3, :3].T)[:, :2]
    class_index = np.array([DETECTION_CLASSES.index(box.detection_name) for box in boxes], np.int64)
    attribute_index = [ATTRIBUTES.index(box.attribute_name) if box.attribute_name else NO_ATTRIBUTE for box in boxes]
    return Detections(
        boxes=Boxes3D(rows=rows.astype(np.float32), class_index=class_index),
        scores=np.array([box.detection_score for box in boxes], np.float32),
        attribute_index=np.array(attribute_index, np.int64),
    )


def _times_yaw(quaternion: np.ndarray, yaw_rad: np.ndarray) -> np.ndarray:
    """Unit quaternions (N, 4) of a rotation about z followed by `quaternion` (Hamilton product, w x y z)."""
    w, x, y, z = quaternion
    c, s = np.cos(yaw_rad / 2), np.sin(yaw_rad / 2)
    return np.stack((w * c - z * s, x * c + y * s, y * c - x * s, z * c + w * s), axis=-1)


# ---------------------------------------------------------------- scores


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionScores:
    """Everything that the protocol defines for one set of predictions. Fractions are in [0, 1]."""

    nds: float
    mean_ap: float
    errors: dict[str, float]
    """mATE [m], mASE, mAOE [rad], mAVE [m/s], mAAE; lower is better."""
    class_ap: dict[str, float]
    class_ap_at: dict[str, dict[str, float]]
    """Class -> matching distance in metres as text -> AP."""
    class_errors: dict[str, dict[str, float | None]]
    """Class -> ATE ... AAE; None where the protocol does not define it for the class."""
    curves: dict[str, dict[str, Any]]
    """Class -> `recall`, `precision` (by distance), `confidence`, and the running errors by recall."""
    num_frames: int
    num_ground_truth: dict[str, int]
    """Class -> boxes that count (in range, with points, outside bicycle racks)."""
    num_predictions: int
    protocol: str = PROTOCOL


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredBoxes:
    """The boxes behind a score, as the devkit sees them."""

    tokens: tuple[str, ...]
    ground_truth: dict[str, list[DetectionBox]]
    """All annotated boxes of detection classes, by sample."""
    predictions: dict[str, list[DetectionBox]]
    counted: frozenset[int]
    """`id` of the boxes, of both kinds, that the protocol's filters keep."""

    def is_counted(self, box: DetectionBox) -> bool:
        """Whether a box takes part in the score."""
        return id(box) in self.counted


def score(
    results: Mapping[str, Sequence[dict[str, Any]]], tables: ScoringTables, tokens: Sequence[str]
) -> tuple[DetectionScores, ScoredBoxes]:
    """Official metrics of box records (sample token -> records) on some samples of a data set.

    Samples of `results` that are not in `tokens` are left out, and their number is logged.

    Raises:
        ValueError: a sample is missing, a record is malformed, or a sample has more than 500 boxes.
    """
    config = config_factory("detection_cvpr_2019")
    predictions = _parse(results, tokens)
    with _quiet():
        ground_truth = load_gt_of_sample_tokens(tables, list(tokens), DetectionBox, verbose=False)
    boxes = ScoredBoxes(
        tokens=tuple(tokens),
        ground_truth={token: list(ground_truth.boxes[token]) for token in tokens},
        predictions={token: list(predictions.boxes[token]) for token in tokens},
        counted=frozenset(
            id(box) for kind in (ground_truth, predictions) for box in _filtered(tables, kind, config.class_range).all
        ),
    )
    return _scores(config, ground_truth, predictions, len(tokens)), boxes


def _parse(results: Mapping[str, Sequence[dict[str, Any]]], tokens: Sequence[str]) -> EvalBoxes:
    missing = [token for token in tokens if token not in results]
    if missing:
        raise ValueError(
            f"the predictions lack {len(missing)} of {len(tokens)} samples, the first is {missing[0]}; "
            "a sample without objects needs an empty list"
        )
    unused = len(results.keys() - set(tokens))
    if unused:
        _LOG.warning("%d samples of the predictions are not in the split and are left out", unused)
    boxes = EvalBoxes()
    for token in tokens:
        records = results[token]
        if len(records) > MAX_BOXES_PER_SAMPLE:
            raise ValueError(f"sample {token} has {len(records)} boxes; the protocol allows {MAX_BOXES_PER_SAMPLE}")
        boxes.add_boxes(token, _parse_sample(token, records))
    return boxes


class _CheckedBox(DetectionBox):
    """The devkit's box without its seven array checks per box: those of a whole sample are made at once."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.sample_token = record["sample_token"]
        self.translation = tuple(record["translation"])
        self.size = tuple(record["size"])
        self.rotation = tuple(record["rotation"])
        self.velocity = tuple(record["velocity"])
        self.ego_translation = (0.0, 0.0, 0.0)
        self.num_pts = -1
        self.detection_name = record["detection_name"]
        self.detection_score = float(record["detection_score"])
        self.attribute_name = record["attribute_name"]

    @property
    def ego_dist(self) -> float:
        """Distance from the vehicle seen from above, in metres."""
        x, y, _ = self.ego_translation
        return math.sqrt(x * x + y * y)


def _parse_sample(token: str, records: Sequence[dict[str, Any]]) -> list[DetectionBox]:
    if _are_sound(token, records):
        return [_CheckedBox(record) for record in records]
    return [_parse_record(token, number, record) for number, record in enumerate(records)]  # names the fault


def _are_sound(token: str, records: Sequence[dict[str, Any]]) -> bool:
    """Whether every record of a sample is beyond doubt; others are looked at one by one."""
    try:
        numbers = np.array(
            [(*r["translation"], *r["size"], *r["rotation"], r["detection_score"]) for r in records], np.float64
        ).reshape(-1, 11)
        return (
            len(numbers) == len(records)
            and bool(np.isfinite(numbers).all() and (numbers[:, 3:6] > 0).all())
            and all(len(r["translation"]) == len(r["size"]) == 3 and len(r["velocity"]) == 2 for r in records)
            and all(r["sample_token"] == token and r["detection_name"] in DETECTION_CLASSES for r in records)
            and all(r["attribute_name"] in _ATTRIBUTE_TEXTS and "num_pts" not in r for r in records)
        )
    except (KeyError, TypeError, ValueError):
        return False


def _parse_record(token: str, number: int, record: dict[str, Any]) -> DetectionBox:
    try:
        box = DetectionBox.deserialize(record)
    except KeyError as error:
        raise ValueError(f"sample {token}, box {number}: field {error} is missing") from error
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"sample {token}, box {number}: {str(error).removeprefix('Error: ')}") from error
    if box.sample_token != token:
        raise ValueError(f"sample {token}, box {number}: its sample_token is {box.sample_token}")
    if min(box.size) <= 0:
        raise ValueError(f"sample {token}, box {number}: size {box.size} is not positive")
    return box


def _filtered(tables: ScoringTables, boxes: EvalBoxes, class_range: dict[str, float]) -> EvalBoxes:
    """The protocol's filters, in place. Without a single box the devkit would stop with 'Invalid box type: None'."""
    if any(boxes.boxes.values()):
        add_center_dist(tables, boxes)
        filter_eval_boxes(tables, boxes, class_range)
    return boxes


def _scores(
    config: DetectionConfig, ground_truth: EvalBoxes, predictions: EvalBoxes, num_frames: int
) -> DetectionScores:
    data, metrics = DetectionMetricDataList(), DetectionMetrics(config)
    for name in config.class_names:
        of_class = _of_class(ground_truth, name), _of_class(predictions, name)
        for distance in config.dist_ths:
            curve = accumulate(*of_class, name, _center_distance, distance)
            data.set(name, distance, curve)
            metrics.add_label_ap(name, distance, calc_ap(curve, config.min_recall, config.min_precision))
        at_tp_distance = data[(name, config.dist_th_tp)]
        for field in TP_METRICS:
            is_undefined = field in _UNDEFINED.get(name, ())
            error = math.nan if is_undefined else calc_tp(at_tp_distance, config.min_recall, field)
            metrics.add_label_tp(name, field, error)
    return DetectionScores(
        nds=metrics.nd_score,
        mean_ap=metrics.mean_ap,
        errors={f"m{ERROR_NAMES[field]}": value for field, value in metrics.tp_errors.items()},
        class_ap={name: float(metrics.mean_dist_aps[name]) for name in DETECTION_CLASSES},
        class_ap_at={
            name: {str(distance): metrics.get_label_ap(name, distance) for distance in config.dist_ths}
            for name in DETECTION_CLASSES
        },
        class_errors={
            name: {ERROR_NAMES[field]: _or_none(metrics.get_label_tp(name, field)) for field in TP_METRICS}
            for name in DETECTION_CLASSES
        },
        curves={name: _curves(config, data, name) for name in DETECTION_CLASSES},
        num_frames=num_frames,
        num_ground_truth={
            name: sum(box.detection_name == name for box in ground_truth.all) for name in DETECTION_CLASSES
        },
        num_predictions=len(predictions.all),
    )


def _curves(config: DetectionConfig, data: DetectionMetricDataList, name: str) -> dict[str, Any]:
    at_tp_distance: DetectionMetricData = data[(name, config.dist_th_tp)]
    last = at_tp_distance.max_recall_ind if at_tp_distance.confidence.any() else -1
    defined = [field for field in TP_METRICS if field not in _UNDEFINED.get(name, ())]
    return {
        "recall": np.round(at_tp_distance.recall, 4).tolist(),
        "confidence": np.round(at_tp_distance.confidence, 5).tolist(),
        "precision": {str(d): np.round(data[(name, d)].precision, 5).tolist() for d in config.dist_ths},
        "errors": {
            ERROR_NAMES[field]: np.round(getattr(at_tp_distance, field)[: last + 1], 5).tolist() for field in defined
        },
    }


def _of_class(boxes: EvalBoxes, name: str) -> EvalBoxes:
    """Only the boxes of one class, samples and order kept."""
    chosen = EvalBoxes()
    for token in boxes.sample_tokens:
        chosen.add_boxes(token, [box for box in boxes[token] if box.detection_name == name])
    return chosen


def _center_distance(truth: DetectionBox, prediction: DetectionBox) -> float:
    """The devkit's centre distance [m] on the ground, without making arrays of two numbers."""
    (x, y, _), (u, v, _) = truth.translation, prediction.translation
    dx, dy = u - x, v - y
    return math.sqrt(dx * dx + dy * dy)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """Swallow the devkit's own progress bar; it has no switch."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield
