"""Driving at a constant acceleration along a straight line, an arc or a clothoid: the ways that planners choose among.

The curvature is linear in the way driven, kappa(s) = kappa_0 + sigma * s: a straight line where both numbers are zero,
an arc where sigma is, a clothoid (Euler spiral) where kappa_0 is. The scale A of a clothoid, as planners that sample
trajectories state it (Zeng et al., Neural Motion Planner, CVPR 2019), gives sigma = pi / A^2.

Letters: N ways, T steps.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.types.trajectory import FUTURE_STEP_S

_PARTS_PER_STEP = 10
"""Of the integration: 0.05 s, in which nothing turns far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Timed ways of the rear axle, in `ego` at reference time; step k is (k + 1) * step_s ahead."""

    poses: Float[Tensor, "*N T 3"]
    """x, y in metres and yaw in [-pi, pi)."""
    speeds_mps: Float[Tensor, "*N T"]


def rolled_out(
    speed_mps: Float[Tensor, "*N"],
    acceleration_mps2: Float[Tensor, "*N"],
    curvature_per_m: Float[Tensor, "*N"],
    curvature_slope_per_m2: Float[Tensor, "*N"],
    *,
    steps: int,
    step_s: float = FUTURE_STEP_S,
    vehicle: VehicleParams = NUSCENES_VEHICLE,
) -> Ways:
    """Ways from the origin along x. The speed never falls below zero; standing vehicles do not turn.

    Where a way would exceed the vehicle's curvature, lateral acceleration or top speed, it stays at that limit; a
    vehicle that is faster now does not accelerate.

    Args:
        speed_mps: At the start, 0 or more.
        acceleration_mps2: Until the vehicle stands or has reached its top speed.
        curvature_per_m: kappa_0, positive to the left.
        curvature_slope_per_m2: sigma, its change with the way.
        steps: T.
        step_s: Time between two steps.
        vehicle: Whose limits are never exceeded.
    """
    part_s = step_s / _PARTS_PER_STEP
    times = part_s * torch.arange(steps * _PARTS_PER_STEP + 1, device=speed_mps.device, dtype=speed_mps.dtype)
    top = speed_mps.clamp(min=vehicle.max_speed_mps)[..., None]
    speeds = torch.minimum((speed_mps[..., None] + acceleration_mps2[..., None] * times).clamp(min=0.0), top)
    middle = (speeds[..., 1:] + speeds[..., :-1]) / 2
    pieces = middle * part_s
    way = pieces.cumsum(dim=-1) - pieces / 2
    wanted = curvature_per_m[..., None] + curvature_slope_per_m2[..., None] * way
    allowed = vehicle.max_lateral_mps2 / middle.square().clamp(min=1e-6)
    allowed = allowed.clamp(max=vehicle.max_curvature_per_m)
    turn = torch.minimum(torch.maximum(wanted, -allowed), allowed) * pieces
    yaw = turn.cumsum(dim=-1)
    direction = yaw - turn / 2
    x, y = (pieces * direction.cos()).cumsum(dim=-1), (pieces * direction.sin()).cumsum(dim=-1)
    wrapped = torch.remainder(yaw + math.pi, 2 * math.pi) - math.pi
    at_steps = slice(_PARTS_PER_STEP - 1, None, _PARTS_PER_STEP)
    return Ways(
        poses=torch.stack((x, y, wrapped), dim=-1)[..., at_steps, :],
        speeds_mps=speeds[..., _PARTS_PER_STEP::_PARTS_PER_STEP],
    )


def clothoid_slope_per_m2(scale_m: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """How fast the curvature of a clothoid of a scale grows (sigma)."""
    return math.pi / scale_m.square()
