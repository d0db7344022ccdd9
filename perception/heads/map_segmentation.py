"""Map segmentation on the shared decoder (Chen et al., M3Net, AAAI 2025, section 3.3).

The map is cut into strips along y; each strip has one query for each class. A coarse map, learned by itself, says where
the query starts: at the cell of its strip that looks most like its class and holds no object. After the decoder the
query is compared with the refined features of its strip, which gives the fine map.

Bilinear resampling from the grid of the features to that of the map ("crop" in the paper) and the dot product with a
query are both linear and exchange their order: here the few products are resampled, never the many channels.

Letters: B frames, C channels, K classes, S strips, R rows of the map in a strip, Q = S * K queries (class fastest),
N queries of an earlier task, Y X cells.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.data.maps import MAP_CLASSES
from bevstack.perception.heads.joint_types import Decoded, Queries, Stem
from bevstack.perception.heads.query_encoding import PositionEmbedding
from bevstack.types.batch import Labels
from bevstack.types.bev import BevGrid
from bevstack.types.context import MapBelief
from bevstack.types.scene import MapSegmentation

OBJECTS_TASK = "detection"
"""The earlier task whose queries stand on objects."""
_TOUCH = 1e-4
"""Cells that overlap by less than this share of a cell only touch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapContext:
    """What the readout needs again of where its queries came from."""

    coarse: Float[Tensor, "B K Y X"]
    """Logits of the coarse map."""
    cells: Int[Tensor, "B Q 2"]
    """The map cell (column, row) at which each query starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOutput:
    """Raw output: two maps of logits; classes overlap."""

    logits: Float[Tensor, "B K Y X"]
    coarse: Float[Tensor, "B K Y X"]
    grid: BevGrid
    """The grid of the map, not that of the features."""


class MapReadout(nn.Module):
    """Reads the map off the shared decoder.

    Args:
        channels: Width of the decoder.
        in_channels: Channels of the decoder's input; not read, the map starts from the stem.
        map_grid: Where the map is wanted. It may be smaller or larger than the grid of the features and have other
            cells; beyond the features their rim is repeated.
        strips: Equal parts of the map along y.
        classes: Map classes; those of `bevstack.data.maps.MAP_CLASSES`.
        attention_heads: Heads of the two self-attentions.
        sub_cells: Finer cells along x and along y that a query tells apart in each cell of the features: lines are
            thinner than these.

    Raises:
        ValueError: rows of the map that do not divide by `strips`, channels that do not by `attention_heads`, or no
            sub-cell.
    """

    def __init__(
        self,
        *,
        channels: int,
        in_channels: int,
        map_grid: BevGrid,
        strips: int = 5,
        classes: int = len(MAP_CLASSES),
        attention_heads: int = 8,
        sub_cells: int = 1,
    ) -> None:
        super().__init__()
        del in_channels
        rows = map_grid.shape_yx[0]
        if strips < 1 or rows % strips:
            raise ValueError(f"strips={strips} must divide the {rows} rows of the map")
        if sub_cells < 1:
            raise ValueError(f"sub_cells={sub_cells} must be 1 or more")
        if channels % attention_heads:
            raise ValueError(f"channels={channels} must be a multiple of attention_heads={attention_heads}")
        self.map_grid, self.strips, self.classes, self.sub_cells = map_grid, strips, classes, sub_cells
        self.to_coarse = three_layers(channels)
        self.class_embedding = nn.Embedding(classes, channels)
        self.to_class_vector = nn.Sequential(nn.LayerNorm(channels), three_layers(channels))
        self.position = PositionEmbedding(channels=channels)
        self.among_classes = _SelfAttention(channels, attention_heads)
        self.among_strips = _SelfAttention(channels, attention_heads)
        self.to_map_features = nn.Conv2d(channels, channels, 1)
        self.to_kernels = nn.Sequential(nn.LayerNorm(channels), three_layers(channels, channels * sub_cells**2))

    def queries(self, stem: Stem) -> Queries:
        """One query for each strip and class, at the best cell of the coarse map that no object stands on."""
        class_vectors = self.to_class_vector(self.class_embedding.weight)  # (K, C)
        features = self.to_coarse(stem.features.movedim(1, -1))  # (B, Y, X, C)
        coarse = crop((features @ class_vectors.T).movedim(-1, 1), stem.grid, self.map_grid)
        cells = self._best_cells(coarse.detach(), self._objects(stem.earlier, stem.grid))
        reference_cells = stem.grid.to_cells(self.map_grid.to_metres(cells + 0.5))
        position = self.position(cells + 0.5, self.map_grid.shape_yx[::-1])
        found = sample(stem.features, reference_cells)
        return Queries(
            features=self._attended(found, position) + class_vectors.repeat(self.strips, 1),
            position=position,
            reference_cells=reference_cells,
            mask=torch.ones(cells.shape[:2], dtype=torch.bool, device=cells.device),
            context=MapContext(coarse=coarse, cells=cells),
        )

    def forward(self, decoded: Decoded) -> MapOutput:
        """Each refined query, as one vector for each sub-cell, times the features of its strip."""
        features = self.to_map_features(decoded.bev) * decoded.task_scale
        kernels = self.to_kernels(decoded.features)  # (B, Q, sub-cells * C)
        products = kernels.view(len(kernels), -1, features.shape[1]) @ features.flatten(2)  # (B, Q * sub-cells, Y * X)
        products = products.view(-1, self.classes * self.sub_cells**2, *features.shape[-2:])
        products = F.pixel_shuffle(products, self.sub_cells)  # (B * S, K, fine Y, fine X)
        at = _normalised_centres(decoded.grid, self.map_grid, products.device)  # (rows, columns, 2)
        at = at.unflatten(0, (self.strips, -1)).repeat(len(features), 1, 1, 1)  # (B * S, R, columns, 2)
        strips = _bilinear(products, at).unflatten(0, (-1, self.strips))  # (B, S, K, R, columns)
        context: MapContext = decoded.queries.context
        return MapOutput(
            logits=strips.transpose(1, 2).flatten(2, 3).contiguous(), coarse=context.coarse, grid=self.map_grid
        )

    def loss(self, output: MapOutput, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Terms "map" and "coarse": focal loss, summed over classes, mean over the cells of frames that have a map.
        Term "dice": what the fine map of each class and its label do not share.

        Raises:
            ValueError: the labels lie on another grid.
        """
        masks, shape = labels.map_masks, output.logits.shape
        if masks is None:
            masks = torch.zeros(shape, dtype=torch.bool, device=output.logits.device)
            valid = masks.new_zeros(len(masks))
        else:
            valid = masks.new_ones(len(masks)) if labels.map_valid is None else labels.map_valid
        if masks.shape != shape:
            raise ValueError(
                f"map labels of shape {tuple(masks.shape)} do not fit the predicted {tuple(shape)}: "
                "labels and readout must be given the same map_grid"
            )
        return {
            "map": sigmoid_focal_loss(output.logits, masks, valid),
            "coarse": sigmoid_focal_loss(output.coarse, masks, valid),
            "dice": dice_loss(output.logits, masks, valid),
        }

    @torch.no_grad()
    def decode(self, output: MapOutput) -> list[MapSegmentation]:
        """Probabilities of each class, one map for each frame."""
        probabilities = output.logits.float().sigmoid().cpu().numpy()
        return [MapSegmentation(probabilities=frame, grid=output.grid) for frame in probabilities]

    def context(self, output: MapOutput) -> dict[str, MapBelief]:
        """The map as it is believed to be, for motion and planning."""
        return {"map": MapBelief(probabilities=output.logits.detach().float().sigmoid(), grid=output.grid)}

    def _objects(self, earlier: Mapping[str, Queries], grid: BevGrid) -> Bool[Tensor, "B Y X"] | None:
        """Map cells under the objects of the earlier detection task; None where there is no such task."""
        if OBJECTS_TASK not in earlier:
            return None
        objects = earlier[OBJECTS_TASK]
        return covered_cells(objects.reference_cells.detach(), objects.mask, grid, self.map_grid)

    def _best_cells(
        self, coarse: Float[Tensor, "B K Y X"], objects: Bool[Tensor, "B Y X"] | None
    ) -> Int[Tensor, "B Q 2"]:
        """(column, row) of the largest logit of each strip and class."""
        rows, columns = coarse.shape[-2:]
        if objects is not None:
            coarse = coarse.masked_fill(objects[:, None], -math.inf)
        by_strip = coarse.unflatten(2, (self.strips, -1)).flatten(3)  # (B, K, S, R * columns)
        best = by_strip.argmax(dim=-1).transpose(1, 2)  # (B, S, K)
        first_row = torch.arange(0, rows, rows // self.strips, device=coarse.device)[:, None]
        return torch.stack((best % columns, best // columns + first_row), dim=-1).flatten(1, 2)

    def _attended(self, features: Float[Tensor, "B Q C"], position: Float[Tensor, "B Q C"]) -> Float[Tensor, "B Q C"]:
        """Queries that have seen the other classes of their strip, then the other strips of their class."""
        split = (self.strips, self.classes)
        features, position = features.unflatten(1, split), position.unflatten(1, split)  # (B, S, K, C)
        features = self.among_classes(features, position)
        features = self.among_strips(features.transpose(1, 2), position.transpose(1, 2)).transpose(1, 2)
        return features.flatten(1, 2)


class _SelfAttention(nn.Module):
    """Attention along the last but one axis of each group, residual, then normalised."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Float[Tensor, "B G N C"], position: Float[Tensor, "B G N C"]) -> Tensor:
        flat, at = features.flatten(0, 1), (features + position).flatten(0, 1)
        attended, _ = self.attention(at, at, flat, need_weights=False)
        return self.norm(flat + attended).view_as(features)


def three_layers(channels: int, out_channels: int | None = None) -> nn.Sequential:
    """Linear layers over the last axis with ReLU between them."""
    first, second = (nn.Linear(channels, channels) for _ in range(2))
    last = nn.Linear(channels, out_channels or channels)
    return nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True), last)


def sigmoid_focal_loss(
    logits: Float[Tensor, "B K Y X"], targets: Bool[Tensor, "B K Y X"], valid: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """Focal loss with gamma 2 and no alpha (Lin et al., Focal Loss, ICCV 2017, equation 4).

    Summed over classes, mean over the cells of valid frames; zero, with gradients, where no frame is valid.
    """
    logits = logits.float()
    signed = torch.where(targets, logits, -logits)
    focal = torch.sigmoid(-signed).square() * -F.logsigmoid(signed)
    per_frame = focal.mean(dim=(2, 3)).sum(dim=1)
    return (per_frame * valid).sum() / valid.sum().clamp_min(1)


def dice_loss(
    logits: Float[Tensor, "B K Y X"], targets: Bool[Tensor, "B K Y X"], valid: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """One minus the Dice coefficient with squares (Milletari et al., V-Net, 3DV 2016, section 3).

    Taken for each valid frame and class that has a cell there, and averaged: a crossing counts as much as the road.
    Zero, with gradients, where there is none.
    """
    probability, wanted = logits.float().sigmoid(), targets.float()
    shared = (probability * wanted).sum(dim=(2, 3))
    area = wanted.sum(dim=(2, 3))
    apart = 1 - 2 * shared / (probability.square().sum(dim=(2, 3)) + area).clamp_min(1e-6)
    counts = (area > 0) & valid[:, None]
    return (apart * counts).sum() / counts.sum().clamp_min(1)


def covered_cells(
    cells: Float[Tensor, "B N 2"], mask: Bool[Tensor, "B N"], grid: BevGrid, map_grid: BevGrid
) -> Bool[Tensor, "B Y X"]:
    """Cells of `map_grid` that overlap the square of one cell of `grid` around any of the points that `mask` keeps."""
    middle = map_grid.to_cells(grid.to_metres(cells.float()))
    half = grid.cell_m / map_grid.cell_m / 2
    first = (middle - half + _TOUCH).floor()
    steps = torch.arange(math.ceil(2 * half) + 1, device=cells.device)
    index = first[..., None] + steps  # (B, N, 2, steps)
    rows, columns = map_grid.shape_yx
    limit = index.new_tensor((columns, rows))[:, None]
    inside = (index >= 0) & (index < limit) & (index < (middle + half - _TOUCH)[..., None]) & mask[..., None, None]
    x, y = index.long().unbind(dim=2)  # (B, N, steps) each
    keep = inside[:, :, 1, :, None] & inside[:, :, 0, None, :]  # (B, N, steps along y, steps along x)
    flat = torch.where(keep, y[..., :, None] * columns + x[..., None, :], rows * columns)  # one place for the rest
    covered = torch.zeros((len(cells), rows * columns + 1), dtype=torch.bool, device=cells.device)
    return covered.scatter(1, flat.flatten(1), True)[:, :-1].view(-1, rows, columns)


def crop(features: Float[Tensor, "B C Y X"], grid: BevGrid, map_grid: BevGrid) -> Float[Tensor, "B C H W"]:
    """Features resampled bilinearly at the cell centres of another grid; beyond the features their rim is repeated."""
    at = _normalised_centres(grid, map_grid, features.device)
    return _bilinear(features, at.expand(len(features), -1, -1, -1))


def sample(features: Float[Tensor, "B C Y X"], cells: Float[Tensor, "B Q 2"]) -> Float[Tensor, "B Q C"]:
    """Features at continuous cell coordinates (column, row), cell centres at k + 0.5; interpolated like `crop`."""
    rows, columns = features.shape[-2:]
    at = 2 * cells / cells.new_tensor((columns, rows)) - 1
    return _bilinear(features, at[:, None])[:, :, 0].transpose(1, 2)


def _normalised_centres(grid: BevGrid, map_grid: BevGrid, device: torch.device) -> Float[Tensor, "H W 2"]:
    """Cell centres of the map in the terms of `grid_sample`: -1 and 1 at the outer edges of the features' grid."""
    rows, columns = grid.shape_yx
    cells = grid.to_cells(map_grid.centers_m(device))
    return 2 * cells / cells.new_tensor((columns, rows)) - 1


def _bilinear(features: Float[Tensor, "B C Y X"], at: Float[Tensor, "B H W 2"]) -> Float[Tensor, "B C H W"]:
    """`grid_sample` with -1 and 1 at edges of cells, as `BevGrid.to_cells` counts them; half precision never places."""
    exact = torch.promote_types(features.dtype, torch.float32)
    found = F.grid_sample(features.to(exact), at.to(exact), padding_mode="border", align_corners=False)
    return found.to(features.dtype)
