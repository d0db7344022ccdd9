"""Semantic occupancy on the shared decoder (Chen et al., M3Net, AAAI 2025, section 3.3).

One query for each coarse voxel that holds LiDAR points. After the decoder the queries go back to their voxels, all
others get one learned token, and deformable attention in three dimensions spreads what the queries know. A small
network says the class of each coarse voxel, trilinear interpolation that of each voxel of the wanted grid.

The position embedding is added to every voxel, those with a query included: the queries of a column start from the
same feature, and without it nothing but the attention would tell its levels apart.

Letters: B frames, Q queries, C channels, V active voxels of all frames, K classes, Z Y X coarse voxels, S = Z * Y * X.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from bevstack.data.class_names import OCCUPANCY_CLASSES
from bevstack.perception.heads.deformable_attention import DeformableAttention
from bevstack.perception.heads.joint_types import Decoded, Queries, Stem
from bevstack.perception.heads.occupancy_losses import CountsName, OccupancyLoss, Supervision
from bevstack.perception.heads.occupancy_volume import OccupancyVolume, volume_over
from bevstack.perception.heads.voxel_classifier import ClassifiedVoxels, VoxelClassifier, VoxelValues
from bevstack.perception.heads.voxel_resample import resampled
from bevstack.types.batch import Labels
from bevstack.types.bev import BevGrid, VoxelGrid
from bevstack.types.scene import Occupancy

_CHUNK_VOXELS = 2**19
"""Voxels that are decoded at once: 38 MB of logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupancyContext:
    """What the readout needs again of where its queries stand."""

    query_index: Int[Tensor, " V"]
    """Which of the B * Q queries belongs to each active voxel."""
    voxel_index: Int[Tensor, " V"]
    """Which of the B * S voxels of the volume it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupancyOutput:
    """Raw output on a raster; the logits of the wanted voxels lie between its centres."""

    logits: VoxelValues
    grid: VoxelGrid
    """The wanted voxels."""


class OccupancyReadout(nn.Module):
    """Reads occupancy off the shared decoder.

    The defaults are the paper's. For a small model: one block, `crop_margin=0` (attention only where the output needs
    it), `residual_bev=True`, and `sub_voxels` such that the fine voxels are those of the output grid, which then needs
    no interpolation: Occ3D's 0.4 m from a grid of 0.8 m cells with z from -4.2 to 5.4 m in 6 levels takes (2, 2, 4).

    Args:
        channels: Width of the decoder.
        in_channels: Channels of the decoder's input; not read, occupancy starts from the stem.
        output_grid: Where occupancy is wanted; any extent and voxel size. Beyond the features their border goes on.
        levels: Slices of the z range of the features' grid; the `voxel_levels` of the LiDAR encoder.
        blocks: Rounds of attention in three dimensions. 0 leaves it out.
        heads: Heads of each attention, a divisor of `channels`.
        points: Voxels that each head reads.
        hidden_channels: Width inside each block; None for four times `channels`.
        crop_margin: Attention sees so many cells more than the output grid needs; None for the whole grid. The
            outputs are the same as long as nothing is read from farther away.
        sub_voxels: Fine voxels along x, y and z that are predicted inside each coarse one.
        residual_bev: Add the refined feature of its column to every voxel, by a linear map of each level. Without it
            a frame that has no LiDAR has nothing but the learned token to go by.
        supervise: Which voxels are learned, see `OccupancyLoss`. Occ3D is scored on, and usually trained on, "camera";
            OpenOccupancy on "all".
        class_counts: How common each class is, see `OccupancyLoss`.
        loss_voxels: Learn from a sample of so many voxels of each frame, see `OccupancyLoss`; None for all.
        checkpoint: Compute each round of attention again in the backward pass rather than keep what it needs: at full
            size gigabytes less.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        *,
        channels: int,
        in_channels: int,
        output_grid: VoxelGrid,
        levels: int = 5,
        blocks: int = 2,
        heads: int = 8,
        points: int = 4,
        hidden_channels: int | None = None,
        crop_margin: int | None = None,
        sub_voxels: Sequence[int] = (1, 1, 1),
        residual_bev: bool = False,
        supervise: Supervision = "camera",
        class_counts: CountsName | Sequence[float] = "occ3d",
        loss_voxels: int | None = None,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        if levels < 1 or blocks < 0 or (crop_margin is not None and crop_margin < 0):
            raise ValueError(f"levels={levels}, blocks={blocks}, crop_margin={crop_margin}: at least 1, 0 and 0")
        if len(sub_voxels) != 3 or min(sub_voxels) < 1:
            raise ValueError(f"sub_voxels={tuple(sub_voxels)} must be three numbers of 1 or more, along x, y and z")
        self.output_grid, self.levels, self.crop_margin = output_grid, levels, crop_margin
        self.sub_voxels = (sub_voxels[0], sub_voxels[1], sub_voxels[2])
        self.position = VoxelPosition(levels=levels, channels=channels)
        self.mask_token = nn.Parameter(torch.zeros(channels))
        self.column = nn.Linear(channels, levels * channels) if residual_bev else None
        hidden = hidden_channels or 4 * channels
        self.blocks = nn.ModuleList(
            VoxelBlock(channels=channels, heads=heads, points=points, hidden_channels=hidden) for _ in range(blocks)
        )
        fine = math.prod(self.sub_voxels)
        self.classify = VoxelClassifier(channels=channels, sub_voxels=fine, classes=len(OCCUPANCY_CLASSES))
        self.criterion = OccupancyLoss(supervise=supervise, class_counts=class_counts, num_voxels=loss_voxels)

    def queries(self, stem: Stem) -> Queries:
        """One query for each active voxel that the output depends on; at least one, if only padding.

        Raises:
            ValueError: the active voxels have another number of levels.
        """
        volume = self.volume(stem.grid)
        frame, z, y, x = self._active(stem, volume)
        batch_size, rows_yx = len(stem.features), stem.features.permute(0, 2, 3, 1)
        counts = torch.bincount(frame, minlength=batch_size)
        num_queries = max(1, int(counts.max()))
        slot = torch.arange(len(frame), device=frame.device) - (counts.cumsum(0) - counts)[frame]
        query_index = frame * num_queries + slot
        rows, columns = stem.grid.shape_yx
        features = rows_yx.flatten(0, 2).index_select(0, (frame * rows + y) * columns + x)
        position = self.position.of(stem.grid, z, y, x).to(features.dtype)
        reference = torch.stack((x, y), dim=1) + 0.5

        def padded(values: Tensor) -> Tensor:
            empty = values.new_zeros((batch_size * num_queries, *values.shape[1:]))
            return empty.index_copy(0, query_index, values).unflatten(0, (batch_size, num_queries))

        return Queries(
            features=padded(features),
            position=padded(position),
            reference_cells=padded(reference),
            mask=padded(torch.ones_like(frame, dtype=torch.bool)),
            context=OccupancyContext(query_index=query_index, voxel_index=volume.flat_index(frame, z, y, x)),
        )

    def _active(self, stem: Stem, volume: OccupancyVolume) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(frame, level, row, column) of the active voxels inside the volume, in the cells of the whole grid."""
        voxels = stem.bev.voxels
        if voxels is None:
            nothing = torch.zeros(0, dtype=torch.int64, device=stem.features.device)
            return nothing, nothing, nothing, nothing
        if voxels.num_levels != self.levels:
            raise ValueError(
                f"the encoder offers voxels in {voxels.num_levels} levels, occupancy has levels={self.levels}: "
                "set both to one number"
            )
        frame, y, x, z = voxels.index_byxz.long().unbind(1)
        inside = volume.contains(z, y, x)
        return frame[inside], z[inside], y[inside], x[inside]

    def volume(self, grid: BevGrid) -> OccupancyVolume:
        """The coarse voxels that take part in the attention, and those among them that the output depends on."""
        return volume_over(
            grid, self.levels, self.output_grid, sub_voxels=self.sub_voxels, crop_margin=self.crop_margin
        )

    def forward(self, decoded: Decoded) -> OccupancyOutput:
        """What the logits of the (sub-)voxels that the output grid needs are made from."""
        volume = self.volume(decoded.grid)
        shape = volume.shape_zyx
        position = self.position.block(decoded.grid, volume)
        tokens = self._tokens(decoded, volume) + position
        reference = _centers(shape, tokens.device)
        for block in self.blocks:
            inputs = (tokens, position, reference, shape)
            is_frugal = self.checkpoint and torch.is_grad_enabled()
            tokens = recompute(block, *inputs, use_reentrant=False) if is_frugal else block(*inputs)
        needed = tokens.unflatten(1, shape)[:, *volume.needed_zyx]
        logits = ClassifiedVoxels(
            features=needed,
            classifier=self.classify,
            sub_voxels=self.sub_voxels,
            low_m=volume.low_m,
            size_m=volume.sub_voxel_m,
        )
        return OccupancyOutput(logits=logits, grid=self.output_grid)

    def _tokens(self, decoded: Decoded, volume: OccupancyVolume) -> Float[Tensor, "B S C"]:
        """Refined queries at their voxels, the learned token elsewhere, plus the feature of the column."""
        context: OccupancyContext = decoded.queries.context
        refined = decoded.features.flatten(0, 1).index_select(0, context.query_index)
        batch_size, channels = len(decoded.features), self.mask_token.shape[0]
        blank = self.mask_token.to(refined.dtype).expand(batch_size * volume.size, channels)
        tokens = blank.index_copy(0, context.voxel_index, refined).unflatten(0, (batch_size, volume.size))
        if self.column is None:
            return tokens
        levels, rows, columns = volume.range_zyx
        seen = (decoded.bev * decoded.task_scale)[:, :, rows, columns].permute(0, 2, 3, 1)
        spread = self.column(seen).unflatten(-1, (self.levels, channels))[..., levels, :]  # (B, Y, X, Z, C)
        return tokens + spread.permute(0, 3, 1, 2, 4).flatten(1, 3)

    def loss(self, output: OccupancyOutput, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Terms "cross_entropy", "scene_class", "geometry" and "lovasz", see `OccupancyLoss`.

        Raises:
            ValueError: labels without occupancy, without the wanted mask, or on another grid.
        """
        return self.criterion(output.logits, output.grid, labels)

    @torch.no_grad()
    def decode(self, output: OccupancyOutput) -> list[Occupancy]:
        """The likeliest class of every voxel of the output grid."""
        return [
            Occupancy(semantics=_likeliest(output.logits, frame, output.grid), grid=output.grid)
            for frame in range(output.logits.num_frames)
        ]


