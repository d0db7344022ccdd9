"""Vehicles seen from above as they will be in the next two seconds: video panoptic quality.

`instance/vpq` (Hu et al., FIERY, ICCV 2021, section 5, as used by ST-P3, ECCV 2022, and their evaluation code): the
present key frame and four later ones, each cell with the identity of a vehicle or 0. In each frame a predicted vehicle
is right if it overlaps an annotated one with an IoU above 0.5 and that one had the same identity when it was last
found. VPQ = sum of IoU / (right + false / 2 + missed / 2), SQ = sum of IoU / right, RQ the rest; sums over all frames
of the set. IoU is that of vehicle cells, whatever their identity. "30x30" looks at 15 m around the vehicle, "100x100"
at 50 m; vehicles are cut off at the rim, so that slivers count as whole ones.

Traps: after a change of identity, which costs one false and one missed vehicle, the new identity is the right one. Two
annotated vehicles may have one identity in turn without cost. Occlusion is not modelled: vehicles of low visibility are
taken out of the truth, and a system that finds them is punished.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

from bevstack.evaluation.dense.counted_once import CountedOnce
from bevstack.evaluation.dense.instance_truth import GRID
from bevstack.evaluation.motion.baselines import COPY_LAST, EMPTY

PROTOCOL = "instance/vpq"
RANGES_M = {"30x30": 15.0, "100x100": 50.0}
"""Name -> how far to each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceCounts:
    """What was counted in some sequences, by range; those of any sequences add up to those of the set."""

    iou_sum: Float64[np.ndarray, "2"]
    true_positive: Int64[np.ndarray, "2"]
    false_positive: Int64[np.ndarray, "2"]
    false_negative: Int64[np.ndarray, "2"]
    shared_cells: Int64[np.ndarray, "2"]
    """Vehicle cells of both."""
    all_cells: Int64[np.ndarray, "2"]
    """Vehicle cells of either."""

    @classmethod
    def total(cls, counts: Iterable["InstanceCounts"]) -> "InstanceCounts":
        """All together; zero of none."""
        out = cls._zero()
        for each in counts:
            for field in fields(cls):
                getattr(out, field.name)[:] += getattr(each, field.name)
        return out

    @classmethod
    def _zero(cls) -> "InstanceCounts":
        num = len(RANGES_M)
        return cls(
            iou_sum=np.zeros(num), **{field.name: np.zeros(num, np.int64) for field in fields(cls)[1:]}
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceScores:
    """The numbers of the protocol by range; None where nothing could be counted."""

    protocol: str
    num_sequences: int
    vpq: dict[str, float | None]
    sq: dict[str, float | None]
    rq: dict[str, float | None]
    vehicle_iou: dict[str, float | None]
    num_true_positive: dict[str, int]
    """Vehicles, each in each frame."""
    num_false_positive: dict[str, int]
    num_false_negative: dict[str, int]


def count_instances(
    prediction: Int[np.ndarray, "T Y X"],
    truth: Int[np.ndarray, "T Y X"],
    *,
    is_vehicle: Bool[np.ndarray, "T Y X"] | None = None,
) -> InstanceCounts:
    """Compare one sequence.

    Args:
        prediction: Identities on `GRID`, 0 for none; the same number is the same vehicle in all frames.
        truth: Likewise, see `true_instances`.
        is_vehicle: Predicted vehicle cells where they are predicted apart; by default those with an identity.

    Raises:
        ValueError: the two do not lie on `GRID`, have different lengths, or an identity is negative.
    """
    is_vehicle = prediction > 0 if is_vehicle is None else is_vehicle
    for name, array in (("prediction", prediction), ("truth", truth), ("is_vehicle", is_vehicle)):
        if array.ndim != 3 or array.shape[1:] != GRID.shape_yx or array.shape != truth.shape:
            raise ValueError(f"{name} has shape {array.shape}; (frames, *{GRID.shape_yx}) like the truth is needed")
    if prediction.min(initial=0) < 0 or truth.min(initial=0) < 0:
        raise ValueError("an identity is negative; vehicles are counted from 1, and 0 is none")
    counts = InstanceCounts._zero()
    middle = GRID.shape_yx[0] // 2
    for place, half_m in enumerate(RANGES_M.values()):
        half = round(half_m / GRID.cell_m)
        area = (slice(None), slice(middle - half, middle + half), slice(middle - half, middle + half))
        _count_range(counts, place, prediction[area], truth[area])
        both = is_vehicle[area] & (truth[area] > 0)
        counts.shared_cells[place] = both.sum()
        counts.all_cells[place] = (is_vehicle[area] | (truth[area] > 0)).sum()
    return counts


class InstanceScorer:
    """Takes one sequence after the other and keeps a few numbers of each, from which any part can be scored."""

    def __init__(self) -> None:
        self.counts = CountedOnce[InstanceCounts]()
        """By the token of the present sample."""

    def add(
        self, token: str, prediction: np.ndarray, truth: np.ndarray, *, is_vehicle: np.ndarray | None = None
    ) -> None:
        """Count one sequence.

        Raises:
            ValueError: as `count_instances`, or the sequence was counted already.
        """
        self.counts[token] = count_instances(prediction, truth, is_vehicle=is_vehicle)

    def merge(self, other: "InstanceScorer") -> None:
        """Count the sequences of another scorer too, for example of another process.

        Raises:
            ValueError: it has counted one of the same sequences.
        """
        self.counts.merge(other.counts)

    def result(self) -> dict[str, InstanceScores]:
        """Protocol -> its numbers over all sequences so far; empty without any."""
        if not self.counts:
            return {}
        return {PROTOCOL: score(InstanceCounts.total(self.counts.values()), len(self.counts))}


def score(counts: InstanceCounts, num_sequences: int) -> InstanceScores:
    """The numbers of some sequences whose counts were added up."""
    right = counts.true_positive
    all_but_half = right + (counts.false_positive + counts.false_negative) / 2

    def by_range(above: np.ndarray, below: np.ndarray) -> dict[str, float | None]:
        return {name: float(a / b) if b else None for name, a, b in zip(RANGES_M, above, below, strict=True)}

    def numbers(of: np.ndarray) -> dict[str, int]:
        return dict(zip(RANGES_M, of.tolist(), strict=True))

    return InstanceScores(
        protocol=PROTOCOL,
        num_sequences=num_sequences,
        vpq=by_range(counts.iou_sum, all_but_half),
        sq=by_range(counts.iou_sum, right),
        rq=by_range(right, all_but_half),
        vehicle_iou=by_range(counts.shared_cells, counts.all_cells),
        num_true_positive=numbers(right),
        num_false_positive=numbers(counts.false_positive),
        num_false_negative=numbers(counts.false_negative),
    )


def score_with_baselines(
    predictions: Mapping[str, Mapping[str, np.ndarray]], truth: Mapping[str, np.ndarray]
) -> dict[str, InstanceScores]:
    """Row name -> numbers: the given predictions, then the first of them with its present frame repeated, and nothing.

    Args:
        predictions: Row name -> sample token -> identities (T, Y, X).
        truth: Sample token -> identities.

    Raises:
        ValueError: there are no predictions, a sequence is missing, or as `count_instances`.
    """
    if not predictions or not truth:
        raise ValueError("at least one set of predictions and one annotated sequence are needed")
    first = next(iter(predictions.values()))
    rows = {
        **predictions,
        COPY_LAST: {token: np.repeat(found[:1], len(found), axis=0) for token, found in first.items()},
        EMPTY: {token: np.zeros_like(own) for token, own in truth.items()},
    }
    scores = {}
    for name, row in rows.items():
        missing = [token for token in truth if token not in row]
        if missing:
            raise ValueError(
                f"the predictions '{name}' lack {len(missing)} of {len(truth)} sequences, the first is that of sample "
                f"{missing[0]}"
            )
        counts = [count_instances(row[token], own) for token, own in truth.items()]
        scores[name] = score(InstanceCounts.total(counts), len(counts))
    return scores


def _count_range(counts: InstanceCounts, place: int, prediction: np.ndarray, truth: np.ndarray) -> None:
    last_found_as: dict[int, int] = {}
    for found, own in zip(prediction, truth, strict=True):
        matches, num_found, num_true = _matches(found, own)
        for name, found_as, iou in matches:
            if last_found_as.get(name, found_as) == found_as:
                counts.true_positive[place] += 1
                counts.iou_sum[place] += iou
            else:
                counts.false_positive[place] += 1
                counts.false_negative[place] += 1
            last_found_as[name] = found_as
        counts.false_positive[place] += num_found - len(matches)
        counts.false_negative[place] += num_true - len(matches)


def _matches(prediction: np.ndarray, truth: np.ndarray) -> tuple[list[tuple[int, int, float]], int, int]:
    """Pairs (annotated, predicted, IoU) that overlap by more than half, and how many vehicles each side has."""
    found, found_area = np.unique(prediction[prediction > 0], return_counts=True)
    own, own_area = np.unique(truth[truth > 0], return_counts=True)
    both = (prediction > 0) & (truth > 0)
    pairs, shared = np.unique(np.stack((truth[both], prediction[both])), axis=1, return_counts=True)
    areas = own_area[np.searchsorted(own, pairs[0])] + found_area[np.searchsorted(found, pairs[1])]
    union = areas - shared
    right = 2 * shared > union  # whole numbers: an IoU of exactly a half is none
    matches = zip(pairs[0, right].tolist(), pairs[1, right].tolist(), (shared / union)[right].tolist(), strict=True)
    return list(matches), len(found), len(own)
