"""`det/nusc-cvpr19`, the nuScenes detection benchmark (Caesar et al., CVPR 2020, section 3.1), equal to its devkit.

AP over four centre distances, five errors of the true positives at 2 m, and their sum NDS. Every metric array is equal
to nuscenes-devkit 1.2.0 (`detection_cvpr_2019`) bit for bit, a hundred times faster.

Traps: matching is by the distance of centres on the ground, not by overlap. Equal scores rank the later prediction
first, so the order of samples in a file has an influence. It is kept here, as the devkit keeps it on official splits;
on others the devkit takes the order of the tables, which `predictions.select(tokens)` gives. A class without annotated
boxes counts as AP 0 with errors 1, so figures on a small split are low. A class that never reaches 10 % recall has
errors of 1. Attribute errors skip objects without an attribute, velocity errors those without a velocity. Where a
sample set has no box at all the devkit stops with an error; here it scores 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.evaluation.detection.boxes import DetectionTruth, ScoredBoxes
from bevstack.evaluation.detection.curves import DetectionCurve, average_precision, curve, tp_error
from bevstack.evaluation.detection.matching import ClassRecords, MatchRecords, match_records
from bevstack.evaluation.detection.rules import (
    ERROR_NAMES,
    MATCH_DISTANCES_M,
    MEAN_AP_WEIGHT,
    PROTOCOL,
    TP_DISTANCE_M,
    TP_FIELDS,
    UNDEFINED_ERRORS,
)
from bevstack.evaluation.predictions.box_columns import BoxColumns

__all__ = [
    "PROTOCOL",
    "ClassScores",
    "DetectionScores",
    "DetectionSummary",
    "class_scores",
    "nds_from_records",
    "score",
    "scores_from_classes",
    "scores_from_records",
    "summary_from_records",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """One class: its figures and the curves behind them."""

    ap_at: dict[float, float]
    """Matching distance in metres -> AP."""
    errors: dict[str, float]
    """Field of `TP_FIELDS` -> error; NaN where the protocol does not define it."""
    curves: dict[float, DetectionCurve]
    """By matching distance."""
    num_truth: int
    num_predictions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionSummary:
    """The headline figures of one set of samples. Fractions are in [0, 1]."""

    nds: float
    mean_ap: float
    errors: dict[str, float]
    """mATE [m], mASE, mAOE [rad], mAVE [m/s], mAAE; lower is better."""
    class_ap: dict[str, float]
    class_ap_at: dict[str, dict[str, float]]
    """Class -> matching distance in metres as text -> AP."""
    class_errors: dict[str, dict[str, float | None]]
    """Class -> ATE ... AAE; None where the protocol does not define it for the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionScores(DetectionSummary):
    """Everything that the protocol defines for one set of predictions."""

    curves: dict[str, dict[str, Any]]
    """Class -> `recall`, `precision` (by distance), `confidence`, and the running errors by recall."""
    num_frames: int
    num_ground_truth: dict[str, int]
    """Class -> boxes that count (in range, with points, outside bicycle racks)."""
    num_predictions: int
    protocol: str = PROTOCOL


def score(predictions: BoxColumns, truth: DetectionTruth) -> tuple[DetectionScores, ScoredBoxes]:
    """Official figures of predictions, and which boxes took part in them.

    Predictions of samples without truth are left out, and their number is logged.

    Raises:
        ValueError: the predictions lack a sample.
    """
    boxes = ScoredBoxes.of(predictions, truth)
    return scores_from_records(match_records(boxes)), boxes


def scores_from_records(records: MatchRecords) -> DetectionScores:
    """Official figures of a set whose boxes have been matched."""
    totals = records.num_truth.sum(axis=1)
    classes = {
        name: class_scores(name, of_class, int(total))
        for (name, of_class), total in zip(records.classes.items(), totals, strict=True)
    }
    return scores_from_classes(classes, len(records.sample_tokens))


def class_scores(name: str, records: ClassRecords, num_truth: int) -> ClassScores:
    """The figures of one class with its curves at all distances."""
    curves = {distance: curve(records, place, num_truth) for place, distance in enumerate(MATCH_DISTANCES_M)}
    return ClassScores(
        ap_at={distance: average_precision(of) for distance, of in curves.items()},
        errors=_errors(name, curves[TP_DISTANCE_M]),
        curves=curves,
        num_truth=num_truth,
        num_predictions=len(records.score),
    )


