"""Planning by scene: the numbers of every planning protocol for any choice of scenes, with turning frames apart."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bevstack.data.index import DatasetIndex
from bevstack.evaluation.planning.baselines import baseline_plans, train_ego_status_mlp
from bevstack.evaluation.planning.file import PlanColumns
from bevstack.evaluation.planning.sums import FRAME_SUBSETS, merge_sums
from bevstack.evaluation.planning.table import (
    PlanEntry,
    PlanningRow,
    not_reported,
    read_planning_truth,
    read_training,
    score_row,
    sum_plans,
)
from bevstack.evaluation.task_statistics import Numbers, joined_scene_names, with_baselines

_PROTOCOL_FIELDS = ("uniad", "stp3", "vad", "polygon", "boundary")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningStatistics:
    """Sums of a plan, of the expert and of all baselines."""

    task: ClassVar[str] = "planning"

    row: str
    """Name of the plan among the entries."""
    entries: dict[str, PlanEntry]

    @classmethod
    def of(
        cls,
        plans: PlanColumns,
        row: str,
        index: DatasetIndex,
        split: str,
        sample_tokens: Sequence[str],
        *,
        baseline_data: tuple[DatasetIndex, str] | None = None,
    ) -> "PlanningStatistics":
        """Compare plans with what happened.

        Args:
            plans: Of exactly the samples.
            row: What to call them.
            index: The data set.
            split: Whose scenes they are.
            sample_tokens: All samples of some scenes of the split.
            baseline_data: Another data set and its split for the baseline that learns; None for the training split of
                this one.

        Raises:
            ValueError: a sample has no plan, the other data set holds some of these samples, or the row has the name of
                a baseline.
            DatasetError: a table or map is damaged.
            CalibrationError: a pose is not usable.
        """
        whole = read_planning_truth(index, split)
        scenes = {index.scene_of_sample(index.sample_row(token)).name for token in sample_tokens}
        truth = whole.of_scenes([place for place, name in enumerate(whole.future.scene_names) if name in scenes])
        training = read_training(index, split, baseline_data)
        mlp = None if training is None else train_ego_status_mlp(*training)
        row_of = {token: number for number, token in enumerate(whole.future.sample_tokens)}
        rows = [row_of[token] for token in truth.future.sample_tokens]
        baselines = baseline_plans(whole.future.sample_tokens, whole.status, mlp)
        baselines = {name: plan.take(rows) for name, plan in baselines.items()}
        return cls(row=row, entries=sum_plans(truth, {row: plans}, baselines))

    @property
    def scene_names(self) -> tuple[str, ...]:
        """As `TaskStatistics`."""
        return next(iter(self.entries[self.row].sums.values())).scene_names

    def numbers(self, scene_weight: np.ndarray | None = None) -> Numbers:
        """As `TaskStatistics`; with weights those of the plan alone."""
        chosen = self.entries if scene_weight is None else {self.row: self.entries[self.row]}
        rows = {
            name: [score_row(name, entry, subset, scene_weight) for subset in FRAME_SUBSETS]
            for name, entry in chosen.items()
        }
        numbers: Numbers = {}
        for field in _PROTOCOL_FIELDS:
            if getattr(rows[self.row][0], field) is None:
                continue
            own = {
                name: {**_numbers(of, field), "turning": _numbers(turning, field)}
                for name, (of, turning) in rows.items()
            }
            more = {"not_reported": list(not_reported(self.entries))} if scene_weight is None else {}
            numbers[own[self.row]["protocol"]] = {**with_baselines(own, self.row), **more}
        return numbers

    @classmethod
    def merge(cls, parts: Sequence["PlanningStatistics"]) -> "PlanningStatistics":
        """As `TaskStatistics`."""
        joined_scene_names(parts)
        first = parts[0]
        if any(set(part.entries) != set(first.entries) for part in parts):
            raise ValueError(f"parts have different plans: {[sorted(part.entries) for part in parts]}")
        return cls(
            row=first.row,
            entries={
                name: replace(entry, sums=merge_sums([part.entries[name].sums for part in parts]))
                for name, entry in first.entries.items()
            },
        )


def _numbers(row: PlanningRow, field: str) -> dict[str, Any]:
    given = {"uses_ego_status": row.uses_ego_status, "command_source": row.command_source}
    return {**asdict(getattr(row, field)), **given}
