import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bevstack.perception.heads import deformable_kernels
from bevstack.perception.heads.deformable_attention import DeformableAttention, deformable_sample, ring, sphere

SHAPES = [(5, 7), (3, 5, 7), (1, 1), (1, 4, 6)]


def random_problem(
    shape: tuple[int, ...], batch: int = 2, queries: int = 11, heads: int = 3, channels: int = 6
) -> tuple:
    """Places inside, at the border and beyond it, none within rounding of a cell centre, where slopes jump."""
    value = torch.randn(batch, math.prod(shape), heads, channels, requires_grad=True)
    size = torch.tensor(tuple(reversed(shape)))
    places = (torch.rand(batch, queries, heads, 4, len(shape)) * (size + 4) - 2) * 8
    locations = ((places.floor() + 0.25 + 0.5 * torch.rand_like(places)) / 8).requires_grad_()
    weights = torch.randn(batch, queries, heads, 4).softmax(-1).requires_grad_()
    return value, locations, weights


def sampled_with_gradients(backend: Any, shape: tuple[int, ...], problem: tuple, probe: Tensor) -> list[Tensor]:
    value, locations, weights = problem
    out = deformable_sample(value, shape, locations, weights, backend=backend)
    return [out, *torch.autograd.grad((out * probe).sum(), problem)]


def by_definition(value: Tensor, shape: tuple[int, ...], locations: Tensor, weights: Tensor) -> Tensor:
    """Every cell adds its value times its weight, which falls off linearly to zero at the next cell centre."""
    batch, queries, heads, points, _ = locations.shape
    out = torch.zeros(batch, queries, heads, value.shape[-1], dtype=value.dtype)
    for s, cell in enumerate(itertools.product(*map(range, shape))):
        center = torch.tensor(cell[::-1]) + 0.5
        nearness = (1 - (locations - center).abs()).clamp_min(0).prod(-1) * weights  # (B, Q, H, P)
        out += nearness.sum(-1, keepdim=True) * value[:, None, s]
    return out.flatten(2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_the_sum_is_that_of_all_cells_weighted_by_their_nearness(shape: tuple[int, ...], backend: Any) -> None:
    value, locations, weights = random_problem(shape)
    out = deformable_sample(value, shape, locations, weights, backend=backend)
    torch.testing.assert_close(out, by_definition(value, shape, locations, weights), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_numba_equals_torch_forward_and_in_all_three_gradients(shape: tuple[int, ...]) -> None:
    problem, probe = random_problem(shape), torch.randn(2, 11, 18)
    wanted = sampled_with_gradients("torch", shape, problem, probe)
    for ours, reference in zip(sampled_with_gradients("numba", shape, problem, probe), wanted, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_places_beyond_the_grid_give_nothing_and_get_no_gradient(shape: tuple[int, ...], backend: Any) -> None:
    value, locations, weights = random_problem(shape)
    far = torch.where(torch.rand_like(locations) < 0.5, -40.0, 60.0).requires_grad_()
    out, *gradients = sampled_with_gradients(backend, shape, (value, far, weights), torch.ones(2, 11, 18))
    assert not out.any() and not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("batch, queries", [(2, 0), (0, 3)])
def test_no_queries_or_no_frames_give_an_empty_result(batch: int, queries: int, backend: Any) -> None:
    problem = random_problem((5, 7), batch=batch, queries=queries)
    out, *gradients = sampled_with_gradients(backend, (5, 7), problem, torch.ones(batch, queries, 18))
    assert out.shape == (batch, queries, 18)
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5)])
def test_gradients_are_those_of_finite_differences(shape: tuple[int, ...]) -> None:
    problem = [x.detach().double().requires_grad_() for x in random_problem(shape, queries=3, heads=2, channels=2)]
    assert torch.autograd.gradcheck(
        lambda *inputs: deformable_sample(inputs[0], shape, *inputs[1:]), problem, eps=1e-6, atol=1e-5
    )


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_a_batch_of_two_equals_two_of_one(shape: tuple[int, ...], backend: Any) -> None:
    problem, probe = random_problem(shape), torch.randn(2, 11, 18)
    together = sampled_with_gradients(backend, shape, problem, probe)
    for i in range(2):
        alone = [x.detach()[i : i + 1].requires_grad_() for x in problem]
        apart = sampled_with_gradients(backend, shape, tuple(alone), probe[i : i + 1])
        for one, both in zip(apart, together, strict=True):
            torch.testing.assert_close(one[0], both[i], rtol=1e-6, atol=1e-6)


