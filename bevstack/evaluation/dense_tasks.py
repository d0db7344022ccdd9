"""Map and occupancy of one row of results, scored frame by frame as they come: what is kept does not grow with them,
but for a few kilobytes of pictures for each frame that a report may show.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from bevstack.data.bird_rasters import BirdRaster, encode_png, map_raster, occupancy_raster
from bevstack.data.class_names import OCCUPANCY_IGNORE
from bevstack.evaluation.lidar_frame import LidarFrame
from bevstack.evaluation.map_segmentation import FIXED, MapScorer
from bevstack.evaluation.occupancy import OccupancyScorer
from bevstack.evaluation.rayiou import RayScorer
from bevstack.types.bev import OPENOCCUPANCY_GRID
from bevstack.types.frame import Annotations, OccupancyGrid
from bevstack.types.scene import Occupancy, SceneEstimate

DenseTask = Literal["map", "occupancy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRaster:
    """A `BirdRaster` as PNG."""

    png: bytes
    x_range_m: tuple[float, float]
    y_range_m: tuple[float, float]

    @classmethod
    def of(cls, raster: BirdRaster) -> "StoredRaster":
        """Encode it."""
        return cls(png=encode_png(raster), x_range_m=raster.x_range_m, y_range_m=raster.y_range_m)


Rasters = dict[DenseTask, StoredRaster]


@dataclass(slots=True)
class DenseResults:
    """Scores so far, and what was predicted in each frame."""

    lidar: LidarFrame | None = None
    """Needed for the protocols that score in the frame of the LiDAR or along its rays; without it they are left out."""
    rasters: dict[str, Rasters] = field(default_factory=dict)
    """By sample token: what the model says, seen from above."""
    wrong_share: dict[str, float] = field(default_factory=dict)
    """By sample token: share of map cells and voxels that are wrong, added up over the two tasks."""
    _map: MapScorer = field(default_factory=MapScorer)
    _occupancy: OccupancyScorer = field(default_factory=OccupancyScorer)
    _occupancy_in_lidar: OccupancyScorer = field(default_factory=OccupancyScorer)
    _rays: RayScorer = field(default_factory=RayScorer)

    def add(self, estimate: SceneEstimate, truth: Annotations | None) -> None:
        """Count one frame; what the model does not predict or the frame has no labels of does not count.

        Raises:
            ValueError: prediction and label lie on different grids.
        """
        self.rasters[estimate.token] = predicted_rasters(estimate)
        wrong = 0.0
        if estimate.map is not None and truth is not None and truth.map_masks is not None:
            self._map.add(estimate.map, truth.map_masks)
            wrong += float(((estimate.map.probabilities >= FIXED) != truth.map_masks.masks).mean())
        if estimate.occupancy is not None and truth is not None and truth.occupancy is not None:
            self._add_occupancy(estimate.token, estimate.occupancy, truth.occupancy)
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
        self._map.merge(other._map)
        self._occupancy.merge(other._occupancy)
        self._occupancy_in_lidar.merge(other._occupancy_in_lidar)
        self._rays.merge(other._rays)
        self.rasters |= other.rasters
        self.wrong_share |= other.wrong_share

    def _add_occupancy(self, token: str, found: Occupancy, truth: OccupancyGrid) -> None:
        self._occupancy.add(found, truth)
        if self.lidar is None:
            return
        self._rays.add(token, found, truth, self.lidar.origins(token))
        if truth.grid == OPENOCCUPANCY_GRID:
            self._occupancy_in_lidar.add(*self.lidar.openoccupancy(token, found))

    @property
    def tasks(self) -> tuple[DenseTask, ...]:
        """What the model predicts, scored or not."""
        found = {task for rasters in self.rasters.values() for task in rasters}
        return tuple(task for task in ("map", "occupancy") if task in found)

    def scores(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Task -> protocol -> numbers; tasks without a single scored frame are left out."""
        by_task: Mapping[DenseTask, tuple[Any, ...]] = {
            "map": (self._map,),
            "occupancy": (self._occupancy_in_lidar, self._occupancy, self._rays),
        }
        return {
            task: {
                protocol: asdict(numbers)
                for scorer in scorers
                if scorer.num_frames
                for protocol, numbers in scorer.result().items()
            }
            for task, scorers in by_task.items()
            if any(scorer.num_frames for scorer in scorers)
        }


def predicted_rasters(estimate: SceneEstimate) -> Rasters:
    """What the model says of map and occupancy, seen from above; map classes from a probability of 0.5."""
    rasters: Rasters = {}
    if estimate.map is not None:
        masks = np.asarray(estimate.map.probabilities >= FIXED)
        rasters["map"] = StoredRaster.of(map_raster(masks, estimate.map.grid))
    if estimate.occupancy is not None:
        found = estimate.occupancy
        rasters["occupancy"] = StoredRaster.of(occupancy_raster(found.semantics, found.grid))
    return rasters


def true_rasters(truth: Annotations | None) -> Rasters:
    """What the labels say of map and occupancy, seen from above."""
    rasters: Rasters = {}
    if truth is not None and truth.map_masks is not None:
        rasters["map"] = StoredRaster.of(map_raster(truth.map_masks.masks, truth.map_masks.grid))
    if truth is not None and truth.occupancy is not None:
        rasters["occupancy"] = StoredRaster.of(occupancy_raster(truth.occupancy.semantics, truth.occupancy.grid))
    return rasters
