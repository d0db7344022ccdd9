"""How near to a collision a run came: times between outlines (TTC, TET, TIT, WTTC, PET) and the TTC scores.

TTC is exact for outlines: both rectangles move on with their present velocity and heading, and the time of their first
touch follows from the four axes that can separate them. It is looked at while the vehicle moves, for everybody who is
not behind it (150 degrees) and whom it has not touched before.
"""

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float

from bevstack.geometry.rectangles import rectangles_touch
from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.metrics.areas import DrivenAreas
from bevstack.sim.metrics.collisions import BEHIND_RAD, Collisions
from bevstack.sim.metrics.tracks import Tracks

TTC_STAR_S = 1.5
"""TTC*: what is below counts for TET and TIT (Minderhoud and Bovy, 2001, leave the threshold open; 1.5 s is the usual
one in cities)."""
NUPLAN_LEAST_TTC_S, NUPLAN_HORIZON_S = 0.95, 3.0
WORST_ACCELERATION_MPS2 = 9.81
"""What WTTC believes of everybody in every direction (Wachenfeld et al., 2016)."""
AHEAD_RAD = np.deg2rad(30)
_STOPPED_MPS = 0.005
_LOOKS_AHEAD = np.array((0, 3, 6, 9))
"""Steps at which NAVSIM looks ahead of each step."""
_CROSSING_LEAST_RAD, _CROSSING_MOST_RAD = np.deg2rad(30), np.deg2rad(150)
_PET_MOVING_MPS, _PET_PARTS = 0.5, 20
_WORST_HORIZON_S, _WORST_STEP_S = 20.0, 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Criticality:
    """Nearness in time. Infinite where nothing is on its way to a collision, NaN where there is nobody."""

    ttc_s: Float[np.ndarray, " T"]
    """At each step the least TTC of all actors."""
    min_ttc_s: float
    time_of_min_ttc_s: float
    """NaN where the former is not finite."""
    time_exposed_s: float
    """TET: how long TTC was below TTC* (1.5 s)."""
    time_integrated_s2: float
    """TIT: the integral of TTC* - TTC over that time."""
    min_worst_ttc_s: float
    """WTTC: the time to the first touch if both did the worst that 9.81 m/s2 allow, each as a circle around its
    outline."""
    min_pet_s: float
    """PET: the least time between one leaving a place and the other coming there, of crossing ways (30 to 150 degrees),
    to 0.01 s; 0 with a collision. NaN where no ways cross."""
    ttc_within_bound: float
    """NAVSIM's TTC: 0 where the outline, moved on by 0, 0.3, 0.6 or 0.9 s at constant velocity, touches somebody where
    he then really is. After the run others move on evenly."""
    ttc_within_bound_nuplan: float
    """0 where the TTC of somebody ahead fell below 0.95 s."""

    @classmethod
    def of(cls, tracks: Tracks, areas: DrivenAreas, collisions: Collisions) -> "Criticality":
        """Of a run of one step or more."""
        times, moves = _ttc(tracks.ego, tracks.ego_velocities, tracks.actors, tracks.velocities), _moves(tracks)
        bearings = tracks.bearings_rad()
        is_ahead = (bearings < AHEAD_RAD) | (_astray(areas) & ~(bearings > BEHIND_RAD))
        times[_is_over(tracks, collisions)] = np.nan
        ttc = _least(np.where(moves & ~(bearings > BEHIND_RAD), times, np.where(np.isnan(times), np.nan, np.inf)))
        nuplan = np.where(moves & is_ahead, times, np.inf)
        nuplan_least = float(np.nanmin(nuplan)) if np.isfinite(times).any() else np.inf
        below = TTC_STAR_S - np.where(ttc < TTC_STAR_S, ttc, TTC_STAR_S)
        least = _smallest(ttc)
        return cls(
            ttc_s=ttc,
            min_ttc_s=least,
            time_of_min_ttc_s=float(np.nanargmin(ttc)) * DRIVE_STEP_S if np.isfinite(least) else np.nan,
            time_exposed_s=float((below > 0).sum()) * DRIVE_STEP_S,
            time_integrated_s2=float(below.sum()) * DRIVE_STEP_S,
            min_worst_ttc_s=_smallest(_worst_ttc(tracks.ego, tracks.ego_velocities, tracks.actors, tracks.velocities)),
            min_pet_s=_smallest(_pet(tracks.ego, tracks.ego_velocities, tracks.actors, tracks.velocities)),
            ttc_within_bound=ttc_within_bound(tracks, areas),
            ttc_within_bound_nuplan=float(nuplan_least >= NUPLAN_LEAST_TTC_S),
        )


