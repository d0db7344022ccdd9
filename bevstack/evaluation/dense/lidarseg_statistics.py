"""Point classes by scene: the numbers of `lidarseg/nusc` for any choice of scenes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int64

from bevstack.data.index import DatasetIndex
from bevstack.evaluation.dense.lidarseg import LidarsegScorer, score_total
from bevstack.evaluation.task_statistics import Numbers, joined_scene_names, whole_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class LidarsegStatistics:
    """Confusion matrices of G scenes."""

    task: ClassVar[str] = "lidarseg"

    scene_names: tuple[str, ...]
    confusion: Int64[np.ndarray, "G 16 16"]
    num_frames: Int64[np.ndarray, " G"]

    @classmethod
    def of(cls, scorer: LidarsegScorer, index: DatasetIndex) -> "LidarsegStatistics":
        """Add up the frames of each scene."""
        scenes: dict[str, list[np.ndarray]] = {}
        for token, counts in scorer.counts.items():
            scenes.setdefault(index.scene_of_sample(index.sample_row(token)).name, []).append(counts)
        return cls(
            scene_names=tuple(scenes),
            confusion=np.array([np.sum(frames, axis=0) for frames in scenes.values()], np.int64).reshape(-1, 16, 16),
            num_frames=np.array([len(frames) for frames in scenes.values()], np.int64),
        )

    def numbers(self, scene_weight: np.ndarray | None = None) -> Numbers:
        """As `TaskStatistics`."""
        weight = whole_weights(np.ones(len(self.scene_names)) if scene_weight is None else scene_weight)
        scores = score_total(np.tensordot(weight, self.confusion, axes=1), int(self.num_frames @ weight))
        return {scores.protocol: asdict(scores)}

    @classmethod
    def merge(cls, parts: Sequence["LidarsegStatistics"]) -> "LidarsegStatistics":
        """As `TaskStatistics`."""
        return cls(
            scene_names=joined_scene_names(parts),
            confusion=np.concatenate([part.confusion for part in parts]),
            num_frames=np.concatenate([part.num_frames for part in parts]),
        )
