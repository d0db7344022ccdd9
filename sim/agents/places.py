"""Where something is along a sampled path."""

import numpy as np
from jaxtyping import Float

from bevstack.sim.world.drive_paths import PATH_STEP_M

SEARCH_M = 15.0
"""How far along its path a vehicle is looked for around where it was."""


def place_on_path(
    points: Float[np.ndarray, "P 2"], x: float, y: float, near_m: float, search_m: float = SEARCH_M
) -> tuple[float, float]:
    """Station of the point of a path nearest to (x, y) around a station, and how far left of it (x, y) is (signed).

    Args:
        points: Every `PATH_STEP_M`.
        x: Of the place.
        y: Of the place.
        near_m: Where to look.
        search_m: How far before and behind; infinite for the whole path.
    """
    reach = min(search_m, len(points) * PATH_STEP_M)
    first = min(max(int((near_m - reach) / PATH_STEP_M), 0), len(points) - 2)
    last = max(min(int((near_m + reach) / PATH_STEP_M) + 2, len(points)), first + 2)
    starts = points[first : last - 1]
    steps = points[first + 1 : last] - starts
    offsets = np.array((x, y)) - starts
    shares = np.clip((offsets * steps).sum(1) / (steps**2).sum(1), 0.0, 1.0)
    gaps = offsets - shares[:, None] * steps
    nearest = int(np.argmin((gaps**2).sum(1)))
    side = steps[nearest, 0] * gaps[nearest, 1] - steps[nearest, 1] * gaps[nearest, 0]
    station = float((first + nearest + shares[nearest]) * PATH_STEP_M)
    return station, float(np.copysign(np.hypot(*gaps[nearest]), side))
