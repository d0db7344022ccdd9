"""The bird's-eye raster, the voxel raster, and features on them. Range, cell size and axis order exist here and nowhere
else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def _as_range(name: str, values: Sequence[float]) -> tuple[float, float]:
    if len(values) != 2 or not values[1] > values[0]:
        raise ValueError(f"{name}={tuple(values)} must be two numbers, the second larger than the first")
    return float(values[0]), float(values[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class BevGrid:
    """The bird's-eye raster, in the ego frame at reference time (x forward, y left, z up).

    Tensors on this grid are (..., Y, X): the last axis runs along x from x_range_m[0] (behind the car) to
    x_range_m[1] (ahead); the axis before it runs along y from y_range_m[0] (right) to y_range_m[1] (left).
    Cell (0, 0) covers [x_min, x_min + cell_m) x [y_min, y_min + cell_m); its centre is half a cell further.

    Ranges may be given as lists, as they come from YAML; they are kept as tuples.

    Raises:
        ValueError: a range is not a positive whole number of cells.
    """

    x_range_m: Sequence[float]
    y_range_m: Sequence[float]
    z_range_m: Sequence[float]
    cell_m: float

    def __post_init__(self) -> None:
        if not self.cell_m > 0:
            raise ValueError(f"cell_m={self.cell_m} must be positive")
        for name in ("x_range_m", "y_range_m", "z_range_m"):
            object.__setattr__(self, name, _as_range(name, getattr(self, name)))
        for name in ("x_range_m", "y_range_m"):
            low, high = getattr(self, name)
            cells = (high - low) / self.cell_m
            if abs(cells - round(cells)) > 1e-6:
                raise ValueError(f"{name}={low, high} is not a positive whole number of {self.cell_m} m cells")

    @property
    def shape_yx(self) -> tuple[int, int]:
        """(cells along y, cells along x)."""
        (y_low, y_high), (x_low, x_high) = self.y_range_m, self.x_range_m
        return round((y_high - y_low) / self.cell_m), round((x_high - x_low) / self.cell_m)

    def strided(self, stride: int) -> "BevGrid":
        """The same area with cells `stride` times as large.

        Raises:
            ValueError: the grid does not divide by the stride.
        """
        return BevGrid(
            x_range_m=self.x_range_m,
            y_range_m=self.y_range_m,
            z_range_m=self.z_range_m,
            cell_m=self.cell_m * stride,
        )

    def to_cells(self, xy_m: Float[Tensor, "... 2"]) -> Float[Tensor, "... 2"]:
        """Metres (x, y) to continuous cell coordinates (column along x, row along y); cell centres are at k + 0.5."""
        origin = xy_m.new_tensor((self.x_range_m[0], self.y_range_m[0]))
        return (xy_m - origin) / self.cell_m

    def to_metres(self, cells: Float[Tensor, "... 2"]) -> Float[Tensor, "... 2"]:
        """Inverse of `to_cells`."""
        origin = cells.new_tensor((self.x_range_m[0], self.y_range_m[0]))
        return cells * self.cell_m + origin

    def centers_m(self, device: torch.device | None = None) -> Float[Tensor, "Y X 2"]:
        """(x, y) of every cell centre, in metres."""
        rows, columns = self.shape_yx
        y, x = torch.meshgrid(
            torch.arange(rows, device=device) + 0.5, torch.arange(columns, device=device) + 0.5, indexing="ij"
        )
        return self.to_metres(torch.stack((x, y), dim=-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class VoxelGrid:
    """Cubes in the ego frame at reference time (x forward, y left, z up).

    Arrays on this grid are (..., X, Y, Z), as occupancy benchmarks store them: index 0 of each axis is at the low end
    of its range, so X runs from behind to ahead, Y from right to left, Z upwards. (Bird's-eye tensors are (..., Y, X).)

    Raises:
        ValueError: a range is not a positive whole number of voxels.
    """

    x_range_m: Sequence[float]
    y_range_m: Sequence[float]
    z_range_m: Sequence[float]
    voxel_m: float

    def __post_init__(self) -> None:
        if not self.voxel_m > 0:
            raise ValueError(f"voxel_m={self.voxel_m} must be positive")
        for name in ("x_range_m", "y_range_m", "z_range_m"):
            low, high = _as_range(name, getattr(self, name))
            object.__setattr__(self, name, (low, high))
            cells = (high - low) / self.voxel_m
            if abs(cells - round(cells)) > 1e-6:
                raise ValueError(f"{name}={low, high} is not a positive whole number of {self.voxel_m} m voxels")

    @property
    def low_m(self) -> tuple[float, float, float]:
        """The corner with the least coordinates (x, y, z)."""
        return self.x_range_m[0], self.y_range_m[0], self.z_range_m[0]

    @property
    def shape_xyz(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        x, y, z = (round((high - low) / self.voxel_m) for low, high in (self.x_range_m, self.y_range_m, self.z_range_m))
        return x, y, z


OCC3D_GRID = VoxelGrid(x_range_m=(-40.0, 40.0), y_range_m=(-40.0, 40.0), z_range_m=(-1.0, 5.4), voxel_m=0.4)
"""200 x 200 x 16 voxels in `ego` (Tian et al., Occ3D, NeurIPS 2023)."""

OPENOCCUPANCY_GRID = VoxelGrid(x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), z_range_m=(-3.2, 4.8), voxel_m=0.2)
"""512 x 512 x 40 voxels: the extent of OpenOccupancy (Wang et al., ICCV 2023), whose files are in the LiDAR frame with
z from -5 to 3 m, moved into `ego` (the LiDAR stands about 1.8 m high)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveVoxels:
    """Coarse voxels above a bird's-eye grid that hold at least one LiDAR point; each exactly once."""

    index_byxz: Int[Tensor, "V 4"]
    """Frame, row along y, column along x, level along z; sorted by frame."""
    num_levels: int
    """Equal slices of the grid's z range, level 0 at the bottom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BevFeatures:
    """Features on a grid, from one source or fused."""

    data: Float[Tensor, "B C Y X"]
    valid: Bool[Tensor, "B 1 Y X"]
    """False where no sensor contributed (outside every camera frustum, for example)."""
    grid: BevGrid
    voxels: ActiveVoxels | None = None
    """Where LiDAR points lie in 3D; None from encoders and in models that do not ask for it."""
