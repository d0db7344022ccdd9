"""The grid: cells, metres, strides, and what it refuses."""

from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bevstack.types import BevGrid

GRID = BevGrid(x_range_m=(-51.2, 51.2), y_range_m=(-25.6, 25.6), z_range_m=(-5.0, 3.0), cell_m=0.4)


def test_rows_run_along_y_and_columns_along_x() -> None:
    assert GRID.shape_yx == (128, 256)
    centers = GRID.centers_m()
    assert centers.shape == (128, 256, 2)
    torch.testing.assert_close(centers[0, 0], torch.tensor((-51.0, -25.4)))
    torch.testing.assert_close(centers[0, 1] - centers[0, 0], torch.tensor((0.4, 0.0)), atol=1e-5, rtol=0)
    torch.testing.assert_close(centers[1, 0] - centers[0, 0], torch.tensor((0.0, 0.4)), atol=1e-5, rtol=0)


def test_a_cell_centre_is_half_a_cell_from_its_index() -> None:
    cells = GRID.to_cells(GRID.centers_m())
    torch.testing.assert_close(cells[5, 9], torch.tensor((9.5, 5.5)), atol=1e-4, rtol=0)


@given(st.floats(-80, 80), st.floats(-80, 80))
def test_metres_and_cells_are_inverse_to_each_other(x_m: float, y_m: float) -> None:
    point = torch.tensor((x_m, y_m), dtype=torch.float64)
    torch.testing.assert_close(GRID.to_metres(GRID.to_cells(point)), point)


def test_the_point_ahead_of_the_vehicle_is_in_the_middle_row_and_a_late_column() -> None:
    column, row = GRID.to_cells(torch.tensor((20.0, 0.0))).tolist()
    assert row == pytest.approx(64)
    assert column == pytest.approx(178)


def test_a_strided_grid_covers_the_same_area_with_larger_cells() -> None:
    coarse = GRID.strided(2)
    assert coarse.shape_yx == (64, 128)
    assert coarse.x_range_m == GRID.x_range_m
    torch.testing.assert_close(coarse.to_cells(torch.tensor((3.0, 4.0))) * 2, GRID.to_cells(torch.tensor((3.0, 4.0))))


def test_a_stride_that_does_not_divide_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of"):
        GRID.strided(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_range_m": (10.0, -10.0)}, "x_range_m"),
        ({"y_range_m": (0.0, 0.0)}, "y_range_m"),
        ({"z_range_m": (3.0, -5.0)}, "z_range_m"),
        ({"cell_m": 0.3}, "whole number of 0.3 m cells"),
        ({"cell_m": 0.0}, "cell_m=0.0"),
        ({"cell_m": -0.4}, "cell_m=-0.4"),
    ],
)
def test_ranges_and_cells_that_make_no_grid_are_refused_by_name(changes: dict[str, object], message: str) -> None:
    settings = {"x_range_m": (-51.2, 51.2), "y_range_m": (-51.2, 51.2), "z_range_m": (-5.0, 3.0), "cell_m": 0.4}
    with pytest.raises(ValueError, match=message):
        BevGrid(**(settings | changes))


def test_lists_as_they_come_from_yaml_make_an_equal_and_hashable_grid() -> None:
    from_yaml = BevGrid(x_range_m=[-51.2, 51.2], y_range_m=[-25.6, 25.6], z_range_m=[-5.0, 3.0], cell_m=0.4)
    assert from_yaml == GRID
    assert hash(from_yaml) == hash(GRID)


def test_a_grid_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        GRID.cell_m = 1.0
