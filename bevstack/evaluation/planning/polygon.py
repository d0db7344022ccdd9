"""`plan/polygon`: exact collision of the turned vehicle with the turned boxes of the agents.

The idea of Sun et al. (SparseDrive, 2024), whose re-evaluation changed the order of published planners: both
rectangles as they lie, headings from motion (`planning_placement`), touching counts. Reported for vehicles, for
vehicles and pedestrians, and for everything annotated (which is what SparseDrive counts, cones and barriers included),
*at* each step and *until* it.

Traps named: SparseDrive strikes the steps at which the expert collides; here they stay, and the expert's own rate
(from annotation noise and doors that open) stands in the table as a row to compare with. A step without a future is
not tested and not counted.
"""

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float64

from bevstack.evaluation.planning.ego_future import EgoFuture
from bevstack.evaluation.planning.obstacles import OTHER, PEDESTRIAN, VEHICLE, BoxesByStep
from bevstack.evaluation.planning.sums import HorizonValues, PlanSums, SceneSums, at_horizons
from bevstack.geometry.rectangles import rectangles_touch

PROTOCOL = "plan/polygon"
AGENT_GROUPS = ("vehicles", "vehicles_and_pedestrians", "all_annotated")
"""What counts as an agent; each group holds the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolygonScores:
    """One plan against the boxes as they lie. Shares of frames, 0 to 1, by group of agents."""

    protocol: str
    num_frames: int
    """Frames with a future of half a second or more; later steps count those that have them."""
    collision_at: dict[str, HorizonValues]
    """Touching an agent at the step."""
    collision_until: dict[str, HorizonValues]
    """Touching an agent at any step until then."""


def sum_polygon(hits: Bool[np.ndarray, "3 F 6"], future: EgoFuture) -> PlanSums:
    """Sums of one plan from its `polygon_hits`."""
    sums = {}
    for group, touches in zip(AGENT_GROUPS, hits & future.valid, strict=True):
        sums[f"{PROTOCOL} {group} at"] = SceneSums.of(touches, future.valid, future)
        until = np.logical_or.accumulate(touches, axis=1)
        sums[f"{PROTOCOL} {group} until"] = SceneSums.of(until, future.valid, future)
    return sums


def score_polygon(sums: PlanSums, subset: str = "all", weights: np.ndarray | None = None) -> PolygonScores:
    """The scores of one plan, from sums of any number of scenes."""
    at, until = (
        {group: at_horizons(sums[f"{PROTOCOL} {group} {when}"].ratios(subset, weights)) for group in AGENT_GROUPS}
        for when in ("at", "until")
    )
    return PolygonScores(
        protocol=PROTOCOL,
        num_frames=sums[f"{PROTOCOL} {AGENT_GROUPS[0]} at"].num_frames(subset),
        collision_at=at,
        collision_until=until,
    )


def polygon_hits(boxes_ego: Float64[np.ndarray, "F 6 5"], agents: BoxesByStep) -> Bool[np.ndarray, "3 F 6"]:
    """Whether the vehicle's rectangle touches an agent at each step, for each of `AGENT_GROUPS`.

    Args:
        boxes_ego: x, y of the centre, length, width, heading of the vehicle at the six steps.
        agents: Boxes in the same frame.
    """
    by_kind = _touches(
        np.ascontiguousarray(boxes_ego.reshape(-1, 5), np.float64), agents.first, agents.boxes, agents.kind
    ).reshape(3, *boxes_ego.shape[:2])
    return np.stack((by_kind[VEHICLE], by_kind[VEHICLE] | by_kind[PEDESTRIAN], by_kind.any(axis=0)))


@numba.njit(cache=True, nogil=True)
@no_type_check  # the checks that tests switch on cannot be compiled
def _touches(vehicle: np.ndarray, first: np.ndarray, boxes: np.ndarray, kind: np.ndarray) -> np.ndarray:
    out = np.zeros((OTHER + 1, len(vehicle)), np.bool_)
    for slot in range(len(vehicle)):
        for row in range(first[slot], first[slot + 1]):
            if not out[kind[row], slot] and rectangles_touch(vehicle[slot], boxes[row]):
                out[kind[row], slot] = True
    return out
