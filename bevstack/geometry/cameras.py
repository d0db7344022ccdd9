"""Pinhole projection with full 3x3 camera matrices (augmentation makes them non-triangular)."""

import torch
from jaxtyping import Float
from torch import Tensor

from bevstack.geometry.transforms import ArrayT

MIN_DEPTH_M = 1e-3


def project(K_cam: ArrayT, points_cam: ArrayT) -> tuple[ArrayT, ArrayT]:
    """Points (..., M, 3) in camera coordinates -> pixels (..., M, 2) and depths (..., M) in metres.

    Depth is z along the optical axis. Pixels of points with depth <= 0 are meaningless: mask them by depth.
    K is (..., 3, 3) with third row (0, 0, 1), which `A @ K` keeps for every affine image map A.
    """
    depth = points_cam[..., 2]
    homogeneous = points_cam @ K_cam.swapaxes(-1, -2)
    return homogeneous[..., :2] / depth.clip(MIN_DEPTH_M)[..., None], depth


def unproject(
    K_cam_inverse: Float[Tensor, "*b 3 3"], pixels: Float[Tensor, "*b M 2"], depth_m: Float[Tensor, "*b M"]
) -> Float[Tensor, "*b M 3"]:
    """Pixels at depths (metres along the optical axis) -> camera coordinates. Takes the inverse of K."""
    homogeneous = torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1) * depth_m[..., None]
    return homogeneous @ K_cam_inverse.swapaxes(-1, -2)
