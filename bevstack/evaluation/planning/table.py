"""Every plan under every planning protocol in one pass, with the baselines always beside it.

A number for a plan alone says little: on nuScenes three quarters of the frames drive straight on, and the vehicle's own
speed predicts most of the rest. So the table has a row for the expert, for each plan and for each baseline of
`planning_baselines`; every row says whether it was given the ego status and where its command came from; and every row
comes for all frames and for turning frames apart. A comparison that is missing is named instead of left unsaid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bevstack.data.index import DatasetIndex
from bevstack.data.maps import VectorMap
from bevstack.evaluation.planning.baselines import baseline_plans, train_ego_status_mlp
from bevstack.evaluation.planning.boundary import PROTOCOL as BOUNDARY
from bevstack.evaluation.planning.boundary import (
    BoundaryScores,
    leaves_drivable_area,
    maps_of_split,
    score_boundary,
    sum_boundary,
)
from bevstack.evaluation.planning.ego_future import TURNING_RAD, EgoFuture, read_ego_future
from bevstack.evaluation.planning.ego_status import EgoStatus, read_ego_status
from bevstack.evaluation.planning.file import PlanColumns
from bevstack.evaluation.planning.l2 import (
    PROTOCOLS,
    STP3,
    UNIAD,
    VAD,
    PublishedPlanScores,
    score_published,
    sum_published,
)
from bevstack.evaluation.planning.obstacles import (
    BoxesByStep,
    annotated_agents,
    stp3_obstacles,
    uniad_obstacles,
    vad_obstacles,
)
from bevstack.evaluation.planning.placement import place_expert, place_plan
from bevstack.evaluation.planning.polygon import PolygonScores, polygon_hits, score_polygon, sum_polygon
from bevstack.evaluation.planning.raster import RASTER_RULES, raster_hits
from bevstack.evaluation.planning.sums import FRAME_SUBSETS, PlanSums

EXPERT = "expert"
_TRAINING_SPLIT = {"mini_val": "mini_train"}
"""Scored split -> training split, where it is not just "train"."""
RowKind = Literal["expert", "prediction", "baseline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningTruth:
    """What plans are compared with: the frames of some scenes."""

    future: EgoFuture
    status: EgoStatus
    agents: BoxesByStep
    obstacles: dict[str, BoxesByStep]
    """Of each raster protocol."""
    maps: list[VectorMap] | None
    """Map of each scene; None where the data set has none, and then nothing is said about the boundary."""

    def of_scenes(self, scenes: Sequence[int]) -> "PlanningTruth":
        """The frames of some scenes, given by ascending index: a shard."""
        frames = np.flatnonzero(np.isin(self.future.scene_index, scenes))
        return PlanningTruth(
            future=self.future.of_scenes(scenes),
            status=self.status.of_frames(frames),
            agents=self.agents.of_frames(frames),
            obstacles={name: boxes.of_frames(frames) for name, boxes in self.obstacles.items()},
            maps=None if self.maps is None else [self.maps[scene] for scene in scenes],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningRow:
    """One plan on one kind of frames."""

    name: str
    kind: RowKind
    uses_ego_status: bool
    command_source: str
    frames: str
    """One of `FRAME_SUBSETS`."""
    uniad: PublishedPlanScores
    stp3: PublishedPlanScores
    vad: PublishedPlanScores
    polygon: PolygonScores
    boundary: BoundaryScores | None
    """None without a map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningTable:
    """All rows, and what a reader might miss."""

    rows: tuple[PlanningRow, ...]
    num_frames: int
    num_turning_frames: int
    turning_rad: float
    """Change of heading within 3 s that makes a turning frame."""
    not_reported: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanEntry:
    """One plan's sums and what it was given."""

    kind: RowKind
    uses_ego_status: bool
    command_source: str
    sums: PlanSums


def read_planning_truth(index: DatasetIndex, split: str) -> PlanningTruth:
    """Everything that planning protocols compare with, for one split.

    Raises:
        DatasetError: there is no such split, or a table or map is damaged.
        CalibrationError: a pose is not usable.
    """
    return PlanningTruth(
        future=read_ego_future(index, split),
        status=read_ego_status(index, split),
        agents=annotated_agents(index, split),
        obstacles={
            UNIAD: uniad_obstacles(index, split),
            STP3: stp3_obstacles(index, split),
            VAD: vad_obstacles(index, split),
        },
        maps=maps_of_split(index, split),
    )


def read_training(
    index: DatasetIndex, split: str, other: tuple[DatasetIndex, str] | None = None
) -> tuple[EgoStatus, EgoFuture] | None:
    """What the ego-status network is trained on beside a split: the training split of the same data set, or other data.

    None where the data set has none, or where it shares a scene with the split.

    Args:
        index: The data set that is scored.
        split: Which of its scenes.
        other: Another data set and its split, for worlds, which have one split each.

    Raises:
        ValueError: the other data set holds frames that are scored.
        DatasetError: there is no such split, or a table is damaged.
        CalibrationError: a pose is not usable.
    """
    if other is not None:
        shared = _tokens_of(*other) & _tokens_of(index, split)
        if shared:
            raise ValueError(f"{other[0].root} holds frames that are scored, such as {min(shared)}: learn from others")
        return read_ego_status(*other), read_ego_future(*other)
    training = _TRAINING_SPLIT.get(split, "train")
    splits = index.splits()
    if training not in splits or set(splits[training]) & set(splits.get(split, ())):
        return None
    return read_ego_status(index, training), read_ego_future(index, training)


