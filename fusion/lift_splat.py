"""Pixels to bird's-eye view by a predicted depth distribution, helped by LiDAR depth where there is LiDAR.

Lift-splat: Philion and Fidler, Lift Splat Shoot, ECCV 2020, section 3. Depth from the LiDAR as a further input of the
depth network: Liu et al., BEVFusion, ICRA 2023, and its depth-aware variants. Here the LiDAR enters as a histogram over
the depth bins of each feature cell, which keeps several surfaces in one cell apart where a single depth cannot.

Letters: B frames, N cameras, P feature cells of all cameras together, D depth bins, C channels, h w feature map,
M LiDAR points.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bevstack.fusion.voxel_pool import PoolBackend, voxel_pool
from bevstack.geometry.cameras import project, unproject
from bevstack.geometry.transforms import inverse, transform_points
from bevstack.types.batch import Batch
from bevstack.types.bev import BevFeatures, BevGrid
from bevstack.types.frame import PointIndex


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

    def index_of(self, depth_m: Float[Tensor, "*b"]) -> Int[Tensor, "*b"]:
        """Bin of each depth; -1 or `count` outside the range."""
        return torch.bucketize(depth_m, self.edges_m, right=True) - 1


class LiftSplat(nn.Module):
    """Image features to bird's-eye features.

    Args:
        in_channels: Channels of the image features.
        stride: Pixels of the picture per feature cell.
        grid: Where the features go.
        out_channels: Channels on the grid.
        context_channels: Channels of each pixel that are splatted.
        depth_channels: Width of the depth network.
        depth_range_m: Nearest and farthest depth along the optical axis.
        depth_bins: Number of bins.
        depth_growth: How much wider far bins are, see `DepthBins`.
        use_lidar_depth: Whether LiDAR depth helps the depth network. Frames without LiDAR still work.
        lidar_max_age_s: Older points do not count as depth: what moves has left its place.
        pool: Implementation of the pooling, see `voxel_pool`.

    Raises:
        ValueError: a depth range or count that makes no bins.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        stride: int,
        grid: BevGrid,
        out_channels: int = 48,
        context_channels: int = 48,
        depth_channels: int = 64,
        depth_range_m: tuple[float, float] = (1.0, 60.0),
        depth_bins: int = 59,
        depth_growth: float = 0.0,
        use_lidar_depth: bool = True,
        lidar_max_age_s: float = 0.15,
        pool: PoolBackend = "auto",
    ) -> None:
        super().__init__()
        self.grid = grid
        self.stride = stride
        self.out_channels = out_channels
        self.context_channels = context_channels
        self.use_lidar_depth = use_lidar_depth
        self.lidar_max_age_s = lidar_max_age_s
        self.pool = pool
        self.bins = DepthBins(range_m=depth_range_m, count=depth_bins, growth=depth_growth)
        hint_channels = depth_bins if use_lidar_depth else 0
        self.depth_net = nn.Sequential(
            nn.Conv2d(in_channels + hint_channels, depth_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(depth_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(depth_channels, depth_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(depth_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(depth_channels, depth_bins + context_channels, 1),
        )
        # A measured depth counts from the first step on; how much is learned.
        self.hint_gain = nn.Parameter(torch.tensor(4.0)) if use_lidar_depth else None
        self.refine = nn.Sequential(
            nn.Conv2d(context_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Float[Tensor, "B N C h w"], batch: Batch) -> BevFeatures:
        """Features on the grid; `valid` where the frustum of a present camera reaches."""
        logits, context = self.depth_and_context(features, batch)
        pooled, valid = self.splat(logits.softmax(dim=2), context, batch)
        return BevFeatures(data=self.refine(pooled) * valid, valid=valid, grid=self.grid)

    def depth_and_context(
        self, features: Float[Tensor, "B N C h w"], batch: Batch
    ) -> tuple[Float[Tensor, "B N D h w"], Float[Tensor, "B N E h w"]]:
        """Depth logits and the vector to splat, for each feature cell."""
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
    ) -> tuple[Float[Tensor, "B E Y X"], Bool[Tensor, "B 1 Y X"]]:
        """Pooled features, and which cells any bin of a present camera falls into."""
        rows, columns = self.grid.shape_yx
        num_cells = batch.batch_size * rows * columns
        cell_index = self.frustum_cells(batch, depth.shape[-2:])
        pooled = voxel_pool(
            depth.permute(0, 1, 3, 4, 2).flatten(0, 3),  # (P, D)
            context.permute(0, 1, 3, 4, 2).flatten(0, 3),  # (P, E)
            cell_index,
            num_cells,
            backend=self.pool,
        )
        hit = cell_index.new_zeros(num_cells + 1, dtype=torch.bool)
        hit[cell_index] = True  # -1 is the spare last row
        shape = (batch.batch_size, rows, columns, -1)
        return pooled.view(shape).permute(0, 3, 1, 2), hit[:-1].view(shape).permute(0, 3, 1, 2)

    def frustum_cells(self, batch: Batch, feature_size: tuple[int, int]) -> Int[Tensor, "P D"]:
        """Flat cell (frame, row, column) of every feature cell centre at every bin centre; -1 outside the grid.

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
        cells = self.grid.to_cells(points_ego[..., :2]).floor().long()
        rows, columns = self.grid.shape_yx
        z_low, z_high = self.grid.z_range_m
        x, y, z = cells[..., 0], cells[..., 1], points_ego[..., 2]
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows) & (z >= z_low) & (z < z_high)
        inside = inside & batch.camera_mask[..., None]
        frame = torch.arange(batch.batch_size, device=device)[:, None, None]
        flat = torch.where(inside, (frame * rows + y) * columns + x, -1)
        return flat.reshape(-1, num_bins)

    @torch.no_grad()
    def lidar_depth(self, batch: Batch, feature_size: tuple[int, int]) -> Float[Tensor, "B N D h w"]:
        """Share of the LiDAR points seen in each feature cell that lie in each depth bin; zero where there are none."""
        height, width = feature_size
        num_frames, num_cameras = batch.camera_mask.shape
        bins = self.bins.count
        counts = batch.K_cam.new_zeros((num_frames * num_cameras, height * width * bins))
        T_cam_ego = inverse(batch.T_ego_cam.float())
        recent = batch.points_ego[:, PointIndex.AGE_S] <= self.lidar_max_age_s
        points, frame_index = batch.points_ego[recent, :3], batch.point_frame_index[recent]
        for frame in range(num_frames):
            own = points[frame_index == frame]
            pixels, depth_m = project(batch.K_cam[frame].float(), transform_points(T_cam_ego[frame], own[None]))
            # Pixel (0, 0) is a centre: the picture begins at -0.5.
            cells = ((pixels + 0.5) / self.stride).floor()
            bin_index = self.bins.index_of(depth_m)
            u, v = cells[..., 0], cells[..., 1]
            seen = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (bin_index >= 0) & (bin_index < bins)
            seen = seen & batch.camera_mask[frame][:, None]
            camera, point = seen.nonzero(as_tuple=True)
            flat = (bin_index[camera, point] * height + v[camera, point].long()) * width + u[camera, point].long()
            size = bins * height * width
            hits = torch.bincount(camera * size + flat, minlength=num_cameras * size)
            counts[frame * num_cameras : (frame + 1) * num_cameras] = hits.view(num_cameras, size).to(counts.dtype)
        counts = counts.view(num_frames, num_cameras, bins, height, width)
        return counts / counts.sum(dim=2, keepdim=True).clamp_min(1)
