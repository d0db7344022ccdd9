"""Map and occupancy of one row of results, scored frame by frame as they come: what is kept does not grow with them,
but for a few kilobytes of pictures for each frame that a report may show.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bevstack.data.bird_rasters import BirdRaster, attention_raster, encode_png, map_raster, occupancy_raster
from bevstack.data.class_names import OCCUPANCY_IGNORE
from bevstack.evaluation.dense.lidar_frame import LidarFrame
from bevstack.evaluation.dense.map_segmentation import FIXED
from bevstack.evaluation.dense.scorers import DenseScorers
from bevstack.types.bev import OPENOCCUPANCY_GRID
from bevstack.types.cue import Cue
from bevstack.types.frame import Annotations, OccupancyGrid
from bevstack.types.scene import CueAttention, Occupancy, SceneEstimate

DenseTask = Literal["map", "occupancy"]
RasterKind = Literal["map", "occupancy", "attention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRaster:
    """A `BirdRaster` as PNG."""

    png: bytes
    x_range_m: tuple[float, float]
    y_range_m: tuple[float, float]
    caption: str = ""
    """What belongs to the picture in words: of an attention, its cue."""

    @classmethod
    def of(cls, raster: BirdRaster, caption: str = "") -> "StoredRaster":
        """Encode it."""
        return cls(png=encode_png(raster), x_range_m=raster.x_range_m, y_range_m=raster.y_range_m, caption=caption)


Rasters = dict[RasterKind, StoredRaster]


@dataclass(slots=True)
class DenseResults:
    """Scores so far, and what was predicted in each frame."""

    lidar: LidarFrame | None = None
    """Needed for the protocols that score in the frame of the LiDAR or along its rays; without it they are left out."""
    rasters: dict[str, Rasters] = field(default_factory=dict)
    """By sample token: what the model says, seen from above."""
    wrong_share: dict[str, float] = field(default_factory=dict)
    """By sample token: share of map cells and voxels that are wrong, added up over the two tasks."""
    by_scene: dict[str, DenseScorers] = field(default_factory=dict)
    """By scene name: the counts of its frames; all under an empty name where the scene is not known without `lidar`."""

    def add(self, estimate: SceneEstimate, truth: Annotations | None) -> None:
        """Count one frame; what the model does not predict or the frame has no labels of does not count.

        Raises:
            ValueError: prediction and label lie on different grids.
        """
        self.rasters[estimate.token] = predicted_rasters(estimate)
        wrong = 0.0
        scorers = self.by_scene.setdefault(self._scene(estimate.token), DenseScorers())
        if estimate.map is not None and truth is not None and truth.map_masks is not None:
            scorers.map.add(estimate.map, truth.map_masks)
            wrong += float(((estimate.map.probabilities >= FIXED) != truth.map_masks.masks).mean())
        if estimate.occupancy is not None and truth is not None and truth.occupancy is not None:
            self._add_occupancy(scorers, estimate.token, estimate.occupancy, truth.occupancy)
            counted = truth.occupancy.camera_mask & (truth.occupancy.semantics != OCCUPANCY_IGNORE)
            is_wrong = estimate.occupancy.semantics != truth.occupancy.semantics
            wrong += float((is_wrong & counted).sum() / max(counted.sum(), 1))
        self.wrong_share[estimate.token] = wrong

    def merge(self, other: "DenseResults") -> None:
        """Count the frames of another process too; the numbers are those of one that saw all of them.

        Raises:
            ValueError: both have counted the same frame, or frames on different grids.
        """
        if both := self.rasters.keys() & other.rasters.keys():
            raise ValueError(f"sample {min(both)} is counted already: give each frame to one process only")
        for scene, scorers in other.by_scene.items():
            self.by_scene.setdefault(scene, DenseScorers()).merge(scorers)
        self.rasters |= other.rasters
        self.wrong_share |= other.wrong_share

    def _scene(self, token: str) -> str:
        if self.lidar is None:
            return ""
        index = self.lidar.index
        return index.scene_of_sample(index.sample_row(token)).name

    def _add_occupancy(self, scorers: DenseScorers, token: str, found: Occupancy, truth: OccupancyGrid) -> None:
        scorers.occupancy.add(found, truth)
        if self.lidar is None:
            return
        scorers.rays.add(token, found, truth, self.lidar.origins(token))
        if truth.grid == OPENOCCUPANCY_GRID:
            scorers.occupancy_in_lidar.add(*self.lidar.openoccupancy(token, found))

    @property
    def tasks(self) -> tuple[DenseTask, ...]:
        """What the model predicts, scored or not."""
        found = {task for rasters in self.rasters.values() for task in rasters}
        return tuple(task for task in ("map", "occupancy") if task in found)

    def scores(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Task -> protocol -> numbers; tasks without a single scored frame are left out."""
        whole = DenseScorers()
        for scorers in self.by_scene.values():
            whole.merge(scorers)
        return whole.scores()


def predicted_rasters(estimate: SceneEstimate) -> Rasters:
    """What the model says, seen from above: map classes from a probability of 0.5, occupancy, and where a cue has lit
    up its features, with the words of the cue.
    """
    rasters: Rasters = {}
    if estimate.map is not None:
        masks = np.asarray(estimate.map.probabilities >= FIXED)
        rasters["map"] = StoredRaster.of(map_raster(masks, estimate.map.grid))
    if estimate.occupancy is not None:
        found = estimate.occupancy
        rasters["occupancy"] = StoredRaster.of(occupancy_raster(found.semantics, found.grid))
    if estimate.attention is not None and estimate.cue is not None:
        raster = attention_raster(estimate.attention.weights, estimate.attention.grid)
        rasters["attention"] = StoredRaster.of(raster, _caption(estimate, estimate.cue, estimate.attention))
    return rasters


def _caption(estimate: SceneEstimate, cue: Cue, attention: CueAttention) -> str:
    age_s = (estimate.timestamp_us - cue.timestamp_us) * 1e-6
    weights = f"weights {attention.weights.min():.2f} to {attention.weights.max():.2f}"
    return f"“{cue.text}” · {age_s:.1f} s old · {attention.cue_weight:.1%} of the features · {weights}"


def true_rasters(truth: Annotations | None) -> Rasters:
    """What the labels say of map and occupancy, seen from above."""
    rasters: Rasters = {}
    if truth is not None and truth.map_masks is not None:
        rasters["map"] = StoredRaster.of(map_raster(truth.map_masks.masks, truth.map_masks.grid))
    if truth is not None and truth.occupancy is not None:
        rasters["occupancy"] = StoredRaster.of(occupancy_raster(truth.occupancy.semantics, truth.occupancy.grid))
    return rasters
