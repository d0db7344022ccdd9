"""Heading and speed of something that moves through given points.

The heading comes from motion, as plans are judged (Sun et al., SparseDrive, 2024): at each point the direction from the
point before to the point after. Letters: T steps.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

MIN_CHORD_M = 0.5
"""A shorter chord says nothing about the heading: the one before stays."""


def headings_along(
    points: Float[Tensor, "*N T 2"],
    start: Float[Tensor, "*N 2"] | None = None,
    start_yaw: Float[Tensor, "*N"] | None = None,
    *,
    min_chord_m: float = MIN_CHORD_M,
) -> Float[Tensor, "*N T"]:
    """Heading at each point of ways that begin at `start`, in [-pi, pi).

    At the last point that of the circle which leaves the point before with its heading. A chord against the heading so
    far is driven backwards. Where a chord is short or a point is NaN, the heading of the step before stays.

    Args:
        points: (x, y) in metres.
        start: Where the way begins; the origin where not given.
        start_yaw: The heading there; 0 where not given.
        min_chord_m: Shorter chords keep the heading of the step before.
    """
    start = torch.zeros_like(points[..., 0, :]) if start is None else start
    yaw = torch.zeros_like(points[..., 0, 0]) if start_yaw is None else start_yaw
    way = torch.cat((start[..., None, :], points), dim=-2)
    steps = points.shape[-2]
    found = []
    for step in range(steps):
        is_last = step == steps - 1
        chord = way[..., min(step + 2, steps), :] - way[..., step, :]
        turn = wrapped(torch.atan2(chord[..., 1], chord[..., 0]) - yaw)
        turn = torch.where(turn.abs() > math.pi / 2, wrapped(turn + math.pi), turn)  # driven backwards
        turn = torch.where(chord.norm(dim=-1) >= min_chord_m, turn, 0.0)
        yaw = wrapped(yaw + (2 * turn if is_last and steps > 1 else turn))
        found.append(yaw)
    return torch.stack(found, dim=-1)


def speeds_along(
    points: Float[Tensor, "*N T 2"], headings: Float[Tensor, "*N T"], step_s: float
) -> Float[Tensor, "*N T"]:
    """Speed at each point of ways from the origin, negative where they are driven backwards.

    The mean of the steps before and after a point; at the last one the change goes on, but never past standstill.
    """
    mean = mean_speeds(points, headings, step_s)
    if mean.shape[-1] == 1:
        return mean
    inner = (mean[..., 1:] + mean[..., :-1]) / 2
    last = mean[..., -1:] + (mean[..., -1:] - mean[..., -2:-1]) / 2
    return torch.cat((inner, torch.where(last * mean[..., -1:] <= 0, 0.0, last)), dim=-1)


def mean_speeds(
    points: Float[Tensor, "*N T 2"], headings: Float[Tensor, "*N T"], step_s: float
) -> Float[Tensor, "*N T"]:
    """Mean speed of the step that ends at each point, from the origin on; negative where it is driven backwards."""
    moved = torch.diff(points, dim=-2, prepend=torch.zeros_like(points[..., :1, :]))
    forwards = moved[..., 0] * headings.cos() + moved[..., 1] * headings.sin()
    return torch.where(forwards < 0, -1.0, 1.0) * moved.norm(dim=-1) / step_s


def wrapped(angle: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """The same angle in [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
