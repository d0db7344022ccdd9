"""Future instances by scene: the numbers of `instance/vpq` for any choice of scenes, with what needs no model."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import ClassVar

import numpy as np

from bevstack.data.index import DatasetIndex
from bevstack.evaluation.dense.instance_truth import annotated_baselines, true_instances
from bevstack.evaluation.dense.instance_vpq import PROTOCOL, InstanceCounts, count_instances, score
from bevstack.evaluation.motion.baselines import COPY_LAST, EMPTY
from bevstack.evaluation.task_statistics import Numbers, joined_scene_names, whole_weights, with_baselines


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStatistics:
    """What was counted in G scenes."""

    task: ClassVar[str] = "instance"

    row: str
    """Name of the system among the counts."""
    scene_names: tuple[str, ...]
    num_sequences: np.ndarray
    """int64 (G,)."""
    counts: dict[str, dict[str, np.ndarray]]
    """System or baseline -> field of `InstanceCounts` -> (G, ranges)."""

    @classmethod
    def of(
        cls,
        sequences: Iterable[tuple[str, np.ndarray, np.ndarray | None]],
        row: str,
        index: DatasetIndex,
        sample_tokens: Sequence[str],
    ) -> "InstanceStatistics":
        """Compare sequences with what happened, one after the other.

        Args:
            sequences: Sample token, identities, and vehicle cells where they are predicted apart.
            row: What to call the system.
            index: The data set.
            sample_tokens: All samples of the scenes; a scene may have no sequence.

        Raises:
            ValueError: as `count_instances`.
            DatasetError: as `true_instances`.
        """
        names = dict.fromkeys(_scene(index, token) for token in sample_tokens)
        found: dict[str, dict[str, list[InstanceCounts]]] = {}
        num_sequences = dict.fromkeys(names, 0)
        for token, identities, vehicles in sequences:
            sample, scene = index.sample_row(token), _scene(index, token)
            truth, num_sequences[scene] = true_instances(index, sample), num_sequences[scene] + 1
            annotated = annotated_baselines(index, sample)
            rows = {
                row: identities,
                COPY_LAST: np.repeat(identities[:1], len(identities), axis=0),
                EMPTY: np.zeros_like(identities),
                **{f"annotated, {name}": raster for name, raster in annotated.items()},
            }
            for name, raster in rows.items():
                is_vehicle = vehicles if name == row else None
                counts = count_instances(raster, truth, is_vehicle=is_vehicle)
                found.setdefault(name, {}).setdefault(scene, []).append(counts)
        by_scene = {
            name: [InstanceCounts.total(of.get(scene, ())) for scene in names]
            for name, of in (found or {row: {}}).items()
        }
        return cls(
            row=row,
            scene_names=tuple(names),
            num_sequences=np.array(list(num_sequences.values()), np.int64),
            counts={
                name: {field.name: np.stack([getattr(each, field.name) for each in of]) for field in fields(of[0])}
                for name, of in by_scene.items()
            },
        )

    def numbers(self, scene_weight: np.ndarray | None = None) -> Numbers:
        """As `TaskStatistics`."""
        weight = whole_weights(np.ones(len(self.scene_names)) if scene_weight is None else scene_weight)
        chosen = self.counts if scene_weight is None else {self.row: self.counts[self.row]}
        scores = {}
        for name, of in chosen.items():
            total = InstanceCounts(**{field: np.tensordot(weight, counts, axes=1) for field, counts in of.items()})
            scores[name] = asdict(score(total, int(self.num_sequences @ weight)))
        return {PROTOCOL: with_baselines(scores, self.row)}

    @classmethod
    def merge(cls, parts: Sequence["InstanceStatistics"]) -> "InstanceStatistics":
        """As `TaskStatistics`."""
        names = joined_scene_names(parts)
        rows = dict.fromkeys(
            name for part in parts for name in part.counts
        )  # a part without a sequence has no baselines
        return cls(
            row=parts[0].row,
            scene_names=names,
            num_sequences=np.concatenate([part.num_sequences for part in parts]),
            counts={
                name: {
                    field: np.concatenate([_counts(part, name, field) for part in parts])
                    for field in parts[0].counts[parts[0].row]
                }
                for name in rows
            },
        )


def _counts(part: InstanceStatistics, name: str, field: str) -> np.ndarray:
    own = part.counts[part.row][field]
    return part.counts[name][field] if name in part.counts else np.zeros_like(own)


def _scene(index: DatasetIndex, token: str) -> str:
    return index.scene_of_sample(index.sample_row(token)).name
