"""When and how the ego vehicle touched others, and whose fault it was.

At 50 km/h a vehicle moves 1.4 m between two steps, more than a pedestrian is wide. So everybody is moved evenly from
step to step and the first touch between steps is found; published code looks at the steps alone, which misses brief
contacts and reports the others up to a step late. A pair counts once per run, as in the nuPlan devkit.

Fault is that of nuPlan and NAVSIM (Dauner et al., NeurIPS 2024, `no at-fault collisions`): contacts of the moving
vehicle with something that stands, or with its front; with its side only while it is in several lanes or beside the
road. A vehicle that stands, or that is run into from behind, is not at fault.
"""

from dataclasses import dataclass
from typing import Literal, no_type_check

import numba
import numpy as np
from jaxtyping import Float

from bevstack.geometry.rectangles import rectangles_touch
from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.metrics.areas import DrivenAreas
from bevstack.sim.metrics.tracks import STANDING_MPS, Tracks, corners_of, in_frame_of

ContactKind = Literal["stopped_ego", "stopped_track", "active_rear", "active_front", "active_lateral"]
Face = Literal["front", "side", "rear"]

BEHIND_RAD = np.deg2rad(150)
_SEARCH_STEP_M = 0.05
"""How far any two corners move between two looks; a touch that lasts for less may be missed."""
_BISECTIONS = 20
_TOUCH_TOLERANCE_M = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """The first touch between the ego vehicle and one actor."""

    name: str
    class_name: str
    is_object: bool
    is_vulnerable: bool
    time_s: float
    """Between two steps where it happened there."""
    impact_speed_mps: float
    """Of the ego vehicle."""
    relative_speed_mps: float
    """Length of the difference of the velocities."""
    unbraked_speed_mps: float
    """The same had the ego vehicle, headed as it was, kept its first speed: what NeuroNCAP measures an impact by."""
    kind: ContactKind
    face: Face
    """Of the ego vehicle."""
    point_ego: tuple[float, float]
    """Where it was touched: metres ahead and left of the centre of its outline."""
    is_at_fault: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Collisions:
    """All contacts of a run in the order of time."""

    contacts: tuple[Contact, ...]

    @classmethod
    def of(cls, tracks: Tracks, areas: DrivenAreas) -> "Collisions":
        """Find and judge the contacts of a run.

        Args:
            tracks: The run.
            areas: Where the vehicle drove, for the fault of lateral contacts.
        """
        found = []
        for row in range(len(tracks.actors)):
            step = float(first_touch(tracks.ego, tracks.actors[row]))
            if np.isfinite(step):
                found.append(_contact(tracks, areas, row, step))
        return cls(contacts=tuple(sorted(found, key=lambda contact: (contact.time_s, contact.name))))

    @property
    def first(self) -> Contact | None:
        """The first contact; None without one."""
        return self.contacts[0] if self.contacts else None

    @property
    def at_fault(self) -> tuple[Contact, ...]:
        """Those that the ego vehicle has to answer for."""
        return tuple(contact for contact in self.contacts if contact.is_at_fault)

    @property
    def no_at_fault(self) -> float:
        """NAVSIM's NC: 0 with an at-fault contact with a road user, 0.5 with things alone, 1 without."""
        return min((0.5 if contact.is_object else 0.0 for contact in self.at_fault), default=1.0)

    @property
    def no_at_fault_nuplan(self) -> float:
        """Score `no_ego_at_fault_collisions` of nuPlan: one thing may be hit at half the score, a second makes it 0."""
        if not all(contact.is_object for contact in self.at_fault):
            return 0.0
        return max(0.0, 1.0 - len(self.at_fault) / 2)


def _contact(tracks: Tracks, areas: DrivenAreas, row: int, step: float) -> Contact:
    actor = tracks.log.actors[row]
    ego, other = _between(tracks.ego, step), _between(tracks.actors[row], step)
    own_velocity, velocity = _between(tracks.ego_velocities, step), _between(tracks.velocities[row], step)
    speed = float(np.hypot(*own_velocity))
    point = _contact_point(ego, other)
    face = _face(ego, point)
    from_axle = in_frame_of(ego, other[:2]) + np.array((tracks.log.vehicle.center_ahead_m, 0.0))
    kind = _kind(speed, 0.0 if actor.is_object else float(np.hypot(*velocity)), from_axle, face)
    heading = np.array((np.cos(ego[4]), np.sin(ego[4])))
    seen = min(int(np.ceil(step)), len(tracks.ego) - 1)
    is_astray = bool(areas.in_several_lanes[seen] or areas.off_drivable[seen])
    return Contact(
        name=actor.name,
        class_name=actor.class_name,
        is_object=actor.is_object,
        is_vulnerable=actor.is_vulnerable,
        time_s=step * DRIVE_STEP_S,
        impact_speed_mps=speed,
        relative_speed_mps=float(np.hypot(*(own_velocity - velocity))),
        unbraked_speed_mps=float(np.hypot(*(abs(tracks.speeds_mps[0]) * heading - velocity))),
        kind=kind,
        face=face,
        point_ego=(float(point[0]), float(point[1])),
        is_at_fault=kind in ("stopped_track", "active_front") or (kind == "active_lateral" and is_astray),
    )


