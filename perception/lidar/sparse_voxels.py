"""LiDAR points to bird's-eye features by sparse 3D convolution (Yan et al., SECOND, Sensors 2018, section 3.2).

Residual form as in Yin et al., CenterPoint, CVPR 2021: mean of the points of a voxel, then stages of submanifold
residual blocks with a strided sparse convolution between them; what is left of the height is laid into the channels.

Letters: B frames, M points of all frames, K points inside the grid, V voxels, C channels, Z height, Y X cells.
"""

import logging
from collections.abc import Sequence

import spconv.pytorch as spconv
import torch
from jaxtyping import Float, Int
from spconv.pytorch import ops
from torch import Tensor, nn

from bevstack.perception.lidar.voxelize import VoxelBackend, spread_sample, voxel_means
from bevstack.types.batch import Batch
from bevstack.types.bev import ActiveVoxels, BevFeatures, BevGrid
from bevstack.types.frame import PointIndex

_LOGGER = logging.getLogger(__name__)

if not torch.cuda.is_available():
    # spconv 2.3.8 asks CUDA for its stream before it looks whether the tensors are on the CPU, which fails in
    # processes without CUDA. Its CPU kernels ignore the value. With CUDA nothing is changed.
    ops.get_current_stream = lambda: 0


class SparseResidualBlock(spconv.SparseModule):
    """Two submanifold 3x3x3 convolutions around a shortcut; the set of occupied voxels stays."""

    def __init__(self, channels: int, *, indice_key: str) -> None:
        super().__init__()
        self.first = _sparse_conv(
            spconv.SubMConv3d(channels, channels, 3, padding=1, bias=False, indice_key=indice_key)
        )
        self.second = spconv.SparseSequential(
            spconv.SubMConv3d(channels, channels, 3, padding=1, bias=False, indice_key=indice_key),
            nn.BatchNorm1d(channels, eps=1e-3),
        )

    def forward(self, x: spconv.SparseConvTensor) -> spconv.SparseConvTensor:
        """Map V voxels to the same V voxels."""
        out = self.second(self.first(x))
        return out.replace_feature(torch.relu(out.features + x.features))


def _sparse_conv(convolution: spconv.SparseModule) -> spconv.SparseSequential:
    return spconv.SparseSequential(
        convolution, nn.BatchNorm1d(convolution.out_channels, eps=1e-3), nn.ReLU(inplace=True)
    )


