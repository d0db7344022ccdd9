"""Ground-truth boxes as what a centre head should say: a bump for each object, numbers at its centre cell.

Gaussian radius: Law and Deng, CornerNet, ECCV 2018, section 3.2, as used by Zhou et al., Objects as Points, 2019, and
Yin et al., CenterPoint, CVPR 2021, section 3. Letters: B frames, K classes, Y X cells, N boxes of all frames.
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bevstack.types.batch import Labels
from bevstack.types.bev import BevGrid
from bevstack.types.boxes import BoxIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class CenterTargets:
    """Labels encoded for one centre head; one row for each box that can be found."""

    heatmap: Float[Tensor, "B K Y X"]
    """1 at centre cells, falling off around them; the larger value where bumps overlap."""
    cell_index: Int[Tensor, " N"]
    """Flat cell (frame, row, column) of each box centre."""
    class_index: Int[Tensor, " N"]
    offset: Float[Tensor, "N 2"]
    """Centre (x, y) minus the centre of its cell, in cells: -0.5 to 0.5."""
    height: Float[Tensor, "N 1"]
    """z of the centre in metres."""
    log_size: Float[Tensor, "N 3"]
    """Natural logarithm of length, width, height in metres."""
    heading: Float[Tensor, "N 2"]
    """Sine and cosine of the yaw."""
    velocity: Float[Tensor, "N 2"]
    """Metres per second; NaN where unknown."""
    attribute_index: Int[Tensor, " N"]
    """-1 where there is none to learn."""

    def select(self, rows: Int[Tensor, " _"]) -> "CenterTargets":
        """The targets of some of the boxes, in the order of `rows`; the heat map stays."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "heatmap"})


def gaussian_radius_cells(
    length_cells: Float[Tensor, " N"], width_cells: Float[Tensor, " N"], min_overlap: float
) -> Float[Tensor, " N"]:
    """How far, in cells, a box may be moved along both axes at once and still overlap itself by `min_overlap`.

    CornerNet takes the least of three such shifts; the other two change the size of the box, which a centre does not.
    Root of (l - r)(w - r) = 2 l w o / (1 + o).
    """
    total, area = length_cells + width_cells, length_cells * width_cells
    return (total - (total**2 - 4 * area * (1 - min_overlap) / (1 + min_overlap)).clamp_min(0).sqrt()) / 2


def encode_boxes(
    labels: Labels,
    grid: BevGrid,
    *,
    num_classes: int,
    min_overlap: float = 0.1,
    min_radius_cells: float = 1.5,
    min_points: int = 1,
) -> CenterTargets:
    """Targets of all boxes whose centre lies on the grid.

    Args:
        labels: Boxes of the batch.
        grid: Where the head works.
        num_classes: Channels of the heat map.
        min_overlap: See `gaussian_radius_cells`: less overlap, wider bumps.
        min_radius_cells: Bumps are at least this wide.
        min_points: Boxes with fewer sensor returns cannot be seen and are not asked for; the benchmark drops them too.
    """
    boxes = torch.cat(labels.boxes_ego)
    counts = torch.tensor([len(rows) for rows in labels.boxes_ego], device=boxes.device)
    frame = torch.repeat_interleave(torch.arange(len(counts), device=boxes.device), counts)
    rows, columns = grid.shape_yx
    cells = grid.to_cells(boxes[:, : BoxIndex.Z])
    column, row = cells[:, 0].floor().long(), cells[:, 1].floor().long()
    keep = (column >= 0) & (column < columns) & (row >= 0) & (row < rows) & (torch.cat(labels.num_points) >= min_points)
    boxes, cells, column, row, frame = boxes[keep], cells[keep], column[keep], row[keep], frame[keep]
    class_index = torch.cat(labels.class_index)[keep]
    size_cells = boxes[:, BoxIndex.LENGTH : BoxIndex.HEIGHT] / grid.cell_m
    radius = gaussian_radius_cells(size_cells[:, 0], size_cells[:, 1], min_overlap).clamp_min(min_radius_cells)
    yaw = boxes[:, BoxIndex.YAW, None]
    return CenterTargets(
        heatmap=_draw(
            frame * num_classes + class_index, row, column, radius, (len(counts), num_classes, rows, columns)
        ),
        cell_index=(frame * rows + row) * columns + column,
        class_index=class_index,
        offset=cells - torch.stack((column, row), dim=1) - 0.5,
        height=boxes[:, BoxIndex.Z, None],
        log_size=boxes[:, BoxIndex.LENGTH : BoxIndex.YAW].log(),
        heading=torch.cat((yaw.sin(), yaw.cos()), dim=1),
        velocity=boxes[:, BoxIndex.VX :],
        attribute_index=torch.cat(labels.attribute_index)[keep],
    )


def _draw(
    plane: Int[Tensor, " N"],
    row: Int[Tensor, " N"],
    column: Int[Tensor, " N"],
    radius: Float[Tensor, " N"],
    shape: tuple[int, int, int, int],
) -> Float[Tensor, "B K Y X"]:
    """Bumps of standard deviation (2 radius + 1) / 6 cells, cut off at the radius, joined by their maximum."""
    heatmap = radius.new_zeros(shape)
    if len(plane) == 0:
        return heatmap
    reach = int(radius.max())
    steps = torch.arange(-reach, reach + 1, device=radius.device)
    dy, dx = (step.flatten() for step in torch.meshgrid(steps, steps, indexing="ij"))
    sigma = (2 * radius + 1) / 6
    value = torch.exp(-(dx**2 + dy**2)[None] / (2 * sigma[:, None] ** 2))  # (N, patch)
    y, x = row[:, None] + dy, column[:, None] + dx
    inside = (y >= 0) & (y < shape[2]) & (x >= 0) & (x < shape[3])
    inside &= torch.maximum(dx.abs(), dy.abs())[None] <= radius[:, None]
    flat = (plane[:, None] * shape[2] + y) * shape[3] + x
    return heatmap.view(-1).scatter_reduce(0, flat[inside], value[inside], "amax").view(shape)
