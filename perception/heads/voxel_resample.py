"""Trilinear values of a coarse raster of voxels at the centres of another, which may have any extent and voxel size.

Both rasters are parallel to the axes of `ego`, so interpolation is done one axis after the other, and an axis on which
all centres coincide costs nothing. Beyond the outermost centres of the source the border values go on.

Letters: B frames, K values of a voxel, Z Y X coarse voxels, S fine voxels in each of them, N chosen voxels, R rows, and
of the target U V W voxels along x, y, z; of the fine raster P Q O along x, y, z.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bevstack.types.bev import VoxelGrid

_EXACT = 1e-4
"""Centres that differ by a smaller share of a source voxel coincide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisTaps:
    """The two source voxels that each target voxel lies between on one axis, and how far on its way to the upper."""

    lower: Int[Tensor, " N"]
    upper: Int[Tensor, " N"]
    fraction: Float[Tensor, " N"]
    is_exact: bool
    """Every target centre is a source centre: `lower` alone is the answer."""

    def part(self, start: int, stop: int) -> "AxisTaps":
        """The taps of the target voxels `start` to `stop` (exclusive)."""
        return AxisTaps(
            lower=self.lower[start:stop],
            upper=self.upper[start:stop],
            fraction=self.fraction[start:stop],
            is_exact=self.is_exact,
        )


