"""A feature pyramid for lifting: one map from the levels of an image backbone (the neck of BEVFusion and M3Net).

Liu et al., BEVFusion, ICRA 2023, and Chen et al., M3Net, AAAI 2025, section 3.1 call it the generalized LSS-FPN. Other
than in an ordinary pyramid a coarser level is concatenated, not added, and only the finest map is read.

Letters: P pictures, C channels, h w feature map.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class ConcatPyramid(nn.Module):
    """Levels of a backbone joined from the coarsest to the finest.

    At each step the coarser map is enlarged bilinearly and laid beside the finer level; a 1x1 convolution mixes them
    and a 3x3 convolution smooths what the enlargement left.

    Args:
        in_channels: Channels of each level, finest first.
        out_channels: Channels of the result.

    Raises:
        ValueError: no level.
    """

    def __init__(self, *, in_channels: Sequence[int], out_channels: int = 256) -> None:
        super().__init__()
        if not in_channels:
            raise ValueError("in_channels is empty: a pyramid needs at least one level")
        self.out_channels = out_channels
        finer, coarsest = in_channels[:-1], in_channels[-1]
        # A single level has nothing to be joined with and is only brought to the width of the result.
        below = [*[out_channels] * (len(finer) - 1), coarsest] if finer else [0]
        self.mix = nn.ModuleList(
            _conv_norm_relu(own + coarser, out_channels, 1)
            for own, coarser in zip(finer or [coarsest], below, strict=True)
        )
        self.smooth = nn.ModuleList(_conv_norm_relu(out_channels, out_channels, 3) for _ in self.mix)

    def forward(self, levels: Sequence[Float[Tensor, "P _ _ _"]]) -> Float[Tensor, "P C h w"]:
        """The map at the finest level.

        Args:
            levels: Finest first, channels as in `in_channels`, any ratio between neighbouring sizes.
        """
        if len(levels) == 1:
            return self.smooth[0](self.mix[0](levels[0]))
        joined = levels[-1]
        for index in reversed(range(len(levels) - 1)):
            size = levels[index].shape[-2:]
            coarser = F.interpolate(joined, size=size, mode="bilinear", align_corners=False)
            joined = self.smooth[index](self.mix[index](torch.cat((levels[index], coarser), dim=1)))
        return joined


class SimplePyramid(nn.Module):
    """Several strides from the single one of a plain transformer (Li et al., ViTDet, ECCV 2022, section 3).

    Args:
        in_channels: Channels of the one map.
        in_stride: Its stride.
        strides: Wanted strides, finest first, each `in_stride` times or divided by a power of two.
        out_channels: Channels of each level.

    Raises:
        ValueError: a stride that no power of two leads to.
    """

    def __init__(self, *, in_channels: int, in_stride: int, strides: Sequence[int], out_channels: int = 256) -> None:
        super().__init__()
        self.out_channels = [out_channels for _ in strides]
        self.levels = nn.ModuleList()
        for stride in strides:
            ratio = in_stride / stride if stride <= in_stride else stride / in_stride
            if ratio < 1 or not ratio.is_integer() or int(ratio) & (int(ratio) - 1):
                raise ValueError(f"stride={stride} is not {in_stride} times or divided by a power of two")
            steps = int(ratio).bit_length() - 1
            layers: list[nn.Module] = [_conv_norm_relu(in_channels, out_channels, 1)]
            for _ in range(steps):
                if stride < in_stride:
                    layers.append(nn.ConvTranspose2d(out_channels, out_channels, 2, stride=2))
                else:
                    layers.append(nn.MaxPool2d(2))
            self.levels.append(nn.Sequential(*layers, _conv_norm_relu(out_channels, out_channels, 3)))

    def forward(self, x: Float[Tensor, "P C h w"]) -> list[Tensor]:
        """One map for each stride, (P, out_channels, h', w')."""
        return [level(x) for level in self.levels]


def _conv_norm_relu(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
