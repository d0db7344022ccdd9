"""Keeping a distance to what is in the way: THW, required deceleration, BTN and DST, along the route.

What is in the way is found in route coordinates, so that it is in a bend too: an actor ahead whose outline overlaps the
vehicle's sideways. Gaps are from the front of the vehicle to the nearest point of the other along the route.
Definitions: Westhofen et al., Criticality Metrics for Automated Driving, 2022, section 4; DST: Hupfer, 1997.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.metrics.route import RoutePlaces
from bevstack.sim.metrics.tracks import STANDING_MPS, Tracks

SAFETY_TIME_S = 1.0
"""Headway that DST wants to end with."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RouteGaps:
    """Distances and speeds of everybody in route coordinates; NaN for who is not there."""

    ahead_m: Float[np.ndarray, "A T"]
    """From the centre of the vehicle to that of the actor along the route, negative behind."""
    along_m: Float[np.ndarray, "A T"]
    """Free distance along the route; negative where both are beside each other."""
    across_m: Float[np.ndarray, "A T"]
    """Free distance across the route; negative where one is in the way of the other."""
    left: Float[np.ndarray, "A T"]
    """1 where the actor is on the left of the vehicle, else -1."""
    own_along_mps: Float[np.ndarray, " T"]
    own_left_mps: Float[np.ndarray, " T"]
    along_mps: Float[np.ndarray, "A T"]
    """Of the actors, along the route beside them."""
    left_mps: Float[np.ndarray, "A T"]

    @classmethod
    def of(cls, tracks: Tracks, places: RoutePlaces) -> "RouteGaps":
        """Of a run."""
        own_long, own_wide = _half_extents(tracks.ego, places.yaws_rad)
        long, wide = _half_extents(tracks.actors, places.actor_yaws_rad)
        ahead = places.actor_stations_m - places.stations_m
        left = places.actor_offsets_m - places.offsets_m
        own_along, own_left = _turned(tracks.ego_velocities, places.yaws_rad)
        along, sideways = _turned(tracks.velocities, places.actor_yaws_rad)
        return cls(
            ahead_m=ahead,
            along_m=np.abs(ahead) - own_long - long,
            across_m=np.abs(left) - own_wide - wide,
            left=np.where(left >= 0, 1.0, -1.0),
            own_along_mps=own_along,
            own_left_mps=own_left,
            along_mps=along,
            left_mps=sideways,
        )

    @property
    def in_the_way(self) -> Bool[np.ndarray, "A T"]:
        """Ahead of the vehicle's front and not beside its way."""
        return (self.ahead_m > 0) & (self.along_m > 0) & (self.across_m < 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Following:
    """The least distance and the hardest braking. NaN where nothing was ever in the way."""

    headway_s: Float[np.ndarray, " T"]
    min_headway_s: float
    """THW: gap over own speed, of what does not come towards the vehicle."""
    required_deceleration_mps2: Float[np.ndarray, " T"]
    """The constant braking that just avoids what is in the way, if that goes on as it does: 0 where none is needed."""
    max_required_deceleration_mps2: float
    max_brake_threat: float
    """BTN: the former over what the vehicle can; from 1 on braking alone no longer helps."""
    max_safety_time_deceleration_mps2: float
    """DST: the constant braking that ends at the speed of the other with a headway of 1 s, while that is possible."""

    @classmethod
    def of(cls, tracks: Tracks, gaps: RouteGaps) -> "Following":
        """Of a run of one step or more."""
        own, in_the_way = gaps.own_along_mps, gaps.in_the_way
        gap = np.where(in_the_way, gaps.along_m, np.nan)
        speed = np.where(in_the_way, gaps.along_mps, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            headway = np.where((own > STANDING_MPS) & (speed > -STANDING_MPS), gap / own, np.nan)
        required = required_deceleration(own, speed, _accelerations(gaps.along_mps), gap)
        hardest = _fold(np.fmax, required)
        most = _extreme(np.nanmax, hardest)
        least_headway = _fold(np.fmin, headway)
        return cls(
            headway_s=least_headway,
            min_headway_s=_extreme(np.nanmin, least_headway),
            required_deceleration_mps2=hardest,
            max_required_deceleration_mps2=most,
            max_brake_threat=most / tracks.log.vehicle.max_braking_mps2,
            max_safety_time_deceleration_mps2=_extreme(np.nanmax, safety_time_deceleration(own, speed, gap)),
        )


def required_deceleration(
    own_mps: np.ndarray, other_mps: np.ndarray, other_mps2: np.ndarray, gap_m: np.ndarray
) -> np.ndarray:
    """Constant braking (positive) that just avoids a collision with somebody ahead who goes on braking until he stands,
    or else keeps his speed; who comes towards the vehicle counts as standing. NaN where the gap is; shapes are
    broadcast.
    """
    other = np.maximum(other_mps, 0.0)
    slower = np.maximum(own_mps - other, 0.0)
    braking = np.maximum(-other_mps2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        before = braking + slower**2 / (2 * gap_m)
        before = np.where((braking > 0) | (slower > 0), before, 0.0 * gap_m)
        stopping_way = np.where(braking > 0, other**2 / (2 * braking), np.inf)
        after = np.maximum(own_mps, 0.0) ** 2 / (2 * (gap_m + stopping_way))
        # Whether the vehicle would be stopping still when the other stands already.
        is_after = np.maximum(own_mps, 0.0) * braking > other * after
        needed = np.where((braking > 0) & is_after, after, before)
    return np.where(np.isnan(gap_m) | np.isnan(other_mps), np.nan, needed)


def safety_time_deceleration(own_mps: np.ndarray, other_mps: np.ndarray, gap_m: np.ndarray) -> np.ndarray:
    """DST: (v - u)^2 / (2 (gap - u * 1 s)); NaN where the vehicle is not faster or the headway is below 1 s already."""
    other = np.maximum(other_mps, 0.0)
    room = gap_m - SAFETY_TIME_S * other
    is_defined = (own_mps > other) & (room > 0)
    return np.where(is_defined, (own_mps - other) ** 2 / (2 * np.where(is_defined, room, 1.0)), np.nan)


def _half_extents(rectangles: np.ndarray, route_yaws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    turn = rectangles[..., 4] - route_yaws
    c, s = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    length, width = rectangles[..., 2] / 2, rectangles[..., 3] / 2
    return length * c + width * s, length * s + width * c


def _turned(velocities: np.ndarray, yaws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c, s = np.cos(yaws), np.sin(yaws)
    return velocities[..., 0] * c + velocities[..., 1] * s, velocities[..., 1] * c - velocities[..., 0] * s


def _accelerations(speeds: Float[np.ndarray, "A T"]) -> Float[np.ndarray, "A T"]:
    """Of each actor; 0 where it is not known, as in the first step of one that appears."""
    if speeds.shape[1] < 2:
        return np.zeros(speeds.shape)
    return np.nan_to_num(np.gradient(speeds, DRIVE_STEP_S, axis=1), nan=0.0)


def _fold(reduce: np.ufunc, values: Float[np.ndarray, "A T"]) -> Float[np.ndarray, " T"]:
    """Over the actors, without NaN where one is known."""
    return reduce.reduce(values, axis=0) if len(values) else np.full(values.shape[1], np.nan)


def _extreme(of: Callable[[np.ndarray], np.floating], values: np.ndarray) -> float:
    return float(of(values)) if np.isfinite(values).any() else np.nan
