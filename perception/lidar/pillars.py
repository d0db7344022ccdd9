"""LiDAR points to bird's-eye features by vertical pillars (Lang et al., PointPillars, CVPR 2019, section 2.1).

The network of the paper applies linear -> norm -> ReLU to every point and takes the maximum over each pillar. Norm
(with positive scale) and ReLU keep order, and the offsets to the pillar's mean are the same for all its points, so the
maximum may be taken right after the linear map of the point, and everything else is done once for each pillar. This is
the same family of functions at a fraction of the memory, with any number of points and no point thrown away.

Letters: B frames, P occupied pillars of all frames, C channels, Y X bird's-eye cells.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bevstack.perception.lidar.active_voxels import active_voxels
from bevstack.perception.lidar.pillar_max import MaxBackend, pillar_max
from bevstack.perception.lidar.pillarise import POINT_FEATURES, Pillars, pillarise
from bevstack.types.batch import Batch
from bevstack.types.bev import BevFeatures, BevGrid

_COUNT_SCALE = 0.25
_PILLAR_FEATURES = POINT_FEATURES + 3  # mean of the points, log count, x and y of the centre


class PillarEncoder(nn.Module):
    """Points to features on the grid.

    Args:
        grid: Where the features go. Points outside its x, y or z range are left out.
        pillars_per_cell: Pillars along each side of a cell; the pillars are `grid.cell_m / pillars_per_cell` wide and
            strided convolutions bring them to the grid. A power of two.
        pillar_channels: Channels of a pillar.
        out_channels: Channels on the grid.
        pool: Implementation of the maximum, see `pillar_max`.
        voxel_levels: Also tell which voxels hold points, with so many levels in height (`active_voxels`); None: not.

    Raises:
        ValueError: `pillars_per_cell` is not a power of two, or `voxel_levels` is not positive.
    """

    def __init__(
        self,
        *,
        grid: BevGrid,
        pillars_per_cell: int = 2,
        pillar_channels: int = 32,
        out_channels: int = 48,
        pool: MaxBackend = "auto",
        voxel_levels: int | None = None,
    ) -> None:
        super().__init__()
        if voxel_levels is not None and voxel_levels < 1:
            raise ValueError(f"voxel_levels={voxel_levels} must be 1 or more, or None for no voxels")
        if pillars_per_cell < 1 or pillars_per_cell & (pillars_per_cell - 1):
            raise ValueError(f"pillars_per_cell={pillars_per_cell} must be 1, 2, 4, ...")
        self.grid = grid
        self.out_channels = out_channels
        self.pool = pool
        self.voxel_levels = voxel_levels
        self.pillar_grid = BevGrid(
            x_range_m=grid.x_range_m,
            y_range_m=grid.y_range_m,
            z_range_m=grid.z_range_m,
            cell_m=grid.cell_m / pillars_per_cell,
        )
        self.point_weight = nn.Parameter(torch.empty(pillar_channels, POINT_FEATURES))
        nn.init.kaiming_uniform_(self.point_weight, a=5**0.5)
        self.pillar_linear = nn.Linear(_PILLAR_FEATURES, pillar_channels, bias=False)
        self.pillar_norm = nn.BatchNorm1d(pillar_channels, eps=1e-3)
        self.pillar_mix = nn.Sequential(
            nn.Linear(pillar_channels, pillar_channels, bias=False),
            nn.BatchNorm1d(pillar_channels, eps=1e-3),
            nn.ReLU(inplace=True),
        )
        steps = pillars_per_cell.bit_length() - 1
        channels = [pillar_channels, *[out_channels] * max(steps, 1)]
        self.to_grid = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride=2 if steps else 1, padding=1, bias=False),
                    nn.BatchNorm2d(after, eps=1e-3),
                    nn.ReLU(inplace=True),
                )
                for before, after in zip(channels, channels[1:], strict=False)
            )
        )

    def forward(self, batch: Batch) -> BevFeatures:
        """Features on the grid; zero and not valid in frames without a LiDAR."""
        canvas = self.canvas(batch)
        data = self.to_grid(canvas)
        present = batch.lidar_mask[:, None, None, None]
        return BevFeatures(
            data=torch.where(present, data, 0.0),
            valid=present.expand(-1, 1, *self.grid.shape_yx).contiguous(),
            grid=self.grid,
            voxels=None if self.voxel_levels is None else active_voxels(batch, self.grid, self.voxel_levels),
        )

    def canvas(self, batch: Batch) -> Float[Tensor, "B C Y X"]:
        """Pillar features at pillar resolution, zero where a pillar has no point."""
        rows, columns = self.pillar_grid.shape_yx
        pillars = pillarise(batch.points_ego, batch.point_frame_index, self.pillar_grid, batch.batch_size)
        canvas = batch.points_ego.new_zeros((self.point_weight.shape[0], batch.batch_size * rows * columns))
        # In training a single pillar has no statistics to normalise by.
        if len(pillars.cell_index) > self.training:
            features = self.pillar_features(pillars)
            canvas = canvas.to(features.dtype).index_copy(1, pillars.cell_index, features.T)
        return canvas.view(-1, batch.batch_size, rows, columns).transpose(0, 1).contiguous()

    def pillar_features(self, pillars: Pillars) -> Float[Tensor, "P C"]:
        """One vector for each occupied pillar."""
        peak = pillar_max(
            pillars.points, self.point_weight, pillars.pillar_of_point, len(pillars.counts), backend=self.pool
        )
        log_count = torch.log1p(pillars.counts)[:, None] * _COUNT_SCALE
        shared = torch.cat((pillars.means, log_count, self._centres(pillars.cell_index)), dim=1)
        return self.pillar_mix(torch.relu(self.pillar_norm(peak + self.pillar_linear(shared))))

    def _centres(self, cell_index: Int[Tensor, " P"]) -> Float[Tensor, "P 2"]:
        """Centres (x, y) of pillars in units of the half width of the grid."""
        rows, columns = self.pillar_grid.shape_yx
        cells = torch.stack((cell_index % columns, (cell_index // columns) % rows), dim=1)
        half_m = (self.grid.x_range_m[1] - self.grid.x_range_m[0]) / 2
        return self.pillar_grid.to_metres(cells + 0.5) / half_m
