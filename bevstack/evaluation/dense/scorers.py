"""The scorers of map and occupancy for one choice of frames, and their counts by scene for resampling."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bevstack.evaluation.dense import rayiou
from bevstack.evaluation.dense.map_segmentation import MapScorer
from bevstack.evaluation.dense.occupancy import OccupancyScorer
from bevstack.evaluation.dense.rayiou import RayCounts, RayScorer
from bevstack.types.bev import OCC3D_GRID, VoxelGrid


@dataclass(slots=True)
class DenseScorers:
    """All scorers; one that saw no frame has no numbers."""

    map: MapScorer = field(default_factory=MapScorer)
    occupancy: OccupancyScorer = field(default_factory=OccupancyScorer)
    occupancy_in_lidar: OccupancyScorer = field(default_factory=OccupancyScorer)
    rays: RayScorer = field(default_factory=RayScorer)

    def merge(self, other: "DenseScorers") -> None:
        """Count the frames of the other too.

        Raises:
            ValueError: it has counted on another grid, or one of the same frames.
        """
        for name in self.__slots__:
            getattr(self, name).merge(getattr(other, name))

    def scores(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Task -> protocol -> numbers; tasks without a single scored frame are left out."""
        by_task: dict[str, tuple[Any, ...]] = {
            "map": (self.map,),
            "occupancy": (self.occupancy_in_lidar, self.occupancy, self.rays),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseStatistics:
    """Counts of map and occupancy by scene: all that the figures of weighted scenes need."""

    counts: dict[str, np.ndarray]
    """Scorer and name of its counts, such as "map/cells" -> (G, ...); scorers without a frame are left out."""
    grid: VoxelGrid | None
    """Of the occupancy labels; that of `occupancy_in_lidar` is always OpenOccupancy's."""
    lidar_grid: VoxelGrid | None

    @classmethod
    def of(cls, by_scene: Mapping[str, DenseScorers], scene_names: Sequence[str]) -> "DenseStatistics":
        """Stack the counts of scenes; a scene without frames counts nothing."""
        scorers = [by_scene.get(name, DenseScorers()) for name in scene_names]
        counts: dict[str, np.ndarray] = {}
        for kind in ("map", "occupancy", "occupancy_in_lidar"):
            if any(getattr(of, kind).num_frames for of in scorers):
                for name in scorers[0].map.counts if kind == "map" else scorers[0].occupancy.counts:
                    counts[f"{kind}/{name}"] = np.stack([getattr(of, kind).counts[name] for of in scorers])
        if any(of.rays.num_frames for of in scorers):
            counts["rays/rays"] = np.stack([RayCounts.total(of.rays.counts.values()).rays for of in scorers])
        grids = [
            next((grid for of in scorers if (grid := getattr(of, kind).grid) is not None), None)
            for kind in ("occupancy", "occupancy_in_lidar")
        ]
        return cls(counts=counts, grid=grids[0], lidar_grid=grids[1])

    def __call__(self, scene_weight: np.ndarray) -> dict[str, Any]:
        """The figures where each scene counts some number of times, as they stand in a row of `metrics.json`."""
        sums = {name: np.tensordot(scene_weight, counts, axes=1) for name, counts in self.counts.items()}
        found: dict[str, Any] = {}
        if "map/cells" in sums:
            of_map = {name: sums[f"map/{name}"] for name in ("cells", "levels")}
            found["map"] = MapScorer.of_counts(of_map, 1).result()
        occupancy: dict[str, Any] = {}
        for kind, grid in (("occupancy_in_lidar", self.lidar_grid), ("occupancy", self.grid)):
            if grid is not None:
                occupancy |= OccupancyScorer.of_counts({"voxels": sums[f"{kind}/voxels"]}, 1, grid).result()
        if "rays/rays" in sums:
            protocol = rayiou.PROTOCOL if self.grid == OCC3D_GRID else rayiou.OTHER_GRID_PROTOCOL
            occupancy[protocol] = rayiou.score(RayCounts(sums["rays/rays"]), 1, protocol=protocol)
        if occupancy:
            found["occupancy"] = occupancy
        return {task: {name: asdict(of) for name, of in numbers.items()} for task, numbers in found.items()}
