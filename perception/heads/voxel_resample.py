"""Trilinear values of a coarse raster of voxels at the centres of another, which may have any extent and voxel size.

Both rasters are parallel to the axes of `ego`, so interpolation is done one axis after the other, and an axis on which
all centres coincide costs nothing. Beyond the outermost centres of the source the border values go on.

Letters: K classes, Z Y X voxels of the source, U V W voxels of the target along x, y, z, N chosen voxels.
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


def voxel_taps(
    target: VoxelGrid,
    *,
    low_m: Sequence[float],
    size_m: Sequence[float],
    count: Sequence[int],
    device: torch.device | None = None,
) -> VoxelTaps:
    """Where the voxels of a grid lie in a source raster.

    Args:
        target: Its centres are where values are wanted.
        low_m: Lower corner (x, y, z) of the source.
        size_m: Size (x, y, z) of a source voxel.
        count: Source voxels along x, y and z.
        device: Where the taps go.
    """
    x, y, z = (
        _axis_taps(target.low_m[axis], target.voxel_m, target.shape_xyz[axis], low_m[axis], size_m[axis], count[axis])
        for axis in range(3)
    )
    return _moved(x, device), _moved(y, device), _moved(z, device)


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


def _moved(taps: AxisTaps, device: torch.device | None) -> AxisTaps:
    return AxisTaps(
        lower=taps.lower.to(device),
        upper=taps.upper.to(device),
        fraction=taps.fraction.to(device),
        is_exact=taps.is_exact,
    )


def resampled_block(source: Float[Tensor, "Z Y X K"], taps: VoxelTaps) -> Float[Tensor, "W V U K"]:
    """Values at all voxels of the taps; to save memory, hand in parts of them (`AxisTaps.part`)."""
    for axis, axis_taps in zip((2, 1, 0), taps, strict=True):
        lower = source.index_select(axis, axis_taps.lower)
        if axis_taps.is_exact:
            source = lower
            continue
        fraction = axis_taps.fraction.to(source.dtype).view([-1 if dim == axis else 1 for dim in range(4)])
        source = torch.lerp(lower, source.index_select(axis, axis_taps.upper), fraction)
    return source


def resampled_points(
    source: Float[Tensor, "Z Y X K"], taps: VoxelTaps, index_xyz: Int[Tensor, "N 3"]
) -> Float[Tensor, "N K"]:
    """Values at chosen voxels of the target."""
    _, rows, columns, _ = source.shape
    rows_of_source = source.flatten(0, 2)
    corners: list[tuple[Tensor, Tensor | None]] = [(index_xyz.new_zeros(len(index_xyz)), None)]
    for axis_taps, chosen, step in zip(taps, index_xyz.unbind(1), (1, columns, columns * rows), strict=True):
        lower = axis_taps.lower[chosen] * step
        if axis_taps.is_exact:
            corners = [(flat + lower, weight) for flat, weight in corners]
            continue
        upper, fraction = axis_taps.upper[chosen] * step, axis_taps.fraction[chosen].to(source.dtype)
        corners = [
            (flat + end, share if weight is None else weight * share)
            for flat, weight in corners
            for end, share in ((lower, 1 - fraction), (upper, fraction))
        ]
    total = source.new_zeros(())
    for flat, weight in corners:
        value = rows_of_source.index_select(0, flat)
        if weight is None:
            return value  # exact on every axis: a single corner
        total = total + value * weight[:, None]
    return total
