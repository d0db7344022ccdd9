"""Sum of weighted pixel features into bird's-eye cells: the pooling step of lift-splat, without the lifted tensor.

Lift-splat (Philion and Fidler, Lift Splat Shoot, ECCV 2020, section 3) forms, for every pixel p and depth bin d, the
vector `weight[p, d] * features[p]` and sums those that fall into the same cell. Written out, the lifted tensor is D
times the image features; here it never exists: each cell gathers weight times feature directly, forward and backward.

Two equal implementations: `torch` (one index_add for each depth bin, any device) and `numba` (one pass over the pairs,
CPU). Letters: P pixels, D depth bins, C channels, G cells.
"""

from typing import Any, Literal, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

PoolBackend = Literal["auto", "torch", "numba"]


def voxel_pool(
    weight: Float[Tensor, "P D"],
    features: Float[Tensor, "P C"],
    cell_index: Int[Tensor, "P D"],
    num_cells: int,
    *,
    backend: PoolBackend = "auto",
) -> Float[Tensor, "G C"]:
    """Sum `weight[p, d] * features[p]` over all (p, d) with `cell_index[p, d] == g`, for each cell g.

    Args:
        weight: Depth probability of each pixel and bin.
        features: Context of each pixel.
        cell_index: Flat cell of each pixel and bin; -1 where it falls outside the grid.
        num_cells: Number of cells G.
        backend: "auto" takes numba on the CPU and torch elsewhere (and while a graph is captured for export).

    Returns:
        float32 sums, differentiable with respect to `weight` and `features`.

    Raises:
        ValueError: unknown backend, or numba asked for tensors that are not on the CPU.
    """
    if backend not in ("auto", "torch", "numba"):
        raise ValueError(f"backend={backend!r} must be 'auto', 'torch' or 'numba'")
    if backend == "numba" and weight.device.type != "cpu":
        raise ValueError(f"backend='numba' needs tensors on the CPU, not on {weight.device}")
    if torch.compiler.is_exporting():
        return _lifted_sum(weight.float(), features.float(), cell_index, num_cells)
    is_fast = backend == "numba" or (backend == "auto" and weight.device.type == "cpu")
    function = _NumbaPool if is_fast else _TorchPool
    return function.apply(weight.float(), features.float(), cell_index, num_cells)


def _lifted_sum(weight: Tensor, features: Tensor, cell_index: Tensor, num_cells: int) -> Tensor:
    """The definition, with the lifted tensor written out: plain operations only. A spare row takes what is outside."""
    lifted = (weight[..., None] * features[:, None]).flatten(0, 1)
    out = features.new_zeros((num_cells + 1, features.shape[1]))
    return out.index_add(0, _with_spare_row(cell_index, num_cells).flatten(), lifted)[:num_cells]


def _with_spare_row(cell_index: Tensor, num_cells: int) -> Tensor:
    return torch.where(cell_index < 0, num_cells, cell_index)


class _TorchPool(torch.autograd.Function):
    """Depth bin by depth bin, so that no tensor is larger than the image features."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, features: Tensor, cell_index: Tensor, num_cells: int) -> Tensor:
        target = _with_spare_row(cell_index, num_cells)
        ctx.save_for_backward(weight, features, target)
        out = features.new_zeros((num_cells + 1, features.shape[1]))
        for d in range(weight.shape[1]):
            out.index_add_(0, target[:, d], weight[:, d : d + 1] * features)
        return out[:num_cells]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, features, target = ctx.saved_tensors
        grad = torch.cat((grad_outputs[0], grad_outputs[0].new_zeros((1, features.shape[1]))))
        grad_weight = torch.empty_like(weight)
        grad_features = torch.zeros_like(features)
        for d in range(weight.shape[1]):
            gathered = grad[target[:, d]]
            grad_weight[:, d] = (gathered * features).sum(-1)
            grad_features.addcmul_(gathered, weight[:, d : d + 1])
        return grad_weight, grad_features, None, None


class _NumbaPool(torch.autograd.Function):
    """One pass over the pairs, feature rows stay in the cache."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, features: Tensor, cell_index: Tensor, num_cells: int) -> Tensor:
        weight, features, cell_index = weight.contiguous(), features.contiguous(), cell_index.contiguous()
        ctx.save_for_backward(weight, features, cell_index)
        out = features.new_zeros((num_cells, features.shape[1]))
        _pool(weight.detach().numpy(), features.detach().numpy(), cell_index.numpy(), out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, features, cell_index = ctx.saved_tensors
        grad_weight, grad_features = torch.zeros_like(weight), torch.zeros_like(features)
        _pool_backward(
            weight.detach().numpy(),
            features.detach().numpy(),
            cell_index.numpy(),
            grad_outputs[0].contiguous().numpy(),
            grad_weight.numpy(),
            grad_features.numpy(),
        )
        return grad_weight, grad_features, None, None


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _pool(weight: np.ndarray, features: np.ndarray, cell_index: np.ndarray, out: np.ndarray) -> None:
    for p in range(weight.shape[0]):
        row = features[p]
        for d in range(weight.shape[1]):
            cell = cell_index[p, d]
            if cell >= 0:
                w = weight[p, d]
                target = out[cell]
                for c in range(row.shape[0]):
                    target[c] += w * row[c]


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _pool_backward(
    weight: np.ndarray,
    features: np.ndarray,
    cell_index: np.ndarray,
    grad: np.ndarray,
    grad_weight: np.ndarray,
    grad_features: np.ndarray,
) -> None:
    for p in range(weight.shape[0]):
        row, grad_row = features[p], grad_features[p]
        for d in range(weight.shape[1]):
            cell = cell_index[p, d]
            if cell >= 0:
                source = grad[cell]
                w = weight[p, d]
                dot = np.float32(0.0)
                for c in range(row.shape[0]):
                    dot += source[c] * row[c]
                    grad_row[c] += w * source[c]
                grad_weight[p, d] = dot
