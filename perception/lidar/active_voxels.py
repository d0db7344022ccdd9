"""Which coarse voxels above the bird's-eye grid hold LiDAR points: where occupancy queries start.

In M3Net (Chen et al., AAAI 2025) these are the active sites of a sparse encoder before its last stride in height. Here
they come from the points alone, so that any encoder can offer them.
"""

import torch

from bevstack.types.batch import Batch
from bevstack.types.bev import ActiveVoxels, BevGrid
from bevstack.types.frame import PointIndex


@torch.no_grad()
def active_voxels(batch: Batch, grid: BevGrid, num_levels: int) -> ActiveVoxels:
    """Voxels (cell of `grid` x level) with at least one point, sorted by frame, row, column and level.

    Args:
        batch: Its points; those outside the x, y or z range, and of frames without a LiDAR, are left out.
        grid: Cells seen from above; its z range is what the levels divide.
        num_levels: Equal slices of the z range.

    Raises:
        ValueError: `num_levels` is not positive.
    """
    if num_levels < 1:
        raise ValueError(f"num_levels={num_levels} must be 1 or more")
    rows, columns = grid.shape_yx
    z_low, z_high = grid.z_range_m
    cells = grid.to_cells(batch.points_ego[:, : PointIndex.Z]).floor().long()
    column, row = cells.unbind(1)
    level = ((batch.points_ego[:, PointIndex.Z] - z_low) * (num_levels / (z_high - z_low))).floor().long()
    frame = batch.point_frame_index.long()
    keep = (column >= 0) & (column < columns) & (row >= 0) & (row < rows) & (level >= 0) & (level < num_levels)
    keep &= batch.lidar_mask[frame]
    flat = (((frame * rows + row) * columns + column) * num_levels + level)[keep]
    # A mark in a dense grid: cheaper than sorting some hundred thousand points, and in order by itself.
    is_active = torch.zeros(batch.batch_size * rows * columns * num_levels, dtype=torch.bool, device=flat.device)
    is_active[flat] = True
    index_byxz = is_active.view(batch.batch_size, rows, columns, num_levels).nonzero()
    return ActiveVoxels(index_byxz=index_byxz, num_levels=num_levels)
