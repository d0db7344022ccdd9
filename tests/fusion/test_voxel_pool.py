from typing import Any

import pytest
import torch

from bevstack.fusion.voxel_pool import _lifted_sum, voxel_pool


def random_problem(pixels: int = 50, bins: int = 7, channels: int = 5, cells: int = 30) -> tuple:
    weight = torch.rand(pixels, bins, requires_grad=True)
    features = torch.randn(pixels, channels, requires_grad=True)
    cell_index = torch.randint(-1, cells, (pixels, bins))
    return weight, features, cell_index, cells


def pooled_with_gradients(backend: Any, problem: tuple, probe: torch.Tensor) -> list[torch.Tensor]:
    weight, features, cell_index, cells = problem
    if backend == "definition":
        out = _lifted_sum(weight, features, cell_index, cells)
    else:
        out = voxel_pool(weight, features, cell_index, cells, backend=backend)
    return [out, *torch.autograd.grad((out * probe).sum(), (weight, features))]


@pytest.mark.parametrize("backend", ["torch", "numba", "auto"])
def test_every_backend_equals_the_definition_forward_and_backward(backend: Any) -> None:
    problem = random_problem()
    probe = torch.randn(30, 5)
    wanted = pooled_with_gradients("definition", problem, probe)
    for ours, reference in zip(pooled_with_gradients(backend, problem, probe), wanted, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)


def test_one_pixel_puts_weight_times_feature_into_the_cells_of_its_bins() -> None:
    weight, features = torch.tensor([[0.25, 0.75]]), torch.tensor([[2.0, -4.0]])
    out = voxel_pool(weight, features, torch.tensor([[3, 1]]), 4)
    assert out.tolist() == [[0, 0], [1.5, -3.0], [0, 0], [0.5, -1.0]]


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_bins_outside_the_grid_give_nothing_and_get_no_gradient(backend: Any) -> None:
    weight, features = torch.rand(4, 3, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    out = voxel_pool(weight, features, torch.full((4, 3), -1), 6, backend=backend)
    out.sum().backward()
    assert not out.any() and not weight.grad.any() and not features.grad.any()


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_no_pixels_give_an_empty_grid_of_zeros(backend: Any) -> None:
    out = voxel_pool(torch.zeros(0, 3), torch.zeros(0, 2), torch.zeros((0, 3), dtype=torch.int64), 5, backend=backend)
    assert out.shape == (5, 2) and not out.any()


def test_half_precision_inputs_are_summed_in_single_precision() -> None:
    weight, features, cell_index, cells = random_problem()
    half = voxel_pool(weight.bfloat16(), features.bfloat16(), cell_index, cells)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, voxel_pool(weight, features, cell_index, cells), rtol=0.05, atol=0.2)