def _tokens_of(index: DatasetIndex, split: str) -> set[str]:
    return {index.sample_tokens[row] for row in index.samples_of_split(split).tolist()}


def score_planning(
    truth: PlanningTruth,
    plans: Mapping[str, PlanColumns],
    training: tuple[EgoStatus, EgoFuture] | None = None,
) -> PlanningTable:
    """The table of some plans with the expert and all baselines.

    Args:
        truth: The frames.
        plans: Plans by name; each must have exactly the samples of the frames, in any order.
        training: Own motion and future of a training split, from which the ego-status network is learned
            (`read_training`); without it that row is missing, and the table says so.

    Raises:
        ValueError: a plan lacks a sample or has one too many, or bears the name of a baseline.
    """
    mlp = None if training is None else train_ego_status_mlp(*training)
    baselines = baseline_plans(truth.future.sample_tokens, truth.status, mlp)
    return tabulate(sum_plans(truth, plans, baselines), truth.future)


def sum_plans(
    truth: PlanningTruth, plans: Mapping[str, PlanColumns], baselines: Mapping[str, PlanColumns]
) -> dict[str, PlanEntry]:
    """Sums by scene of the expert, the plans and the baselines: what shards send and a bootstrap draws from.

    Raises:
        ValueError: as `score_planning`.
    """
    twice = {EXPERT, *baselines} & set(plans)
    if twice:
        raise ValueError(f"a plan is named '{min(twice)}', as a row of its own is: give it another name")
    future = truth.future
    ordered = {name: plan.in_order_of(future.sample_tokens, name) for name, plan in {**plans, **baselines}.items()}
    placed = [place_expert(future), *(place_plan(plan, future) for plan in ordered.values())]
    paths = np.stack([plan.path_lidar for plan in placed])
    hits = {protocol: raster_hits(paths, truth.obstacles[protocol], RASTER_RULES[protocol]) for protocol in PROTOCOLS}
    expert_hits = {protocol: found[0] for protocol, found in hits.items()}
    outside = None
    if truth.maps is not None:
        outside = leaves_drivable_area(np.stack([plan.boxes_ego for plan in placed]), future, truth.maps)
    entries = {}
    for row, (name, plan) in enumerate(zip((EXPERT, *ordered), placed, strict=True)):
        sums = sum_published(
            points=plan.points,
            expert_points=plan.expert_points,
            hits={protocol: found[row] for protocol, found in hits.items()},
            expert_hits=expert_hits,
            future=future,
        )
        sums |= sum_polygon(polygon_hits(plan.boxes_ego[:, 1:], truth.agents), future)
        if outside is not None:
            sums |= sum_boundary(outside[0][row], outside[1], future)
        columns = ordered.get(name)
        entries[name] = PlanEntry(
            kind="expert" if columns is None else "prediction" if name in plans else "baseline",
            uses_ego_status=columns is not None and columns.uses_ego_status,
            command_source="none" if columns is None else columns.command_source,
            sums=sums,
        )
    return entries


def tabulate(entries: Mapping[str, PlanEntry], future: EgoFuture) -> PlanningTable:
    """The table of some sums."""
    rows = tuple(score_row(name, entry, subset) for name, entry in entries.items() for subset in FRAME_SUBSETS)
    return PlanningTable(
        rows=rows,
        num_frames=len(future),
        num_turning_frames=int(future.is_turning.sum()),
        turning_rad=float(TURNING_RAD),
        not_reported=not_reported(entries),
    )


def not_reported(entries: Mapping[str, PlanEntry]) -> tuple[str, ...]:
    """Comparisons that a reader might miss, each with the reason."""
    missing = [] if "ego_status_mlp" in entries else ["ego_status_mlp: no training split was given to learn it from"]
    if not all(_has_boundary(entry) for entry in entries.values()):
        missing.append("plan/boundary: the data set has no map expansion")
    given = {entry.uses_ego_status for entry in entries.values() if entry.kind == "prediction"}
    missing += [
        f"no prediction {'with' if uses else 'without'} ego status: score the model both ways"
        for uses in (False, True)
        if given and uses not in given
    ]
    return tuple(missing)


def _has_boundary(entry: PlanEntry) -> bool:
    return any(measure.startswith(BOUNDARY) for measure in entry.sums)


def score_row(name: str, entry: PlanEntry, subset: str, weights: np.ndarray | None = None) -> PlanningRow:
    """One row; `weights` says how often a bootstrap has drawn each scene."""
    published = {protocol: score_published(entry.sums, protocol, subset, weights) for protocol in PROTOCOLS}
    return PlanningRow(
        name=name,
        kind=entry.kind,
        uses_ego_status=entry.uses_ego_status,
        command_source=entry.command_source,
        frames=subset,
        uniad=published[UNIAD],
        stp3=published[STP3],
        vad=published[VAD],
        polygon=score_polygon(entry.sums, subset, weights),
        boundary=score_boundary(entry.sums, subset, weights) if _has_boundary(entry) else None,
    )