def _kind(speed: float, other_speed: float, from_axle: np.ndarray, face: Face) -> ContactKind:
    """The cases of nuPlan in its order. It calls a contact frontal where the front edge is inside the other at a step;
    here it is the face that was touched first.
    """
    if speed <= STANDING_MPS:
        return "stopped_ego"
    if other_speed <= STANDING_MPS:
        return "stopped_track"
    if abs(np.arctan2(from_axle[1], from_axle[0])) > BEHIND_RAD:
        return "active_rear"
    return "active_front" if face == "front" else "active_lateral"


def _contact_point(ego: np.ndarray, other: np.ndarray) -> Float[np.ndarray, "2"]:
    """Mean of the corners of each that lie in the other, ahead and left of the ego centre."""
    theirs = in_frame_of(ego, corners_of(other))
    inside = (np.abs(theirs) <= ego[2:4] / 2 + _TOUCH_TOLERANCE_M).all(axis=1)
    own = corners_of(ego)
    own_inside = (np.abs(in_frame_of(other, own)) <= other[2:4] / 2 + _TOUCH_TOLERANCE_M).all(axis=1)
    points = np.concatenate((theirs[inside], in_frame_of(ego, own[own_inside])))
    if len(points):
        return points.mean(axis=0)
    # Two rectangles laid across each other from the start have no corner in common.
    return np.clip(in_frame_of(ego, other[:2]), -ego[2:4] / 2, ego[2:4] / 2)


def _face(ego: np.ndarray, point: np.ndarray) -> Face:
    """The face nearest to a point of the outline; a corner belongs to the front or the rear."""
    front, rear, side = ego[2] / 2 - point[0], ego[2] / 2 + point[0], ego[3] / 2 - abs(point[1])
    if min(front, rear) <= side + _TOUCH_TOLERANCE_M:
        return "front" if front <= rear else "rear"
    return "side"


def _between(rows: np.ndarray, step: float) -> np.ndarray:
    """Rows at a time between two steps; headings (fifth column) turn the short way."""
    low = int(np.floor(step))
    high = min(low + 1, len(rows) - 1)
    if step == low or not np.isfinite(rows[high]).all():
        return rows[low].copy()
    moved = rows[high] - rows[low]
    if len(moved) == 5:
        moved[4] = (moved[4] + np.pi) % (2 * np.pi) - np.pi
    return rows[low] + (step - low) * moved


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def first_touch(ego: np.ndarray, other: np.ndarray) -> float:
    """Steps until two rectangles (T, 5) first touch, with fraction; NaN where never. `other` may have NaN rows."""
    mine, theirs = np.empty(5), np.empty(5)
    for t in range(len(ego)):
        if np.isnan(other[t, 0]):
            continue
        if t == 0 or np.isnan(other[t - 1, 0]):
            if rectangles_touch(ego[t], other[t]):
                return float(t)
            continue
        reach_a, reach_b = 0.5 * np.hypot(ego[t, 2], ego[t, 3]), 0.5 * np.hypot(other[t, 2], other[t, 3])
        way = _moved(ego[t - 1], ego[t], other[t - 1], other[t], reach_a, reach_b)
        apart = np.hypot(other[t - 1, 0] - ego[t - 1, 0], other[t - 1, 1] - ego[t - 1, 1]) - reach_a - reach_b
        if apart > way:
            continue
        looks = max(int(np.ceil(way / _SEARCH_STEP_M)), 1)
        for k in range(1, looks + 1):
            if not _touch_at(ego, other, t, k / looks, mine, theirs):
                continue
            low, high = (k - 1) / looks, k / looks
            for _ in range(_BISECTIONS):
                middle = 0.5 * (low + high)
                if _touch_at(ego, other, t, middle, mine, theirs):
                    high = middle
                else:
                    low = middle
            return t - 1 + high
    return np.nan


@numba.njit(cache=True, nogil=True)
@no_type_check
def _moved(a0: np.ndarray, a1: np.ndarray, b0: np.ndarray, b1: np.ndarray, reach_a: float, reach_b: float) -> float:
    """How far any point of one rectangle can have moved as seen from the other."""
    shift = np.hypot((b1[0] - b0[0]) - (a1[0] - a0[0]), (b1[1] - b0[1]) - (a1[1] - a0[1]))
    return shift + reach_a * abs(_turn(a0[4], a1[4])) + reach_b * abs(_turn(b0[4], b1[4]))


@numba.njit(cache=True, nogil=True)
@no_type_check
def _turn(start: float, end: float) -> float:
    return (end - start + np.pi) % (2 * np.pi) - np.pi


@numba.njit(cache=True, nogil=True)
@no_type_check
def _touch_at(ego: np.ndarray, other: np.ndarray, t: int, share: float, mine: np.ndarray, theirs: np.ndarray) -> bool:
    for rows, out in ((ego, mine), (other, theirs)):
        for k in range(4):
            out[k] = rows[t - 1, k] + share * (rows[t, k] - rows[t - 1, k])
        out[4] = rows[t - 1, 4] + share * _turn(rows[t - 1, 4], rows[t, 4])
    return rectangles_touch(mine, theirs)