def ttc_within_bound(tracks: Tracks, areas: DrivenAreas) -> float:
    """NAVSIM's TTC, 0 or 1. Whoever touches the vehicle at the beginning, or is met beside or behind it, is left out
    from then on.
    """
    later = len(tracks.ego) + np.arange(int(_LOOKS_AHEAD[-1]))
    rest = (later - len(tracks.ego) + 1) * DRIVE_STEP_S
    after = np.repeat(tracks.actors[:, -1:], len(later), axis=1)
    after[..., :2] += rest[:, None] * tracks.velocities[:, -1:]
    actors = np.concatenate((tracks.actors, after), axis=1)
    is_met = _meets(tracks.ego, tracks.log.ego_poses, tracks.ego_velocities, actors, _astray(areas), _LOOKS_AHEAD)
    return 0.0 if is_met else 1.0


def _astray(areas: DrivenAreas) -> Bool[np.ndarray, " T"]:
    """Where those beside the vehicle count as well."""
    return areas.in_several_lanes | areas.off_drivable | areas.in_junction


def _moves(tracks: Tracks) -> Bool[np.ndarray, " T"]:
    return np.abs(tracks.speeds_mps) >= _STOPPED_MPS


def _is_over(tracks: Tracks, collisions: Collisions) -> Bool[np.ndarray, "A T"]:
    """Steps after the one at which a contact shows."""
    out = np.zeros(tracks.actors.shape[:2], dtype=bool)
    rows = {actor.name: row for row, actor in enumerate(tracks.log.actors)}
    for contact in collisions.contacts:
        out[rows[contact.name], int(np.ceil(contact.time_s / DRIVE_STEP_S - 1e-9)) + 1 :] = True
    return out


def _least(times: Float[np.ndarray, "A T"]) -> Float[np.ndarray, " T"]:
    """Over the actors; NaN where there is none."""
    least = np.where(np.isnan(times), np.inf, times).min(axis=0, initial=np.inf)
    return np.where(np.isnan(times).all(axis=0), np.nan, least)


