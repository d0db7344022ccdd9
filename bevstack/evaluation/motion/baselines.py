"""The motions that need no model, printed beside every motion result: constant velocity, and standing still.

Each gives one mode of probability 1. (The third baseline, empty, is to predict nothing.)
"""

import numpy as np
from jaxtyping import Float64

CONSTANT_VELOCITY = "constant velocity"
COPY_LAST = "copy last"
EMPTY = "empty"


def constant_velocity(
    position: Float64[np.ndarray, "N 2"], velocity: Float64[np.ndarray, "N 2"], *, num_steps: int, step_s: float
) -> Float64[np.ndarray, "N 1 T 2"]:
    """Straight on at the present velocity (m/s); an object of unknown velocity (NaN) stands still."""
    times_s = step_s * np.arange(1, num_steps + 1)
    moved = np.nan_to_num(velocity, nan=0.0)[:, None, :] * times_s[:, None]
    return (position[:, None, :] + moved)[:, None]


def copy_last(position: Float64[np.ndarray, "N 2"], *, num_steps: int) -> Float64[np.ndarray, "N 1 T 2"]:
    """Everything stays where it was seen last."""
    return np.repeat(position[:, None, None, :], num_steps, axis=2)
