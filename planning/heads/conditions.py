"""What a planner knows beside the scene: the task (route command, target point, speed limit), the cue, and, where it
is allowed to, the vehicle's own status.

The status is a shortcut: a network that sees it and no sensor at all reaches the open-loop error of published planners
(Li et al., Is Ego Status All You Need?, CVPR 2024). Without `ego_status` it is never read; the speed must then come
from the bird's-eye features, of which a summary is part of the conditions. With it, dropout hides it from a share of
the training frames. Everything that is unknown has a learned vector of its own.

Letters: B frames, C channels, P waypoints.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.types.batch import Batch
from bevstack.types.context import SceneContext
from bevstack.types.trajectory import COMMANDS, ROUTE_STEP_M

TARGET_M = 30.0
"""How far along the route the target point lies; nearer where the route ends."""
_SPEED_LIMIT_SCALE_MPS = 15.0
_STATUS_SCALES = (10.0, 3.0, 0.3)
"""Speed, acceleration, yaw rate that are large."""
_SUMMARY_CELLS, _SUMMARY_CHANNELS = 4, 8


class Conditions(nn.Module):
    """All conditions as one vector for each frame.

    Args:
        in_channels: Width of the bird's-eye features, and of the cue.
        channels: C.
        ego_status: Whether speed, acceleration and yaw rate may be seen.
        status_dropout: Share of training frames from which they are hidden.

    Raises:
        ValueError: `status_dropout` is not between 0 and 1.
    """

    def __init__(self, *, in_channels: int, channels: int, ego_status: bool, status_dropout: float = 0.5) -> None:
        super().__init__()
        if not 0 <= status_dropout <= 1:
            raise ValueError(f"status_dropout={status_dropout} must be between 0 and 1")
        self.summary = nn.Sequential(nn.Conv2d(in_channels, _SUMMARY_CHANNELS, 1), nn.ReLU(inplace=True))
        self.to_summary = nn.Linear(_SUMMARY_CHANNELS * _SUMMARY_CELLS**2, channels)
        self.command = nn.Embedding(len(COMMANDS) + 1, channels)  # the last one: no command
        self.target = KnownOrNot(2, channels)
        self.speed_limit = KnownOrNot(1, channels)
        self.cue = nn.Linear(in_channels, channels, bias=False)
        self.status = StatusEncoding(channels, status_dropout) if ego_status else None
        self.mix = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels), nn.ReLU(inplace=True))

    def visible_status(self, batch: Batch) -> Float[Tensor, "B 3"] | None:
        """The vehicle's status as far as it may be seen this time, NaN where not; None where it never may."""
        return None if self.status is None else self.status.visible(batch.ego_status, batch.batch_size)

    def forward(self, context: SceneContext, batch: Batch, status: Float[Tensor, "B 3"] | None) -> Float[Tensor, "B C"]:
        """From the batch: route and speed limit; the status is `visible_status`."""
        pooled = F.adaptive_avg_pool2d(self.summary(context.bev.data), _SUMMARY_CELLS)
        found = self.to_summary(pooled.flatten(1))
        found = found + self.command(route_command(batch) % (len(COMMANDS) + 1))  # -1 is the last one
        found = found + self.target(route_target(batch) / TARGET_M)
        limit = torch.full_like(found[:, :1], torch.nan) if batch.speed_limit_mps is None else batch.speed_limit_mps
        found = found + self.speed_limit(limit.view(-1, 1).to(found) / _SPEED_LIMIT_SCALE_MPS)
        if context.cue_embedding is not None:
            found = found + self.cue(context.cue_embedding)
        if self.status is not None and status is not None:
            found = found + self.status(status)
        return self.mix(found)


class KnownOrNot(nn.Module):
    """A vector from a few numbers, or a learned one where any of them is NaN."""

    def __init__(self, numbers: int, channels: int) -> None:
        super().__init__()
        self.known = nn.Linear(numbers, channels)
        self.unknown = nn.Parameter(0.02 * torch.randn(channels))

    def forward(self, values: Float[Tensor, "B N"]) -> Float[Tensor, "B C"]:
        """One vector for each row."""
        is_known = values.isfinite().all(dim=1, keepdim=True)
        return torch.where(is_known, self.known(torch.where(is_known, values, 0.0)), self.unknown)


class StatusEncoding(nn.Module):
    """Speed, acceleration and yaw rate, each known or not by itself; in training all of them hidden now and then."""

    _scales: Tensor

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        parts: Any = nn.ModuleList(KnownOrNot(1, channels) for _ in _STATUS_SCALES)
        self.parts = parts
        self.register_buffer("_scales", torch.tensor(_STATUS_SCALES), persistent=False)

    def visible(self, status: Float[Tensor, "B 3"] | None, batch_size: int) -> Float[Tensor, "B 3"]:
        """NaN where it is unknown or, in training, hidden."""
        scales = self._scales
        if status is None:
            status = scales.new_full((batch_size, len(_STATUS_SCALES)), torch.nan)
        if self.training:
            is_hidden = torch.rand(batch_size, 1, device=status.device) < self.dropout
            status = status.masked_fill(is_hidden, torch.nan)
        return status.to(scales)

    def forward(self, status: Float[Tensor, "B 3"]) -> Float[Tensor, "B C"]:
        """The sum of the three vectors."""
        columns = (status / self._scales).split(1, dim=1)
        return torch.stack([part(column) for part, column in zip(self.parts, columns, strict=True)]).sum(dim=0)


def route_command(batch: Batch) -> Tensor:
    """(B) indices into `COMMANDS`; -1 in frames without a route."""
    if batch.route_command is not None:
        return batch.route_command.long()
    return torch.full((batch.batch_size,), -1, device=batch.images.device)


def route_target(batch: Batch) -> Float[Tensor, "B 2"]:
    """The waypoint `TARGET_M` ahead, or the last one before; NaN in frames without a route."""
    if batch.route_ego is None or batch.route_ego.shape[1] == 0:
        return torch.full((batch.batch_size, 2), torch.nan, device=batch.images.device)
    num_known = waypoints_known(batch.route_ego).sum(dim=1)
    index = (num_known - 1).clamp(min=0, max=round(TARGET_M / ROUTE_STEP_M))  # the first is abeam
    return batch.route_ego[torch.arange(len(index), device=index.device), index].float()


def waypoints_known(route_ego: Float[Tensor, "B P 2"]) -> Bool[Tensor, "B P"]:
    """The waypoints before the first that is NaN."""
    return route_ego.isfinite().all(dim=-1).cumprod(dim=1).bool()
