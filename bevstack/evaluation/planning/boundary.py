"""`plan/boundary`: the vehicle leaves the drivable area that it stood in.

After Li et al. (BEV-Planner, CVPR 2024), who asked for it because L2 and collisions with agents do not notice a plan
that runs over the kerb. Here it is exact: the turned rectangle of the vehicle (`planning_placement`) must lie within
the union of the map's drivable areas, without a raster.

Traps named: a frame whose vehicle is not wholly inside *now* (in a car park that the map does not call drivable, say)
cannot leave it and is not counted at all, rather than counted as good. The expert itself cuts mapped corners now and
then: its rate stands in the table.
"""

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float64
from shapely.geometry.base import BaseGeometry

from bevstack.data.index import DatasetIndex
from bevstack.data.maps import VectorMap, map_of_location
from bevstack.evaluation.planning.ego_future import EgoFuture
from bevstack.evaluation.planning.sums import HorizonValues, PlanSums, SceneSums, at_horizons

PROTOCOL = "plan/boundary"
_MARGIN_M = 10.0
_GAP_M = 0.01
"""Neighbouring polygons of the map leave gaps of rounding between them, which are no kerb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryScores:
    """One plan against the edge of the road."""

    protocol: str
    num_frames: int
    """Frames whose vehicle is inside now and that have a future."""
    leaves_until: HorizonValues
    """Share of frames, 0 to 1, in which the vehicle is not wholly inside at some step until then."""


def sum_boundary(
    is_outside: Bool[np.ndarray, "F 6"], is_inside_now: Bool[np.ndarray, " F"], future: EgoFuture
) -> PlanSums:
    """Sums of one plan from what `leaves_drivable_area` says."""
    counted = future.valid & is_inside_now[:, None]
    until = np.logical_or.accumulate(is_outside & future.valid, axis=1)
    return {f"{PROTOCOL} until": SceneSums.of(until, counted, future)}


def score_boundary(sums: PlanSums, subset: str = "all", weights: np.ndarray | None = None) -> BoundaryScores:
    """The scores of one plan, from sums of any number of scenes."""
    until = sums[f"{PROTOCOL} until"]
    return BoundaryScores(
        protocol=PROTOCOL,
        num_frames=until.num_frames(subset),
        leaves_until=at_horizons(until.ratios(subset, weights)),
    )


def leaves_drivable_area(
    boxes_ego: Float64[np.ndarray, "P F 7 5"], future: EgoFuture, maps: list[VectorMap]
) -> tuple[Bool[np.ndarray, "P F 6"], Bool[np.ndarray, " F"]]:
    """(whether each plan is not wholly inside at each step, whether the vehicle is inside now).

    Args:
        boxes_ego: The vehicle now and at the six steps, for each of P plans.
        future: The frames.
        maps: Map of each scene.
    """
    corners = _corners_global(boxes_ego, future.T_global_ego)  # P F 7 4 2
    is_outside = np.zeros((*corners.shape[:2], corners.shape[2] - 1), bool)
    is_inside_now = np.zeros(len(future), bool)
    for scene in np.unique(future.scene_index):
        frames = np.flatnonzero(future.scene_index == scene)
        around = _drivable_area(maps[scene], corners[:, frames])
        for frame in frames:
            area = _clipped(around, corners[:, frame])
            shapely.prepare(area)
            inside = shapely.covers(area, shapely.polygons(corners[:, frame]))
            is_outside[:, frame] = ~inside[:, 1:]
            is_inside_now[frame] = inside[0, 0]
    return is_outside, is_inside_now


def maps_of_split(index: DatasetIndex, split: str) -> list[VectorMap] | None:
    """The vector map of each scene of a split; None where the data set has no map expansion.

    Raises:
        DatasetError: a map is damaged or too old.
    """
    records = [index.scenes[row] for row in index.scenes_of_split(split)]
    if not all((index.root / "maps" / "expansion" / f"{record.location}.json").is_file() for record in records):
        return None
    return [map_of_location(index.root, record.location) for record in records]


def _corners_global(boxes_ego: np.ndarray, T_global_ego: np.ndarray) -> np.ndarray:
    """Corners (..., 4, 2) on the map; the frame's roll and pitch leave the ground where it is."""
    half = boxes_ego[..., None, 2:4] / 2 * np.array(((1, 1), (-1, 1), (-1, -1), (1, -1)))
    c, s = np.cos(boxes_ego[..., 4])[..., None], np.sin(boxes_ego[..., 4])[..., None]
    x = half[..., 0] * c - half[..., 1] * s + boxes_ego[..., None, 0]
    y = half[..., 0] * s + half[..., 1] * c + boxes_ego[..., None, 1]
    rotation = T_global_ego[:, :2, :2]
    turned = np.einsum("fij,pftcj->pftci", rotation, np.stack((x, y), axis=-1))
    return turned + T_global_ego[None, :, None, None, :2, 3]


def _drivable_area(vector_map: VectorMap, corners: np.ndarray) -> BaseGeometry:
    """The union of the drivable areas around some corners, with the hair-wide gaps between its parts closed."""
    low, high = _bounds_around(corners)
    near = [
        shape
        for shape in vector_map.shapes("drivable_area")
        if (np.array(shape.bounds[:2]) <= high).all() and (np.array(shape.bounds[2:]) >= low).all()
    ]
    whole = shapely.union_all(shapely.make_valid(np.array(near, object)))
    local = shapely.intersection(whole, shapely.box(*low, *high))
    return shapely.buffer(shapely.buffer(local, _GAP_M, join_style="mitre"), -_GAP_M, join_style="mitre")


def _clipped(area: BaseGeometry, corners: np.ndarray) -> BaseGeometry:
    """The part of an area around some corners, without points and lines where it only touches the rim."""
    low, high = _bounds_around(corners)
    parts = shapely.get_parts(shapely.intersection(area, shapely.box(*low, *high)))
    return shapely.multipolygons(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])


def _bounds_around(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points = corners.reshape(-1, 2)
    return points.min(axis=0) - _MARGIN_M, points.max(axis=0) + _MARGIN_M
