"""From anchors to trajectories, in one of two ways.

* `RegressionRefiner`: an offset for each step, in one go (VADv2 and most planners with anchors).
* `DiffusionRefiner`: truncated diffusion (DiffusionDrive, Liao et al., CVPR 2025). The anchors are disturbed a little,
  as if a diffusion process had stopped early, and a network that looks at the scene along the disturbed trajectory says
  what was there before; two such steps when driving, one, at a random time, in training. When driving the disturbance
  of an anchor is always the same, so that a model plans alike whenever it is asked.

Both begin as the identity. Letters: B frames, R trajectories, T steps, C channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bevstack.types.trajectory import FUTURE_STEP_S

LookUp = Callable[[Tensor], Tensor]
"""Reduced bird's-eye features (B, R, T, c) at points (B, R, T, 2)."""

_TIMES = 1000
_FIRST_SPREAD, _LAST_SPREAD = 1e-4, 0.02
"""Of the diffusion process (scaled linear schedule; Rombach et al., CVPR 2022)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """Trajectories after refinement."""

    points: Float[Tensor, "B R T 2"]
    logits: Float[Tensor, "B R"]
    """What refinement adds to the score of each."""


class Refiner(Protocol):
    """Built with `channels`, `bev_channels` (what a look-up gives), `steps` and `vocabulary` (its size)."""

    num_refined: int | None
    """When driving only so many of the best anchors are refined; None for all."""

    def __call__(
        self,
        queries: Float[Tensor, "B R C"],
        anchors: Float[Tensor, "B R T 2"],
        index: Int[Tensor, "B R"],
        look_up: LookUp,
    ) -> Refined:
        """Refine anchors.

        Args:
            queries: What is known of each anchor.
            anchors: The anchors.
            index: Which anchor of the vocabulary each is.
            look_up: The scene at points.
        """


class RegressionRefiner(nn.Module):
    """Offsets read off the queries.

    Args:
        channels: C.
        bev_channels: Not read: the queries have looked.
        steps: T.
        vocabulary: Not read.
    """

    num_refined: int | None = None

    def __init__(self, *, channels: int, bev_channels: int, steps: int, vocabulary: int) -> None:
        super().__init__()
        del bev_channels, vocabulary
        self.layers = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True))
        self.to_numbers = zero_linear(channels, 2 * steps + 1)

    def forward(
        self,
        queries: Float[Tensor, "B R C"],
        anchors: Float[Tensor, "B R T 2"],
        index: Int[Tensor, "B R"],
        look_up: LookUp,
    ) -> Refined:
        """Anchors moved by what their queries say."""
        del index, look_up
        return moved(anchors, self.to_numbers(self.layers(queries)))


class DiffusionRefiner(nn.Module):
    """Denoising of disturbed anchors.

    Args:
        channels: C.
        bev_channels: Width of a look-up.
        steps: T.
        vocabulary: Number of anchors.
        denoisings: Steps when driving.
        start_time: At which the anchors enter when driving, of 1000 times of the whole process.
        longest_time: Training draws times below this.
        scale_m: Length that counts as one in the process: with the defaults anchors are disturbed by up to 3 m in
            training and by 1 m when driving.
        num_refined: When driving only so many of the best anchors are refined.
        seed: Of the disturbance when driving.

    Raises:
        ValueError: a number of steps or a time is out of range.
    """

    _kept: Tensor
    _noise: Tensor

    def __init__(
        self,
        *,
        channels: int,
        bev_channels: int,
        steps: int,
        vocabulary: int,
        denoisings: int = 2,
        start_time: int = 10,
        longest_time: int = 50,
        scale_m: float = 30.0,
        num_refined: int | None = 40,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= denoisings <= start_time or not start_time <= longest_time < _TIMES:
            raise ValueError(
                f"denoisings={denoisings}, start_time={start_time}, longest_time={longest_time} must not decrease and "
                f"lie between 1 and {_TIMES - 1}"
            )
        self.scale_m, self.num_refined, self.longest_time = scale_m, num_refined, longest_time
        self.times = tuple(start_time * left // denoisings for left in range(denoisings, 0, -1))
        root = torch.linspace(_FIRST_SPREAD**0.5, _LAST_SPREAD**0.5, _TIMES, dtype=torch.float64)
        kept = torch.cat((torch.ones(1, dtype=torch.float64), (1 - root.square()).cumprod(dim=0)))
        self.register_buffer("_kept", kept.float(), persistent=False)
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("_noise", torch.randn(vocabulary, steps, 2, generator=generator), persistent=False)
        self.time = nn.Embedding(longest_time + 1, channels)
        self.enter = nn.Linear(steps * (2 + 2 + bev_channels), channels)
        self.layers = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 2 * channels), nn.ReLU(inplace=True),
            nn.Linear(2 * channels, channels), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.to_numbers = zero_linear(channels, 2 * steps + 1)

    def forward(
        self,
        queries: Float[Tensor, "B R C"],
        anchors: Float[Tensor, "B R T 2"],
        index: Int[Tensor, "B R"],
        look_up: LookUp,
    ) -> Refined:
        """Anchors disturbed and cleaned: once at a random time in training, else in a few steps down to time 0."""
        if self.training:
            times = torch.randint(1, self.longest_time + 1, (len(queries),), device=queries.device)
            disturbed = self._disturbed(anchors, torch.randn_like(anchors), times)
            return self._cleaned(queries, anchors, disturbed, times, look_up)
        now = torch.full((len(queries),), self.times[0], device=queries.device)
        points = self._disturbed(anchors, self._noise[index].to(anchors), now)
        for following in (*self.times[1:], 0):
            refined = self._cleaned(queries, anchors, points, now, look_up)
            later = torch.full_like(now, following)
            points = self._moved(points, refined.points, now, later)
            now = later
        return refined

    def _cleaned(
        self, queries: Tensor, anchors: Tensor, disturbed: Tensor, times: Int[Tensor, " B"], look_up: LookUp
    ) -> Refined:
        """The network's guess of what was there before the disturbance."""
        points = torch.cat((disturbed, anchors), dim=-1) / self.scale_m
        seen = torch.cat((points.to(queries), look_up(disturbed).to(queries)), dim=-1).flatten(2)
        state = queries + self.enter(seen) + self.time(times)[:, None]
        return moved(anchors, self.to_numbers(self.layers(state)))

    def _disturbed(self, clean: Tensor, noise: Tensor, times: Int[Tensor, " B"]) -> Tensor:
        """Points at a time of the process: its scale, but around the anchors, which do not shrink towards zero."""
        return clean + self.scale_m * noise * self._spread_at(times)

    def _moved(self, points: Tensor, clean: Tensor, now: Int[Tensor, " B"], later: Int[Tensor, " B"]) -> Tensor:
        """From one time to an earlier one without new noise (DDIM; Song et al., ICLR 2021)."""
        return clean + (points - clean) * self._spread_at(later) / self._spread_at(now)

    def _spread_at(self, times: Int[Tensor, " B"]) -> Tensor:
        """Noise relative to signal, (B, 1, 1, 1)."""
        kept = self._kept[times]
        return (1 / kept - 1).sqrt()[:, None, None, None]


def moved(anchors: Float[Tensor, "B R T 2"], numbers: Float[Tensor, "B R N"]) -> Refined:
    """Anchors moved by what a layer says: an offset for each step, as a speed (m/s) over the time until then, and a
    logit.
    """
    steps = anchors.shape[2]
    offsets, logits = numbers[..., :-1].float().unflatten(-1, (steps, 2)), numbers[..., -1].float()
    times = FUTURE_STEP_S * torch.arange(1, steps + 1, device=anchors.device)
    return Refined(points=anchors + offsets * times[:, None], logits=logits)


def zero_linear(in_channels: int, out_channels: int) -> nn.Linear:
    """A layer whose output begins as zero."""
    layer = nn.Linear(in_channels, out_channels)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
