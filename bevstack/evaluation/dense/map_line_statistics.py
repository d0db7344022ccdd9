"""Map lines by scene: the numbers of `map/chamfer-ap` for any choice of scenes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int32, Int64

from bevstack.data.index import DatasetIndex
from bevstack.evaluation.dense.map_vectors import LineMatches, LineScorer, score
from bevstack.evaluation.task_statistics import Numbers, joined_scene_names, whole_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class MapLineStatistics:
    """Which predicted lines of S samples in G scenes are right. Samples stand in the order of their tokens."""

    task: ClassVar[str] = "map_lines"

    scene_names: tuple[str, ...]
    sample_tokens: tuple[str, ...]
    sample_scene: Int32[np.ndarray, " S"]
    num_true: Int64[np.ndarray, "S 3"]
    line_sample: Int32[np.ndarray, " N"]
    """Ascending."""
    lines: LineMatches

    @classmethod
    def of(cls, scorer: LineScorer, index: DatasetIndex) -> "MapLineStatistics":
        """Take the frames of a scorer."""
        tokens = sorted(scorer.matches)
        matches = [scorer.matches[token] for token in tokens]
        scenes = [index.scene_of_sample(index.sample_row(token)).name for token in tokens]
        in_order = [scene.name for scene in index.scenes if scene.name in set(scenes)]
        counts = [len(each.scores) for each in matches]
        return cls(
            scene_names=tuple(in_order),
            sample_tokens=tuple(tokens),
            sample_scene=np.array([in_order.index(name) for name in scenes], np.int32),
            num_true=np.array([each.num_true for each in matches], np.int64).reshape(len(tokens), -1),
            line_sample=np.repeat(np.arange(len(tokens), dtype=np.int32), counts),
            lines=LineMatches.joined(matches),
        )

    def numbers(self, scene_weight: np.ndarray | None = None) -> Numbers:
        """As `TaskStatistics`."""
        weight = whole_weights(np.ones(len(self.scene_names)) if scene_weight is None else scene_weight)
        of_sample = weight[self.sample_scene]
        matches = LineMatches(
            class_index=self.lines.class_index,
            scores=self.lines.scores,
            is_right=self.lines.is_right,
            num_true=of_sample @ self.num_true,
        )
        scores = score(matches, int(of_sample.sum()), of_sample[self.line_sample])
        return {scores.protocol: asdict(scores)}

    @classmethod
    def merge(cls, parts: Sequence["MapLineStatistics"]) -> "MapLineStatistics":
        """As `TaskStatistics`."""
        names = joined_scene_names(parts)
        tokens = [token for part in parts for token in part.sample_tokens]
        order = sorted(range(len(tokens)), key=tokens.__getitem__)
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order))
        first_scene = np.cumsum([0, *(len(part.scene_names) for part in parts)])
        first_sample = np.cumsum([0, *(len(part.sample_tokens) for part in parts)])
        of_line = [part.line_sample + first for part, first in zip(parts, first_sample, strict=False)]
        line_sample = place[np.concatenate(of_line).astype(np.int64)]
        rows = np.argsort(line_sample, kind="stable")
        lines = LineMatches.joined(part.lines for part in parts)
        of_sample = [part.sample_scene + first for part, first in zip(parts, first_scene, strict=False)]
        return cls(
            scene_names=names,
            sample_tokens=tuple(tokens[row] for row in order),
            sample_scene=np.concatenate(of_sample)[order].astype(np.int32),
            num_true=np.concatenate([part.num_true for part in parts])[order],
            line_sample=line_sample[rows],
            lines=LineMatches(
                class_index=lines.class_index[rows],
                scores=lines.scores[rows],
                is_right=lines.is_right[rows],
                num_true=lines.num_true,
            ),
        )