def scores_from_classes(classes: Mapping[str, ClassScores], num_frames: int) -> DetectionScores:
    """Official figures of all classes (in the order of `DETECTION_CLASSES`) together."""
    summary = _summary(
        {name: of.ap_at for name, of in classes.items()}, {name: of.errors for name, of in classes.items()}
    )
    return DetectionScores(
        **{field: getattr(summary, field) for field in DetectionSummary.__dataclass_fields__},
        curves={name: _rounded_curves(name, of.curves) for name, of in classes.items()},
        num_frames=num_frames,
        num_ground_truth={name: of.num_truth for name, of in classes.items()},
        num_predictions=sum(of.num_predictions for of in classes.values()),
    )


def summary_from_records(
    records: MatchRecords, sample_weight: Float64[np.ndarray, " S"] | None = None
) -> DetectionSummary:
    """The headline figures of a weighted set of samples, without matching anew: for resampling and slices.

    Args:
        records: The matches of all samples.
        sample_weight: Weight of each sample, such as how often a resampling drew its scene; 0 leaves it out. All ones,
            and None, give the official figures.

    Raises:
        ValueError: the weights are not one for each sample, or negative or not finite.
    """
    weight = None
    if sample_weight is not None:
        weight = np.asarray(sample_weight, np.float64)
        count = len(records.sample_tokens)
        if weight.shape != (count,) or not (np.isfinite(weight).all() and (weight >= 0).all()):
            raise ValueError(f"sample_weight of shape {weight.shape} must be {count} finite numbers of 0 or more")
    totals = records.num_truth.sum(axis=1) if weight is None else records.num_truth @ weight
    ap_at: dict[str, dict[float, float]] = {}
    errors: dict[str, dict[str, float]] = {}
    for (name, of_class), total in zip(records.classes.items(), totals.tolist(), strict=True):
        curves = {
            distance: curve(of_class, place, total, weight, with_errors=distance == TP_DISTANCE_M)
            for place, distance in enumerate(MATCH_DISTANCES_M)
        }
        ap_at[name] = {distance: average_precision(of) for distance, of in curves.items()}
        errors[name] = _errors(name, curves[TP_DISTANCE_M])
    return _summary(ap_at, errors)


def nds_from_records(records: MatchRecords, sample_weight: Float64[np.ndarray, " S"] | None = None) -> float:
    """NDS of a weighted set of samples, see `summary_from_records`."""
    return summary_from_records(records, sample_weight).nds


def _errors(name: str, at_tp_distance: DetectionCurve) -> dict[str, float]:
    undefined = UNDEFINED_ERRORS.get(name, ())
    return {field: np.nan if field in undefined else tp_error(at_tp_distance, field) for field in TP_FIELDS}


def _summary(ap_at: Mapping[str, Mapping[float, float]], errors: Mapping[str, Mapping[str, float]]) -> DetectionSummary:
    class_ap = {name: float(np.mean(list(ap_at[name].values()))) for name in DETECTION_CLASSES}
    mean_ap = float(np.mean(list(class_ap.values())))
    means = {field: float(np.nanmean([errors[name][field] for name in DETECTION_CLASSES])) for field in TP_FIELDS}
    tp_scores = [max(0.0, 1.0 - error) for error in means.values()]
    return DetectionSummary(
        nds=float(MEAN_AP_WEIGHT * mean_ap + np.sum(tp_scores)) / float(MEAN_AP_WEIGHT + len(tp_scores)),
        mean_ap=mean_ap,
        errors={f"m{ERROR_NAMES[field]}": value for field, value in means.items()},
        class_ap=class_ap,
        class_ap_at={name: {str(distance): ap for distance, ap in ap_at[name].items()} for name in DETECTION_CLASSES},
        class_errors={
            name: {ERROR_NAMES[field]: None if np.isnan(value) else value for field, value in errors[name].items()}
            for name in DETECTION_CLASSES
        },
    )


def _rounded_curves(name: str, curves: Mapping[float, DetectionCurve]) -> dict[str, Any]:
    """The curves of a class for a report; running errors as far as recall is reached."""
    of = curves[TP_DISTANCE_M]
    last = of.last_point if of.confidence.any() else -1
    defined = [field for field in TP_FIELDS if field not in UNDEFINED_ERRORS.get(name, ())]
    return {
        "recall": np.round(of.recall, 4).tolist(),
        "confidence": np.round(of.confidence, 5).tolist(),
        "precision": {str(distance): np.round(one.precision, 5).tolist() for distance, one in curves.items()},
        "errors": {ERROR_NAMES[field]: np.round(of.errors[field][: last + 1], 5).tolist() for field in defined},
    }