def test_threads_change_no_bit_of_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, probe = random_problem((3, 5, 7), queries=200, heads=8), torch.randn(2, 200, 48)
    alone = sampled_with_gradients("numba", (3, 5, 7), problem, probe)
    monkeypatch.setattr(deformable_kernels, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for one, shared in zip(alone, sampled_with_gradients("numba", (3, 5, 7), problem, probe), strict=True):
        assert torch.equal(one, shared)


def test_half_precision_values_are_summed_in_single_precision_and_come_back_as_they_were() -> None:
    value, locations, weights = random_problem((5, 7))
    half = deformable_sample(value.bfloat16(), (5, 7), locations, weights.bfloat16())
    assert half.dtype == torch.bfloat16
    whole = deformable_sample(value.bfloat16().float(), (5, 7), locations, weights.bfloat16().float())
    assert torch.equal(half, whole.bfloat16())


def attention(dimensions: Any = 2, **kwargs: Any) -> DeformableAttention:
    return DeformableAttention(channels=16, heads=4, points=2, dimensions=dimensions, **kwargs)


@pytest.mark.parametrize("dimensions, shape, cell", [(2, (5, 7), (3, 1)), (3, (3, 5, 7), (3, 1, 2))])
def test_a_reference_in_the_middle_of_a_cell_without_offsets_reads_just_that_cell(
    dimensions: Any, shape: tuple[int, ...], cell: tuple[int, ...]
) -> None:
    module = attention(dimensions)
    nn.init.zeros_(module.offsets.bias)
    value = torch.randn(1, math.prod(shape), 16)
    reference = torch.tensor([[cell]]) + 0.5
    out = module(torch.randn(1, 1, 16), reference, value, shape)
    own = value.unflatten(1, shape)[(0, *reversed(cell))]
    torch.testing.assert_close(out[0, 0], module.out(module.value(own)), rtol=1e-4, atol=1e-5)


def test_heads_start_in_different_directions_and_points_one_cell_further_each() -> None:
    bias = attention().offsets.bias.view(4, 2, 2)
    expected = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    torch.testing.assert_close(bias[:, 0], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(bias[:, 1], 2 * expected, atol=1e-6, rtol=0)
    for directions in (ring(8), sphere(8)):
        torch.testing.assert_close(directions.abs().amax(-1), torch.ones(8))
        assert torch.cdist(directions, directions).add(3 * torch.eye(8)).min() > 0.8


def test_references_are_not_modified() -> None:
    module = attention()
    nn.init.normal_(module.offsets.weight)
    reference = torch.rand(2, 3, 2) * 5
    before = reference.clone()
    module(torch.randn(2, 3, 16), reference, torch.randn(2, 35, 16), (5, 7)).sum().backward()
    assert torch.equal(reference, before)


def test_masked_cells_count_as_zero() -> None:
    module = attention()
    nn.init.normal_(module.value.bias)
    queries, reference, value = torch.randn(1, 6, 16), torch.rand(1, 6, 2) * 5, torch.randn(1, 35, 16)
    mask = torch.rand(1, 35) < 0.5
    out = module(queries, reference, value, (5, 7), mask)
    torch.testing.assert_close(out, module(queries, reference, value + 9.0 * ~mask[..., None], (5, 7), mask))
    nothing = module(queries, reference, value, (5, 7), torch.zeros_like(mask))
    torch.testing.assert_close(nothing, module.out.bias.expand_as(nothing))


def test_a_value_projected_once_serves_several_sets_of_queries() -> None:
    module = attention()
    value, reference = torch.randn(2, 35, 16), torch.rand(2, 3, 2) * 5
    projected = module.project_value(value)
    for queries in torch.randn(2, 2, 3, 16):
        assert torch.equal(
            module.attend(queries, reference, projected, (5, 7)), module(queries, reference, value, (5, 7))
        )


def test_every_parameter_and_input_gets_a_gradient_under_autocast() -> None:
    module = attention()
    nn.init.normal_(module.offsets.weight)
    nn.init.normal_(module.weights.weight)
    inputs = [torch.randn(2, 3, 16).requires_grad_(), (torch.rand(2, 3, 2) * 3 + 1).requires_grad_()]
    inputs.append(torch.randn(2, 35, 16).requires_grad_())
    with torch.autocast("cpu", torch.bfloat16):
        out = module(*inputs, (5, 7))
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() and x.grad.any() for x in (*inputs, *module.parameters()))


@pytest.mark.parametrize("dimensions, shape", [(2, (5, 7)), (3, (3, 5, 7))])
def test_an_exported_graph_samples_with_standard_operators_and_gives_the_same(
    dimensions: Any, shape: tuple[int, ...]
) -> None:
    module = attention(dimensions)

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, queries: Tensor, reference: Tensor, value: Tensor) -> Tensor:
            return self.inner(queries, reference, value, shape)

    inputs = (torch.randn(1, 4, 16), torch.rand(1, 4, dimensions) * 5, torch.randn(1, math.prod(shape), 16))
    program = torch.export.export(Fixed(), inputs)
    assert any("grid_sampler" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(*inputs), module(*inputs, shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"shape": (5, 8)}, "35 cells"),
        ({"shape": (35,)}, "rows, columns"),
        ({"shape": (1, 5, 7)}, "needs 3"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    value, locations, weights = random_problem((5, 7))
    inputs: dict[str, Any] = {"shape": (5, 7), "backend": "auto", **change}
    with pytest.raises(ValueError, match=message):
        deformable_sample(value, locations=locations, weights=weights, **inputs)


def test_numba_refuses_double_precision_and_other_devices() -> None:
    value, locations, weights = random_problem((5, 7))
    with pytest.raises(ValueError, match="float64"):
        deformable_sample(value.double(), (5, 7), locations, weights, backend="numba")
    with pytest.raises(ValueError, match="on the CPU"):
        deformable_sample(value.to("meta"), (5, 7), locations.to("meta"), weights.to("meta"), backend="numba")


@pytest.mark.parametrize("wrong", [{"channels": 15}, {"points": 0}, {"heads": 0}])
def test_modules_that_cannot_be_built_are_refused(wrong: dict[str, int]) -> None:
    arguments: Any = {"channels": 16, "heads": 4, "points": 2, **wrong}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DeformableAttention(**arguments)
