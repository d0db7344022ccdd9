import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bevstack.perception.heads.occupancy_volume import volume_over
from bevstack.perception.heads.voxel_resample import VoxelRaster, VoxelTaps, resampled
from bevstack.types.bev import OCC3D_GRID, OPENOCCUPANCY_GRID, BevGrid, VoxelGrid

LOW_M, SIZE_M, COUNT = (-4.0, -2.0, -1.0), (0.8, 0.8, 1.6), (10, 5, 3)
BEV = BevGrid(x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), z_range_m=(-5.0, 3.0), cell_m=0.8)


def grid_of(low_m: tuple[float, float, float], count: tuple[int, int, int], voxel_m: float) -> VoxelGrid:
    x, y, z = ((low, low + n * voxel_m) for low, n in zip(low_m, count, strict=True))
    return VoxelGrid(x_range_m=x, y_range_m=y, z_range_m=z, voxel_m=voxel_m)


def raster_of(
    count: tuple[int, int, int] = COUNT,
    *,
    low_m: tuple[float, float, float] = LOW_M,
    size_m: tuple[float, float, float] = SIZE_M,
    sub_voxels: tuple[int, int, int] = (1, 1, 1),
    frames: int = 1,
) -> VoxelRaster:
    """Random values on a raster of so many fine voxels along x, y and z."""
    z, y, x = (count[axis] // sub_voxels[axis] for axis in (2, 1, 0))
    values = torch.randn(frames, z, y, x, sub_voxels[0] * sub_voxels[1] * sub_voxels[2], 3)
    return VoxelRaster(values=values, sub_voxels=sub_voxels, low_m=low_m, size_m=size_m)


def taps_to(target: VoxelGrid) -> VoxelTaps:
    return raster_of().taps(target)


def centers_of(low_m: tuple, size_m: tuple, count: tuple) -> torch.Tensor:
    """(z, y, x, 3) of the centres of a raster."""
    x, y, z = (low + (torch.arange(n) + 0.5) * size for low, size, n in zip(low_m, size_m, count, strict=True))
    zz, yy, xx = torch.meshgrid(z, y, x, indexing="ij")
    return torch.stack((xx, yy, zz), dim=-1)


def test_a_linear_field_in_metres_is_met_exactly_between_the_outermost_centres() -> None:
    target = grid_of((-3.4, -1.5, 0.0), (30, 14, 12), 0.2)
    field = centers_of(LOW_M, SIZE_M, COUNT)
    wanted = centers_of(target.low_m, (0.2, 0.2, 0.2), target.shape_xyz)
    torch.testing.assert_close(resampled(field, taps_to(target)), wanted, rtol=0, atol=1e-5)


def test_beyond_the_outermost_centres_the_border_goes_on() -> None:
    target = grid_of((-8.0, -6.0, -5.0), (40, 30, 25), 0.4)
    field = centers_of(LOW_M, SIZE_M, COUNT)
    wanted = centers_of(target.low_m, (0.4, 0.4, 0.4), target.shape_xyz)
    low, high = field[0, 0, 0], field[-1, -1, -1]
    torch.testing.assert_close(resampled(field, taps_to(target)), wanted.clamp(low, high), rtol=0, atol=1e-5)


def test_it_agrees_with_torch_where_both_rasters_cover_the_same_space() -> None:
    raster = raster_of((6, 4, 2), low_m=(0.0, 0.0, 0.0), size_m=(1.0, 1.0, 1.0))
    found = resampled(raster.dense(0), raster.taps(grid_of((0.0, 0.0, 0.0), (24, 16, 8), 0.25)))
    picture = raster.dense(0).permute(3, 0, 1, 2)[None]
    expected = F.interpolate(picture, scale_factor=4, mode="trilinear", align_corners=False)
    torch.testing.assert_close(found, expected[0].permute(1, 2, 3, 0), rtol=1e-4, atol=1e-5)


def test_equal_rasters_need_no_interpolation() -> None:
    raster = raster_of((5, 4, 3), low_m=(-40.0, -40.0, -1.0), size_m=(0.4, 0.4, 0.4))
    taps = raster.taps(grid_of((-40.0, -40.0, -1.0), (5, 4, 3), 0.4))
    assert all(axis.is_exact for axis in taps) and torch.equal(resampled(raster.dense(0), taps), raster.dense(0))


def test_fine_voxels_lie_inside_their_coarse_one() -> None:
    raster = raster_of((6, 4, 8), sub_voxels=(2, 1, 4))
    dense = raster.dense(0)
    assert dense.shape == (8, 4, 6, 3) and raster.count == (6, 4, 8)
    for z, y, x in ((0, 0, 0), (5, 3, 2), (7, 1, 5)):
        fine = (z % 4) * 2 + x % 2
        assert torch.equal(dense[z, y, x], raster.values[0, z // 4, y, x // 2, fine])


@settings(max_examples=20)
@given(st.floats(-5.0, -2.0), st.floats(0.15, 1.1), st.sampled_from([(1, 1, 1), (2, 1, 3), (5, 5, 1)]))
def test_chosen_points_equal_the_whole(low: float, voxel_m: float, sub_voxels: tuple[int, int, int]) -> None:
    target = grid_of((low, low + 1, low + 2), (7, 5, 6), voxel_m)
    raster = raster_of(sub_voxels=sub_voxels, frames=2)
    taps = raster.taps(target)
    frame, index_xyz = torch.randint(2, (20,)), torch.stack([torch.randint(n, (20,)) for n in (7, 5, 6)], dim=1)
    x, y, z = index_xyz.unbind(1)
    whole = torch.stack([resampled(raster.dense(index), taps) for index in range(2)])
    torch.testing.assert_close(raster.at(taps, frame, index_xyz), whole[frame, z, y, x], rtol=1e-4, atol=1e-5)


def test_parts_of_an_axis_are_parts_of_the_block() -> None:
    x, y, z = taps_to(grid_of((-3.4, -1.5, 0.0), (30, 14, 12), 0.2))
    dense = torch.randn(3, 5, 10, 2)
    whole = resampled(dense, (x, y, z))
    parts = [resampled(dense, (x.part(start, start + 8), y, z)) for start in range(0, 30, 8)]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole)


@pytest.mark.parametrize("voxel_m", [0.2, 0.8])
def test_the_gradient_of_points_is_that_of_the_whole(voxel_m: float) -> None:
    target = grid_of((-4.0, -2.0, -1.0), (10, 5, 4), voxel_m)
    raster = raster_of(sub_voxels=(2, 1, 3))
    raster.values.requires_grad_()
    taps = raster.taps(target)
    index_xyz = torch.tensor([[0, 0, 0], [9, 4, 3], [7, 3, 2], [7, 3, 2]])
    x, y, z = index_xyz.unbind(1)
    probe = torch.randn(4, 3)
    (of_points,) = torch.autograd.grad(
        (raster.at(taps, torch.zeros(4, dtype=torch.int64), index_xyz) * probe).sum(), raster.values
    )
    (of_whole,) = torch.autograd.grad((resampled(raster.dense(0), taps)[z, y, x] * probe).sum(), raster.values)
    torch.testing.assert_close(of_points, of_whole)


def test_the_volume_of_occ3d_is_the_part_of_the_grid_that_its_voxels_lie_in() -> None:
    volume = volume_over(BEV, 5, OCC3D_GRID, sub_voxels=(1, 1, 1), crop_margin=0)
    # One cell more at both sides than lie inside +-40 m: the outermost centres are beyond those of the cells inside.
    assert volume.shape_zyx == (3, 102, 102)
    assert volume.low_m == pytest.approx((-40.8, -40.8, -1.8))
    assert volume.needed_zyx == (slice(0, 3), slice(0, 102), slice(0, 102))


def test_the_volume_of_a_fitting_grid_gives_occ3d_its_very_voxels() -> None:
    grid = BevGrid(x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), z_range_m=(-4.2, 5.4), cell_m=0.8)
    volume = volume_over(grid, 6, OCC3D_GRID, sub_voxels=(2, 2, 4), crop_margin=0)
    assert volume.shape_zyx == (4, 100, 100)
    assert volume.low_m == pytest.approx((-40.0, -40.0, -1.0)) and volume.sub_voxel_m == pytest.approx((0.4,) * 3)
    raster = raster_of((200, 200, 16), low_m=volume.low_m, size_m=volume.sub_voxel_m, sub_voxels=(2, 2, 4))
    taps = raster.taps(OCC3D_GRID)
    assert all(axis.is_exact for axis in taps)


def test_a_volume_reaches_to_the_end_of_the_grid_and_no_further() -> None:
    paper = BevGrid(x_range_m=(-54.0, 54.0), y_range_m=(-54.0, 54.0), z_range_m=(-5.0, 3.0), cell_m=0.6)
    whole = volume_over(paper, 5, OPENOCCUPANCY_GRID, sub_voxels=(1, 1, 1), crop_margin=None)
    assert whole.shape_zyx == (5, 180, 180)
    needed = [part.stop - part.start for part in whole.needed_zyx]
    assert needed == [5, 172, 172]  # -51.1 m lies between the cells 4 and 5, 51.1 m between 174 and 175
    cropped = volume_over(paper, 5, OPENOCCUPANCY_GRID, sub_voxels=(1, 1, 1), crop_margin=3)
    assert cropped.shape_zyx == (5, 178, 178) and cropped.low_m == whole.low_m
