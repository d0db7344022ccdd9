"""Maximum over the points of each pillar of a linear map of the point, and its gradient.

Letters: K points, F features of a point, C channels, G pillars.
"""

from typing import Any, Literal, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

MaxBackend = Literal["auto", "torch", "numba"]


def pillar_max(
    points: Float[Tensor, "K F"],
    weight: Float[Tensor, "C F"],
    pillar_index: Int[Tensor, " K"],
    num_pillars: int,
    *,
    backend: MaxBackend = "auto",
) -> Float[Tensor, "G C"]:
    """For each pillar and channel the largest `weight[c] . points[k]` over its points; zero in pillars without points.

    Args:
        points: Features of the points; they get no gradient.
        weight: The linear map; gets the gradient.
        pillar_index: Pillar of each point, 0 to num_pillars - 1, in any order.
        num_pillars: Number of pillars G.
        backend: "torch" for standard operations on any device, "numba" for one pass without a (K, C) tensor on the CPU,
            "auto" to choose (standard operations while a graph is captured for export).

    Raises:
        ValueError: unknown backend, or numba asked for tensors that are not on the CPU.
    """
    if backend not in ("auto", "torch", "numba"):
        raise ValueError(f"backend={backend!r} must be 'auto', 'torch' or 'numba'")
    if backend == "numba" and points.device.type != "cpu":
        raise ValueError(f"backend='numba' needs tensors on the CPU, not on {points.device}")
    is_fast = backend == "numba" or (backend == "auto" and points.device.type == "cpu")
    if is_fast and not torch.compiler.is_exporting():
        return _NumbaPillarMax.apply(points.float(), weight.float(), pillar_index, num_pillars)
    mapped = points.float() @ weight.float().T
    out = mapped.new_zeros((num_pillars, mapped.shape[1]))
    index = pillar_index[:, None].expand_as(mapped)
    return out.scatter_reduce(0, index, mapped, "amax", include_self=False)


class _NumbaPillarMax(torch.autograd.Function):
    """Remembers which point won each channel; only winners pass gradient on."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, weight: Tensor, pillar_index: Tensor, num_pillars: int) -> Tensor:
        out = points.new_full((num_pillars, weight.shape[0]), -torch.inf)
        winner = torch.full(out.shape, -1, dtype=torch.int32)
        points = points.contiguous()
        _max_forward(
            points.detach().numpy(),
            weight.detach().T.contiguous().numpy(),
            pillar_index.contiguous().numpy(),
            out.numpy(),
            winner.numpy(),
        )
        out[winner < 0] = 0.0
        ctx.save_for_backward(points, winner)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor, None, None]:
        points, winner = ctx.saved_tensors
        grad_weight = np.zeros((winner.shape[1], points.shape[1]))
        _max_backward(points.detach().numpy(), winner.numpy(), grad_outputs[0].contiguous().numpy(), grad_weight)
        return None, torch.from_numpy(grad_weight).to(points.dtype), None, None


@numba.njit(cache=True, nogil=True)
@no_type_check
def _max_forward(
    points: np.ndarray, weight_t: np.ndarray, pillar_index: np.ndarray, out: np.ndarray, winner: np.ndarray
) -> None:
    """Fills `out` and `winner`, which come as -inf and -1."""
    num_features, num_channels = weight_t.shape
    value = np.empty(num_channels, np.float32)
    for k in range(points.shape[0]):
        factor = points[k, 0]
        for c in range(num_channels):
            value[c] = factor * weight_t[0, c]
        for f in range(1, num_features):
            factor = points[k, f]
            for c in range(num_channels):
                value[c] += factor * weight_t[f, c]
        best, who = out[pillar_index[k]], winner[pillar_index[k]]
        for c in range(num_channels):
            is_better = value[c] > best[c]
            best[c] = value[c] if is_better else best[c]
            who[c] = np.int32(k) if is_better else who[c]


@numba.njit(cache=True, nogil=True)
@no_type_check
def _max_backward(points: np.ndarray, winner: np.ndarray, grad: np.ndarray, grad_weight: np.ndarray) -> None:
    for g in range(winner.shape[0]):
        for c in range(winner.shape[1]):
            k = winner[g, c]
            if k >= 0:
                for f in range(points.shape[1]):
                    grad_weight[c, f] += grad[g, c] * points[k, f]
