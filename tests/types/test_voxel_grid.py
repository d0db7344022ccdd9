"""The voxel grid: shape, corner, and what it refuses."""

import pytest

from bevstack.types import OCC3D_GRID, OPENOCCUPANCY_GRID, VoxelGrid


def test_the_benchmark_grids_have_the_published_shapes() -> None:
    assert OCC3D_GRID.shape_xyz == (200, 200, 16)
    assert OPENOCCUPANCY_GRID.shape_xyz == (512, 512, 40)
    assert OCC3D_GRID.low_m == (-40.0, -40.0, -1.0)


def test_ranges_given_as_lists_are_kept_as_tuples() -> None:
    grid = VoxelGrid(x_range_m=[0.0, 2.0], y_range_m=[0.0, 1.0], z_range_m=[0.0, 1.0], voxel_m=0.5)
    assert grid.x_range_m == (0.0, 2.0)
    assert hash(grid) == hash(VoxelGrid(x_range_m=(0.0, 2.0), y_range_m=(0.0, 1.0), z_range_m=(0.0, 1.0), voxel_m=0.5))


@pytest.mark.parametrize("change", [{"voxel_m": 0.0}, {"x_range_m": (1.0, 0.0)}, {"z_range_m": (0.0, 0.3)}])
def test_a_range_that_is_no_whole_number_of_voxels_is_refused(change: dict[str, object]) -> None:
    arguments = {"x_range_m": (0.0, 2.0), "y_range_m": (0.0, 2.0), "z_range_m": (0.0, 2.0), "voxel_m": 0.5}
    with pytest.raises(ValueError, match=next(iter(change))):
        VoxelGrid(**{**arguments, **change})  # type: ignore[arg-type]
