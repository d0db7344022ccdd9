"""Names for axes: how coordinates that come out of a reader lie to the vehicle, from points whose place is known."""

import numpy as np
from jaxtyping import Float

_NAMES = {(0, 1): "forward", (0, -1): "backward", (1, 1): "left", (1, -1): "right", (2, 1): "up", (2, -1): "down"}
_SHIFT_M = 0.1


def axes_of(true: Float[np.ndarray, "N 3"], measured: Float[np.ndarray, "N 3"]) -> str:
    """Directions of the measured axes in the vehicle (x forward, y left, z up), and a shift of the origin if any.

    Args:
        true: at least four places in `ego`, not in one plane.
        measured: the same as they came out.
    """
    terms = np.concatenate((true, np.ones((len(true), 1))), axis=1)
    solution, *_ = np.linalg.lstsq(terms, measured, rcond=None)
    linear, shift = solution[:3].T, solution[3]  # measured = linear @ true + shift
    if not np.allclose(terms @ solution, measured, atol=_SHIFT_M):
        return "no linear map of the vehicle's axes"
    names = [f"{letter} {_direction(row)}" for letter, row in zip("xyz", linear, strict=True)]
    text = ", ".join(names)
    if np.abs(shift).max() > _SHIFT_M:
        text += f"; shifted by ({', '.join(f'{value:.2f}' for value in shift.round(2) + 0.0)}) m"
    return text


def _direction(row: np.ndarray) -> str:
    """The nearest of six directions, with a scale that is not 1."""
    axis = int(np.argmax(np.abs(row)))
    length = float(np.linalg.norm(row))
    if abs(row[axis]) < 0.999 * length:
        angle = np.degrees(np.arccos(min(1.0, abs(row[axis]) / max(length, 1e-9))))
        name = f"{_NAMES[axis, 1 if row[axis] > 0 else -1]} turned by {angle:.0f} degrees"
    else:
        name = _NAMES[axis, 1 if row[axis] > 0 else -1]
    return name if abs(length - 1) < 0.005 else f"{name} x {length:.3g}"
