from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_batch, random_cloud

from bevstack.perception.lidar import pillarise as pillarise_module
from bevstack.perception.lidar.pillar_max import pillar_max
from bevstack.perception.lidar.pillarise import pillarise
from bevstack.perception.lidar.pillars import PillarEncoder
from bevstack.types import BevGrid


def make_encoder(**changes: object) -> PillarEncoder:
    return PillarEncoder(**{"grid": SMALL_GRID, "pillar_channels": 8, "out_channels": 12, **changes}).eval()


@pytest.mark.parametrize(("x", "y"), [(10.1, 5.1), (-12.75, 12.75), (0.01, -0.01)])
def test_a_point_lights_the_pillar_that_it_lies_in(x: float, y: float) -> None:
    encoder = make_encoder()
    canvas = encoder.canvas(make_batch([np.array([[x, y, 0.5, 20, 0]])]))
    assert canvas.shape == (1, 8, 64, 64)
    ((row, column),) = canvas[0].abs().sum(0).nonzero().tolist()
    assert (column, row) == (int((x + 12.8) / 0.4), int((y + 12.8) / 0.4))


def test_points_outside_the_range_are_left_out() -> None:
    outside = np.array([[13.0, 0, 0, 1, 0], [0, -12.9, 0, 1, 0], [0, 0, 3.5, 1, 0], [0, 0, -5.5, 1, 0]])
    assert not make_encoder().canvas(make_batch([outside])).any()


def test_the_order_of_the_points_does_not_matter() -> None:
    cloud = random_cloud(np.random.default_rng(0))
    encoder = make_encoder()
    shuffled = np.random.default_rng(1).permutation(cloud)
    torch.testing.assert_close(
        encoder(make_batch([cloud])).data, encoder(make_batch([shuffled])).data, rtol=1e-4, atol=1e-5
    )


def test_the_fast_sorting_equals_the_standard_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    batch = make_batch([random_cloud(rng), random_cloud(rng, 500)])
    fast = pillarise(batch.points_ego, batch.point_frame_index, SMALL_GRID, 2)
    monkeypatch.setattr(pillarise_module.torch.compiler, "is_exporting", lambda: True)
    standard = pillarise(batch.points_ego, batch.point_frame_index, SMALL_GRID, 2)
    assert torch.equal(fast.cell_index, standard.cell_index) and torch.equal(fast.counts, standard.counts)
    assert torch.equal(fast.pillar_of_point, standard.pillar_of_point)
    torch.testing.assert_close(fast.points, standard.points, rtol=0, atol=1e-5)
    torch.testing.assert_close(fast.means, standard.means, rtol=0, atol=1e-4)


def test_the_fast_maximum_equals_the_standard_operations_forward_and_backward() -> None:
    points, index = torch.randn(400, 5), torch.randint(0, 50, (400,))
    probe = torch.randn(60, 8)
    results = []
    for backend in ("torch", "numba"):
        weight = torch.linspace(-1, 1, 40).view(8, 5).requires_grad_()
        out = pillar_max(points, weight, index, 60, backend=backend)  # type: ignore[arg-type]
        results.append((out, *torch.autograd.grad((out * probe).sum(), weight)))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-4)
    assert not results[1][0][50:].any()


def test_age_and_direction_of_motion_change_the_features() -> None:
    ages = np.linspace(0, 0.45, 10)
    trail = np.column_stack((1.2 + 0.1 * ages, np.full(10, 1.2), np.ones(10), np.full(10, 9), ages))
    back = trail.copy()
    back[:, 4] = ages[::-1]
    encoder = make_encoder()
    assert not torch.allclose(encoder(make_batch([trail])).data, encoder(make_batch([back])).data, atol=1e-4)


def test_gradients_reach_every_parameter() -> None:
    encoder = make_encoder().train()
    encoder(make_batch([random_cloud(np.random.default_rng(0))])).data.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


@pytest.mark.parametrize(("pillars_per_cell", "rows"), [(1, 32), (2, 64), (4, 128)])
def test_pillars_are_finer_than_the_grid_by_the_asked_factor(pillars_per_cell: int, rows: int) -> None:
    encoder = make_encoder(pillars_per_cell=pillars_per_cell)
    batch = make_batch([random_cloud(np.random.default_rng(0))])
    assert encoder.canvas(batch).shape[-2:] == (rows, rows)
    assert encoder(batch).data.shape == (1, 12, 32, 32)


def test_a_factor_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match="pillars_per_cell=3"):
        make_encoder(pillars_per_cell=3)


def test_a_grid_that_is_not_square_keeps_x_along_columns() -> None:
    grid = BevGrid(x_range_m=(0.0, 25.6), y_range_m=(-6.4, 6.4), z_range_m=(-5.0, 3.0), cell_m=0.8)
    encoder = make_encoder(grid=grid)
    canvas = encoder.canvas(make_batch([np.array([[20.1, -3.1, 0, 5, 0]])]))
    assert canvas.shape == (1, 8, 32, 64)
    assert canvas[0, :, 8, 50].any()


def test_a_batch_is_not_changed_by_encoding() -> None:
    batch = make_batch([random_cloud(np.random.default_rng(0))])
    kept = replace(batch, points_ego=batch.points_ego.clone())
    make_encoder()(batch)
    assert torch.equal(batch.points_ego, kept.points_ego)
