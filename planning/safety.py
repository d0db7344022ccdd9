"""The last look at a plan before it leaves: exact rotated footprints against everything that is believed.

A contact counts unless it is somebody else's doing: while the vehicle stands, or when a follower runs into its rear
(the rule of NAVSIM's no-at-fault collisions, Dauner et al., NeurIPS 2024). After the last row of the plan the vehicle
brakes as hard as it can with the wheels held: a plan that can then no longer stop is not safe either.
"""

from dataclasses import dataclass
from typing import Literal, get_args, no_type_check

import numba
import numpy as np
from jaxtyping import Float, Int

from bevstack.data.class_names import OCCUPANCY_CLASSES
from bevstack.geometry.rectangles import rectangles_touch
from bevstack.planning.agent_futures import CHECK_STEP_S, CHECK_TIMES_S, AgentFutures
from bevstack.planning.obstacles import OccupiedCells, Road, SceneObstacles
from bevstack.planning.resampling import states_at
from bevstack.planning.vehicle import VehicleParams
from bevstack.types.frame import EgoState
from bevstack.types.trajectory import Trajectory

RoadRule = Literal["off", "soft", "hard"]

_STANDING_MPS = 0.1
_TOLERATED_OVERLAP_M = 0.25
"""An object that already touches now, by errors of its box, may do so by this much."""
_IN_LANE_M = 1.2
"""A follower is one whose centre lies this little beside the vehicle's axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyRules:
    """How far a plan keeps away from things.

    Raises:
        ValueError: a value out of its range.
    """

    agent_margin_m: float = 0.2
    """Around the vehicle, against objects; less against those that are nearer already."""
    person_margin_m: float = 0.4
    cell_margin_m: float = 0.05
    """Against the centres of occupied voxels."""
    min_cells: int = 2
    """Fewer occupied columns in the footprint are noise."""
    road: RoadRule = "soft"
    """Leaving the road: not looked at, a warning, or a reason to reject."""
    road_tolerance_m: float = 0.2
    """How far a corner may stand over the edge of the road."""

    def __post_init__(self) -> None:
        for name in ("agent_margin_m", "person_margin_m", "cell_margin_m", "road_tolerance_m"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more and finite")
        if self.min_cells < 1 or self.road not in get_args(RoadRule):
            raise ValueError(
                f"min_cells={self.min_cells} must be 1 or more, road={self.road!r} of {get_args(RoadRule)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with a plan."""

    violations: tuple[str, ...]
    """Each is a reason not to drive it."""
    warnings: tuple[str, ...]
    contact_s: float
    """First contact, infinite without one."""
    contact_mps: float
    """Own speed at it."""

    @property
    def is_safe(self) -> bool:
        """Whether it may leave."""
        return not self.violations


def check_plan(
    trajectory: Trajectory, obstacles: SceneObstacles, ego: EgoState, vehicle: VehicleParams, rules: SafetyRules
) -> Verdict:
    """Limits of the vehicle first; what the vehicle cannot drive is not looked at further.

    Args:
        trajectory: The plan.
        obstacles: The scene.
        ego: The vehicle now; what is NaN is not compared with the plan.
        vehicle: Outline and limits.
        rules: Margins.
    """
    broken = vehicle.limits_broken(trajectory, ego)
    if broken:
        return Verdict(violations=broken, warnings=(), contact_s=np.inf, contact_mps=0.0)
    poses, speeds, num_planned = _driven(trajectory, vehicle)
    own = vehicle.rectangles(poses)
    contacts = (
        *_agent_contacts(own, speeds, obstacles.agents, rules),
        *_cell_contacts(own, obstacles.cells, rules),
    )
    violations, first = _in_words(contacts, num_planned)
    off_road = () if rules.road == "off" else _off_road(poses[:num_planned], obstacles.road, vehicle, rules)
    return Verdict(
        violations=(*violations, *(off_road if rules.road == "hard" else ())),
        warnings=off_road if rules.road == "soft" else (),
        contact_s=np.inf if first < 0 else first * CHECK_STEP_S,
        contact_mps=0.0 if first < 0 else float(speeds[first]),
    )


def _driven(
    trajectory: Trajectory, vehicle: VehicleParams
) -> tuple[Float[np.ndarray, "T 3"], Float[np.ndarray, " T"], int]:
    """Poses and speeds at `CHECK_TIMES_S` until the vehicle stands after braking, and how many of them are planned."""
    end_s = len(trajectory.speeds_mps) * trajectory.dt_s
    times = CHECK_TIMES_S[: 1 + int(end_s / CHECK_STEP_S + 1e-6)]
    poses, speeds = states_at(trajectory, times)
    (last, before), (speed, _) = states_at(trajectory, np.array((end_s, max(0.0, end_s - trajectory.dt_s))))
    after = CHECK_TIMES_S[len(times) :] - end_s
    after = after[: int(np.ceil(max(speed, 0.0) / vehicle.max_braking_mps2 / CHECK_STEP_S))]
    moving_s = np.minimum(after, speed / vehicle.max_braking_mps2)
    way = np.maximum(speed * moving_s - vehicle.max_braking_mps2 * moving_s**2 / 2, 0.0)
    moved = np.hypot(*(last[:2] - before[:2]))
    turn = (last[2] - before[2] + np.pi) % (2 * np.pi) - np.pi
    curvature = float(np.clip(turn / moved, -0.25, 0.25)) if moved > 0.3 else 0.0
    yaw = last[2] + curvature * way
    middle = last[2] + curvature * way / 2
    chord = way * np.sinc(curvature * way / (2 * np.pi))
    tail = np.stack((last[0] + chord * np.cos(middle), last[1] + chord * np.sin(middle), yaw), axis=1)
    braking = np.maximum(speed - vehicle.max_braking_mps2 * after, 0.0)
    return np.concatenate((poses, tail)), np.concatenate((speeds, braking)), len(times)


