"""Trajectories to choose among: straight lines, arcs and clothoids at many speeds (ST-P3, Hu et al., ECCV 2022).

A set for each route command. Those of the turns hold straight ways too: the junction of the command may lie ahead. The
set of the right turn is the left one in a mirror; a frame without a command chooses among a third of each set.

All random numbers are drawn once, from a seed: a model plans alike whenever it is asked. Letters: B frames,
S candidates, T steps.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bevstack.planning.rollout import Ways, clothoid_slope_per_m2, rolled_out
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.types.trajectory import COMMANDS, FUTURE_STEP_S, RouteCommand

_STRAIGHT, _ARC = (0,), (1, 2)
_KINDS = 5
"""Of five candidates in a row one is a straight line, two are arcs and two are clothoids."""
_SPEEDS = 2
"""Every second candidate starts at the present speed, where it is known."""
_GENTLE_RADIUS_M, _GENTLE_SCALE_M = 60.0, 30.0
"""Streets bend even where the command is straight on."""
_LARGEST_RADIUS_M = 200.0


class TrajectorySampler(nn.Module):
    """Candidates for each frame, by its command and speed.

    Args:
        candidates: S, of each command.
        steps: T.
        step_s: Time between two steps.
        max_start_mps: Random start speeds lie between 0 and this.
        acceleration_mps2: Least and largest.
        clothoid_scale_m: Least and largest.
        vehicle: Whose curvature, lateral acceleration and top speed no candidate exceeds, whatever was drawn.
        seed: Of all random numbers.

    Raises:
        ValueError: fewer than one candidate for each command, or a range whose end is not above its start.
    """

    _draws: Tensor

    def __init__(
        self,
        *,
        candidates: int = 600,
        steps: int = 6,
        step_s: float = FUTURE_STEP_S,
        max_start_mps: float = 15.0,
        acceleration_mps2: Sequence[float] = (-3.0, 7.0),
        clothoid_scale_m: Sequence[float] = (6.0, 80.0),
        vehicle: VehicleParams = NUSCENES_VEHICLE,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if candidates < 1 or steps < 1:
            raise ValueError(f"candidates={candidates} and steps={steps} must be 1 or more")
        for name, bounds in (("acceleration_mps2", acceleration_mps2), ("clothoid_scale_m", clothoid_scale_m)):
            if len(bounds) != 2 or not bounds[1] > bounds[0]:
                raise ValueError(f"{name}={tuple(bounds)} must be two numbers, the second larger than the first")
        self.candidates, self.steps, self.step_s, self.max_start_mps = candidates, steps, step_s, max_start_mps
        self.acceleration_mps2 = float(acceleration_mps2[0]), float(acceleration_mps2[1])
        self.clothoid_scale_m = float(clothoid_scale_m[0]), float(clothoid_scale_m[1])
        self.vehicle = vehicle
        self.register_buffer("_draws", self._drawn(seed), persistent=False)

    @torch.no_grad()
    def forward(self, command: Int[Tensor, " B"], speed_mps: Float[Tensor, " B"]) -> Ways:
        """Poses (B, S, T, 3) and speeds (B, S, T).

        Args:
            command: Index into `COMMANDS`; -1 where there is none.
            speed_mps: Present speed; NaN where unknown.
        """
        every = torch.arange(self.candidates, device=command.device)
        mixed = every % len(COMMANDS)
        sets = torch.where(command[:, None] >= 0, command[:, None], mixed)  # (B, S)
        fraction, acceleration, curvature, slope = self._draws[sets, every].unbind(dim=-1)
        is_present = (every % _SPEEDS == 0) & speed_mps.isfinite()[:, None]
        present = speed_mps.nan_to_num().clamp(min=0.0)[:, None]
        start = torch.where(is_present, present, fraction * self.max_start_mps)
        return rolled_out(
            start, acceleration, curvature, slope, steps=self.steps, step_s=self.step_s, vehicle=self.vehicle
        )

    def _drawn(self, seed: int) -> Float[Tensor, "commands S 4"]:
        """Of each set: fraction of the largest start speed, acceleration, curvature and its slope."""
        generator = torch.Generator().manual_seed(seed)
        turn = torch.rand(self.candidates, 4, generator=generator)
        onward = torch.rand(self.candidates, 4, generator=generator)
        smallest = 1 / self.vehicle.max_curvature_per_m
        left = self._of_shares(turn, (smallest, _LARGEST_RADIUS_M), self.clothoid_scale_m)
        low, high = self.clothoid_scale_m
        gentle = (max(low, min(_GENTLE_SCALE_M, (low + high) / 2)), high)
        straight = self._of_shares(onward, (_GENTLE_RADIUS_M, _LARGEST_RADIUS_M), gentle)
        straight[:, 2:] *= torch.where(onward[:, 3:] < 0.5, -1.0, 1.0)
        right = left * torch.tensor((1.0, 1.0, -1.0, -1.0))
        of_command = {RouteCommand.LEFT: left, RouteCommand.STRAIGHT: straight, RouteCommand.RIGHT: right}
        return torch.stack([of_command[command] for command in COMMANDS])

    def _of_shares(
        self, shares: Float[Tensor, "S 4"], radii_m: tuple[float, float], scales_m: tuple[float, float]
    ) -> Float[Tensor, "S 4"]:
        """Random numbers between 0 and 1 as what they stand for, all curves to the left."""
        low, high = self.acceleration_mps2
        kind = torch.arange(self.candidates) % _KINDS
        is_straight, is_arc = (torch.isin(kind, torch.tensor(kinds)) for kinds in (_STRAIGHT, _ARC))
        curvature = torch.where(is_arc, 1 / _between(shares[:, 2], radii_m), 0.0)
        slope = torch.where(is_arc | is_straight, 0.0, clothoid_slope_per_m2(_between(shares[:, 2], scales_m)))
        return torch.stack((shares[:, 0], low + (high - low) * shares[:, 1], curvature, slope), dim=1)


def _between(share: Float[Tensor, " S"], bounds: tuple[float, float]) -> Float[Tensor, " S"]:
    """Evenly on a logarithmic scale: close curves are as many as wide ones."""
    low, high = math.log(bounds[0]), math.log(bounds[1])
    return (low + (high - low) * share).exp()
