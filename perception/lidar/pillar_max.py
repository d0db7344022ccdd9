"""Maximum over the points of each pillar of a linear map of the point, and its gradient.

Letters: K points of five features each, C channels, G pillars.
"""

from typing import Any, Literal, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

MaxBackend = Literal["auto", "torch", "numba"]


def pillar_max(
    points: Float[Tensor, "K 5"],
    weight: Float[Tensor, "C 5"],
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


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nnan", "nsz"})
@no_type_check
def _max_forward(
    points: np.ndarray, weight_t: np.ndarray, pillar_index: np.ndarray, out: np.ndarray, winner: np.ndarray
) -> None:
    """Fills `out` and `winner`, which come as -inf and -1. Five features written out stay in registers."""
    for k in range(points.shape[0]):
        p0, p1, p2, p3, p4 = points[k, 0], points[k, 1], points[k, 2], points[k, 3], points[k, 4]
        best, who = out[pillar_index[k]], winner[pillar_index[k]]
        own = np.int32(k)
        for c in range(weight_t.shape[1]):
            value = p0 * weight_t[0, c] + p1 * weight_t[1, c] + p2 * weight_t[2, c]
            value += p3 * weight_t[3, c] + p4 * weight_t[4, c]
            largest, holder = best[c], who[c]
            best[c] = value if value > largest else largest
            who[c] = own if value > largest else holder


@numba.njit(cache=True, nogil=True)
@no_type_check
def _max_backward(points: np.ndarray, winner: np.ndarray, grad: np.ndarray, grad_weight: np.ndarray) -> None:
    for g in range(winner.shape[0]):
        for c in range(winner.shape[1]):
            k = winner[g, c]
            if k >= 0:
                for f in range(points.shape[1]):
                    grad_weight[c, f] += grad[g, c] * points[k, f]
