"""How far the beginning of each trajectory is from how fast the vehicle is, as a feature of that trajectory.

The same status is among the conditions, as one vector for all trajectories; but that a trajectory must begin at the
speed of now is a comparison, and it takes long to learn from a sum.

Letters: B frames, V trajectories, T steps, C channels.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevstack.types.trajectory import FUTURE_STEP_S

_SCALE_MPS = 2.0
"""A difference of which a driver would need the first half second for."""


class StartMismatch(nn.Module):
    """Adds nothing before training, nor where the speed is not known."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(nn.Linear(3, channels), nn.ReLU(inplace=True), last)

    def forward(self, anchors: Float[Tensor, "V T P"], status: Float[Tensor, "B 3"]) -> Float[Tensor, "B V C"]:
        """A vector for each trajectory.

        Args:
            anchors: x, y (and more) of the rear axle, the first row `FUTURE_STEP_S` from now.
            status: Speed first; NaN where it is unknown or hidden.
        """
        speed = status[:, :1]
        is_known = speed.isfinite()
        begins_at = anchors[:, 0, :2].norm(dim=-1) / FUTURE_STEP_S
        gap = (begins_at - torch.where(is_known, speed, 0.0)) / _SCALE_MPS
        found = self.layers(torch.stack((gap, gap.abs(), gap.square().clamp(max=9.0)), dim=-1))
        return torch.where(is_known[..., None], found, 0.0)