VoxelTaps = tuple[AxisTaps, AxisTaps, AxisTaps]
"""Along x, y and z."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoxelRaster:
    """Values on fine voxels, kept as a network makes them: those of one coarse voxel side by side."""

    values: Float[Tensor, "B Z Y X S K"]
    """Inside a coarse voxel x runs fastest, then y, then z."""
    sub_voxels: tuple[int, int, int]
    """Fine voxels along x, y and z in a coarse one."""
    low_m: tuple[float, float, float]
    """Lower corner (x, y, z) in `ego`."""
    size_m: tuple[float, float, float]
    """Size (x, y, z) of a fine voxel."""

    @property
    def count(self) -> tuple[int, int, int]:
        """Fine voxels along x, y and z."""
        z, y, x = self.values.shape[1:4]
        return x * self.sub_voxels[0], y * self.sub_voxels[1], z * self.sub_voxels[2]

    def taps(self, target: VoxelGrid) -> VoxelTaps:
        """Where the centres of a grid lie among the fine voxels."""
        device = self.values.device
        x, y, z = (
            _axis_taps(target.low_m[i], target.voxel_m, target.shape_xyz[i], self.low_m[i], self.size_m[i], count)
            for i, count in enumerate(self.count)
        )
        return _moved(x, device), _moved(y, device), _moved(z, device)

    @property
    def num_frames(self) -> int:
        """Frames of the batch."""
        return len(self.values)

    def zero(self) -> Float[Tensor, ""]:
        """Nothing, with a gradient path to what the values came from."""
        return self.values.sum() * 0.0

    def dense(self, frame: int) -> Float[Tensor, "O Q P K"]:
        """One frame as a plain array of fine voxels, the axes z, y, x."""
        fx, fy, fz = self.sub_voxels
        split = self.values[frame].unflatten(3, (fz, fy, fx))  # (Z, Y, X, fz, fy, fx, K)
        return split.permute(0, 3, 1, 4, 2, 5, 6).flatten(0, 1).flatten(1, 2).flatten(2, 3)

    def at(self, taps: VoxelTaps, frame: Int[Tensor, " N"], index_xyz: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """Values (float32) at chosen voxels of the target that the taps belong to."""
        rows = self.values.flatten(0, 4)
        if not all(axis.is_exact for axis in taps):
            rows = rows.float()  # many targets share a row: their gradients are summed in full precision
        base = frame * (len(rows) // len(self.values))
        corners: list[tuple[Tensor, Tensor | None]] = [(base, None)]
        for axis, row_of, chosen in zip(taps, self._rows(), index_xyz.unbind(1), strict=True):
            lower = row_of[axis.lower][chosen]
            if axis.is_exact:
                corners = [(row + lower, weight) for row, weight in corners]
                continue
            upper, fraction = row_of[axis.upper][chosen], axis.fraction[chosen]
            corners = [
                (row + end, share if weight is None else weight * share)
                for row, weight in corners
                for end, share in ((lower, 1 - fraction), (upper, fraction))
            ]
        total = torch.zeros((), device=rows.device)
        for row, weight in corners:
            value = rows.index_select(0, row).float()
            if weight is None:
                return value  # exact on every axis: a single corner
            total = total + value * weight[:, None]
        return total

    def _rows(self) -> tuple[Int[Tensor, " P"], Int[Tensor, " Q"], Int[Tensor, " O"]]:
        """What each step along x, y and z adds to the row of a fine voxel in `values`."""
        (fx, fy, fz), (_, rows, columns, fine) = self.sub_voxels, self.values.shape[1:5]
        x, y, z = (torch.arange(count, device=self.values.device) for count in self.count)
        return (
            x // fx * fine + x % fx,
            y // fy * (columns * fine) + y % fy * fx,
            z // fz * (rows * columns * fine) + z % fz * (fx * fy),
        )


def _axis_taps(
    target_low_m: float, target_size_m: float, target_count: int, low_m: float, size_m: float, count: int
) -> AxisTaps:
    centers_m = target_low_m + (torch.arange(target_count, dtype=torch.float64) + 0.5) * target_size_m
    place = ((centers_m - low_m) / size_m - 0.5).clamp(0, count - 1)
    nearest = place.round()
    place = torch.where((place - nearest).abs() < _EXACT, nearest, place)
    lower = place.floor()
    fraction = place - lower
    return AxisTaps(
        lower=lower.long(),
        upper=(lower.long() + 1).clamp_max(count - 1),
        fraction=fraction.float(),
        is_exact=not bool(fraction.any()),
    )


def _moved(taps: AxisTaps, device: torch.device) -> AxisTaps:
    return AxisTaps(
        lower=taps.lower.to(device),
        upper=taps.upper.to(device),
        fraction=taps.fraction.to(device),
        is_exact=taps.is_exact,
    )


def resampled(dense: Float[Tensor, "O Q P K"], taps: VoxelTaps) -> Float[Tensor, "W V U K"]:
    """Values at all voxels of the taps; to save memory, hand in parts of them (`AxisTaps.part`)."""
    for dimension, axis in zip((2, 1, 0), taps, strict=True):
        lower = _selected(dense, dimension, axis.lower)
        if axis.is_exact:
            dense = lower
            continue
        fraction = axis.fraction.to(dense.dtype).view([-1 if i == dimension else 1 for i in range(4)])
        dense = torch.lerp(lower, dense.index_select(dimension, axis.upper), fraction)
    return dense


def _selected(dense: Tensor, dimension: int, index: Tensor) -> Tensor:
    """`index_select`, without a copy where the indices are a range."""
    first, count = int(index[0]), len(index)
    if torch.equal(index, torch.arange(first, first + count, device=index.device)):
        return dense.narrow(dimension, first, count)
    return dense.index_select(dimension, index)


def bounds_of(raster_low_m: float, size_m: float, per_cell: int, count: int, centers_m: Sequence[float]) -> slice:
    """The coarse voxels of an axis that targets with these first and last centres are interpolated from.

    Args:
        raster_low_m: Lower end of the coarse voxels.
        size_m: Size of a coarse voxel.
        per_cell: Fine voxels in a coarse one; it is their centres that are interpolated.
        count: Coarse voxels.
        centers_m: First and last centre of the target.
    """
    taps = [_axis_taps(center, 0.0, 1, raster_low_m, size_m / per_cell, count * per_cell) for center in centers_m]
    last = taps[1].lower if taps[1].is_exact else taps[1].upper
    return slice(int(taps[0].lower) // per_cell, int(last) // per_cell + 1)
