"""`plan/uniad`, `plan/stp3` and `plan/vad`: distance to the expert and raster collisions by the released conventions.

Same six steps of half a second, same names for the columns, different numbers:

| | `plan/uniad` (Hu et al., CVPR 2023) | `plan/stp3` (Hu et al., ECCV 2022) | `plan/vad` (Jiang et al., ICCV 2023) |
|---|---|---|---|
| frames | all | with two past and six future key frames | with six future key frames |
| value at t | of the step *at* t | mean of the steps up to t | mean of the steps up to t |
| a missing step | error 0, still counted | its frame is left out | its frame is left out |
| obstacles | vehicles | vehicles and people seen lately | vehicles and pedestrians near the present car |

Traps named: an error that grows linearly, e(t) = a t, reads 3 a at 3 s under `plan/uniad` and 1.75 a under the other
two; so "0.9 m at 3 s" of one is worse than "1.6 m" of another. (The paper of ST-P3 tabulates its values as those at t;
its released evaluation takes the mean, and so does `plan/stp3`.) UniAD's missing steps flatter: the same mean over the
steps that exist stands beside it as `l2_m_known`. Steps at which the expert touches a drawn box are struck from the
collisions but not from their denominator; `collision_where_clear` divides by the steps that were really tested.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from bevstack.evaluation.planning.ego_future import EgoFuture
from bevstack.evaluation.planning.sums import (
    HorizonValues,
    PlanSums,
    SceneSums,
    at_horizons,
    mean_until_horizons,
)

UNIAD, STP3, VAD = "plan/uniad", "plan/stp3", "plan/vad"
PROTOCOLS = (UNIAD, STP3, VAD)
STP3_PAST_FRAMES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPlanScores:
    """One plan under one of the three conventions."""

    protocol: str
    num_frames: int
    """Frames that the protocol counts."""
    l2_m: HorizonValues
    collision: HorizonValues
    """Share of collisions, 0 to 1 (papers print per cent)."""
    l2_m_known: HorizonValues
    """As `l2_m`, over the steps that exist only; the same number except under `plan/uniad`."""
    collision_where_clear: HorizonValues
    """Collisions over the steps that exist and at which the expert touches nothing."""


def sum_published(
    *,
    points: Float64[np.ndarray, "F 6 2"],
    expert_points: Float64[np.ndarray, "F 6 2"],
    hits: Mapping[str, Bool[np.ndarray, "F 6"]],
    expert_hits: Mapping[str, Bool[np.ndarray, "F 6"]],
    future: EgoFuture,
) -> PlanSums:
    """Sums of one plan under the three conventions.

    Args:
        points: Planned points.
        expert_points: The same point of the expert, in the same axes.
        hits: Raster collisions of the plan, by protocol.
        expert_hits: Those of the expert.
        future: The frames.
    """
    errors = np.linalg.norm(points - expert_points, axis=-1)
    sums = {}
    for protocol in PROTOCOLS:
        frames = _counted_frames(protocol, future)
        every = np.repeat(frames[:, None], future.valid.shape[1], axis=1)
        known = every & future.valid
        clear = known & ~expert_hits[protocol]
        struck = hits[protocol] & clear
        errors_known = np.where(future.valid, errors, 0.0)
        sums[f"{protocol} l2"] = SceneSums.of(errors_known, every, future)
        sums[f"{protocol} l2 known"] = SceneSums.of(errors_known, known, future)
        sums[f"{protocol} collision"] = SceneSums.of(struck, every, future)
        sums[f"{protocol} collision clear"] = SceneSums.of(struck, clear, future)
    return sums


def score_published(
    sums: PlanSums, protocol: str, subset: str = "all", weights: np.ndarray | None = None
) -> PublishedPlanScores:
    """The scores of one plan under one convention, from sums of any number of scenes."""
    reduce = at_horizons if protocol == UNIAD else mean_until_horizons
    values = {
        name: reduce(sums[f"{protocol} {name}"].ratios(subset, weights))
        for name in ("l2", "l2 known", "collision", "collision clear")
    }
    return PublishedPlanScores(
        protocol=protocol,
        num_frames=sums[f"{protocol} l2"].num_frames(subset),
        l2_m=values["l2"],
        collision=values["collision"],
        l2_m_known=values["l2 known"],
        collision_where_clear=values["collision clear"],
    )


def _counted_frames(protocol: str, future: EgoFuture) -> Bool[np.ndarray, " F"]:
    if protocol == UNIAD:
        return np.ones(len(future), bool)
    if protocol == STP3:
        return future.has_full_future & (future.num_past >= STP3_PAST_FRAMES)
    return future.has_full_future