def _likeliest(logits: VoxelValues, frame: int, grid: VoxelGrid) -> np.ndarray:
    """Class of every voxel (U, V, W), in slabs along x: at full size the logits would take gigabytes."""
    x_taps, y_taps, z_taps = logits.taps(grid)
    dense = logits.dense(frame)
    if not (x_taps.is_exact and y_taps.is_exact and z_taps.is_exact):
        dense = dense.float()
    count_x, count_y, count_z = grid.shape_xyz
    step = max(1, _CHUNK_VOXELS // (count_y * count_z))
    semantics = np.empty(grid.shape_xyz, np.uint8)
    for start in range(0, count_x, step):
        slab = resampled(dense, (x_taps.part(start, start + step), y_taps, z_taps))
        semantics[start : start + step] = slab.argmax(-1).to(torch.uint8).permute(2, 1, 0).cpu().numpy()
    return semantics


class VoxelPosition(nn.Module):
    """Learned embedding of a voxel's place: a small network of (x, y) plus a vector for each level.

    Places are measured in half widths of the whole grid, whatever part of it is looked at.
    """

    def __init__(self, *, levels: int, channels: int) -> None:
        super().__init__()
        self.plane = nn.Sequential(nn.Linear(2, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.level = nn.Embedding(levels, channels)

    def of(
        self, grid: BevGrid, z: Int[Tensor, " V"], y: Int[Tensor, " V"], x: Int[Tensor, " V"]
    ) -> Float[Tensor, "V C"]:
        """Embedding of chosen voxels."""
        return self.plane(_normalised(grid, y, x)) + self.level(z)

    def block(self, grid: BevGrid, volume: OccupancyVolume) -> Float[Tensor, "1 S C"]:
        """Embedding of all voxels of a volume."""
        levels, rows, columns = (
            torch.arange(part.start, part.stop, device=self.level.weight.device) for part in volume.range_zyx
        )
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        plane = self.plane(_normalised(grid, y.flatten(), x.flatten()))
        return (self.level(levels)[:, None] + plane).flatten(0, 1)[None]


def _normalised(grid: BevGrid, y: Int[Tensor, " V"], x: Int[Tensor, " V"]) -> Float[Tensor, "V 2"]:
    rows, columns = grid.shape_yx
    return torch.stack(((x + 0.5) * (2 / columns) - 1, (y + 0.5) * (2 / rows) - 1), dim=1)


class VoxelBlock(nn.Module):
    """Deformable self-attention of all voxels, then a network for each, with norms after the shortcuts."""

    def __init__(self, *, channels: int, heads: int, points: int, hidden_channels: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(channels=channels, heads=heads, points=points, dimensions=3)
        self.attention_norm = nn.LayerNorm(channels)
        self.network = nn.Sequential(
            nn.Linear(channels, hidden_channels), nn.ReLU(inplace=True), nn.Linear(hidden_channels, channels)
        )
        self.network_norm = nn.LayerNorm(channels)

    def forward(
        self,
        tokens: Float[Tensor, "B S C"],
        position: Float[Tensor, "1 S C"],
        reference_cells: Float[Tensor, "1 S 3"],
        shape: tuple[int, int, int],
    ) -> Float[Tensor, "B S C"]:
        """Voxels with what they read from each other."""
        reference = reference_cells.expand(len(tokens), -1, -1)
        read = self.attention(tokens + position, reference, tokens, shape)
        tokens = self.attention_norm(tokens + read)
        return self.network_norm(tokens + self.network(tokens))


def _centers(shape: tuple[int, int, int], device: torch.device) -> Float[Tensor, "1 S 3"]:
    """(x, y, z) of the centre of every voxel, in cells of the volume."""
    z, y, x = torch.meshgrid(*(torch.arange(count, device=device) + 0.5 for count in shape), indexing="ij")
    return torch.stack((x, y, z), dim=-1).view(1, -1, 3)
