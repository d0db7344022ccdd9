"""A depth network that sees the LiDAR as a sparse depth picture (M3Net, Chen et al., AAAI 2025, section 3.1).

The depth-aware view transform of BEVFusion (Liu et al., ICRA 2023): LiDAR points are projected into each picture at
full resolution, strided convolutions bring that picture to the image features, and both together say the depth. The
small model takes a histogram instead (`lift_splat.py`), which costs no convolution.

Letters: B frames, N cameras, D depth bins, E context channels, C channels, H W picture, h w feature map.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import inverse, transform_points
from bevstack.types.batch import Batch
from bevstack.types.frame import PointIndex


class LidarDepthNet(nn.Module):
    """Image features and LiDAR depth to a depth distribution and the vector to splat.

    Args:
        in_channels: Channels of the image features.
        stride: Pixels of the picture per feature cell, a multiple of 4.
        depth_bins: Number of depth bins.
        context_channels: Channels of each feature cell that are splatted.
        channels: Width of the 3x3 convolutions; None for that of the image features.
        lidar_channels: Channels of the depth picture after each of its three convolutions (1x1; 5x5 with stride 4; 5x5
            with the stride that is left).
        range_m: Points nearer or farther along the optical axis are left out.
        lidar_max_age_s: Older points do not count; None takes all sweeps, as the paper does.

    Raises:
        ValueError: a stride that is no multiple of 4, or another number of LiDAR widths.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        stride: int,
        depth_bins: int,
        context_channels: int,
        channels: int | None = None,
        lidar_channels: Sequence[int] = (8, 32, 64),
        range_m: tuple[float, float] = (1.0, 60.0),
        lidar_max_age_s: float | None = None,
    ) -> None:
        super().__init__()
        if stride % 4 or len(lidar_channels) != 3:
            raise ValueError(
                f"stride={stride} must be a multiple of 4 and lidar_channels={tuple(lidar_channels)} three numbers"
            )
        self.depth_bins, self.context_channels = depth_bins, context_channels
        self.range_m, self.lidar_max_age_s = (float(range_m[0]), float(range_m[1])), lidar_max_age_s
        first, second, third = lidar_channels
        self.lidar = nn.Sequential(
            _conv_norm_relu(1, first, 1, 1),
            _conv_norm_relu(first, second, 5, 4),
            _conv_norm_relu(second, third, 5, stride // 4),
        )
        width = channels or in_channels
        self.joint = nn.Sequential(
            _conv_norm_relu(in_channels + third, width, 3, 1),
            _conv_norm_relu(width, width, 3, 1),
            nn.Conv2d(width, depth_bins + context_channels, 1),
        )

    def forward(
        self, features: Float[Tensor, "B N C h w"], batch: Batch
    ) -> tuple[Float[Tensor, "B N D h w"], Float[Tensor, "B N E h w"]]:
        """Depth logits and the vector to splat, for each feature cell."""
        picture = self.depth_picture(batch) / self.range_m[1]  # of order one
        measured = self.lidar(picture.flatten(0, 1)[:, None])
        out = self.joint(torch.cat((features.flatten(0, 1), measured.to(features.dtype)), dim=1))
        logits, context = out.unflatten(0, features.shape[:2]).split((self.depth_bins, self.context_channels), dim=2)
        return logits.float(), context

    @torch.no_grad()
    def depth_picture(self, batch: Batch) -> Float[Tensor, "B N H W"]:
        """Depth in metres of the nearest LiDAR point in each pixel; zero where there is none."""
        points = batch.points_ego
        keep = batch.lidar_mask[batch.point_frame_index]
        if self.lidar_max_age_s is not None:
            keep = keep & (points[:, PointIndex.AGE_S] <= self.lidar_max_age_s)
        return nearest_depth(
            points[keep, : PointIndex.Z + 1],
            batch.point_frame_index[keep],
            batch.K_cam.float(),
            inverse(batch.T_ego_cam.float()),
            batch.camera_mask,
            range_m=self.range_m,
            image_size=(batch.images.shape[-2], batch.images.shape[-1]),
        )


def nearest_depth(
    points_ego: Float[Tensor, "M 3"],
    point_frame_index: Int[Tensor, " M"],
    K_cam: Float[Tensor, "B N 3 3"],
    T_cam_ego: Float[Tensor, "B N 4 4"],
    camera_mask: Bool[Tensor, "B N"],
    *,
    range_m: tuple[float, float],
    image_size: tuple[int, int],
) -> Float[Tensor, "B N H W"]:
    """Depth along the optical axis of the nearest point in each pixel of each present camera; zero where there is none.

    Args:
        points_ego: Points in `ego` at reference time.
        point_frame_index: Frame of each point.
        K_cam: Camera coordinates to pixels; any 3x3 matrix with third row (0, 0, 1).
        T_cam_ego: Ego to camera.
        camera_mask: False where a camera is missing.
        range_m: Nearest and farthest depth that counts.
        image_size: (H, W).
    """
    height, width = image_size
    near, far = range_m
    pictures = []
    for b in range(len(camera_mask)):
        points = points_ego[point_frame_index == b]
        pixels, depth_m = project(K_cam[b], transform_points(T_cam_ego[b], points[None]))  # (N, M, 2), (N, M)
        u, v = (pixels + 0.5).floor().unbind(-1)  # pixel (0, 0) is a centre
        seen = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (depth_m >= near) & (depth_m <= far)
        camera, point = (seen & camera_mask[b, :, None]).nonzero(as_tuple=True)
        pixel = (camera * height + v[camera, point].long()) * width + u[camera, point].long()
        picture = depth_m.new_zeros(camera_mask.shape[1] * height * width)
        picture = picture.scatter_reduce(0, pixel, depth_m[camera, point], "amin", include_self=False)
        pictures.append(picture.view(-1, height, width))
    return torch.stack(pictures)


def _conv_norm_relu(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
