"""How fast the vehicle may be along its path: the limit, the bends, the end of the way."""

import math

import numpy as np
from jaxtyping import Float

from bevstack.planning.idm import IdmParams
from bevstack.planning.paths import PATH_STEP_M, Path
from bevstack.planning.vehicle import VehicleParams
from bevstack.types.errors import PlanningError
from bevstack.types.trajectory import Route

_MAX_GOAL_OFFSET_M = 5.0


def wished_speed(route: Route, speed_mps: float, cruise_mps: float, vehicle: VehicleParams) -> float:
    """The speed limit; where it is unknown the present speed, but at least `cruise_mps`: routes know no limits."""
    is_known = math.isfinite(route.speed_limit_mps) and route.speed_limit_mps > 0
    wished = route.speed_limit_mps if is_known else max(cruise_mps, speed_mps)
    return min(wished, vehicle.max_speed_mps)


def allowed_speeds(path: Path, wished_mps: float, idm: IdmParams) -> Float[np.ndarray, " P"]:
    """The highest speed at each point from which the bends ahead and the end of the path are reached with comfort."""
    curvature = np.abs(path.curvatures)
    # The mean over some metres: a spline's curvature is not smooth, and a vehicle has a length.
    width = min(7, len(curvature))
    curvature = np.convolve(np.pad(curvature, width // 2, mode="edge"), np.ones(width) / width, mode="valid")
    bend = np.sqrt(idm.comfortable_lateral_mps2 / np.maximum(curvature[: len(path.points)], 1e-4))
    squared = np.minimum(wished_mps, bend) ** 2
    squared[-1] = 0.0
    gain = 2 * idm.comfortable_braking_mps2 * PATH_STEP_M
    # v(s)^2 may fall by 2 b ds a step: the least of all points ahead, each raised by the way to it.
    index = np.arange(len(squared))
    reachable = np.minimum.accumulate((squared + gain * index)[::-1])[::-1] - gain * index
    return np.sqrt(np.maximum(reachable, 0.0))


def stop_station(path: Path, goal_ego: tuple[float, float], vehicle: VehicleParams) -> float:
    """Where the rear axle stands when the front end is abeam of a stop goal.

    Raises:
        PlanningError: the goal is not beside the path.
    """
    gap = np.hypot(*(path.points - np.array(goal_ego, np.float64)).T)
    nearest = int(np.argmin(np.where(np.isfinite(gap), gap, np.inf)))
    if not gap[nearest] <= _MAX_GOAL_OFFSET_M:
        raise PlanningError(f"the stop goal {goal_ego} is {gap[nearest]:.1f} m from the way ({path.words})")
    return max(0.0, PATH_STEP_M * nearest - vehicle.front_ahead_m)
