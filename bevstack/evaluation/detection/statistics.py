"""What the detection figures of any choice of scenes, samples or objects are computed from: kept with every evaluation.

Of a prediction: score, sample, partner at each matching distance, and where it lies. Of an annotated box that counts:
class, sample, place and visibility. From these every figure of `det/nusc-cvpr19` follows without predictions or tables.

One rule differs from the protocol, and only in draws: a class that the whole set has and a draw of scenes has not is
left out of that draw's means. The protocol would call it AP 0 with errors 1, and the interval of NDS would be that of
how often a rare class is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int32, UInt16

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.evaluation.detection.boxes import ScoredBoxes
from bevstack.evaluation.detection.matching import ClassRecords, MatchRecords, match, match_records
from bevstack.evaluation.detection.protocol import DetectionSummary, summary_from_records
from bevstack.evaluation.detection.rules import MATCH_DISTANCES_M, MEAN_AP_WEIGHT, TP_DISTANCE_M

_TP_PLACE = MATCH_DISTANCES_M.index(TP_DISTANCE_M)
_FARTHEST_CM = np.iinfo(np.uint16).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where boxes lie, in whole centimetres (rounded down), seen from above."""

    distance_cm: UInt16[np.ndarray, " N"]
    """From the vehicle."""
    path_cm: UInt16[np.ndarray, " N"]
    """From the way that the vehicle drives, see `bevstack.evaluation.comparison.slices`."""

    @classmethod
    def of(cls, distance_m: np.ndarray, path_m: np.ndarray) -> "Places":
        """Round down; beyond 655 m all is equally far."""
        whole = [np.minimum(np.floor(metres * 100), _FARTHEST_CM).astype(np.uint16) for metres in (distance_m, path_m)]
        return cls(distance_cm=whole[0], path_cm=whole[1])

    def take(self, rows: np.ndarray) -> "Places":
        """Some of them."""
        return Places(distance_cm=self.distance_cm[rows], path_cm=self.path_cm[rows])

    @classmethod
    def join(cls, parts: Sequence["Places"]) -> "Places":
        """One after the other; at least one part."""
        return cls(
            distance_cm=np.concatenate([part.distance_cm for part in parts]),
            path_cm=np.concatenate([part.path_cm for part in parts]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthFacts:
    """The annotated boxes that count."""

    sample_index: Int32[np.ndarray, " M"]
    class_index: Int8[np.ndarray, " M"]
    places: Places
    visibility: Int8[np.ndarray, " M"]
    """Level 1 to 4 of nuScenes; 0 where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassStatistics:
    """The predictions of one class that count, best first."""

    score: Float64[np.ndarray, " N"]
    sample_index: Int32[np.ndarray, " N"]
    partner: Int32[np.ndarray, "4 N"]
    """Row of `TruthFacts` that the prediction takes at each of `MATCH_DISTANCES_M`, -1 for none."""
    tp_errors: Float64[np.ndarray, "T 5"]
    """Of the matches at 2 m, see `ClassRecords`."""
    places: Places

    @classmethod
    def merge(
        cls, parts: Sequence["ClassStatistics"], first_sample: Sequence[int], first_truth: Sequence[int]
    ) -> "ClassStatistics":
        """One ranking of all predictions; where the samples and annotated boxes of each part begin is given."""
        score = np.concatenate([part.score for part in parts])
        shifted = [part.sample_index + np.int32(first) for part, first in zip(parts, first_sample, strict=False)]
        sample = np.concatenate(shifted)
        order = np.lexsort((-sample, -score))
        partners = [
            np.where(part.partner >= 0, part.partner + np.int32(first), np.int32(-1))
            for part, first in zip(parts, first_truth, strict=False)
        ]
        partner = np.concatenate(partners, axis=1)
        is_tp = partner[_TP_PLACE] >= 0
        number = np.cumsum(is_tp) - 1
        return cls(
            score=score[order],
            sample_index=sample[order],
            partner=partner[:, order],
            tp_errors=np.concatenate([part.tp_errors for part in parts])[number[order][is_tp[order]]],
            places=Places.join([part.places for part in parts]).take(order),
        )

    def records(self, kept: Bool[np.ndarray, "4 N"] | None = None) -> list[ClassRecords]:
        """The records at each matching distance, of the predictions kept there."""
        is_tp = self.partner >= 0
        whole = [_class_records(self, is_tp, np.ones(len(self.score), bool))] if kept is None else []
        return whole * len(MATCH_DISTANCES_M) or [_class_records(self, is_tp, rows) for rows in kept]  # type: ignore[union-attr]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionStatistics:
    """The statistics of one set of predictions on S samples."""

    sample_tokens: tuple[str, ...]
    truth: TruthFacts
    classes: dict[str, ClassStatistics]
    """In the order of `DETECTION_CLASSES`."""

    @classmethod
    def of(
        cls, boxes: ScoredBoxes, places: Places, truth_places: Places, visibility: np.ndarray
    ) -> "DetectionStatistics":
        """Keep what was matched.

        Args:
            boxes: The boxes behind a score.
            places: Of all predictions.
            truth_places: Of all annotated boxes.
            visibility: Of all annotated boxes.
        """
        truth, records = boxes.truth.boxes, match_records(boxes)
        counted = np.flatnonzero(boxes.truth_counts)
        row_of = np.full(len(truth) + 1, -1, np.int32)  # the last one answers for "no partner"
        row_of[counted] = np.arange(len(counted))
        classes = {}
        for k, name in enumerate(DETECTION_CLASSES):
            predicted = np.flatnonzero(boxes.prediction_counts & (boxes.predictions.class_index == k))
            ranked = predicted[np.argsort(boxes.predictions.score[predicted], kind="stable")[::-1]]
            annotated = np.flatnonzero(boxes.truth_counts & (truth.class_index == k))
            matched = match(
                boxes.prediction_sample[ranked],
                boxes.predictions.translation[ranked, :2],
                truth.sample_index[annotated],
                truth.translation[annotated, :2],
            )
            classes[name] = ClassStatistics(
                score=records.classes[name].score,
                sample_index=records.classes[name].sample_index,
                partner=row_of[np.append(annotated, -1)[matched]],
                tp_errors=records.classes[name].tp_errors,
                places=places.take(ranked),
            )
        facts = TruthFacts(
            sample_index=truth.sample_index[counted],
            class_index=truth.class_index[counted],
            places=truth_places.take(counted),
            visibility=visibility[counted].astype(np.int8),
        )
        return cls(sample_tokens=boxes.sample_tokens, truth=facts, classes=classes)

    @classmethod
    def merge(cls, parts: Sequence["DetectionStatistics"]) -> "DetectionStatistics":
        """Statistics of different samples in one, in the order given; at least one part.

        Equal scores rank the later sample first, so the result is that of matching all samples in this order.
        """
        samples = [0, *accumulate(len(part.sample_tokens) for part in parts)]
        rows = [0, *accumulate(len(part.truth.sample_index) for part in parts)]
        facts = [
            replace(p.truth, sample_index=p.truth.sample_index + np.int32(n))
            for p, n in zip(parts, samples, strict=False)
        ]
        return cls(
            sample_tokens=tuple(token for part in parts for token in part.sample_tokens),
            truth=TruthFacts(
                sample_index=np.concatenate([of.sample_index for of in facts]),
                class_index=np.concatenate([of.class_index for of in facts]),
                places=Places.join([of.places for of in facts]),
                visibility=np.concatenate([of.visibility for of in facts]),
            ),
            classes={
                name: ClassStatistics.merge([part.classes[name] for part in parts], samples, rows)
                for name in DETECTION_CLASSES
            },
        )

    def match_records(self) -> MatchRecords:
        """As the protocol's own matching gives them, but for the errors at other distances than 2 m, which are NaN."""
        return MatchRecords(
            sample_tokens=self.sample_tokens,
            classes={name: of.records()[0] for name, of in self.classes.items()},
            num_truth=self.num_truth(),
        )

    def num_truth(self, kept: np.ndarray | None = None) -> np.ndarray:
        """(10, S): annotated boxes by class and sample, of those kept."""
        chosen = slice(None) if kept is None else kept
        counts = np.zeros((len(DETECTION_CLASSES), len(self.sample_tokens)), np.int64)
        np.add.at(counts, (self.truth.class_index[chosen], self.truth.sample_index[chosen]), 1)
        return counts


def _class_records(of: ClassStatistics, is_tp: np.ndarray, rows: np.ndarray) -> ClassRecords:
    kept = is_tp[:, rows]
    errors = [np.broadcast_to(np.nan, (int(hits.sum()), 5)) for hits in kept]
    errors[_TP_PLACE] = of.tp_errors[rows[is_tp[_TP_PLACE]]]
    return ClassRecords(score=of.score[rows], sample_index=of.sample_index[rows], is_tp=kept, errors=tuple(errors))


class DetectionFigures:
    """The figures of weighted samples, as they stand in a row of `metrics.json`."""

    def __init__(self, statistics: DetectionStatistics) -> None:
        self._records = statistics.match_records()
        self._is_present = self._records.num_truth.sum(axis=1) > 0

    def __call__(self, sample_weight: np.ndarray) -> dict[str, Any]:
        """Figures where each sample counts some number of times; with all ones those of the protocol."""
        summary = summary_from_records(self._records, sample_weight)
        is_lost = self._is_present & (self._records.num_truth @ sample_weight <= 0)
        kept = [name for name, lost in zip(DETECTION_CLASSES, is_lost.tolist(), strict=True) if not lost]
        return means_over(summary, kept)


def means_over(summary: DetectionSummary, names: list[str]) -> dict[str, Any]:
    """NDS and its terms with the means taken over some classes only; those of the others are None."""
    unknown = dict.fromkeys(DETECTION_CLASSES)
    class_ap: Mapping[str, float | None] = unknown | {name: summary.class_ap[name] for name in names}
    nothing = dict.fromkeys(next(iter(summary.class_errors.values())))
    class_errors = {name: summary.class_errors[name] if name in names else nothing for name in DETECTION_CLASSES}
    mean_ap = float(np.mean([summary.class_ap[name] for name in names])) if names else None
    errors: dict[str, float | None] = {}
    for error in nothing:
        known = [value for name in names if (value := class_errors[name][error]) is not None]
        errors[f"m{error}"] = float(np.mean(known)) if known else None
    nds = None
    if mean_ap is not None and all(value is not None for value in errors.values()):
        terms = [max(0.0, 1.0 - value) for value in errors.values() if value is not None]
        nds = float(MEAN_AP_WEIGHT * mean_ap + np.sum(terms)) / float(MEAN_AP_WEIGHT + len(terms))
    return {"nds": nds, "mean_ap": mean_ap, "errors": errors, "class_ap": class_ap, "class_errors": class_errors}
