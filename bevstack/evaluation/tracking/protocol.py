"""`track/nusc-2020`, the nuScenes tracking benchmark, equal to its devkit (`tracking_nips_2019`).

Source: the benchmark's definition in nuscenes-devkit 1.2.0; MOTA and MOTP after Bernardin & Stiefelhagen, *Evaluating
Multiple Object Tracking Performance: The CLEAR MOT Metrics* (2008), AMOTA and AMOTP after Weng & Kitani, *A Baseline
for 3D Multi-Object Tracking* (2019), section 4.1, with the recall normalised as MOTAR. Counts are equal to those of the
devkit with py-motmetrics; MOTP and AMOTP agree to 1e-9.

Traps: AMOTA averages MOTAR over 40 recalls and takes 0 where a recall is not reached (AMOTP: 2 m); all other figures
are those at the recall with the best MOTA of each class, so they belong to different thresholds. MOTA and MOTAR are cut
off at 0. `tp` leaves out boxes that make an identity switch, `recall` counts them. `faf` is per 100 frames, `tid` and
`lgd` take half a second for each sample. A class without annotated objects is left out of the means; one that the
tracker never finds counts with the worst values. `gt` over all classes is a mean. Where nothing can be counted, the
devkit's sums over the classes are 0; here they are None. Gaps in tracks are filled, see `tracking_tracks`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.box_records import TRACKING_CLASSES
from bevstack.evaluation.tracking.matching import COUNTS
from bevstack.evaluation.tracking.records import ClassRecords, TrackingRecords, hypothetical_recalls, match_records
from bevstack.evaluation.tracking.rules import (
    AT_BEST_MOTA,
    AVERAGED,
    METRICS,
    NUM_RECALLS,
    PROTOCOL,
    SAMPLE_PERIOD_S,
    SUMMED,
    WORST,
)
from bevstack.evaluation.tracking.tracks import SceneTracks, TrackingTruth

__all__ = ["PROTOCOL", "TrackingScores", "TrackingSummary", "score", "scores_from_records", "summary_from_curves"]

Curves = Mapping[str, Float64[np.ndarray, " 40"]]
"""Figure -> its value at each recall, from recall 1 down to 0.1 as in the official files; NaN where not reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingSummary:
    """The figures of one set of scenes; None where a figure is not defined."""

    amota: float | None
    amotp: float | None
    """Metres; lower is better."""
    overall: dict[str, float | None]
    """The 17 official figures over all classes: `METRICS`."""
    classes: dict[str, dict[str, float | None]]
    """Class -> the same figures of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingScores(TrackingSummary):
    """Everything that the protocol defines for one set of predicted tracks."""

    curves: dict[str, dict[str, list[float | None]]]
    """Class -> `recall_hypo`, `confidence` (lowest score) and every figure, at 40 recalls from 1 down to 0.1."""
    num_scenes: int
    num_frames: int
    num_ground_truth: dict[str, int]
    """Class -> annotated boxes that count, with those put into gaps."""
    num_objects: dict[str, int]
    num_predictions: int
    protocol: str = PROTOCOL


def score(predictions: BoxColumns, truth: TrackingTruth) -> TrackingScores:
    """Official figures of predicted tracks.

    Args:
        predictions: Boxes with identities, such as `read_submission_columns(path, task="tracking")` gives. Boxes of
            samples without truth are left out, and their number is logged.
        truth: What is annotated, see `read_tracking_truth`.

    Raises:
        ValueError: a box lacks an identity, is of a class that is not tracked or not finite, or a sample is missing.
    """
    return scores_from_records(match_records(SceneTracks.of(predictions, truth)))


def scores_from_records(
    records: TrackingRecords, scene_weight: Int64[np.ndarray, " C"] | None = None
) -> TrackingScores:
    """Official figures of scenes whose tracks have been followed.

    Args:
        records: Of all scenes. Where they were merged or get weights, they need all their steps.
        scene_weight: How often each scene is taken, such as a resampling drew it; None takes each once. The figures are
            those of a data set in which the scene is there that many times.

    Raises:
        ValueError: the weights are not one whole number of 0 or more for each scene, or the records lack steps.
    """
    weight = np.ones(len(records.scene_tokens), np.int64) if scene_weight is None else np.asarray(scene_weight)
    if weight.shape != (len(records.scene_tokens),) or weight.dtype.kind not in "iu" or (weight < 0).any():
        raise ValueError(
            f"scene_weight {weight.dtype} of shape {weight.shape} must be {len(records.scene_tokens)} whole numbers of "
            "0 or more: how often each scene is taken"
        )
    weight = weight.astype(np.int64)
    curves = {name: class_curves(of, weight) for name, of in records.classes.items()}
    summary = summary_from_curves(curves)
    return TrackingScores(
        **{field: getattr(summary, field) for field in TrackingSummary.__dataclass_fields__},
        curves={name: {key: [_known(v) for v in of[key].tolist()] for key in of} for name, of in curves.items()},
        num_scenes=int(weight.sum()),
        num_frames=int(records.num_frames @ weight),
        num_ground_truth={name: int(of.num_boxes @ weight) for name, of in records.classes.items()},
        num_objects={name: int(of.num_tracks @ weight) for name, of in records.classes.items()},
        num_predictions=records.num_predictions,
    )


def class_curves(records: ClassRecords, weight: Int64[np.ndarray, " C"]) -> dict[str, Float64[np.ndarray, " 40"]]:
    """Every figure of one class at each recall, and `recall_hypo` and `confidence`."""
    num_boxes, num_tracks = int(records.num_boxes @ weight), int(records.num_tracks @ weight)
    curves = {name: np.full(NUM_RECALLS, np.nan) for name in ("recall_hypo", "confidence", *AT_BEST_MOTA)}
    if num_boxes == 0:
        return curves
    if weight[records.match_scene].any():
        curves["recall_hypo"] = hypothetical_recalls()[::-1].copy()
    curves["confidence"] = records.thresholds(weight)[::-1].copy()
    is_reached = ~np.isnan(curves["confidence"])
    if not is_reached.any():
        worst = WORST | {"ml": num_tracks, "gt": num_boxes, "fn": num_boxes}
        return curves | {name: np.full(NUM_RECALLS, worst.get(name, np.nan), np.float64) for name in AT_BEST_MOTA}
    counts, distance = records.totals(curves["confidence"][is_reached], weight)
    for name, values in _figures(dict(zip(COUNTS, counts.T, strict=True)), distance, num_boxes).items():
        curves[name][is_reached] = values
    return curves


def _figures(counts: Mapping[str, np.ndarray], distance: np.ndarray, num_boxes: int) -> dict[str, np.ndarray]:
    """All figures from the counts, in the devkit's order of operations."""
    tp, ids, fp, frames = (counts[name] for name in ("tp", "ids", "fp", "frames"))
    fn = num_boxes - tp - ids
    found = tp + ids
    share = tp / num_boxes
    with np.errstate(divide="ignore", invalid="ignore"):
        surplus = (fn + ids + fp) - (1 - share) * num_boxes
        motar = np.where(tp > 0, np.maximum(0, 1 - 1.0 * surplus / (share * num_boxes)), np.nan)
        motp = np.where(found > 0, distance / found, np.nan)
        late, gap = (
            np.where(counts["tracked"] > 0, counts[name] * SAMPLE_PERIOD_S / counts["tracked"], np.nan)
            for name in ("late", "gap")
        )
    return {
        "recall": found / num_boxes,
        "motar": motar,
        "gt": np.full(len(tp), num_boxes),
        "mota": np.maximum(0, 1.0 - (fn + ids + fp) / num_boxes),
        "motp": motp,
        "mt": counts["mt"],
        "ml": counts["ml"],
        "faf": fp / frames * 100,
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "ids": ids,
        "frag": counts["frag"],
        "tid": late,
        "lgd": gap,
    }


