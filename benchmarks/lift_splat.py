"""Pooling of lifted image features: the fused CPU pass against plain torch, forward and backward.

    OMP_NUM_THREADS=1 python benchmarks/lift_splat.py

Two sizes: six 704x256 cameras, 118 bins and 360x360 cells as in M3Net; six 352x128 cameras, 59 bins and 128x128 cells.
The baseline writes out the lifted tensor and adds its rows with index_add; "cumsum" is the sort-and-cumulative-sum form
of Lift, Splat, Shoot. Outputs are compared before anything is timed.
"""

import argparse
from functools import partial

import common
import torch
from torch import Tensor

from bevstack.fusion.voxel_pool import voxel_pool

SIZES = (
    {"pixels": 6 * 32 * 88, "bins": 118, "channels": 80, "cells": 360 * 360},
    {"pixels": 6 * 16 * 44, "bins": 59, "channels": 32, "cells": 128 * 128},
)


def make_problem(pixels: int, bins: int, channels: int, cells: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Depth weights, features, and rays that run outwards from the middle of a square grid, as cameras' rays do."""
    torch.manual_seed(0)
    side = round(cells**0.5)
    angle = torch.linspace(0, 2 * torch.pi, pixels)[:, None]
    reach = torch.linspace(0.01, 0.6, bins)[None] * side
    column, row = (side / 2 + reach * angle.cos()).long(), (side / 2 + reach * angle.sin()).long()
    is_inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    weight = torch.randn(pixels, bins).softmax(dim=1).requires_grad_()
    features = torch.randn(pixels, channels, requires_grad=True)
    return weight, features, torch.where(is_inside, row * side + column, -1), cells


def index_add_pool(weight: Tensor, features: Tensor, cell_index: Tensor, cells: int) -> Tensor:
    """The lifted tensor, row by row onto the cells."""
    keep = cell_index.flatten() >= 0
    lifted = (weight[..., None] * features[:, None]).flatten(0, 1)[keep]
    return features.new_zeros((cells, features.shape[1])).index_add(0, cell_index.flatten()[keep], lifted)


def cumsum_pool(weight: Tensor, features: Tensor, cell_index: Tensor, cells: int) -> Tensor:
    """Sorted by cell, summed up, differences taken where the cell changes."""
    keep = cell_index.flatten() >= 0
    lifted, index = (weight[..., None] * features[:, None]).flatten(0, 1)[keep], cell_index.flatten()[keep]
    order = index.argsort()
    index, total = index[order], lifted[order].double().cumsum(0)
    is_last = torch.ones_like(index, dtype=torch.bool)
    is_last[:-1] = index[1:] != index[:-1]
    ends = total[is_last]
    sums = torch.cat((ends[:1], ends[1:] - ends[:-1]))
    return features.new_zeros((cells, features.shape[1])).index_copy(0, index[is_last], sums.float())


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    common.report([result for size in SIZES for result in measured(size, arguments.runs)])


def measured(size: dict[str, int], runs: int) -> list[common.Result]:
    """Forward, and forward with backward, after all four have given the same."""
    problem = make_problem(**size)
    candidates = {
        "index_add": index_add_pool,
        "cumsum": cumsum_pool,
        "bevstack torch": partial(voxel_pool, backend="torch"),
        "bevstack numba": partial(voxel_pool, backend="numba"),
    }

    def with_gradients(pool) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
        out = pool(*problem)
        return out.detach(), *torch.autograd.grad(out.square().sum(), problem[:2])

    def forward(pool) -> Tensor:  # type: ignore[no-untyped-def]
        with torch.no_grad():
            return pool(*problem)

    wanted = with_gradients(candidates["index_add"])
    for pool in candidates.values():
        for ours, reference in zip(with_gradients(pool), wanted, strict=True):
            torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-3 * float(reference.abs().max()))
    case = " ".join(f"{value} {name}" for name, value in size.items())
    equality = "outputs and gradients within 1e-3 of the largest"
    measure = partial(common.compare, "lift_splat", baseline="index_add", equality=equality, runs=runs)
    return [
        measure(f"forward, {case}", {name: partial(forward, pool) for name, pool in candidates.items()}),
        measure(f"with backward, {case}", {name: partial(with_gradients, pool) for name, pool in candidates.items()}),
    ]


if __name__ == "__main__":
    main()
