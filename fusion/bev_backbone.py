"""A bird's-eye backbone of several strides joined at the finest (Yan et al., SECOND, Sensors 2018, section 3.2.3).

Letters: B frames, C channels, Y X bird's-eye cells.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from bevstack.types.bev import BevFeatures


def conv_norm_relu(in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels, eps=1e-3),
        nn.ReLU(inplace=True),
    )


class BevBackbone(nn.Module):
    """Stages of 3x3 convolutions, each brought back to the grid and laid side by side.

    Args:
        in_channels: Channels of the input.
        widths: Channels of each stage.
        depths: Convolutions of each stage, its strided one included.
        strides: Stride of each stage relative to the one before; the first must be 1, since heads work on the grid.
        up_channels: Channels that each stage contributes to the result.
        checkpoint: Compute each stage again in the backward pass rather than keep what it needs: less memory, a third
            more time.

    Raises:
        ValueError: lists of different lengths, or a stage without convolution.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        widths: Sequence[int] = (48, 96, 128),
        depths: Sequence[int] = (2, 3, 3),
        strides: Sequence[int] = (1, 2, 2),
        up_channels: int = 32,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        if not len(widths) == len(depths) == len(strides) or min(depths) < 1 or strides[0] != 1:
            raise ValueError(
                f"widths={list(widths)}, depths={list(depths)}, strides={list(strides)} must have one length, "
                "depths of 1 or more and a first stride of 1"
            )
        self.out_channels = up_channels * len(widths)
        self.stages = nn.ModuleList()
        self.up = nn.ModuleList()
        channels, total_stride = in_channels, 1
        for width, depth, stride in zip(widths, depths, strides, strict=True):
            layers = [conv_norm_relu(channels, width, stride=stride)]
            layers += [conv_norm_relu(width, width) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*layers))
            total_stride *= stride
            self.up.append(_up(width, up_channels, total_stride))
            channels = width
        self._total_stride = total_stride

    def forward(self, bev: BevFeatures) -> BevFeatures:
        """Features with context, on the same grid and with the same `valid` and `voxels`.

        Raises:
            ValueError: the grid does not divide by the coarsest stride.
        """
        rows, columns = bev.data.shape[-2:]
        if rows % self._total_stride or columns % self._total_stride:
            raise ValueError(f"a grid of {rows} x {columns} cells does not divide by the stride {self._total_stride}")
        return BevFeatures(data=self._joined(bev.data), valid=bev.valid, grid=bev.grid, voxels=bev.voxels)

    def _joined(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D Y X"]:
        parts = []
        for stage, up in zip(self.stages, self.up, strict=True):
            x = _recomputed(stage, x) if self.checkpoint and torch.is_grad_enabled() else stage(x)
            parts.append(up(x))
        return torch.cat(parts, dim=1)


def _up(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    if stride == 1:
        return conv_norm_relu(in_channels, out_channels, kernel=1)
    # Kernel equal to stride: each coarse cell writes its own block of fine cells, without overlap.
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, stride, stride=stride, bias=False),
        nn.BatchNorm2d(out_channels, eps=1e-3),
        nn.ReLU(inplace=True),
    )


def _recomputed(stage: nn.Module, x: Tensor) -> Tensor:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(stage)

    return recompute(stage, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(stage: nn.Module) -> Iterator[None]:
    """The second forward pass over a batch must not count it again in the running statistics."""
    norms = [module for module in stage.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
            norm.num_batches_tracked = None
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
