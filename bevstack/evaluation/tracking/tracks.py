"""Tracks of whole scenes as the tracking protocol sees them: boxes that count, one score for a track, no gaps.

A track is what has one identity in one scene. Each of its boxes gets the mean score of all of them. Where it is absent
from a sample between two of its boxes, the devkit puts a box there, for predictions and annotations alike, and so
annotated objects are counted even where they are out of range or without points for a while.

Trap: between boxes at times l < t < r the devkit weighs the later box with (r - t) / (r - l), which is the weight of
the earlier one. The box put in is mirrored in time; it is so in every published number, and here.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int8, Int32, Int64

from bevstack.data.class_names import CLASS_OF_CATEGORY, DETECTION_CLASSES
from bevstack.data.index import DatasetIndex
from bevstack.evaluation.detection.boxes import DetectionTruth, ScoredBoxes, read_truth
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.box_records import TRACKING_CLASSES
from bevstack.types.errors import DatasetError

_LOG = logging.getLogger(__name__)
_IS_TRACKED = np.isin(DETECTION_CLASSES, TRACKING_CLASSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingTruth:
    """What is annotated in all S samples of some scenes."""

    detection: DetectionTruth
    instance: Int64[np.ndarray, " N"]
    """Which object each annotated box shows."""
    scene_tokens: tuple[str, ...]
    scene_index: Int32[np.ndarray, " S"]
    """Scene of each sample."""
    timestamp_us: Int64[np.ndarray, " S"]

    def __post_init__(self) -> None:
        order = np.lexsort((self.timestamp_us, self.scene_index))
        same = np.diff(self.scene_index[order]) == 0
        still = np.flatnonzero(same & (np.diff(self.timestamp_us[order]) == 0))
        if len(still):
            token = self.sample_tokens[order[still[0] + 1]]
            raise ValueError(
                f"sample {token} has the timestamp of another one of its scene; samples must differ in time"
            )

    @property
    def sample_tokens(self) -> tuple[str, ...]:
        """The samples."""
        return self.detection.sample_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """N boxes of tracks without gaps, ordered by frame. Frames are the samples by scene and time."""

    frame: Int64[np.ndarray, " N"]
    xy: Float64[np.ndarray, "N 2"]
    score: Float64[np.ndarray, " N"]
    """Mean score of the track."""
    track: Int64[np.ndarray, " N"]
    """Number of the track; those of a scene follow each other, in the order in which they begin."""
    class_index: Int8[np.ndarray, " N"]

    def take(self, rows: np.ndarray) -> "Tracks":
        """Some boxes: a mask, or ascending rows."""
        return Tracks(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneTracks:
    """Annotated and predicted tracks of some scenes."""

    scene_tokens: tuple[str, ...]
    scene_first: Int64[np.ndarray, " C+1"]
    """Frames of scene c are `scene_first[c]` to `scene_first[c + 1] - 1`."""
    truth: Tracks
    predictions: Tracks
    num_predictions: int
    """Boxes of the file that count, without those put into gaps."""

    @classmethod
    def of(cls, predictions: BoxColumns, truth: TrackingTruth) -> "SceneTracks":
        """Filter the boxes and join them to tracks. Predictions of other samples are left out.

        Raises:
            ValueError: a prediction lacks an identity, is of another class or not finite, or a sample is missing.
        """
        check_tracks(predictions)
        boxes = ScoredBoxes.of(predictions, truth.detection)
        order = np.lexsort((truth.timestamp_us, truth.scene_index))
        frame_of, scene = np.empty(len(order), np.int64), truth.scene_index[order].astype(np.int64)
        frame_of[order] = np.arange(len(order))
        annotated, counts = truth.detection.boxes, boxes.truth_counts & _IS_TRACKED[truth.detection.boxes.class_index]
        times = truth.timestamp_us[order]
        predicted = boxes.predictions.track_index
        if predicted is None:  # allowed where there is no box
            predicted = np.zeros(0, np.int64)
        kept = boxes.prediction_counts
        join = _Joiner(scene, times)
        return cls(
            scene_tokens=truth.scene_tokens,
            scene_first=np.searchsorted(scene, np.arange(len(truth.scene_tokens) + 1)),
            truth=join.tracks(annotated.take(counts), frame_of[annotated.sample_index[counts]], truth.instance[counts]),
            predictions=join.tracks(
                boxes.predictions.take(kept), frame_of[boxes.prediction_sample[kept]], predicted[kept], mean_score=True
            ),
            num_predictions=int(kept.sum()),
        )


def read_tracking_truth(index: DatasetIndex, sample_tokens: Sequence[str]) -> TrackingTruth:
    """Annotations of whole scenes of a data set.

    Raises:
        DatasetError: a sample does not exist or has no LiDAR key frame, a scene is not whole, or an object is annotated
            twice in a sample.
    """
    detection = read_truth(index, sample_tokens)
    samples = np.array([index.sample_row(token) for token in detection.sample_tokens], np.int64)
    scenes, scene_index = np.unique(index["sample_scene"][samples], return_inverse=True)
    for scene, count in zip(scenes.tolist(), np.bincount(scene_index).tolist(), strict=True):
        record = index.scenes[scene]
        if count != record.num_samples:
            raise DatasetError(
                f"scene {record.name} is there with {count} of its {record.num_samples} samples; tracks are scored on "
                "whole scenes, name all their samples"
            )
    rows = [np.arange(span.start, span.stop) for span in map(index.annotation_rows, samples.tolist())]
    instance = np.asarray(index["annotation_instance"])[np.concatenate([np.zeros(0, np.int64), *rows])]
    is_class = np.array([category in CLASS_OF_CATEGORY for category in index.categories], bool)
    instance = instance[is_class[index["instance_category"][instance]]].astype(np.int64)
    _check_single(index, detection.boxes, instance)
    return TrackingTruth(
        detection=detection,
        instance=instance,
        scene_tokens=tuple(index.scenes[scene].token for scene in scenes.tolist()),
        scene_index=scene_index.astype(np.int32),
        timestamp_us=index["sample_timestamp_us"][samples].astype(np.int64),
    )


def _check_single(index: DatasetIndex, boxes: BoxColumns, instance: np.ndarray) -> None:
    row = second_of_pair(boxes.sample_index, instance)
    if row is not None:
        token, sample = index.instance_tokens[int(instance[row])], boxes.sample_tokens[boxes.sample_index[row]]
        raise DatasetError(
            f"sample_annotation.json in {index.folder}: instance_token {token} occurs twice in sample {sample}"
        )


def check_tracks(predictions: BoxColumns) -> None:
    """Refuse what cannot be scored, and warn of identities that are not unique."""
    if predictions.track_index is None:
        if len(predictions):
            raise ValueError(
                "the predictions have no track_index; tracking needs an identity (tracking_id) of each box"
            )
        return
    faults = {
        f"tracking_name must be one of {', '.join(TRACKING_CLASSES)}": ~_IS_TRACKED[predictions.class_index],
        "tracking_score must be finite": ~np.isfinite(predictions.score),
        "translation must be finite": ~np.isfinite(predictions.translation).all(axis=1),
    }
    for rule, is_fault in faults.items():
        if is_fault.any():
            row = int(np.argmax(is_fault))
            sample = int(predictions.sample_index[row])
            raise ValueError(
                f"sample {predictions.sample_tokens[sample]}, box {row - predictions.sample_first[sample]}: {rule}; it "
                f"has {DETECTION_CLASSES[predictions.class_index[row]]}, score {predictions.score[row]}, "
                f"translation {predictions.translation[row].tolist()}"
            )
    double = second_of_pair(predictions.sample_index, predictions.track_index)
    if double is not None:
        _LOG.warning(
            "tracking_id '%s' occurs twice in sample %s: the official code matches both boxes, such a file may be "
            "refused elsewhere",
            predictions.track_ids[predictions.track_index[double]],
            predictions.sample_tokens[predictions.sample_index[double]],
        )


def second_of_pair(samples: np.ndarray, identities: np.ndarray) -> int | None:
    """A row whose sample and identity another row has too; None where there is none."""
    order = np.lexsort((identities, samples))
    same = (np.diff(samples[order]) == 0) & (np.diff(identities[order]) == 0)
    return int(order[np.argmax(same) + 1]) if same.any() else None


class _Joiner:
    """Joins boxes to tracks, given the scene and the time of each frame."""

    def __init__(self, scene: np.ndarray, time_us: np.ndarray) -> None:
        self.scene, self.time_us = scene, time_us

    def tracks(self, boxes: BoxColumns, frame: np.ndarray, identity: np.ndarray, *, mean_score: bool = False) -> Tracks:
        """Tracks without gaps of the boxes of each frame."""
        order = np.argsort(frame, kind="stable")
        frame = frame[order]
        track = _numbered(self.scene[frame], identity[order])
        score = boxes.score[order]
        given = Tracks(
            frame=frame,
            xy=boxes.translation[order, :2],
            score=mean_by_group(score, track) if mean_score else score,
            track=track,
            class_index=boxes.class_index[order],
        )
        return self._without_gaps(given)

    def _without_gaps(self, given: Tracks) -> Tracks:
        order = np.argsort(given.track, kind="stable")
        left, right = order[:-1], order[1:]
        missing = np.where(given.track[left] == given.track[right], given.frame[right] - given.frame[left] - 1, 0)
        missing = np.maximum(missing, 0)  # boxes of one frame have -1 between them
        if not missing.any():
            return given
        left, right = np.repeat(left, missing), np.repeat(right, missing)
        step = np.arange(len(left)) - np.repeat(np.cumsum(missing) - missing, missing) + 1
        frame = given.frame[left] + step
        time, before, after = (self.time_us[f] for f in (frame, given.frame[left], given.frame[right]))
        weight = (after - time).astype(np.float64) / (after - before)
        put_in = Tracks(
            frame=frame,
            xy=(1.0 - weight)[:, None] * given.xy[left] + weight[:, None] * given.xy[right],
            score=(1.0 - weight) * given.score[left] + weight * given.score[right],
            track=given.track[left],
            class_index=given.class_index[right],
        )
        joined = {name: np.concatenate((getattr(given, name), getattr(put_in, name))) for name in given.__slots__}
        # In a frame, boxes that were given come first, in their order; those put in follow in the order of tracks.
        rank = np.concatenate((np.full(len(given.track), -1), put_in.track))
        return Tracks(**joined).take(np.lexsort((rank, joined["frame"])))


def _numbered(scene: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Number of each box's track, in the order in which tracks begin."""
    if not len(scene):
        return np.zeros(0, np.int64)
    pairs = np.stack((scene, identity), axis=1)
    _, first, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse.reshape(-1)]


def mean_by_group(values: Float64[np.ndarray, " N"], group: Int64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
    """For each value the mean of its group, added up in the order and manner of `numpy.mean` over a list of them."""
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group)
    first = np.cumsum(counts) - counts
    means = np.zeros(len(counts))
    for count in np.unique(counts[counts > 0]).tolist():
        groups = np.flatnonzero(counts == count)
        means[groups] = np.mean(values[order][first[groups, None] + np.arange(count)], axis=1)
    return means[group]
