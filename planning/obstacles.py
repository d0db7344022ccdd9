"""What a plan must not hit: the scene as rectangles that move, cells that stand, and the road, on one clock.

Objects follow their forecast modes; without forecasts they go on as they are for a few seconds. An occupied voxel in
the height band of the vehicle stands where it is, unless it belongs to an object that is there already (a car that
drives away takes its voxels along). Whatever is not finite is left out and named in `notes`.

Letters: A agents, F futures of agents, T times, M cells.
"""

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float, Int

from bevstack.data.class_names import DETECTION_CLASSES, OCCUPANCY_CLASSES
from bevstack.data.maps import MAP_CLASSES
from bevstack.planning.agent_futures import STANDING_CLASSES, AgentFutures, BeliefRules, futures_of
from bevstack.planning.vehicle import VehicleParams
from bevstack.types.bev import BevGrid
from bevstack.types.scene import MapSegmentation, Occupancy, SceneEstimate

GROUND_CLASSES = ("driveable_surface", "other_flat", "sidewalk", "terrain")
"""Occupancy classes that one may drive on, as far as touching is concerned."""
ROAD_CLASSES = ("drivable_area", "carpark_area")

_SOLID = np.array(
    [name not in (*GROUND_CLASSES, "free") for name in OCCUPANCY_CLASSES] + [False] * (256 - len(OCCUPANCY_CLASSES))
)
_MOVABLE = np.array([name in DETECTION_CLASSES and name not in STANDING_CLASSES for name in OCCUPANCY_CLASSES])
_OWN_GROWTH_M, _AGENT_GROWTH_M, _MOVABLE_GROWTH_M = 0.3, 0.5, 1.5
"""Cells this close to the vehicle now are the vehicle; cells this close to an object's box are the object, and cells of
a class that moves are it from farther off: predicted occupancy is wider than predicted boxes, and what is left of a
car that drives ahead would stand in the way."""
_ROOF_CLEARANCE_M = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OccupiedCells:
    """Columns of voxels that stand in the way, in `ego` at reference time."""

    centers: Float[np.ndarray, "M 2"]
    class_index: Int[np.ndarray, " M"]
    """`OCCUPANCY_CLASSES` of the lowest solid voxel in the band."""
    cell_m: float

    @classmethod
    def none(cls) -> "OccupiedCells":
        """Nothing stands anywhere."""
        return cls(centers=np.zeros((0, 2)), class_index=np.zeros(0, np.int64), cell_m=0.4)

    def __len__(self) -> int:
        return len(self.centers)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Road:
    """Where the map is believed to be drivable."""

    is_road: Bool[np.ndarray, "Y X"]
    grid: BevGrid

    def contains(self, points: Float[np.ndarray, "*n 2"]) -> Bool[np.ndarray, "*n"]:
        """Which points lie on the road; those beyond the map count as on it, since nothing is known of them."""
        column = np.floor((points[..., 0] - self.grid.x_range_m[0]) / self.grid.cell_m).astype(np.int64)
        row = np.floor((points[..., 1] - self.grid.y_range_m[0]) / self.grid.cell_m).astype(np.int64)
        rows, columns = self.is_road.shape
        is_known = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        found = self.is_road[row.clip(0, rows - 1), column.clip(0, columns - 1)]
        return found | ~is_known


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneObstacles:
    """The scene as planners see it."""

    agents: AgentFutures
    cells: OccupiedCells
    road: Road | None
    """None where no map is believed."""
    notes: tuple[str, ...]
    """What was left out, and why."""

    @classmethod
    def of(cls, scene: SceneEstimate, vehicle: VehicleParams, rules: BeliefRules) -> "SceneObstacles":
        """From a scene that may lack any part, and whose parts may be wrong."""
        own = vehicle.rectangles(np.zeros((1, 3)), _OWN_GROWTH_M)[0]
        agents, notes = futures_of(scene, rules, vehicle.rectangles(np.zeros((1, 3)))[0])
        cells, cell_notes = _occupied(scene.occupancy, agents, own, vehicle, rules)
        road, road_notes = _road(scene.map, rules)
        return cls(agents=agents, cells=cells, road=road, notes=(*notes, *cell_notes, *road_notes))


