"""Modality-adaptive feature integration (Chen et al., M3Net, AAAI 2025, section 3.2).

Concatenated features say what is there; which channels matter is voted for by the two sensors, the LiDAR for what
detection needs and the cameras for what map segmentation needs. Each vote is one factor for each channel, the same over
the whole scene.

Letters: B frames, C channels, Y X bird's-eye cells.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevstack.fusion.bev_backbone import conv_norm_relu
from bevstack.fusion.concat import ConcatFuser
from bevstack.types.bev import BevFeatures


class MafiFuser(ConcatFuser):
    """Concatenation, then each channel times the sum of the votes of two sources.

    A source that is absent or sees nothing votes the same for every scene. All votes start at one half: at first the
    output is that of the concatenation, whose weights (`ConcatFuser`) fit by name.

    Args:
        in_channels: Source name -> channels.
        out_channels: Channels of the result.
        kernel: Cells across of the joining convolution.
        detection_source: The source that votes for detection.
        segmentation_source: The source that votes for map segmentation.

    Raises:
        ValueError: no source, an even kernel, or one source for both votes.
    """

    def __init__(
        self,
        *,
        in_channels: Mapping[str, int],
        out_channels: int = 64,
        kernel: int = 3,
        detection_source: str = "lidar",
        segmentation_source: str = "camera",
    ) -> None:
        super().__init__(in_channels=in_channels, out_channels=out_channels, kernel=kernel)
        if detection_source == segmentation_source:
            raise ValueError(f"detection_source and segmentation_source are both {detection_source!r}: name two")
        self.voters = (detection_source, segmentation_source)
        self.votes = nn.ModuleDict(
            {name: ChannelVote(in_channels[name], out_channels) for name in self.voters if name in in_channels}
        )

    def forward(self, per_source: Mapping[str, BevFeatures]) -> BevFeatures:
        """Fused features; valid where any source is.

        Raises:
            ValueError: no source, an unknown one, or sources on different grids.
        """
        fused = super().forward(per_source)
        factor = sum(self._vote(name, per_source.get(name), fused.data) for name in self.voters)
        return replace(fused, data=fused.data * factor)

    def _vote(self, name: str, source: BevFeatures | None, like: Tensor) -> Float[Tensor, "B C 1 1"]:
        """Factors in (0, 1); a source that the model was built without stays at one half."""
        if name not in self.votes:
            return like.new_full((len(like), self.out_channels, 1, 1), 0.5)
        vote: ChannelVote = self.votes[name]  # type: ignore[assignment]
        return vote.blind(len(like)) if source is None else vote(source)


class ChannelVote(nn.Module):
    """A factor for each channel from one source: convolution, mean over the cells that the source sees, sigmoid."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.view = conv_norm_relu(in_channels, out_channels)
        self.project = nn.Linear(out_channels, out_channels)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, source: BevFeatures) -> Float[Tensor, "B C 1 1"]:
        """Factors in (0, 1) for each frame; those of `blind` for frames in which nothing is valid."""
        viewed = self.view(torch.where(source.valid, source.data, 0.0))
        total = torch.where(source.valid, viewed, 0.0).sum(dim=(2, 3), dtype=torch.float32)
        mean = total / source.valid.sum(dim=(2, 3)).clamp_min(1)
        return self.project(mean).sigmoid()[..., None, None]

    def blind(self, batch_size: int) -> Float[Tensor, "B C 1 1"]:
        """Factors where nothing is seen: what the bias alone says."""
        return self.project.bias.sigmoid()[None, :, None, None].expand(batch_size, -1, -1, -1)
