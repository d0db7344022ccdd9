"""Tracking by scene: the figures of `track/nusc-2020` for any choice of scenes, without following a track anew."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from bevstack.data.index import DatasetIndex
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.task_statistics import Numbers, joined_scene_names, whole_weights
from bevstack.evaluation.tracking.protocol import scores_from_records
from bevstack.evaluation.tracking.records import TrackingRecords, match_records
from bevstack.evaluation.tracking.tracks import SceneTracks, read_tracking_truth


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingStatistics:
    """What became of the tracks of G scenes, at every score."""

    task: ClassVar[str] = "tracking"

    scene_names: tuple[str, ...]
    records: TrackingRecords

    @classmethod
    def of(cls, tracks: BoxColumns, index: DatasetIndex, sample_tokens: Sequence[str]) -> "TrackingStatistics":
        """Follow all tracks.

        Args:
            tracks: Boxes with identities; must have the samples, others are left out.
            index: The data set.
            sample_tokens: All samples of some scenes.

        Raises:
            ValueError: a box lacks an identity, is of a class that is not tracked or not finite, or a sample is
                missing.
            DatasetError: a scene is not whole.
        """
        truth = read_tracking_truth(index, sample_tokens)
        name_of = {scene.token: scene.name for scene in index.scenes}
        return cls(
            scene_names=tuple(name_of[token] for token in truth.scene_tokens),
            records=match_records(SceneTracks.of(tracks.select(sample_tokens), truth), all_steps=True),
        )

    def numbers(self, scene_weight: np.ndarray | None = None) -> Numbers:
        """As `TaskStatistics`."""
        scores = scores_from_records(self.records, None if scene_weight is None else whole_weights(scene_weight))
        return {scores.protocol: asdict(scores)}

    @classmethod
    def merge(cls, parts: Sequence["TrackingStatistics"]) -> "TrackingStatistics":
        """As `TaskStatistics`."""
        return cls(
            scene_names=joined_scene_names(parts), records=TrackingRecords.merge([part.records for part in parts])
        )