def _occupied(
    occupancy: Occupancy | None, agents: AgentFutures, own: np.ndarray, vehicle: VehicleParams, rules: BeliefRules
) -> tuple[OccupiedCells, tuple[str, ...]]:
    if occupancy is None:
        return OccupiedCells.none(), ()
    grid = occupancy.grid
    if occupancy.semantics.shape != grid.shape_xyz:
        words = f"occupancy of shape {occupancy.semantics.shape} does not lie on its grid {grid.shape_xyz}: left out"
        return OccupiedCells.none(), (words,)
    band = (rules.min_height_m, vehicle.height_m + _ROOF_CLEARANCE_M)
    low, high = (round((height - grid.z_range_m[0]) / grid.voxel_m) for height in band)
    objects = agents.boxes[np.unique(agents.agent, return_index=True)[1], 0]
    index, class_index = _solid_columns(occupancy.semantics, _SOLID, max(low, 0), min(high, grid.shape_xyz[2]))
    centers = (index + 0.5) * grid.voxel_m + np.array(grid.low_m[:2])
    of_object = _in_any(centers, _grown(objects, _AGENT_GROWTH_M))
    of_object |= _MOVABLE[class_index] & _in_any(centers, _grown(objects, _MOVABLE_GROWTH_M))
    standing = ~(of_object | _in_any(centers, own[None]))
    return OccupiedCells(centers=centers[standing], class_index=class_index[standing], cell_m=grid.voxel_m), ()


def _grown(rectangles: Float[np.ndarray, "N 5"], growth_m: float) -> Float[np.ndarray, "N 5"]:
    """Longer and wider by twice `growth_m`."""
    return rectangles + np.array((0.0, 0.0, 2 * growth_m, 2 * growth_m, 0.0))


def _road(segmentation: MapSegmentation | None, rules: BeliefRules) -> tuple[Road | None, tuple[str, ...]]:
    if segmentation is None:
        return None, ()
    shape = segmentation.probabilities.shape
    if shape != (len(MAP_CLASSES), *segmentation.grid.shape_yx):
        return None, (f"a map of shape {shape} does not lie on its grid {segmentation.grid.shape_yx}: left out",)
    rows = [list(MAP_CLASSES).index(name) for name in ROAD_CLASSES]
    is_road = (segmentation.probabilities[rows] >= rules.min_road_probability).any(axis=0)
    if not is_road.any():
        return None, ("the map knows no road anywhere: left out",)
    return Road(is_road=is_road, grid=segmentation.grid), ()


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _solid_columns(semantics: np.ndarray, is_solid: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Column indices (M, 2) with a solid voxel from level `low` to below `high`, and the class of the lowest."""
    columns, rows, _ = semantics.shape
    index = np.empty((columns * rows, 2), np.int64)
    class_index = np.empty(columns * rows, np.int64)
    count = 0
    for i in range(columns):
        for j in range(rows):
            for k in range(low, high):
                if is_solid[semantics[i, j, k]]:
                    index[count, 0], index[count, 1] = i, j
                    class_index[count] = semantics[i, j, k]
                    count += 1
                    break
    return index[:count].copy(), class_index[:count].copy()


@numba.njit(cache=True, nogil=True)
@no_type_check
def _in_any(points: np.ndarray, rectangles: np.ndarray) -> np.ndarray:
    """Which points (M, 2) lie in any of the rectangles (N, 5)."""
    out = np.zeros(len(points), np.bool_)
    cosine, sine = np.cos(rectangles[:, 4]), np.sin(rectangles[:, 4])
    reach = 0.5 * np.hypot(rectangles[:, 2], rectangles[:, 3])
    for m in range(len(points)):
        for n in range(len(rectangles)):
            dx, dy = points[m, 0] - rectangles[n, 0], points[m, 1] - rectangles[n, 1]
            if abs(dx) > reach[n] or abs(dy) > reach[n]:
                continue
            along, across = cosine[n] * dx + sine[n] * dy, cosine[n] * dy - sine[n] * dx
            if abs(along) <= 0.5 * rectangles[n, 2] and abs(across) <= 0.5 * rectangles[n, 3]:
                out[m] = True
                break
    return out
