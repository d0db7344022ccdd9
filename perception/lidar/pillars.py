"""LiDAR points to bird's-eye features by vertical pillars (Lang et al., PointPillars, CVPR 2019, section 2.1).

The network of the paper applies linear -> norm -> ReLU to every point and takes the maximum over each pillar. Norm
(with positive scale) and ReLU keep order, and the offsets to the pillar's mean are the same for all its points, so the
maximum may be taken right after the linear map of the point, and everything else is done once for each pillar. This is
the same family of functions at a fraction of the memory, with any number of points and no point thrown away.

Letters: B frames, M points of all frames, K points inside the grid, G pillars of all frames, P occupied pillars,
C channels, Y X bird's-eye cells.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bevstack.perception.lidar.pillar_max import MaxBackend, pillar_max
from bevstack.types.batch import Batch
from bevstack.types.bev import BevFeatures, BevGrid
from bevstack.types.frame import PointIndex

_INTENSITY_SCALE = 1 / 255
_AGE_SCALE = 2.0  # ten sweeps reach back half a second
_HEIGHT_SCALE = 0.5
_COUNT_SCALE = 0.25
_POINT_FEATURES = 5  # offset from the pillar centre (x, y), z, intensity, age
_PILLAR_FEATURES = 8  # mean of the five, log count, x and y of the centre


class PillarEncoder(nn.Module):
    """Points to features on the grid.

    Args:
        grid: Where the features go. Points outside its x, y or z range are left out.
        pillars_per_cell: Pillars along each side of a cell; the pillars are `grid.cell_m / pillars_per_cell` wide and
            strided convolutions bring them to the grid. A power of two.
        pillar_channels: Channels of a pillar.
        out_channels: Channels on the grid.
        pool: Implementation of the maximum, see `pillar_max`.

    Raises:
        ValueError: `pillars_per_cell` is not a power of two.
    """

    def __init__(
        self,
        *,
        grid: BevGrid,
        pillars_per_cell: int = 2,
        pillar_channels: int = 32,
        out_channels: int = 48,
        pool: MaxBackend = "auto",
    ) -> None:
        super().__init__()
        if pillars_per_cell < 1 or pillars_per_cell & (pillars_per_cell - 1):
            raise ValueError(f"pillars_per_cell={pillars_per_cell} must be 1, 2, 4, ...")
        self.grid = grid
        self.out_channels = out_channels
        self.pool = pool
        self.pillar_grid = BevGrid(
            x_range_m=grid.x_range_m,
            y_range_m=grid.y_range_m,
            z_range_m=grid.z_range_m,
            cell_m=grid.cell_m / pillars_per_cell,
        )
        self.point_weight = nn.Parameter(torch.empty(pillar_channels, _POINT_FEATURES))
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
        )

    def canvas(self, batch: Batch) -> Float[Tensor, "B C Y X"]:
        """Pillar features at pillar resolution, zero where a pillar has no point."""
        rows, columns = self.pillar_grid.shape_yx
        num_pillars = batch.batch_size * rows * columns
        points, pillar_index = self._inside(batch)
        local, mean, count = self._localised(points, pillar_index, num_pillars)
        occupied = count.nonzero()[:, 0]
        channels = self.point_weight.shape[0]
        canvas = local.new_zeros((num_pillars, channels))
        if len(occupied) > self.training:  # in training a single pillar has no statistics to normalise by
            peak = pillar_max(local, self.point_weight, pillar_index, num_pillars, backend=self.pool)[occupied]
            centre = self._centres(occupied)
            shared = torch.cat((mean[occupied], torch.log1p(count[occupied])[:, None] * _COUNT_SCALE, centre), dim=1)
            features = torch.relu(self.pillar_norm(peak + self.pillar_linear(shared)))
            features = self.pillar_mix(features)
            canvas = canvas.to(features.dtype).index_copy(0, occupied, features)
        return canvas.view(batch.batch_size, rows, columns, channels).permute(0, 3, 1, 2).contiguous()

    def _inside(self, batch: Batch) -> tuple[Float[Tensor, "K 5"], Int[Tensor, " K"]]:
        """Points inside the grid and their flat pillar (frame, row, column)."""
        points = batch.points_ego
        rows, columns = self.pillar_grid.shape_yx
        cells = self.pillar_grid.to_cells(points[:, :2]).floor().long()
        x, y, z = cells[:, 0], cells[:, 1], points[:, PointIndex.Z]
        z_low, z_high = self.grid.z_range_m
        keep = (x >= 0) & (x < columns) & (y >= 0) & (y < rows) & (z >= z_low) & (z < z_high)
        index = (batch.point_frame_index.long() * rows + y) * columns + x
        return points[keep], index[keep]

    def _centres(self, pillar_index: Int[Tensor, " K"]) -> Float[Tensor, "K 2"]:
        """Centres (x, y) of pillars in units of the half width of the grid."""
        rows, columns = self.pillar_grid.shape_yx
        cells = torch.stack((pillar_index % columns, (pillar_index // columns) % rows), dim=1)
        half_m = (self.grid.x_range_m[1] - self.grid.x_range_m[0]) / 2
        return self.pillar_grid.to_metres(cells + 0.5) / half_m

    @torch.no_grad()
    def _localised(
        self, points: Float[Tensor, "K 5"], pillar_index: Int[Tensor, " K"], num_pillars: int
    ) -> tuple[Float[Tensor, "K 5"], Float[Tensor, "G 5"], Float[Tensor, " G"]]:
        """Points about their pillar's centre in units of order one; mean and number of points of every pillar."""
        offset = (self.pillar_grid.to_cells(points[:, :2]) % 1.0 - 0.5) * 2
        local = torch.cat(
            (
                offset,
                points[:, PointIndex.Z, None] * _HEIGHT_SCALE,
                points[:, PointIndex.INTENSITY, None] * _INTENSITY_SCALE,
                points[:, PointIndex.AGE_S, None] * _AGE_SCALE,
            ),
            dim=1,
        )
        ones = local.new_ones(len(local))
        count = local.new_zeros(num_pillars).index_add_(0, pillar_index, ones)
        mean = local.new_zeros((num_pillars, local.shape[1])).index_add_(0, pillar_index, local)
        return local, mean / count.clamp_min(1)[:, None], count
