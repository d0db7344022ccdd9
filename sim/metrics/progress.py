"""How far the ego vehicle got along its route, alone and against a reference run of the same scenario."""

from dataclasses import dataclass

import numpy as np

from bevstack.sim.metrics.route import RoutePlaces
from bevstack.sim.metrics.tracks import Tracks

SHORT_WAY_M = 5.0
"""NAVSIM asks for no progress where nobody gets further than this."""
NUPLAN_LEAST_M, NUPLAN_MAKING_PROGRESS = 2.0, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Metres and shares of the way; NaN without a route, and the terms that need a reference without one."""

    progress_m: float
    """Along the route from the first step to the last; negative backwards."""
    reference_m: float
    route_completion: float
    """Share of the way: all of it where the goal was reached, else of the way of the reference run; without one, of the
    rest of the route, which is drawn beyond what can be reached: then it is a lower bound."""
    ego_progress: float
    """NAVSIM's EP."""
    ego_progress_nuplan: float
    """Score `ego_progress_along_expert_route` of nuPlan."""
    is_making_progress: float
    """1 where the former is 0.2 or more."""

    @classmethod
    def of(cls, tracks: Tracks, places: RoutePlaces, reference_m: float = np.nan) -> "Progress":
        """Measure a run of one step or more.

        Args:
            tracks: The run.
            places: Its route coordinates.
            reference_m: `progress_m` of the reference run; NaN without one.
        """
        progress = float(places.stations_m[-1] - places.stations_m[0])
        rest = float(places.length_m - places.stations_m[0])
        nuplan = ego_progress_nuplan(progress, reference_m)
        way = rest if np.isnan(reference_m) else reference_m
        return cls(
            progress_m=progress,
            reference_m=reference_m,
            route_completion=1.0 if tracks.log.ending == "goal" else _share(progress, way),
            ego_progress=ego_progress(progress, reference_m),
            ego_progress_nuplan=nuplan,
            is_making_progress=np.nan if np.isnan(nuplan) else float(nuplan >= NUPLAN_MAKING_PROGRESS),
        )


def ego_progress(progress_m: float, reference_m: float) -> float:
    """EP: the share of the larger of both ways; 1 where that is 5 m or less."""
    if np.isnan(progress_m) or np.isnan(reference_m):
        return np.nan
    own, best = max(progress_m, 0.0), max(progress_m, reference_m)
    return 1.0 if best <= SHORT_WAY_M else own / best


def ego_progress_nuplan(progress_m: float, reference_m: float) -> float:
    """0 backwards, else the share of the expert's way, where both ways count as 2 m or more."""
    if np.isnan(progress_m) or np.isnan(reference_m):
        return np.nan
    if progress_m < 0:
        return 0.0
    return min(1.0, max(progress_m, NUPLAN_LEAST_M) / max(reference_m, NUPLAN_LEAST_M))


def _share(progress_m: float, way_m: float) -> float:
    if np.isnan(progress_m) or np.isnan(way_m):
        return np.nan
    return 1.0 if way_m <= 0 else float(np.clip(progress_m / way_m, 0.0, 1.0))
