"""Deformable attention: every query reads a few places of a feature grid, which it chooses itself.

Zhu et al., Deformable DETR, ICLR 2021, section 4.1, on one grid (M3Net works at a single scale), of two dimensions for
bird's-eye features and of three for occupancy. Places are measured in cells with centres at k + 0.5, as everywhere
(`BevGrid.to_cells`), never in fractions of the grid: an offset means the same on every grid.

Two equal implementations of the sampling: `torch` (grid_sample, any device) and `numba` (one pass, CPU). Letters: B
frames, S cells of the grid, Q queries, H heads, P points of each head, D dimensions of the grid, C channels (in
`deformable_sample` of each head).
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bevstack.perception.heads.deformable_kernels import numba_sample

DeformableBackend = Literal["auto", "torch", "numba"]


def deformable_sample(
    value: Float[Tensor, "B S H C"],
    shape: Sequence[int],
    locations: Float[Tensor, "B Q H P D"],
    weights: Float[Tensor, "B Q H P"],
    *,
    backend: DeformableBackend = "auto",
) -> Float[Tensor, "B Q HC"]:
    """Weighted sum of (bi- or tri-)linear samples, head by head; heads are concatenated.

    Args:
        value: Features of the cells, row-major: x runs fastest, then y, then z.
        shape: Cells along each axis, slowest first: (rows Y, columns X) or (levels Z, rows Y, columns X).
        locations: Where to read, (x, y) or (x, y, z) in cells, centres at k + 0.5. Cells outside the grid are zero.
        weights: Factor of each sample.
        backend: "auto" takes numba on the CPU and torch elsewhere, for float64, and while a graph is captured.

    Returns:
        Sums in the dtype of `value`, accumulated in float32 or wider; differentiable with respect to `value`,
        `locations` and `weights`.

    Raises:
        ValueError: unknown backend, numba asked for float64 or for tensors that are not on the CPU, a shape without
            cells or with another product than S, or locations of another dimension than the shape.
    """
    _check(value, shape, locations, weights, backend)
    dtype = torch.promote_types(value.dtype, torch.float32)
    wide_value, locations, weights = value.to(dtype), locations.to(dtype), weights.to(dtype)
    if backend == "numba" or (backend == "auto" and _is_numba_faster(wide_value)):
        levels, rows, columns = (1, *shape)[-3:]
        return numba_sample(wide_value, (levels, rows, columns), locations, weights).to(value.dtype)
    return _grid_sample_sum(wide_value, shape, locations, weights).to(value.dtype)


def _is_numba_faster(value: Tensor) -> bool:
    is_captured = torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing()
    return value.device.type == "cpu" and value.dtype == torch.float32 and not is_captured


def _check(value: Tensor, shape: Sequence[int], locations: Tensor, weights: Tensor, backend: str) -> None:
    if backend not in ("auto", "torch", "numba"):
        raise ValueError(f"backend={backend!r} must be 'auto', 'torch' or 'numba'")
    if backend == "numba" and value.device.type != "cpu":
        raise ValueError(f"backend='numba' needs tensors on the CPU, not on {value.device}")
    if backend == "numba" and value.dtype == torch.float64:
        raise ValueError("backend='numba' works in float32: take backend='torch' for float64")
    if len(shape) not in (2, 3) or min(shape) < 1 or math.prod(shape) != value.shape[1]:
        raise ValueError(
            f"shape={tuple(shape)} must be (rows, columns) or (levels, rows, columns) of {value.shape[1]} cells"
        )
    if locations.shape[-1] != len(shape):
        raise ValueError(
            f"locations have {locations.shape[-1]} coordinates, a grid of shape {tuple(shape)} needs {len(shape)}"
        )
    if locations.shape[:-1] != weights.shape or locations.shape[2] != value.shape[2]:
        raise ValueError(
            f"locations {tuple(locations.shape)}, weights {tuple(weights.shape)}, value {tuple(value.shape)} must be "
            "(B, Q, H, P, D), (B, Q, H, P), (B, S, H, C)"
        )


def _grid_sample_sum(value: Tensor, shape: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    """The definition in plain operations: each head is one picture of a batch."""
    batch, queries, heads, points, dimensions = locations.shape
    channels = value.shape[-1]
    pictures = value.permute(0, 2, 3, 1).reshape(batch * heads, channels, *shape)
    size = locations.new_tensor(tuple(reversed(shape)))
    places = (2 * locations / size - 1).transpose(1, 2)  # -1 and 1 are the rims of the grid
    places = places.reshape(batch * heads, queries, points, *(1,) * (dimensions - 2), dimensions)
    sampled = F.grid_sample(pictures, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    factor = weights.transpose(1, 2).reshape(batch * heads, 1, queries, points)
    summed = (sampled.reshape(batch * heads, channels, queries, points) * factor).sum(-1)  # (B H, C, Q)
    return summed.reshape(batch, heads * channels, queries).transpose(1, 2)


class DeformableAttention(nn.Module):
    """Offsets and weights from each query, samples of a projected grid, one projection of all heads together.

    Args:
        channels: Width of queries, values and result.
        heads: Number of heads, a divisor of `channels`.
        points: Places that each head reads.
        dimensions: 2 for a grid of rows and columns, 3 for one with levels.
        backend: Implementation of the sampling, see `deformable_sample`.

    Raises:
        ValueError: channels that the heads do not divide, no point, or another number of dimensions.
    """

    def __init__(
        self,
        *,
        channels: int,
        heads: int = 8,
        points: int = 4,
        dimensions: Literal[2, 3] = 2,
        backend: DeformableBackend = "auto",
    ) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"channels={channels} must be a multiple of heads={heads}")
        if points < 1:
            raise ValueError(f"points={points} must be 1 or more")
        if dimensions not in (2, 3):
            raise ValueError(f"dimensions={dimensions} must be 2 or 3")
        self.heads, self.points, self.dimensions, self.backend = heads, points, dimensions, backend
        self.offsets = nn.Linear(channels, heads * points * dimensions)
        self.weights = nn.Linear(channels, heads * points)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Every head starts to look in a direction of its own, its points 1, 2, ... cells away, all equally heavy."""
        directions = ring(self.heads) if self.dimensions == 2 else sphere(self.heads)
        steps = torch.arange(1.0, self.points + 1)
        nn.init.zeros_(self.offsets.weight)
        self.offsets.bias.copy_((directions[:, None] * steps[:, None]).flatten())
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for projection in (self.value, self.out):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        queries: Float[Tensor, "B Q C"],
        reference_cells: Float[Tensor, "B Q D"],
        value: Float[Tensor, "B S C"],
        shape: Sequence[int],
        value_mask: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B Q C"]:
        """Attend from each query to its places on the grid.

        Args:
            queries: With the position embedding already added.
            reference_cells: (x, y) or (x, y, z) in cells, centres at k + 0.5; float32 even under autocast.
            value: Features of the cells, row-major.
            shape: (rows, columns) or (levels, rows, columns).
            value_mask: False where a cell has nothing to say: it counts as zero.

        Raises:
            ValueError: as `deformable_sample`.
        """
        return self.attend(queries, reference_cells, self.project_value(value, value_mask), shape)

    def project_value(
        self, value: Float[Tensor, "B S C"], value_mask: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B S H E"]:
        """The features as `attend` reads them; may be computed once for several sets of queries. E = C / H."""
        projected = self.value(value)
        if value_mask is not None:
            projected = projected.masked_fill(~value_mask[..., None], 0.0)
        return projected.unflatten(-1, (self.heads, projected.shape[-1] // self.heads))

    def attend(
        self,
        queries: Float[Tensor, "B Q C"],
        reference_cells: Float[Tensor, "B Q D"],
        projected: Float[Tensor, "B S H E"],
        shape: Sequence[int],
    ) -> Float[Tensor, "B Q C"]:
        """As `forward`, with values from `project_value`."""
        offsets = self.offsets(queries).unflatten(-1, (self.heads, self.points, self.dimensions))
        weights = self.weights(queries).unflatten(-1, (self.heads, self.points)).softmax(-1)
        # A sum out of place: the reference belongs to the caller, who may use it for the next layer.
        locations = reference_cells[:, :, None, None] + offsets.to(reference_cells.dtype)
        return self.out(deformable_sample(projected, shape, locations, weights, backend=self.backend))


def ring(count: int) -> Float[Tensor, "count 2"]:
    """Directions evenly around a circle, pushed out onto the square of the neighbouring cells."""
    angle = torch.arange(count) * (2 * torch.pi / count)
    return _onto_cube(torch.stack((angle.cos(), angle.sin()), dim=-1))


def sphere(count: int) -> Float[Tensor, "count 3"]:
    """Directions evenly over a sphere (a golden spiral), pushed out onto the cube of the neighbouring cells."""
    height = 1 - (2 * torch.arange(count) + 1) / count
    angle = torch.arange(count) * (torch.pi * (3 - 5**0.5))
    radius = (1 - height**2).sqrt()
    return _onto_cube(torch.stack((radius * angle.cos(), radius * angle.sin(), height), dim=-1))


def _onto_cube(directions: Tensor) -> Tensor:
    return directions / directions.abs().amax(dim=-1, keepdim=True)
