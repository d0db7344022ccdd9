"""Sampling of deformable attention: one pass on the CPU against grid_sample, forward and backward.

    OMP_NUM_THREADS=1 python benchmarks/deformable_attention.py

Eight heads of four points each, as in M3Net: every cell of a 180x180 grid attends (its BEV tokens), 900 queries attend
to that grid, and every cell of the 128x128 grid of the small model, with 8 channels per head. Outputs and gradients are
compared before anything is timed.
"""

import argparse
from dataclasses import dataclass
from functools import partial

import common
import torch
from torch import Tensor

from bevstack.perception.heads.deformable_attention import DeformableBackend, deformable_sample

HEADS, POINTS = 8, 4
REACH_CELLS = 3.0
CASES = {
    "180x180 grid, 32400 queries, 32 channels per head": (180, 180 * 180, 32),
    "180x180 grid, 900 queries, 32 channels per head": (180, 900, 32),
    "128x128 grid, 16384 queries, 8 channels per head": (128, 128 * 128, 8),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Values on a square grid, and places around the cells from which the queries look."""

    side: int
    value: Tensor
    locations: Tensor
    weights: Tensor

    @classmethod
    def of(cls, side: int, queries: int, channels: int) -> "Problem":
        """Queries stand on the cells in order, or on cells drawn at random where there are fewer of them."""
        generator = torch.Generator().manual_seed(0)
        draw = partial(torch.randn, generator=generator)
        cells = torch.arange(side**2)
        if queries < side**2:
            cells = torch.randperm(side**2, generator=generator)[:queries]
        centers = torch.stack((cells % side, cells // side), dim=-1) + 0.5
        places = centers[None, :, None, None] + REACH_CELLS * draw(1, queries, HEADS, POINTS, 2)
        # Slopes jump where a place passes a cell centre: kept apart from it by more than rounding.
        rest = (places - 0.5) % 1
        places = places - rest + rest.clamp(1e-3, 1 - 1e-3)
        return cls(
            side,
            draw(1, side**2, HEADS, channels).requires_grad_(),
            places.requires_grad_(),
            draw(1, queries, HEADS, POINTS).softmax(-1).requires_grad_(),
        )

    def forward(self, backend: DeformableBackend) -> Tensor:
        """The samples alone."""
        with torch.no_grad():
            return self._sample(backend)

    def with_gradients(self, backend: DeformableBackend) -> tuple[Tensor, ...]:
        """The samples, and the gradients of value, places and weights."""
        out = self._sample(backend)
        inputs = (self.value, self.locations, self.weights)
        return out.detach(), *torch.autograd.grad(out, inputs, out.detach())

    def _sample(self, backend: DeformableBackend) -> Tensor:
        return deformable_sample(self.value, (self.side, self.side), self.locations, self.weights, backend=backend)


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measure = partial(common.compare, "deformable_attention", baseline="grid_sample", runs=arguments.runs)
    backends: dict[str, DeformableBackend] = {"grid_sample": "torch", "bevstack numba": "numba"}
    results = []
    for case, size in CASES.items():
        problem = Problem.of(*size)
        largest = 0.0
        for ours, reference in zip(problem.with_gradients("numba"), problem.with_gradients("torch"), strict=True):
            difference = float((ours - reference).abs().max() / reference.abs().max())
            assert difference < 1e-4, f"{case}: results differ by {difference:.1e} of the largest"
            largest = max(largest, difference)
        equality = f"outputs and gradients within {largest:.0e} of the largest"
        for title, run in (("forward", problem.forward), ("with backward", problem.with_gradients)):
            candidates = {name: partial(run, backend) for name, backend in backends.items()}
            results.append(measure(f"{title}, {case}", candidates, equality=equality))
    common.report(results)


if __name__ == "__main__":
    main()
