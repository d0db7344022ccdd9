"""Pixels to bird's-eye view by a predicted depth distribution, helped by LiDAR depth where there is LiDAR.

Lift-splat: Philion and Fidler, Lift Splat Shoot, ECCV 2020, section 3. Depth from the LiDAR as a further input of the
depth network: Liu et al., BEVFusion, ICRA 2023, and its depth-aware variants. Here the LiDAR enters as a histogram over
the depth bins of each feature cell, which keeps several surfaces in one cell apart where a single depth cannot.

Letters: B frames, N cameras, P feature cells of all cameras together, D depth bins, C channels, h w feature map,
M LiDAR points.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bevstack.fusion.lidar_depth import depth_histogram
from bevstack.fusion.voxel_pool import PoolBackend, voxel_pool
from bevstack.geometry.cameras import unproject
from bevstack.geometry.transforms import inverse, transform_points
from bevstack.types.batch import Batch
from bevstack.types.bev import BevFeatures, BevGrid
from bevstack.types.frame import PointIndex

_SEEN_HEIGHTS_M = (0.0, 1.5)
"""Road, and the height of a camera, which is in the picture even right in front of it."""


class DepthBins(nn.Module):
    """Depth bins between two depths, all of one width (`growth=0`) or each wider than the last.

    With `growth` g the edges are near + (far - near) * (t + g t^2) / (1 + g) for t = 0, 1/D, ..., 1: bins far away,
    where depth cannot be told so well, are wider.
    """

    edges_m: Tensor

    def __init__(self, *, range_m: tuple[float, float], count: int, growth: float = 0.0) -> None:
        super().__init__()
        near, far = float(range_m[0]), float(range_m[1])
        if not 0 < near < far or count < 1 or growth < 0:
            raise ValueError(f"depth range {(near, far)} m, {count} bins, growth {growth}: need 0 < near < far")
        t = torch.linspace(0, 1, count + 1)
        self.count = count
        self.register_buffer("edges_m", near + (far - near) * (t + growth * t**2) / (1 + growth), persistent=False)

    @property
    def centers_m(self) -> Float[Tensor, " D"]:
        """Middle of each bin in metres along the optical axis."""
        return (self.edges_m[1:] + self.edges_m[:-1]) / 2


class LiftSplat(nn.Module):
    """Image features to bird's-eye features.

    Args:
        in_channels: Channels of the image features.
        stride: Pixels of the picture per feature cell.
        grid: Where the features go.
        out_channels: Channels on the grid.
        context_channels: Channels of each pixel that are splatted.
        depth_channels: Width of the depth network.
        depth_net: Makes another depth network from `in_channels`, `stride`, `depth_bins` and `context_channels`, such
            as `LidarDepthNet`; it is called with the features and the batch. `depth_channels`, `use_lidar_depth` and
            `lidar_max_age_s` are then not read.
        depth_range_m: Nearest and farthest depth along the optical axis.
        depth_bins: Number of bins.
        depth_growth: How much wider far bins are, see `DepthBins`.
        refine_layers: Number of 3x3 convolutions on the grid after the splat, which close the gaps between rays.
        splats_per_cell: Features are splatted into cells so many times finer along each side, a power of two; some of
            the refining convolutions then have a stride.
        splat_z_range_m: Heights that are splatted; None for the z range of the grid.
        use_lidar_depth: Whether LiDAR depth helps the depth network. Frames without LiDAR still work.
        lidar_max_age_s: Older points do not count as depth: what moves has left its place.
        pool: Implementation of the pooling, see `voxel_pool`.

    Raises:
        ValueError: a depth range or count that makes no bins, too few refining layers, or cells that cannot be split.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        stride: int,
        grid: BevGrid,
        out_channels: int = 32,
        context_channels: int = 32,
        depth_channels: int = 64,
        depth_net: Callable[..., nn.Module] | None = None,
        depth_range_m: tuple[float, float] = (1.0, 60.0),
        depth_bins: int = 59,
        depth_growth: float = 0.0,
        refine_layers: int = 1,
        splats_per_cell: int = 1,
        splat_z_range_m: Sequence[float] | None = None,
        use_lidar_depth: bool = True,
        lidar_max_age_s: float = 0.15,
        pool: PoolBackend = "auto",
    ) -> None:
        super().__init__()
        strides = splats_per_cell.bit_length() - 1
        if splats_per_cell != 2**strides:
            raise ValueError(f"splats_per_cell={splats_per_cell} must be 1, 2, 4, ...")
        if refine_layers < max(1, strides):
            raise ValueError(
                f"refine_layers={refine_layers} must be {max(1, strides)} or more: a splat leaves gaps, and each "
                "halving of the splatted cells needs a layer"
            )
        self.grid = grid
        self.splat_grid = BevGrid(
            x_range_m=grid.x_range_m,
            y_range_m=grid.y_range_m,
            z_range_m=splat_z_range_m or grid.z_range_m,
            cell_m=grid.cell_m / splats_per_cell,
        )
        self.stride = stride
        self.out_channels = out_channels
        self.context_channels = context_channels
        self.use_lidar_depth = use_lidar_depth
        self.lidar_max_age_s = lidar_max_age_s
        self.pool = pool
        self._depth_range_m = (float(depth_range_m[0]), float(depth_range_m[1]))
        self.bins = DepthBins(range_m=depth_range_m, count=depth_bins, growth=depth_growth)
        self.depth_net: Any
        self._has_own_depth_net = depth_net is not None
        if depth_net is not None:
            self.depth_net = depth_net(
                in_channels=in_channels, stride=stride, depth_bins=depth_bins, context_channels=context_channels
            )
        else:
            hint_channels = depth_bins if use_lidar_depth else 0
            self.depth_net = nn.Sequential(
                _conv_norm_relu(in_channels + hint_channels, depth_channels),
                _conv_norm_relu(depth_channels, depth_channels),
                nn.Conv2d(depth_channels, depth_bins + context_channels, 1),
            )
            # A measured depth counts from the first step on; how much is learned.
            self.hint_gain = nn.Parameter(torch.tensor(4.0), requires_grad=use_lidar_depth)
        widths = [context_channels, *[out_channels] * refine_layers]
        first_strided = min(1, refine_layers - strides)  # the first layer sees the fine cells, where it can
        self.refine = nn.Sequential(
            *(
                _conv_norm_relu(a, b, stride=2 if first_strided <= index < first_strided + strides else 1)
                for index, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
            )
        )

    def forward(self, features: Float[Tensor, "B N C h w"], batch: Batch) -> BevFeatures:
        """Features on the grid; `valid` where the frustum of a present camera reaches."""
        logits, context = self.depth_and_context(features, batch)
        pooled = self.splat(logits.softmax(dim=2), context, batch)
        valid = self.seen_cells(batch)
        return BevFeatures(data=self.refine(pooled) * valid, valid=valid, grid=self.grid)

    def depth_and_context(
        self, features: Float[Tensor, "B N C h w"], batch: Batch
    ) -> tuple[Float[Tensor, "B N D h w"], Float[Tensor, "B N E h w"]]:
        """Depth logits and the vector to splat, for each feature cell."""
        if self._has_own_depth_net:
            return self.depth_net(features, batch)
        inputs = features.flatten(0, 1)
        hint = self.lidar_depth(batch, features.shape[-2:]) if self.use_lidar_depth else None
        if hint is not None:
            inputs = torch.cat((inputs, hint.flatten(0, 1).to(inputs.dtype)), dim=1)
        out = self.depth_net(inputs).unflatten(0, features.shape[:2])
        logits, context = out.split((self.bins.count, self.context_channels), dim=2)
        if hint is not None:
            logits = logits + self.hint_gain * hint
        return logits.float(), context

    def splat(
        self, depth: Float[Tensor, "B N D h w"], context: Float[Tensor, "B N E h w"], batch: Batch
    ) -> Float[Tensor, "B E Y X"]:
        """Context of every feature cell, spread over the splatted cells by its depth distribution and summed."""
        rows, columns = self.splat_grid.shape_yx
        pooled = voxel_pool(
            depth.permute(0, 1, 3, 4, 2).flatten(0, 3),  # (P, D)
            context.permute(0, 1, 3, 4, 2).flatten(0, 3),  # (P, E)
            self.frustum_cells(batch, depth.shape[-2:]),
            batch.batch_size * rows * columns,
            backend=self.pool,
        )
        return pooled.view(batch.batch_size, rows, columns, -1).permute(0, 3, 1, 2)

    @torch.no_grad()
    def seen_cells(self, batch: Batch) -> Bool[Tensor, "B 1 Y X"]:
        """Cells of which a present camera has a point at a usual height in its picture and depth range.

        Rays lie further apart than cells far from the car, so this asks the geometry, not the splat.
        """
        height, width = batch.images.shape[-2:]
        img_from_ego = batch.K_cam.float() @ inverse(batch.T_ego_cam.float())[..., :3, :]  # (B, N, 3, 4)
        xy = self.grid.centers_m(img_from_ego.device).flatten(0, 1)  # (Y X, 2)
        on_plane = img_from_ego[..., :2] @ xy.T  # (B, N, 3, Y X)
        near, far = self._depth_range_m
        seen = on_plane.new_zeros((batch.batch_size, len(xy)), dtype=torch.bool)
        for z_m in _SEEN_HEIGHTS_M:
            u, v, depth = (on_plane + (img_from_ego[..., 2:3] * z_m + img_from_ego[..., 3:])).unbind(2)
            # Not divided by the depth, which is positive wherever the first test holds.
            is_inside = (depth >= near) & (depth <= far) & (u >= -0.5 * depth) & (u < (width - 0.5) * depth)
            is_inside &= (v >= -0.5 * depth) & (v < (height - 0.5) * depth) & batch.camera_mask[..., None]
            seen |= is_inside.any(dim=1)
        return seen.view(batch.batch_size, 1, *self.grid.shape_yx)

    def frustum_cells(self, batch: Batch, feature_size: Sequence[int]) -> Int[Tensor, "P D"]:
        """Flat splatted cell (frame, row, column) of every feature cell centre at every bin centre; -1 outside.

        Exact for every 3x3 K and 4x4 T_ego_cam, so image and world augmentation are already inside.
        """
        height, width = feature_size
        device = batch.K_cam.device
        # Feature cell k covers pixels s*k .. s*k + s - 1; its centre is s*k + (s - 1)/2.
        v, u = torch.meshgrid(
            torch.arange(height, device=device) * self.stride + (self.stride - 1) / 2,
            torch.arange(width, device=device) * self.stride + (self.stride - 1) / 2,
            indexing="ij",
        )
        pixels = torch.stack((u, v), dim=-1).flatten(0, 1)  # (h w, 2)
        depth_m = self.bins.centers_m
        num_pixels, num_bins = len(pixels), len(depth_m)
        points_cam = unproject(
            inverse(batch.K_cam.float()),
            pixels[:, None].expand(-1, num_bins, -1).reshape(1, 1, -1, 2).expand(*batch.K_cam.shape[:2], -1, -1),
            depth_m[None].expand(num_pixels, -1).reshape(1, 1, -1).expand(*batch.K_cam.shape[:2], -1),
        )
        points_ego = transform_points(batch.T_ego_cam.float(), points_cam)  # (B, N, h w D, 3)
        cells = self.splat_grid.to_cells(points_ego[..., :2]).floor().long()
        rows, columns = self.splat_grid.shape_yx
        z_low, z_high = self.splat_grid.z_range_m
        x, y, z = cells[..., 0], cells[..., 1], points_ego[..., 2]
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows) & (z >= z_low) & (z < z_high)
        inside = inside & batch.camera_mask[..., None]
        frame = torch.arange(batch.batch_size, device=device)[:, None, None]
        flat = torch.where(inside, (frame * rows + y) * columns + x, -1)
        return flat.reshape(-1, num_bins)

    @torch.no_grad()
    def lidar_depth(self, batch: Batch, feature_size: Sequence[int]) -> Float[Tensor, "B N D h w"]:
        """Share of the LiDAR points seen in each feature cell that lie in each depth bin; zero where there are none."""
        recent = batch.points_ego[:, PointIndex.AGE_S] <= self.lidar_max_age_s
        counts = depth_histogram(
            batch.points_ego[recent, : PointIndex.Z + 1],
            batch.point_frame_index[recent],
            batch.K_cam.float(),
            inverse(batch.T_ego_cam.float()),
            batch.camera_mask,
            edges_m=self.bins.edges_m,
            stride=self.stride,
            feature_size=(feature_size[0], feature_size[1]),
        )
        return counts / counts.sum(dim=2, keepdim=True).clamp_min(1)


def _conv_norm_relu(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
