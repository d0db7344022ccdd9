"""Fusion by concatenation: the sources side by side, then one convolution (Liu et al., BEVFusion, ICRA 2023, 3.3).

The convolution of a concatenation is the sum of one convolution for each source, and is kept in that form: a source
that is absent costs nothing, and the weights of a model with fewer sources fit by name.

Letters: B frames, C channels, Y X bird's-eye cells.
"""

from collections.abc import Mapping

import torch
from torch import nn

from bevstack.types.bev import ActiveVoxels, BevFeatures


class ConcatFuser(nn.Module):
    """Joins any number of sources on one grid.

    Sources are taken in the order of `in_channels`. What a source does not see (`valid` False), and a source that is
    left out altogether, adds nothing; one mask channel for each source tells the network which zeros are real.

    Args:
        in_channels: Source name -> channels.
        out_channels: Channels of the result.
        kernel: Cells across of the convolution: 3 lets sources that lie a cell apart meet, 1 is faster.

    Raises:
        ValueError: no source, or an even kernel.
    """

    def __init__(self, *, in_channels: Mapping[str, int], out_channels: int = 64, kernel: int = 3) -> None:
        super().__init__()
        if not in_channels:
            raise ValueError("in_channels is empty: a fuser needs at least one source")
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        self.in_channels = dict(in_channels)
        self.out_channels = out_channels
        self.convs = nn.ModuleDict(
            {
                name: nn.Conv2d(channels + 1, out_channels, kernel, padding=kernel // 2, bias=False)
                for name, channels in self.in_channels.items()
            }
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, per_source: Mapping[str, BevFeatures]) -> BevFeatures:
        """Fused features; valid where any source is.

        Raises:
            ValueError: no source, an unknown one, or sources on different grids.
        """
        reference = checked_reference(per_source, self.in_channels)
        valid = torch.zeros_like(reference.valid)
        total = None
        for name, conv in self.convs.items():
            source = per_source.get(name)
            if source is None:
                continue
            seen = torch.where(source.valid, source.data, 0.0)
            part = conv(torch.cat((seen, source.valid.to(seen.dtype)), dim=1))
            total = part if total is None else total + part
            valid = valid | source.valid
        return BevFeatures(
            data=torch.relu(self.norm(total)), valid=valid, grid=reference.grid, voxels=voxels_of(per_source)
        )


def checked_reference(per_source: Mapping[str, BevFeatures], in_channels: Mapping[str, int]) -> BevFeatures:
    """One of the sources, after checking that all are known and share a grid.

    Raises:
        ValueError: no source, an unknown one, or sources on different grids.
    """
    unknown = sorted(set(per_source) - set(in_channels))
    if unknown or not per_source:
        raise ValueError(f"sources {sorted(per_source)} must be some of {sorted(in_channels)}")
    first_name, reference = next(iter(per_source.items()))
    for name, source in per_source.items():
        if source.grid != reference.grid:
            raise ValueError(f"{name} lies on {source.grid} but {first_name} on {reference.grid}: use one grid")
    return reference


def voxels_of(per_source: Mapping[str, BevFeatures]) -> ActiveVoxels | None:
    """Active voxels of the first source that has any, to be handed on by a fuser; None where no source has."""
    return next((source.voxels for source in per_source.values() if source.voxels is not None), None)
