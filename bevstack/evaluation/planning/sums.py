"""Sums of a planning measure by scene, step and kind of frame: what shards merge and what a bootstrap draws from.

A scene is never split between shards, and totals are taken with exact summation over scenes (`math.fsum`): a set that
was scored in parts gives the same bits as one that was scored whole.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bevstack.evaluation.planning.ego_future import HORIZON_STEPS, PLAN_STEPS, EgoFuture

FRAME_SUBSETS = ("all", "turning")
"""Kinds of frames that every result is reported for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonValues:
    """A measure at 1, 2 and 3 s and the mean of the three; None where nothing was measured."""

    at_1s: float | None
    at_2s: float | None
    at_3s: float | None
    mean: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSums:
    """Sums of one measure over the frames of each scene."""

    scene_names: tuple[str, ...]
    found: Float64[np.ndarray, "S 2 6"]
    """Sum of the measure, by `FRAME_SUBSETS` and step."""
    counted: Int64[np.ndarray, "S 2 6"]
    """Over how many frames."""

    @classmethod
    def of(cls, found: np.ndarray, counted: Bool[np.ndarray, "F 6"], future: EgoFuture) -> "SceneSums":
        """Sums of a measure (F, 6) over the frames and steps that count."""
        scenes = len(future.scene_names)
        sums = np.zeros((scenes, len(FRAME_SUBSETS), PLAN_STEPS))
        counts = np.zeros((scenes, len(FRAME_SUBSETS), PLAN_STEPS), np.int64)
        for place, chosen in enumerate((np.ones(len(future), bool), future.is_turning)):
            rows = future.scene_index[chosen]
            np.add.at(sums[:, place], rows, np.where(counted, found, 0.0)[chosen])
            np.add.at(counts[:, place], rows, counted[chosen])
        return cls(scene_names=future.scene_names, found=sums, counted=counts)

    def num_frames(self, subset: str) -> int:
        """Frames that count at the first step at least."""
        return int(self.counted[:, FRAME_SUBSETS.index(subset), 0].sum())

    def ratios(self, subset: str, weights: np.ndarray | None = None) -> Float64[np.ndarray, "6"]:
        """Mean of the measure at each step, NaN where nothing counts.

        Args:
            subset: One of `FRAME_SUBSETS`.
            weights: How often each scene is drawn (bootstrap); each once by default.
        """
        place = FRAME_SUBSETS.index(subset)
        drawn = np.ones(len(self.scene_names)) if weights is None else np.asarray(weights, np.float64)
        totals = np.array([math.fsum(column) for column in (self.found[:, place] * drawn[:, None]).T])
        counts = (self.counted[:, place] * drawn[:, None]).sum(axis=0)
        return np.divide(totals, counts, out=np.full(PLAN_STEPS, np.nan), where=counts > 0)


PlanSums = dict[str, SceneSums]
"""All sums of one plan, by name of the measure."""


def merge_sums(parts: Sequence[Mapping[str, SceneSums]]) -> PlanSums:
    """The sums of all shards.

    Raises:
        ValueError: there is nothing to merge, the shards hold different measures, or a scene is in two of them.
    """
    if not parts or any(set(part) != set(parts[0]) for part in parts):
        raise ValueError(f"{len(parts)} shards with measures {[sorted(part) for part in parts]} cannot be merged")
    merged = {}
    for name in parts[0]:
        sums = [part[name] for part in parts]
        scenes = tuple(scene for one in sums for scene in one.scene_names)
        if len(set(scenes)) < len(scenes):
            twice = next(scene for scene in scenes if scenes.count(scene) > 1)
            raise ValueError(f"scene {twice} is in two shards: divide a split by scenes")
        merged[name] = SceneSums(
            scene_names=scenes,
            found=np.concatenate([one.found for one in sums]),
            counted=np.concatenate([one.counted for one in sums]),
        )
    return merged


def at_horizons(ratios: Float64[np.ndarray, "6"]) -> HorizonValues:
    """The values of the steps at 1, 2 and 3 s."""
    return _horizon_values([ratios[step] for step in HORIZON_STEPS.values()])


def mean_until_horizons(ratios: Float64[np.ndarray, "6"]) -> HorizonValues:
    """The mean of all steps up to 1, 2 and 3 s."""
    return _horizon_values([ratios[: step + 1].mean() for step in HORIZON_STEPS.values()])


def _horizon_values(seconds: Sequence[float]) -> HorizonValues:
    values = [*map(float, seconds), float(np.mean(seconds))]
    one, two, three, mean = (None if math.isnan(value) else value for value in values)
    return HorizonValues(at_1s=one, at_2s=two, at_3s=three, mean=mean)
