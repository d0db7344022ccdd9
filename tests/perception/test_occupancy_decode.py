import numpy as np
import pytest
import torch

from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE
from bevstack.perception.heads.occupancy import OccupancyOutput, OccupancyReadout
from bevstack.perception.heads.voxel_resample import VoxelRaster
from bevstack.types.bev import OCC3D_GRID, VoxelGrid

CAR = OCCUPANCY_CLASSES.index("car")


def decode(logits: VoxelRaster, grid: VoxelGrid) -> np.ndarray:
    readout = OccupancyReadout(channels=8, in_channels=8, output_grid=grid, blocks=0)
    (found,) = readout.decode(OccupancyOutput(logits=logits, grid=grid))
    return found.semantics


def free_raster(shape_zyx: tuple[int, int, int], low_m: tuple, size_m: tuple) -> VoxelRaster:
    values = torch.zeros(1, *shape_zyx, 1, len(OCCUPANCY_CLASSES))
    values[..., OCCUPANCY_FREE] = 1.0
    return VoxelRaster(values=values, sub_voxels=(1, 1, 1), low_m=low_m, size_m=size_m)


@pytest.mark.parametrize("place_m", [(20.2, -30.6, 1.8), (-39.8, 39.8, -0.6), (0.2, 0.2, 5.0)])
def test_a_car_is_decoded_where_it_stands_in_metres(place_m: tuple[float, float, float]) -> None:
    logits = free_raster((10, 128, 128), (-51.2, -51.2, -2.6), (0.8, 0.8, 0.8))
    x, y, z = ((np.array(place_m) - logits.low_m) // logits.size_m).astype(int)
    logits.values[0, z, y, x, 0, CAR] = 5.0
    semantics = decode(logits, OCC3D_GRID)
    centers_m = (np.argwhere(semantics == CAR) + 0.5) * 0.4 + np.array(OCC3D_GRID.low_m)
    cell_low_m = np.array((x, y, z)) * 0.8 + np.array(logits.low_m)
    # The whole cell, and what lies nearer to it than to where the neighbour's centre says free; cut off at the grid.
    assert len(centers_m) > 0 and (centers_m > cell_low_m - 0.6).all() and (centers_m < cell_low_m + 1.4).all()
    own = (centers_m > cell_low_m).all(1) & (centers_m < cell_low_m + 0.8).all(1)
    assert own.sum() == 8


def test_a_raster_that_fits_is_decoded_voxel_by_voxel() -> None:
    grid = VoxelGrid(x_range_m=(0.0, 2.0), y_range_m=(0.0, 1.2), z_range_m=(0.0, 0.8), voxel_m=0.4)
    truth = np.random.default_rng(0).integers(0, 18, grid.shape_xyz)
    logits = free_raster((2, 3, 5), (0.0, 0.0, 0.0), (0.4, 0.4, 0.4))
    z, y, x = np.indices((2, 3, 5))
    logits.values[0, z, y, x, 0, truth[x, y, z]] = 2.0
    np.testing.assert_array_equal(decode(logits, grid), truth)


def test_above_the_raster_the_topmost_voxels_go_on() -> None:
    grid = VoxelGrid(x_range_m=(-1.6, 1.6), y_range_m=(-1.6, 1.6), z_range_m=(0.0, 4.8), voxel_m=0.4)
    logits = free_raster((2, 4, 4), (-1.6, -1.6, 0.0), (0.8, 0.8, 0.8))
    logits.values[:, 1, :, :, 0, CAR] = 5.0
    semantics = decode(logits, grid)
    assert (semantics[:, :, 4:] == CAR).all() and (semantics[:, :, 0] == OCCUPANCY_FREE).all()