def summary_from_curves(curves: Mapping[str, Curves]) -> TrackingSummary:
    """The official figures from those at each recall, such as a `metrics_details.json` of the devkit holds.

    Args:
        curves: Class -> every figure of `AT_BEST_MOTA` at 40 recalls.

    Raises:
        ValueError: a class or a figure is missing, or does not have 40 values.
    """
    for name in TRACKING_CLASSES:
        for figure in AT_BEST_MOTA:
            shape = np.shape(curves.get(name, {}).get(figure, ()))
            if shape != (NUM_RECALLS,):
                raise ValueError(
                    f"'{figure}' of class '{name}' has the shape {shape}; it must have {NUM_RECALLS} values"
                )
    values = {name: _class_figures(curves[name]) for name in TRACKING_CLASSES}
    overall = {figure: _over_classes(figure, [values[name][figure] for name in TRACKING_CLASSES]) for figure in METRICS}
    return TrackingSummary(
        amota=overall["amota"],
        amotp=overall["amotp"],
        overall=overall,
        classes={name: {figure: _known(value) for figure, value in of.items()} for name, of in values.items()},
    )


def _class_figures(curves: Curves) -> dict[str, float]:
    """Figures of one class; NaN where not defined."""
    figures = dict.fromkeys(METRICS, np.nan)
    for name, averaged in AVERAGED.items():
        values = np.asarray(curves[averaged], np.float64)
        if not np.isnan(values).all():
            figures[name] = float(np.nanmean(np.where(np.isnan(values), WORST[name], values)))
    mota = np.asarray(curves["mota"], np.float64)
    if not np.isnan(mota).all():
        best = int(np.nanargmax(mota))  # of equal ones the first, which has the highest recall
        figures |= {name: float(curves[name][best]) for name in AT_BEST_MOTA}
    return figures


def _over_classes(figure: str, values: list[float]) -> float | None:
    if np.isnan(values).all():
        return None
    return float(np.nansum(values) if figure in SUMMED else np.nanmean(values))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