def _smallest(times: np.ndarray) -> float:
    known = times[~np.isnan(times)]
    return float(known.min()) if len(known) else np.nan


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def time_to_touch(a: np.ndarray, b: np.ndarray, vx: float, vy: float) -> float:
    """Seconds until two rectangles touch when `b` moves with a velocity as seen from `a`; infinite where never."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    turn_cos, turn_sin = abs(np.cos(b[4] - a[4])), abs(np.sin(b[4] - a[4]))
    enter, leave = 0.0, np.inf
    for own, other in ((a, b), (b, a)):
        c, s = np.cos(own[4]), np.sin(own[4])
        for axis in range(2):
            if axis == 0:
                ux, uy, reach = c, s, 0.5 * (own[2] + other[2] * turn_cos + other[3] * turn_sin)
            else:
                ux, uy, reach = -s, c, 0.5 * (own[3] + other[2] * turn_sin + other[3] * turn_cos)
            gap, speed = dx * ux + dy * uy, vx * ux + vy * uy
            if speed == 0.0:
                if abs(gap) > reach:
                    return np.inf
                continue
            first, last = (-reach - gap) / speed, (reach - gap) / speed
            enter, leave = max(enter, min(first, last)), min(leave, max(first, last))
            if enter > leave:
                return np.inf
    return enter


@numba.njit(cache=True, nogil=True)
@no_type_check
def _ttc(ego: np.ndarray, own: np.ndarray, actors: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    out = np.full(actors.shape[:2], np.nan)
    for a in range(len(actors)):
        for t in range(len(ego)):
            if not np.isnan(actors[a, t, 0]):
                vx, vy = velocities[a, t, 0] - own[t, 0], velocities[a, t, 1] - own[t, 1]
                out[a, t] = time_to_touch(ego[t], actors[a, t], vx, vy)
    return out


@numba.njit(cache=True, nogil=True)
@no_type_check
def _meets(
    ego: np.ndarray, poses: np.ndarray, own: np.ndarray, actors: np.ndarray, astray: np.ndarray, looks: np.ndarray
) -> bool:
    left_out = np.zeros(len(actors), dtype=np.bool_)
    for a in range(len(actors)):
        left_out[a] = not np.isnan(actors[a, 0, 0]) and rectangles_touch(ego[0], actors[a, 0])
    moved = np.empty(5)
    for t in range(len(ego)):
        if np.hypot(own[t, 0], own[t, 1]) < _STOPPED_MPS:
            continue
        for look in looks:
            moved[:] = ego[t]
            moved[0] += look * DRIVE_STEP_S * own[t, 0]
            moved[1] += look * DRIVE_STEP_S * own[t, 1]
            for a in range(len(actors)):
                other = actors[a, t + look]
                if left_out[a] or np.isnan(other[0]) or not rectangles_touch(moved, other):
                    continue
                dx, dy = other[0] - poses[t, 0], other[1] - poses[t, 1]
                c, s = np.cos(poses[t, 2]), np.sin(poses[t, 2])
                bearing = abs(np.arctan2(c * dy - s * dx, c * dx + s * dy))
                if bearing < AHEAD_RAD or (astray[t] and bearing <= BEHIND_RAD):
                    return True
                left_out[a] = True
    return False


@numba.njit(cache=True, nogil=True)
@no_type_check
def _worst_ttc(ego: np.ndarray, own: np.ndarray, actors: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """First root of |d + v t| = r + a t^2 with a the mean of both accelerations, found in steps and by bisection."""
    out = np.full(actors.shape[:2], np.nan)
    for a in range(len(actors)):
        for t in range(len(ego)):
            if np.isnan(actors[a, t, 0]):
                continue
            dx, dy = actors[a, t, 0] - ego[t, 0], actors[a, t, 1] - ego[t, 1]
            vx, vy = velocities[a, t, 0] - own[t, 0], velocities[a, t, 1] - own[t, 1]
            radius = 0.5 * (np.hypot(ego[t, 2], ego[t, 3]) + np.hypot(actors[a, t, 2], actors[a, t, 3]))
            high = 0.0
            while high < _WORST_HORIZON_S and _worst_gap(dx, dy, vx, vy, radius, high) > 0:
                high += _WORST_STEP_S
            low = max(high - _WORST_STEP_S, 0.0)
            for _ in range(20):
                middle = 0.5 * (low + high)
                if _worst_gap(dx, dy, vx, vy, radius, middle) > 0:
                    low = middle
                else:
                    high = middle
            out[a, t] = high if high < _WORST_HORIZON_S else np.inf
    return out


@numba.njit(cache=True, nogil=True)
@no_type_check
def _worst_gap(dx: float, dy: float, vx: float, vy: float, radius: float, t: float) -> float:
    """Of the squares, which have the sign of the gap."""
    x, y, reach = dx + vx * t, dy + vy * t, radius + WORST_ACCELERATION_MPS2 * t * t
    return x * x + y * y - reach * reach


@numba.njit(cache=True, nogil=True)
@no_type_check
def _pet(ego: np.ndarray, own: np.ndarray, actors: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """For each actor the least time between both being at one place; NaN where never."""
    out = np.full(len(actors), np.nan)
    for a in range(len(actors)):
        best, at_i, at_j = len(ego), -1, -1
        for i in range(len(ego)):
            own_speed = np.hypot(own[i, 0], own[i, 1])
            if own_speed < _PET_MOVING_MPS:
                continue
            for j in range(max(0, i - best + 1), min(len(ego), i + best)):
                if np.isnan(actors[a, j, 0]) or abs(i - j) >= best:
                    continue
                reach = 0.5 * (ego[i, 2] + ego[i, 3] + actors[a, j, 2] + actors[a, j, 3])
                dx, dy = actors[a, j, 0] - ego[i, 0], actors[a, j, 1] - ego[i, 1]
                if dx * dx + dy * dy > reach * reach:
                    continue
                speed = np.hypot(velocities[a, j, 0], velocities[a, j, 1])
                if speed < _PET_MOVING_MPS:
                    continue
                cosine = (own[i, 0] * velocities[a, j, 0] + own[i, 1] * velocities[a, j, 1]) / (own_speed * speed)
                angle = np.arccos(min(max(cosine, -1.0), 1.0))
                if _CROSSING_LEAST_RAD <= angle <= _CROSSING_MOST_RAD and rectangles_touch(ego[i], actors[a, j]):
                    best, at_i, at_j = abs(i - j), i, j
        if at_i >= 0:
            out[a] = DRIVE_STEP_S * _between_steps(ego, actors[a], at_i, at_j)
    return out


@numba.njit(cache=True, nogil=True)
@no_type_check
def _between_steps(ego: np.ndarray, other: np.ndarray, i: int, j: int) -> float:
    """The least time in steps: whoever is first stays up to a step longer, the second comes up to a step earlier."""
    best = float(abs(i - j))
    way = 1 if i < j else -1
    next_i, next_j = i + way, j - way
    if i == j or not (0 <= next_i < len(ego) and 0 <= next_j < len(ego)) or np.isnan(other[next_j, 0]):
        return best
    mine, theirs = np.empty(5), np.empty(5)
    for k in range(_PET_PARTS + 1):
        for n in range(5):
            mine[n] = ego[i, n] + k / _PET_PARTS * (ego[next_i, n] - ego[i, n])
        mine[4] = ego[i, 4]
        for m in range(_PET_PARTS + 1):
            time = max(abs(i - j) - (k + m) / _PET_PARTS, 0.0)
            if time >= best:
                continue
            for n in range(5):
                theirs[n] = other[j, n] + m / _PET_PARTS * (other[next_j, n] - other[j, n])
            theirs[4] = other[j, 4]
            if rectangles_touch(mine, theirs):
                best = time
    return best
