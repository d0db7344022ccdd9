"""Where something lies on a grid, as a vector: what attention adds to queries and tokens to tell places apart.

The two-layer network on cell centres of TransFusion (Bai et al., CVPR 2022, section 3.2), with two changes: waves of
several lengths beside the plain coordinates (Tancik et al., Fourier Features, NeurIPS 2020), so that neighbouring cells
differ from the first step on; and no batch normalisation, so that a place has the same vector in every batch.

Letters: C channels, D dimensions of the grid.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PositionEmbedding(nn.Module):
    """Cells to vectors, for grids of any size.

    Args:
        channels: Width of the vectors.
        dimensions: Coordinates of a cell.
        waves: Wave lengths for each coordinate; the longest is twice the grid, each further one half the last.
    """

    _frequencies: Tensor

    def __init__(self, *, channels: int, dimensions: int = 2, waves: int = 6) -> None:
        super().__init__()
        self.register_buffer("_frequencies", math.pi * 2.0 ** torch.arange(waves), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(dimensions * (1 + 2 * waves), channels), nn.ReLU(inplace=True), nn.Linear(channels, channels)
        )

    def forward(self, cells: Float[Tensor, "*N D"], size: Sequence[int]) -> Float[Tensor, "*N C"]:
        """Vectors of places.

        Args:
            cells: Continuous cell coordinates, (x, y) or (x, y, z), centres at k + 0.5 as in `BevGrid.to_cells`.
            size: Cells of the grid along each coordinate, in the same order.
        """
        centred = 2 * cells / cells.new_tensor(size) - 1  # -1 and 1 are the rims of the grid
        phase = (centred[..., None] * self._frequencies).flatten(-2)
        return self.layers(torch.cat((centred, phase.sin(), phase.cos()), dim=-1))


def cell_centres(shape: Sequence[int], device: torch.device | None = None) -> Float[Tensor, "S D"]:
    """Centres of all cells in the order of a flattened grid, coordinates as `PositionEmbedding` takes them.

    Args:
        shape: Cells along each axis, slowest first: (rows, columns) or (levels, rows, columns).
        device: Where to make them.
    """
    axes = torch.meshgrid(*(torch.arange(count, device=device) + 0.5 for count in shape), indexing="ij")
    return torch.stack([axis.flatten() for axis in reversed(axes)], dim=-1)
