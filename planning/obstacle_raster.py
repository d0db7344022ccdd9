"""Boxes and their futures as occupancy of the ground at each step: what sampled trajectories are weighed against.

In training from labels (every box where it will be), when driving from what the detection head has found (every box at
its velocity, as certain as its score). Letters: B frames, A boxes, T steps, Y X cells.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bevstack.planning.path_motion import headings_along
from bevstack.types.batch import Labels
from bevstack.types.bev import BevGrid
from bevstack.types.boxes import BOX_COLUMNS, BoxIndex
from bevstack.types.context import Agents

_POINTS_ALONG, _POINTS_ACROSS = 24, 8
_MIN_CHORD_M = 1.0
"""A box turns with its way only where it moves far enough for the way to have a direction."""


def rectangles_at_velocity(agents: Agents, *, steps: int, step_s: float) -> Float[Tensor, "B A T 5"]:
    """Centre, length, width, heading of found boxes at each step, straight on; unknown velocities stand still."""
    boxes = agents.boxes_ego
    times = step_s * torch.arange(1, steps + 1, device=boxes.device, dtype=boxes.dtype)
    velocity = boxes[..., None, BoxIndex.VX : BoxIndex.VY + 1].nan_to_num()
    centers = boxes[..., None, : BoxIndex.Y + 1] + velocity * times[:, None]
    return _with_size(centers, boxes, boxes[..., None, BoxIndex.YAW].expand(*centers.shape[:-1]))


def rectangles_of_labels(labels: Labels, *, steps: int) -> Float[Tensor, "B A T 5"]:
    """Centre, length, width, heading of annotated boxes at each step, turned with their way; NaN where unknown.

    Padded to the largest number of boxes with NaN.
    """
    boxes = _padded([rows.float() for rows in labels.boxes_ego], (BOX_COLUMNS,))
    if labels.agent_futures_ego is None:
        centers = boxes.new_full((*boxes.shape[:2], steps, 2), torch.nan)
    else:
        known = _padded([future.float() for future in labels.agent_futures_ego], labels.agent_futures_ego[0].shape[1:])
        centers = boxes.new_full((*boxes.shape[:2], steps, 2), torch.nan)
        shared = min(steps, known.shape[2])
        centers[:, :, :shared] = known[:, :, :shared]
    yaws = headings_along(
        centers, boxes[..., : BoxIndex.Y + 1], boxes[..., BoxIndex.YAW].contiguous(), min_chord_m=_MIN_CHORD_M
    )
    return _with_size(centers, boxes, yaws)


def occupancy_raster(
    rectangles: Float[Tensor, "B A T 5"], weights: Float[Tensor, "B A"], grid: BevGrid
) -> Float[Tensor, "B T Y X"]:
    """The largest weight of the rectangles that cover each cell at each step; NaN rectangles cover none."""
    batch, num, steps = rectangles.shape[:3]
    rows, columns = grid.shape_yx
    raster = rectangles.new_zeros(batch * steps * rows * columns + 1)  # one place for what lies outside
    if num:
        points, known = _points(rectangles)  # (B, A, T, P, 2)
        column, row = grid.to_cells(points).floor().long().unbind(dim=-1)
        inside = known & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        frame = torch.arange(batch, device=raster.device)[:, None, None, None]
        step = torch.arange(steps, device=raster.device)[:, None]
        cell = ((frame * steps + step) * rows + row) * columns + column
        cell = torch.where(inside, cell, len(raster) - 1)
        values = weights[..., None, None].expand(cell.shape)
        raster = raster.scatter_reduce(0, cell.flatten(), values.flatten(), "amax")
    return raster[:-1].view(batch, steps, rows, columns)


def _points(rectangles: Float[Tensor, "B A T 5"]) -> tuple[Float[Tensor, "B A T P 2"], Bool[Tensor, "B A T P"]]:
    """Points that fill each rectangle up to its edges, and which are known."""
    device = rectangles.device
    along, across = (torch.linspace(-0.5, 0.5, count, device=device) for count in (_POINTS_ALONG, _POINTS_ACROSS))
    share_along, share_across = (share.flatten() for share in torch.meshgrid(along, across, indexing="ij"))
    x, y, length, width, yaw = (part[..., None] for part in rectangles.unbind(dim=-1))
    u, v = length * share_along, width * share_across
    points = torch.stack((x + u * yaw.cos() - v * yaw.sin(), y + u * yaw.sin() + v * yaw.cos()), dim=-1)
    known = points.isfinite().all(dim=-1)
    return torch.where(known[..., None], points, 0.0), known


def _with_size(
    centers: Float[Tensor, "B A T 2"], boxes: Float[Tensor, "B A 9"], yaws: Float[Tensor, "B A T"]
) -> Float[Tensor, "B A T 5"]:
    size = boxes[..., None, [BoxIndex.LENGTH, BoxIndex.WIDTH]].expand(*centers.shape)
    return torch.cat((centers, size, yaws[..., None]), dim=-1)


def _padded(parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Ragged rows of each frame as one tensor, NaN where a frame has fewer."""
    rows = [part.reshape(-1, *shape) for part in parts]
    return pad_sequence(rows, batch_first=True, padding_value=torch.nan)
