"""The block of coarse voxels above the bird's-eye grid in which occupancy is worked out.

Letters: V voxels. Ranges are in cells of the whole grid, in the order (level along z, row along y, column along x).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from bevstack.perception.heads.voxel_resample import bounds_of
from bevstack.types.bev import BevGrid, VoxelGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupancyVolume:
    """Some coarse voxels of a grid, and those among them that an output grid reads."""

    range_zyx: tuple[slice, slice, slice]
    """In cells of the whole grid."""
    needed_zyx: tuple[slice, slice, slice]
    """The voxels between whose centres the output's lie, in cells of this volume."""
    low_m: tuple[float, float, float]
    """Lower corner (x, y, z) of the needed voxels in `ego`."""
    sub_voxel_m: tuple[float, float, float]
    """Size (x, y, z) of a fine voxel."""

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Voxels along z, y and x."""
        z, y, x = (part.stop - part.start for part in self.range_zyx)
        return z, y, x

    @property
    def size(self) -> int:
        """Voxels of the volume."""
        return math.prod(self.shape_zyx)

    def contains(self, z: Int[Tensor, " V"], y: Int[Tensor, " V"], x: Int[Tensor, " V"]) -> Bool[Tensor, " V"]:
        """Whether cells of the whole grid belong to the volume."""
        levels, rows, columns = self.range_zyx
        inside = (z >= levels.start) & (z < levels.stop) & (y >= rows.start) & (y < rows.stop)
        return inside & (x >= columns.start) & (x < columns.stop)

    def flat_index(
        self, frame: Int[Tensor, " V"], z: Int[Tensor, " V"], y: Int[Tensor, " V"], x: Int[Tensor, " V"]
    ) -> Int[Tensor, " V"]:
        """Row-major index over (frame, z, y, x) of cells of the whole grid that lie inside."""
        levels, rows, columns = self.range_zyx
        num_levels, num_rows, num_columns = self.shape_zyx
        flat = (frame * num_levels + z - levels.start) * num_rows + y - rows.start
        return flat * num_columns + x - columns.start


def volume_over(
    grid: BevGrid, levels: int, output: VoxelGrid, *, sub_voxels: Sequence[int], crop_margin: int | None
) -> OccupancyVolume:
    """The volume for an output grid.

    Args:
        grid: The features; its z range is cut into `levels`.
        levels: Slices of the z range.
        output: The wanted voxels.
        sub_voxels: Fine voxels along x, y and z in each coarse one.
        crop_margin: Cells to keep around what the output reads; None keeps the whole grid.
    """
    rows, columns = grid.shape_yx
    low_m = (grid.x_range_m[0], grid.y_range_m[0], grid.z_range_m[0])
    level_m = (grid.z_range_m[1] - grid.z_range_m[0]) / levels
    size_m = (grid.cell_m, grid.cell_m, level_m)
    count = (columns, rows, levels)
    needed, kept = [], []
    for axis, (low, high) in enumerate((output.x_range_m, output.y_range_m, output.z_range_m)):
        ends_m = (low + output.voxel_m / 2, high - output.voxel_m / 2)
        read = bounds_of(low_m[axis], size_m[axis], sub_voxels[axis], count[axis], ends_m)
        margin = count[axis] if crop_margin is None else crop_margin
        needed.append(read)
        kept.append(slice(max(0, read.start - margin), min(count[axis], read.stop + margin)))
    inner = [slice(a.start - b.start, a.stop - b.start) for a, b in zip(needed, kept, strict=True)]
    corner = [low_m[axis] + needed[axis].start * size_m[axis] for axis in range(3)]
    return OccupancyVolume(
        range_zyx=(kept[2], kept[1], kept[0]),
        needed_zyx=(inner[2], inner[1], inner[0]),
        low_m=(corner[0], corner[1], corner[2]),
        sub_voxel_m=(size_m[0] / sub_voxels[0], size_m[1] / sub_voxels[1], size_m[2] / sub_voxels[2]),
    )
