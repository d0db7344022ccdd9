"""Detection metrics of samples that are spread over the processes of a training: `det/nusc-cvpr19`, no matter how many.

Every process matches its own samples, since a match depends on nothing else. The compact records (score, sample, hits,
errors of the hits) of each class then go to the process that scores this class, and the curves and figures of all
classes back to every process. Classes are shared out by their number of predictions, so that none waits for the first.

The result is that of one process that has all samples in the order of `sample_tokens`. A sample that several processes
hold, as samplers repeat some to make the shares equal, is scored once, from the first of them.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch.distributed as dist

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.evaluation.detection.boxes import DetectionTruth, ScoredBoxes
from bevstack.evaluation.detection.matching import ClassRecords, match_records
from bevstack.evaluation.detection.protocol import ClassScores, DetectionScores, class_scores, scores_from_classes
from bevstack.evaluation.predictions.box_columns import BoxColumns


def score_over_ranks(
    predictions: BoxColumns, truth: DetectionTruth, sample_tokens: Sequence[str], group: Any = None
) -> DetectionScores:
    """Official figures of the whole set, on every process. All processes of the group must call it.

    Args:
        predictions: Boxes of the samples of this process.
        truth: Annotations of its samples; may be empty.
        sample_tokens: The whole set, in the order that decides between equal scores; the same on all processes.
        group: Process group; None is the default one.

    Raises:
        ValueError: on every process alike: a sample of the set is held by none of them, or one holds another sample,
            or lacks predictions for one of its own.
    """
    place = {token: index for index, token in enumerate(sample_tokens)}
    held: list[Any] = _all_gathered((truth.sample_tokens, set(predictions.sample_tokens)), group)
    _check(held, place)
    rank = dist.get_rank(group)
    earlier = {token for tokens, _ in held[:rank] for token in tokens}
    is_own = np.array([token not in earlier for token in truth.sample_tokens], bool)
    records, num_truth = _own_records(predictions, truth, is_own, place)
    counts: list[Any] = _all_gathered(([len(records[name].score) for name in DETECTION_CLASSES], num_truth), group)
    owners = _owners(np.sum([sizes for sizes, _ in counts], axis=0), len(held))
    totals = np.sum([truths for _, truths in counts], axis=0)
    scored: dict[str, ClassScores] = {}
    for k, name in enumerate(DETECTION_CLASSES):
        parts = _gathered(records.pop(name), owners[k], group)
        if parts is not None:
            scored[name] = class_scores(name, ClassRecords.merge(parts), int(totals[k]))
    of_all = {name: of for part in _all_gathered(scored, group) for name, of in part.items()}
    return scores_from_classes({name: of_all[name] for name in DETECTION_CLASSES}, len(sample_tokens))


def _check(held: Sequence[Any], place: dict[str, int]) -> None:
    for rank, (tokens, predicted) in enumerate(held):
        foreign = next((token for token in tokens if token not in place), None)
        if foreign is not None:
            raise ValueError(f"process {rank} holds sample {foreign}, which is not in the set to score")
        lost = next((token for token in tokens if token not in predicted), None)
        if lost is not None:
            raise ValueError(f"process {rank} lacks predictions for sample {lost}; without objects it needs no boxes")
    together = {token for tokens, _ in held for token in tokens}
    missing = [token for token in place if token not in together]
    if missing:
        raise ValueError(f"{len(missing)} of {len(place)} samples are held by no process, the first is {missing[0]}")


def _own_records(
    predictions: BoxColumns, truth: DetectionTruth, is_own: np.ndarray, place: dict[str, int]
) -> tuple[dict[str, ClassRecords], np.ndarray]:
    """Records of the samples that this process answers for, numbered as in the whole set; counted boxes by class."""
    matched = match_records(ScoredBoxes.of(predictions.select(truth.sample_tokens), truth))
    number = np.array([place[token] for token in truth.sample_tokens], np.int32)
    records = {
        name: replace(kept, sample_index=number[kept.sample_index])
        for name, kept in ((name, _of_samples(of, is_own)) for name, of in matched.classes.items())
    }
    return records, matched.num_truth[:, is_own].sum(axis=1)


def _of_samples(of: ClassRecords, is_kept: np.ndarray) -> ClassRecords:
    kept = is_kept[of.sample_index]
    errors = tuple(rows[kept[hits]] for rows, hits in zip(of.errors, of.is_tp, strict=True))
    return ClassRecords(
        score=of.score[kept], sample_index=of.sample_index[kept], is_tp=of.is_tp[:, kept], errors=errors
    )


def _owners(sizes: np.ndarray, num_ranks: int) -> list[int]:
    """The process that scores each class: the largest class first, each to the one with the least so far."""
    load, owners = np.zeros(num_ranks), np.zeros(len(sizes), int)
    for k in np.argsort(-sizes, kind="stable"):
        owners[k] = int(np.argmin(load))
        load[owners[k]] += sizes[k] + 1
    return owners.tolist()


def _all_gathered(value: Any, group: Any) -> list[Any]:
    values: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(values, value, group=group)
    return values


def _gathered(value: Any, owner: int, group: Any) -> list[Any] | None:
    """The values of all processes on the owner, None on the others."""
    is_owner = dist.get_rank(group) == owner
    values: list[Any] | None = [None] * dist.get_world_size(group) if is_owner else None
    dist.gather_object(value, values, dst=owner if group is None else dist.get_global_rank(group, owner), group=group)
    return values
