"""Responsibility-Sensitive Safety: the distances that somebody must keep who is never to cause an accident.

Shalev-Shwartz, Shammah and Shashua, On a Formal Model of Safe and Scalable Self-driving Cars, 2017: definitions 1
(same direction), 2 (towards each other) and 6 (sideways), in route coordinates. A step is dangerous where the distances
along and across the route to somebody are both below the safe ones. Those wholly behind the vehicle keep their distance
themselves. Numbers that the paper leaves open are the defaults of ad-rss-lib.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevstack.sim.metrics.following import RouteGaps
from bevstack.sim.metrics.tracks import Tracks


@dataclass(frozen=True, slots=True, kw_only=True)
class RssParams:
    """What both are believed to do: the vehicle reacts late and then brakes gently, the other brakes hard."""

    response_s: float = 1.0
    acceleration_mps2: float = 3.5
    """Before the vehicle reacts."""
    least_braking_mps2: float = 4.0
    most_braking_mps2: float = 8.0
    lateral_acceleration_mps2: float = 0.2
    lateral_braking_mps2: float = 0.8
    lateral_margin_m: float = 0.0
    """Fluctuation that both have within their lanes (mu)."""


RSS_PARAMS = RssParams()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rss:
    """How the safe distances were kept; NaN where there was never anybody to keep them to."""

    is_dangerous: Float[np.ndarray, " T"]
    """1 or 0 at each step; NaN where nobody is around."""
    dangerous_share: float
    """Of the steps with somebody around."""
    min_longitudinal_margin_m: float
    """Least gap minus safe distance to what is in the way."""
    min_lateral_margin_m: float
    """The same sideways, to who is beside the vehicle."""

    @classmethod
    def of(cls, tracks: Tracks, gaps: RouteGaps, params: RssParams = RSS_PARAMS) -> "Rss":
        """Of a run of one step or more."""
        along = gaps.along_m - _safe_along(gaps, params)
        across = gaps.across_m - _safe_across(tracks, gaps, params)
        is_around = np.isfinite(along) & ~((gaps.ahead_m < 0) & (gaps.along_m > 0))
        dangerous = (is_around & (along < 0) & (across < 0)).any(axis=0)
        is_dangerous = np.where(is_around.any(axis=0), dangerous.astype(float), np.nan)
        return cls(
            is_dangerous=is_dangerous,
            dangerous_share=float(np.nanmean(is_dangerous)) if is_around.any() else np.nan,
            min_longitudinal_margin_m=_least(along[gaps.in_the_way]),
            min_lateral_margin_m=_least(across[is_around & (gaps.along_m <= 0)]),
        )


def safe_behind(rear_mps: np.ndarray, front_mps: np.ndarray, params: RssParams = RSS_PARAMS) -> np.ndarray:
    """Definition 1: the gap behind somebody who goes the same way."""
    late = params.response_s
    after = rear_mps + late * params.acceleration_mps2
    own = rear_mps * late + params.acceleration_mps2 * late**2 / 2 + after**2 / (2 * params.least_braking_mps2)
    return np.maximum(own - front_mps**2 / (2 * params.most_braking_mps2), 0.0)


def safe_towards(own_mps: np.ndarray, other_mps: np.ndarray, params: RssParams = RSS_PARAMS) -> np.ndarray:
    """Definition 2: the gap between two who drive towards each other (both speeds positive) and both brake gently."""
    way: np.ndarray = np.zeros(np.broadcast(own_mps, other_mps).shape)
    for speed in (own_mps, other_mps):
        after = speed + params.response_s * params.acceleration_mps2
        way = way + (speed + after) / 2 * params.response_s + after**2 / (2 * params.least_braking_mps2)
    return way


def safe_beside(
    own_mps: np.ndarray, other_mps: np.ndarray, params: RssParams = RSS_PARAMS, other_moves: np.ndarray | bool = True
) -> np.ndarray:
    """Definition 6: the gap between two side by side.

    Args:
        own_mps: Sideways speed towards the other.
        other_mps: Sideways speed of the other in the same direction, that is away from the vehicle.
        params: Of the model.
        other_moves: False for things, which never swerve.
    """
    swerve, brake, late = params.lateral_acceleration_mps2, params.lateral_braking_mps2, params.response_s
    own_after = own_mps + late * swerve
    other_after = other_mps - late * np.where(other_moves, swerve, 0.0)
    # Who still moves away at the end of the response does not come back while braking: its way has its sign.
    own_way = (own_mps + own_after) / 2 * late + own_after * np.abs(own_after) / (2 * brake)
    other_way = (other_mps + other_after) / 2 * late + other_after * np.abs(other_after) / (2 * brake)
    return params.lateral_margin_m + np.maximum(own_way - other_way, 0.0)


def _safe_along(gaps: RouteGaps, params: RssParams) -> Float[np.ndarray, "A T"]:
    own, other = np.maximum(gaps.own_along_mps, 0.0), gaps.along_mps
    same_way = safe_behind(own, np.maximum(other, 0.0), params)
    return np.where(other < 0, safe_towards(own, np.maximum(-other, 0.0), params), same_way)


def _safe_across(tracks: Tracks, gaps: RouteGaps, params: RssParams) -> Float[np.ndarray, "A T"]:
    return safe_beside(gaps.left * gaps.own_left_mps, gaps.left * gaps.left_mps, params, ~tracks.is_object[:, None])


def _least(values: np.ndarray) -> float:
    return float(values.min()) if len(values) else np.nan
