"""The bird's-eye raster and features on it. Range, cell size and axis order exist here and nowhere else."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


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


def _as_range(name: str, values: Sequence[float]) -> tuple[float, float]:
    if len(values) != 2 or not values[1] > values[0]:
        raise ValueError(f"{name}={tuple(values)} must be two numbers, the second larger than the first")
    return float(values[0]), float(values[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class BevFeatures:
    """Features on a grid, from one source or fused."""

    data: Float[Tensor, "B C Y X"]
    valid: Bool[Tensor, "B 1 Y X"]
    """False where no sensor contributed (outside every camera frustum, for example)."""
    grid: BevGrid
