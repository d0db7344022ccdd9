"""Image features of the cameras that are there; the pictures of missing ones are not looked at.

Letters: B frames, N cameras, P present pictures, C channels, H W picture, h w feature map.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor


def features_where_present(
    features_of: Callable[[UInt8[Tensor, "P 3 H W"]], Float[Tensor, "P C h w"]],
    images: UInt8[Tensor, "B N 3 H W"],
    camera_mask: Bool[Tensor, "B N"],
    *,
    out_channels: int,
    stride: int,
    divisor: int,
) -> Float[Tensor, "B N C h w"]:
    """Features of every picture; zero where a camera is missing.

    Args:
        features_of: Makes features from pictures.
        images: RGB.
        camera_mask: False where a camera is missing.
        out_channels: Channels of the features.
        stride: Pixels of a feature cell.
        divisor: What height and width of the pictures must divide by.

    Raises:
        ValueError: they do not.
    """
    height, width = images.shape[-2:]
    if height % divisor or width % divisor:
        raise ValueError(f"image size {(height, width)} must divide by {divisor}")
    out_shape = (*images.shape[:2], out_channels, height // stride, width // stride)
    if not camera_mask.any():
        return torch.zeros(out_shape, device=images.device)
    features = features_of(images[camera_mask])
    out = features.new_zeros(out_shape)
    out[camera_mask] = features
    return out
