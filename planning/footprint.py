"""The vehicle's outline along many ways at once: points inside it, and whether it overlaps other rectangles.

`vehicle.py` is the same for one plan in numpy. Letters: S ways, T steps, P points, A other rectangles.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bevstack.planning.vehicle import VehicleParams


def points_in_rectangle(low: tuple[float, float], high: tuple[float, float], spacing_m: float) -> Float[Tensor, "P 2"]:
    """Middles of equal cells of about `spacing_m` that fill an upright rectangle.

    Raises:
        ValueError: the rectangle is empty or the spacing not positive.
    """
    if not (high[0] > low[0] and high[1] > low[1] and spacing_m > 0):
        raise ValueError(f"low={low}, high={high} must span a rectangle and spacing_m={spacing_m} be positive")
    axes = []
    for start, end in zip(low, high, strict=True):
        count = max(1, math.ceil((end - start) / spacing_m))
        axes.append(start + (end - start) * (torch.arange(count) + 0.5) / count)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1)


def placed(
    pattern: Float[Tensor, "P 2"], poses: Float[Tensor, "*N 3"], *, is_turned: bool = True
) -> Float[Tensor, "*N P 2"]:
    """Points of the vehicle's own frame at each pose; without `is_turned` along x, whatever the heading."""
    if not is_turned:
        return poses[..., None, :2] + pattern
    c, s = poses[..., 2:].cos(), poses[..., 2:].sin()
    x = poses[..., :1] + c * pattern[:, 0] - s * pattern[:, 1]
    y = poses[..., 1:2] + s * pattern[:, 0] + c * pattern[:, 1]
    return torch.stack((x, y), dim=-1)


def outlines(poses: Float[Tensor, "*N 3"], vehicle: VehicleParams, margin_m: float = 0.0) -> Float[Tensor, "*N 5"]:
    """Centre x, y, length, width and heading of the vehicle at poses of its rear axle."""
    x = poses[..., 0] + vehicle.center_ahead_m * poses[..., 2].cos()
    y = poses[..., 1] + vehicle.center_ahead_m * poses[..., 2].sin()
    length = torch.full_like(x, vehicle.length_m + 2 * margin_m)
    width = torch.full_like(x, vehicle.width_m + 2 * margin_m)
    return torch.stack((x, y, length, width, poses[..., 2]), dim=-1)


def rectangles_overlap(one: Float[Tensor, "*#N 5"], other: Float[Tensor, "*#N 5"]) -> Bool[Tensor, "*N"]:
    """Whether rectangles (centre, length, width, heading) share an area, exactly: no axis separates them.

    NaN overlaps nothing. Shapes are broadcast.
    """
    offset = other[..., :2] - one[..., :2]
    turn = other[..., 4] - one[..., 4]
    c, s = turn.cos().abs(), turn.sin().abs()
    apart = torch.zeros_like(c, dtype=torch.bool)
    for first, second in ((one, other), (other, one)):
        axis_c, axis_s = first[..., 4].cos(), first[..., 4].sin()
        along = (offset[..., 0] * axis_c + offset[..., 1] * axis_s).abs()
        across = (offset[..., 1] * axis_c - offset[..., 0] * axis_s).abs()
        half_length, half_width = second[..., 2] / 2, second[..., 3] / 2
        apart = apart | ~(along < first[..., 2] / 2 + half_length * c + half_width * s)
        apart = apart | ~(across < first[..., 3] / 2 + half_length * s + half_width * c)
    return ~apart