def _agent_contacts(
    own: np.ndarray, speeds: np.ndarray, agents: AgentFutures, rules: SafetyRules
) -> list[tuple[int, str]]:
    """(first step, what is touched), the earliest future of each agent."""
    if not len(agents):
        return []
    margin = np.where(agents.is_person, rules.person_margin_m, rules.agent_margin_m)[agents.agent]
    first = _first_contacts(own, speeds, agents.boxes, agents.num_known, margin.astype(np.float64))
    found: dict[int, int] = {}
    for future in np.flatnonzero(first >= 0):
        agent = int(agents.agent[future])
        if agent not in found or first[future] < first[found[agent]]:
            found[agent] = int(future)
    return [(int(first[future]), agents.describe(future)) for future in found.values()]


def _cell_contacts(own: np.ndarray, cells: OccupiedCells, rules: SafetyRules) -> list[tuple[int, str]]:
    if not len(cells):
        return []
    step, cell = _first_occupied(own, cells.centers, rules.cell_margin_m, rules.min_cells)
    if step < 0:
        return []
    return [(int(step), f"occupied space ({OCCUPANCY_CLASSES[cells.class_index[cell]]})")]


def _in_words(contacts: tuple[tuple[int, str], ...], num_planned: int) -> tuple[tuple[str, ...], int]:
    """Reasons in the order of time, and the first step; -1 without a contact."""
    ordered = sorted(contacts)
    words = []
    for step, what in ordered:
        if step == 0:
            words.append(f"touches {what} now")
        elif step < num_planned:
            words.append(f"collides with {what} at {step * CHECK_STEP_S:.1f} s")
        else:
            words.append(f"cannot stop before {what} after its end")
    return tuple(words), ordered[0][0] if ordered else -1


def _off_road(poses: np.ndarray, road: Road | None, vehicle: VehicleParams, rules: SafetyRules) -> tuple[str, ...]:
    """When the outline leaves the road that it stands on now."""
    if road is None:
        return ()
    corners = vehicle.footprints(poses, -min(rules.road_tolerance_m, 0.45 * vehicle.width_m))
    outline = np.concatenate((corners, (corners + np.roll(corners, -1, axis=1)) / 2), axis=1)
    leaves = ~road.contains(outline).all(axis=1)
    if leaves[0] or not leaves.any():
        return ()
    return (f"leaves the road at {int(np.argmax(leaves)) * CHECK_STEP_S:.1f} s",)


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _first_contacts(
    own: np.ndarray, speeds: np.ndarray, boxes: np.ndarray, num_known: np.ndarray, margin: np.ndarray
) -> Int[np.ndarray, " F"]:
    """First step at which the vehicle (T, 5) touches each future (F, T, 5) by its own doing; -1 where never."""
    out = np.full(len(boxes), -1, np.int64)
    grown = np.empty(5)
    for f in range(len(boxes)):
        # An object that is near already may stay as near.
        kept = margin[f]
        for tried in (margin[f], 0.0, -_TOLERATED_OVERLAP_M):
            kept = tried
            _grow(own[0], tried, grown)
            if not rectangles_touch(grown, boxes[f, 0]):
                break
        for t in range(min(len(own), num_known[f])):
            _grow(own[t], kept, grown)
            if rectangles_touch(grown, boxes[f, t]):
                if not _is_their_doing(own[t], speeds[t], boxes[f], t):
                    out[f] = t
                break  # what comes after a contact cannot be foreseen
    return out


@numba.njit(cache=True, nogil=True)
@no_type_check
def _grow(rectangle: np.ndarray, margin: float, out: np.ndarray) -> None:
    out[:] = rectangle
    out[2] += 2 * margin
    out[3] += 2 * margin


@numba.njit(cache=True, nogil=True)
@no_type_check
def _is_their_doing(own: np.ndarray, speed: float, future: np.ndarray, t: int) -> bool:
    """Whether the vehicle stands while the other moves, or the other comes from behind in the vehicle's lane."""
    before = max(t - 1, 0)
    moved = np.hypot(future[before + 1, 0] - future[before, 0], future[before + 1, 1] - future[before, 1])
    if speed < _STANDING_MPS:
        return t > 0 and moved > 0.0
    dx, dy = future[t, 0] - own[0], future[t, 1] - own[1]
    ahead, left = np.cos(own[4]) * dx + np.sin(own[4]) * dy, np.cos(own[4]) * dy - np.sin(own[4]) * dx
    return moved > 0.0 and ahead < -own[2] / 2 and abs(left) < _IN_LANE_M


@numba.njit(cache=True, nogil=True)
@no_type_check
def _first_occupied(own: np.ndarray, centers: np.ndarray, margin: float, min_cells: int) -> tuple[int, int]:
    """First step at which `min_cells` cells lie in the vehicle's rectangle, and one of them; (-1, -1) where never."""
    for t in range(1, len(own)):
        c, s = np.cos(own[t, 4]), np.sin(own[t, 4])
        length, width = 0.5 * own[t, 2] + margin, 0.5 * own[t, 3] + margin
        reach = length + width
        count = 0
        for m in range(len(centers)):
            dx, dy = centers[m, 0] - own[t, 0], centers[m, 1] - own[t, 1]
            if abs(dx) > reach or abs(dy) > reach:
                continue
            if abs(c * dx + s * dy) <= length and abs(c * dy - s * dx) <= width:
                count += 1
                if count >= min_cells:
                    return t, m
    return -1, -1
