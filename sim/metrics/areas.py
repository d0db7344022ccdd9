"""On which kind of ground the ego vehicle was at each step: lanes, junctions, beside the road, against the traffic."""

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float

from bevstack.sim.metrics.tracks import Tracks, corners_of
from bevstack.sim.world.roads import Lane, RoadNetwork

_MOVED_M = 1e-3
"""A vehicle that moved less within a step has no direction."""
_SEAM_M = 1e-3
"""Areas that were joined may leave gaps of rounding between them; nobody is outside in one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrivenAreas:
    """What the outline of the ego vehicle stood on, step by step."""

    has_map: bool
    """False where the world has no drivable area: then nothing can be said about leaving it."""
    in_several_lanes: Bool[np.ndarray, " T"]
    """More than one lane holds a corner and none holds all four (nuPlan, NAVSIM)."""
    off_drivable: Bool[np.ndarray, " T"]
    """A corner is outside the drivable area."""
    outside_m: Float[np.ndarray, " T"]
    """Distance of the furthest corner from the drivable area."""
    in_junction: Bool[np.ndarray, " T"]
    """Of the centre."""
    against_traffic: Bool[np.ndarray, " T"]
    """The centre moves, between junctions, in lanes that all lead the other way."""

    @classmethod
    def of(cls, tracks: Tracks) -> "DrivenAreas":
        """Look up every step of a run in the road network."""
        roads, corners, centers = tracks.log.roads, corners_of(tracks.ego), tracks.ego[:, :2]
        lanes = _near(roads, corners)
        held = np.stack([_covers(lane.polygon, corners) for lane in lanes]) if lanes else np.zeros((0, len(corners), 4))
        some, all_four = held.any(axis=2), held.all(axis=2)
        outside_m = _outside_m(roads, corners)
        in_junction = _in_junction(roads, lanes, centers)
        return cls(
            has_map=not roads.drivable.is_empty,
            in_several_lanes=(some.sum(axis=0) > 1) & ~all_four.any(axis=0),
            off_drivable=outside_m > _SEAM_M,
            outside_m=outside_m,
            in_junction=in_junction,
            against_traffic=_against_traffic(lanes, centers) & ~in_junction,
        )


def _near(roads: RoadNetwork, corners: np.ndarray) -> list[Lane]:
    """Lanes whose bounding box meets that of the driven way: a town has hundreds, a run sees a dozen."""
    if not len(corners):
        return []
    low, high = corners.reshape(-1, 2).min(axis=0), corners.reshape(-1, 2).max(axis=0)
    return [
        lane
        for lane in roads.lanes
        if (lane.centerline.max(axis=0) + lane.width_m / 2 >= low).all()
        and (lane.centerline.min(axis=0) - lane.width_m / 2 <= high).all()
    ]


def _covers(area: shapely.Geometry, points: Float[np.ndarray, "*N 2"]) -> Bool[np.ndarray, "*N"]:
    """Which points lie in an area, its edge included."""
    shapely.prepare(area)
    return shapely.intersects_xy(area, points[..., 0], points[..., 1])


def _outside_m(roads: RoadNetwork, corners: np.ndarray) -> Float[np.ndarray, " T"]:
    out = np.zeros(corners.shape[:2])
    if not roads.drivable.is_empty and len(corners):
        is_outside = ~_covers(roads.drivable, corners)
        out[is_outside] = shapely.distance(roads.drivable, shapely.points(corners[is_outside]))
    return out.max(axis=1) if len(out) else np.zeros(0)


def _in_junction(roads: RoadNetwork, lanes: list[Lane], centers: np.ndarray) -> Bool[np.ndarray, " T"]:
    """By the road segments where they are known, else by the connectors."""
    areas: list[shapely.Geometry] = [lane.polygon for lane in lanes if lane.is_connector]
    if roads.segment_is_intersection:
        pairs = zip(roads.road_segments, roads.segment_is_intersection, strict=True)
        areas = [area for area, is_intersection in pairs if is_intersection]
    out = np.zeros(len(centers), dtype=bool)
    for area in areas:
        out |= _covers(area, centers)
    return out


def _against_traffic(lanes: list[Lane], centers: np.ndarray) -> Bool[np.ndarray, " T"]:
    moved = np.diff(centers, axis=0, prepend=centers[:1])
    with_it, against_it = np.zeros(len(centers), dtype=bool), np.zeros(len(centers), dtype=bool)
    for lane in lanes:
        if lane.is_connector:
            continue
        gaps = ((centers[:, None] - lane.centerline[None]) ** 2).sum(axis=-1)
        yaw = lane.yaws_rad[np.argmin(gaps, axis=1)]
        along = moved[:, 0] * np.cos(yaw) + moved[:, 1] * np.sin(yaw)
        is_inside = _covers(lane.polygon, centers)
        with_it |= is_inside & (along > 0)
        against_it |= is_inside & (along < 0)
    return against_it & ~with_it & (np.hypot(moved[:, 0], moved[:, 1]) > _MOVED_M)