class SparseVoxelEncoder(nn.Module):
    """Points to features on the grid.

    Each stage after the first halves all three axes, so with S stages a voxel is `grid.cell_m / 2^(S-1)` wide.

    Args:
        grid: Where the features go. Points outside its x, y or z range are left out.
        channels: Channels of each stage.
        voxel_height_m: Height of a voxel before any stride.
        blocks: Residual blocks in each stage.
        slice_channels: Channels of each remaining height slice after the last convolution, which halves the height
            only.
        voxel_levels: Also hand on which voxels are occupied after the last stage, before that convolution, as M3Net's
            occupancy queries want them (`BevFeatures.voxels`). It must be the number of levels there, 5 of 40 voxels
            with four stages; None: not.
        max_points_per_voxel: Only the first so many points of a voxel count; None for all.
        max_voxels: At most so many voxels in a frame, in training and in evaluation, see `spread_sample`; None for no
            limit.
        pool: Implementation of the voxel means, see `voxel_means`.

    Raises:
        ValueError: the height range is not a whole number of voxels, or a limit or number of levels that does not fit.
    """

    def __init__(
        self,
        *,
        grid: BevGrid,
        channels: Sequence[int] = (16, 32, 64, 128),
        voxel_height_m: float = 0.2,
        blocks: int = 2,
        slice_channels: int = 128,
        voxel_levels: int | None = None,
        max_points_per_voxel: int | None = None,
        max_voxels: tuple[int, int] | None = None,
        pool: VoxelBackend = "auto",
    ) -> None:
        super().__init__()
        height_m = grid.z_range_m[1] - grid.z_range_m[0]
        levels = height_m / voxel_height_m
        if levels < 1 or abs(levels - round(levels)) > 1e-6:
            raise ValueError(f"z_range_m={grid.z_range_m} is not a whole number of {voxel_height_m} m voxels")
        if any(most is not None and most < 1 for most in (max_points_per_voxel, *(max_voxels or ()))):
            raise ValueError(f"max_points_per_voxel={max_points_per_voxel}, max_voxels={max_voxels} must be 1 or more")
        self.grid = grid
        self.pool = pool
        self.voxel_levels = voxel_levels
        self.max_points_per_voxel, self.max_voxels = max_points_per_voxel, max_voxels
        self.total_stride = 2 ** (len(channels) - 1)
        self.voxel_m = (grid.cell_m / self.total_stride, grid.cell_m / self.total_stride, voxel_height_m)
        rows, columns = grid.shape_yx
        # One empty level on top, as in SECOND: 40 levels shrink 41 -> 21 -> 11 -> 5 rather than to a fraction.
        self.shape_zyx = (round(levels) + 1, rows * self.total_stride, columns * self.total_stride)
        self.stem = _sparse_conv(
            spconv.SubMConv3d(len(PointIndex), channels[0], 3, padding=1, bias=False, indice_key="stage0")
        )
        self.stages = nn.ModuleList()
        before = channels[0]
        depth = self.shape_zyx[0]
        for index, width in enumerate(channels):
            layers: list[nn.Module] = []
            if index > 0:
                depth_padding = 0 if index == len(channels) - 1 and depth % 4 == 3 else 1
                layers.append(
                    _sparse_conv(
                        spconv.SparseConv3d(before, width, 3, stride=2, padding=(depth_padding, 1, 1), bias=False)
                    )
                )
                depth = (depth + 2 * depth_padding - 3) // 2 + 1
            layers += [SparseResidualBlock(width, indice_key=f"stage{index}") for _ in range(blocks)]
            self.stages.append(spconv.SparseSequential(*layers))
            before = width
        self.flatten_height = _sparse_conv(
            spconv.SparseConv3d(before, slice_channels, (3, 1, 1), stride=(2, 1, 1), bias=False)
        )
        self.out_channels = slice_channels * ((depth - 3) // 2 + 1)
        if depth < 3:
            raise ValueError(f"{round(levels)} voxel levels are too few for {len(channels)} stages: lower them")
        if voxel_levels not in (None, depth):
            raise ValueError(f"voxel_levels={voxel_levels} must be {depth}, the levels after the last stage, or null")

    def forward(self, batch: Batch) -> BevFeatures:
        """Features on the grid; zero and not valid in frames without a LiDAR."""
        present = batch.lidar_mask[:, None, None, None]
        indices, features = self.voxels(batch)
        active = indices.new_zeros((0, 4))
        if len(features) > self.training:
            sparse = spconv.SparseConvTensor(features, indices, list(self.shape_zyx), batch.batch_size)
            sparse = self.stem(sparse)
            for stage in self.stages:
                sparse = stage(sparse)
            active = sparse.indices
            data = torch.where(present, _height_in_channels(self.flatten_height(sparse)), 0.0)
        else:
            data = features.new_zeros((batch.batch_size, self.out_channels, *self.grid.shape_yx))
        return BevFeatures(
            data=data,
            valid=present.expand(-1, 1, *self.grid.shape_yx).contiguous(),
            grid=self.grid,
            voxels=None if self.voxel_levels is None else _active_voxels(active, self.voxel_levels),
        )

    @torch.no_grad()
    def voxels(self, batch: Batch) -> tuple[Int[Tensor, "V 4"], Float[Tensor, "V 5"]]:
        """Indices (frame, z, y, x) of the occupied voxels and the mean of their points, in units of order one."""
        points = batch.points_ego
        size = points.new_tensor(self.voxel_m)
        low = points.new_tensor((self.grid.x_range_m[0], self.grid.y_range_m[0], self.grid.z_range_m[0]))
        cells = ((points[:, :3] - low) / size).floor().long()
        depth, rows, columns = self.shape_zyx
        limit = cells.new_tensor((columns, rows, depth - 1))
        keep = ((cells >= 0) & (cells < limit)).all(dim=1)
        cells, points = cells[keep], points[keep]
        frame = batch.point_frame_index[keep].long()
        key = ((frame * depth + cells[:, 2]) * rows + cells[:, 1]) * columns + cells[:, 0]
        keys, means, _ = voxel_means(points, key, max_points=self.max_points_per_voxel, backend=self.pool)
        if self.max_voxels is not None:
            most = self.max_voxels[0 if self.training else 1]
            is_kept = spread_sample(keys, keys // (depth * rows * columns), batch.batch_size, most)
            keys, means = keys[is_kept], means[is_kept]
        x, rest = keys % columns, keys // columns
        y, rest = rest % rows, rest // rows
        indices = torch.stack((rest // depth, rest % depth, y, x), dim=1).int()
        half_m = (self.grid.x_range_m[1] - self.grid.x_range_m[0]) / 2
        scale = means.new_ones(means.shape[1])
        scale[: PointIndex.Z] = 1 / half_m
        scale[PointIndex.Z] = 0.5
        scale[PointIndex.INTENSITY] = 1 / 255
        scale[PointIndex.AGE_S] = 2.0
        return indices, means * scale


def _active_voxels(indices_bzyx: Int[Tensor, "V 4"], num_levels: int) -> ActiveVoxels:
    """Sites of a sparse tensor, sorted by frame, row, column and level."""
    frame, z, y, x = indices_bzyx.long().unbind(1)
    size = [int(part.max()) + 1 if len(part) else 1 for part in (y, x)]
    order = torch.argsort(((frame * size[0] + y) * size[1] + x) * num_levels + z)
    return ActiveVoxels(index_byxz=torch.stack((frame, y, x, z), dim=1)[order], num_levels=num_levels)


def _height_in_channels(sparse: spconv.SparseConvTensor) -> Float[Tensor, "B C Y X"]:
    """All height slices of all cells side by side as channels, zero where there is no voxel."""
    depth, rows, columns = sparse.spatial_shape
    frame, z, y, x = sparse.indices.long().unbind(1)
    cell = ((frame * rows + y) * columns + x) * depth + z
    dense = sparse.features.new_zeros((sparse.batch_size * rows * columns * depth, sparse.features.shape[1]))
    dense = dense.index_copy(0, cell, sparse.features)
    return dense.view(sparse.batch_size, rows, columns, -1).permute(0, 3, 1, 2).contiguous()
