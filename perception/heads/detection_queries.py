"""3D object detection by queries on the shared decoder (Chen et al., M3Net, AAAI 2025, section 3.3).

Queries start at the peaks of a heat map, each with the class of its peak, as in TransFusion (Bai et al., CVPR 2022,
section 3.3); after the decoder each says one box. One query answers for one object (`hungarian.py`), so that
suppression among neighbours is not needed.

Letters: B frames, Q queries, K classes, R box numbers, C channels, N objects, Y X cells.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.perception.heads.agents import agents_of
from bevstack.perception.heads.box_numbers import BOX_CHANNELS, box_terms
from bevstack.perception.heads.detection import focal_loss
from bevstack.perception.heads.detection_decode import (
    AttributeRule,
    Candidates,
    DecodeSettings,
    box_rows,
    is_peak,
    kept_detections,
)
from bevstack.perception.heads.heatmap_targets import CenterTargets, encode_boxes
from bevstack.perception.heads.hungarian import FORBIDDEN, MatchingCosts, assign
from bevstack.perception.heads.joint_types import Decoded, Queries, Stem
from bevstack.perception.heads.query_encoding import PositionEmbedding
from bevstack.types.batch import Labels
from bevstack.types.bev import BevGrid
from bevstack.types.context import Agents
from bevstack.types.scene import Detections

_PRIOR_LOGIT = -2.19
"""Start from a probability of 0.1 everywhere (Lin et al., Focal Loss, ICCV 2017, section 4.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatmapPeaks:
    """Where the queries start."""

    heatmap: Float[Tensor, "B K Y X"]
    """Logits that an object of the class has its centre in the cell."""
    class_index: Int[Tensor, "B Q"]
    cell: Int[Tensor, "B Q"]
    """Flat cell (row, column)."""
    score: Float[Tensor, "B Q"]
    """Probability of the peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryDetections:
    """Raw output: one box for each query."""

    peaks: HeatmapPeaks
    class_logits: Float[Tensor, "B Q K"]
    numbers: Float[Tensor, "B Q R"]
    """As in `BOX_CHANNELS`; the offset is from the centre of the peak's cell."""
    features: Float[Tensor, "B Q C"]
    """The refined queries."""
    grid: BevGrid


class DetectionReadout(nn.Module):
    """Finds objects with the shared decoder.

    Args:
        channels: Width of the decoder.
        in_channels: Channels of the decoder's input; not read, detection starts from the stem.
        num_queries: Objects that can be found in a frame.
        heat_channels: Width of the residual block before the heat map; None for that of the decoder.
        branch_channels: Width of the hidden layer of each box number.
        unfiltered_classes: Small things that stand side by side: each cell of theirs may start a query, not only peaks.
        costs: How queries are assigned to objects.
        match_within_m: Objects whose query starts farther away than this teach it no box; None for no limit.
        min_points: Labels with fewer LiDAR and radar points are not learned.
        min_overlap: Width of the bumps of the heat map, see `gaussian_radius_cells`.
        min_radius_cells: Least radius of a bump.
        attributes: "learned" from the network's logits, "speed" by rule from the predicted speed.
        score_threshold: Detections below are dropped.
        nms_iou: None keeps every query's box; else as in `CenterHead`, and small things are suppressed by distance.

    Raises:
        ValueError: no query, an unknown class, or a threshold outside its range.
    """

    _is_unfiltered: Tensor

    def __init__(
        self,
        *,
        channels: int,
        in_channels: int,
        num_queries: int = 200,
        heat_channels: int | None = None,
        branch_channels: int = 64,
        unfiltered_classes: tuple[str, ...] = ("pedestrian", "traffic_cone"),
        costs: MatchingCosts | None = None,
        match_within_m: float | None = None,
        min_points: int = 1,
        min_overlap: float = 0.1,
        min_radius_cells: float = 2.0,
        attributes: AttributeRule = "learned",
        score_threshold: float = 0.01,
        nms_iou: float | None = None,
    ) -> None:
        super().__init__()
        unknown = sorted(set(unfiltered_classes) - set(DETECTION_CLASSES))
        if unknown or num_queries < 1:
            raise ValueError(f"num_queries={num_queries} must be 1 or more, {unknown} be in {DETECTION_CLASSES}")
        self.num_queries = num_queries
        self.agent_channels = channels
        self.costs, self.match_within_m = costs or MatchingCosts(), match_within_m
        self.min_points, self.min_overlap, self.min_radius_cells = min_points, min_overlap, min_radius_cells
        self.decode_settings = DecodeSettings.make(
            attributes=attributes,
            score_threshold=score_threshold,
            max_detections=num_queries,
            nms_iou=1.0 if nms_iou is None else nms_iou,
            nms_radius_m={} if nms_iou is None else None,
        )
        is_unfiltered = torch.tensor([name in unfiltered_classes for name in DETECTION_CLASSES])
        self.register_buffer("_is_unfiltered", is_unfiltered[:, None, None], persistent=False)
        self.heat = HeatBranch(channels, heat_channels or channels)
        self.class_vectors = nn.Sequential(nn.LayerNorm(channels), _mlp(channels, channels, channels, layers=3))
        self.class_embedding = nn.Parameter(torch.randn(len(DETECTION_CLASSES), channels))
        self.position = PositionEmbedding(channels=channels)
        self.branches = nn.ModuleDict(
            {name: _mlp(channels, branch_channels, size) for name, size in BOX_CHANNELS.items()}
        )
        self.classes = _mlp(channels, branch_channels, len(DETECTION_CLASSES), bias=_PRIOR_LOGIT)

    def queries(self, stem: Stem) -> Queries:
        """One query at each of the best peaks: the features there plus the vector of the class."""
        heatmap = self.heat(stem.features)
        class_index, cell, score = best_peaks(heatmap, self._is_unfiltered, self.num_queries)
        rows, columns = heatmap.shape[-2:]
        reference = torch.stack((cell % columns, cell // columns), dim=-1) + 0.5
        there = stem.features.flatten(2).mT.gather(1, cell[..., None].expand(-1, -1, stem.features.shape[1]))
        return Queries(
            features=there + self.class_vectors(self.class_embedding)[class_index],
            position=self.position(reference, (columns, rows)),
            reference_cells=reference,
            mask=torch.ones_like(cell, dtype=torch.bool),
            context=HeatmapPeaks(heatmap=heatmap, class_index=class_index, cell=cell, score=score),
        )

    def forward(self, decoded: Decoded) -> QueryDetections:
        """Class and box of each query."""
        numbers = torch.cat([branch(decoded.features) for branch in self.branches.values()], dim=-1)
        return QueryDetections(
            peaks=decoded.queries.context,
            class_logits=self.classes(decoded.features),
            numbers=numbers,
            features=decoded.features,
            grid=decoded.grid,
        )

    def targets(self, labels: Labels, grid: BevGrid) -> CenterTargets:
        """Labels in this readout's terms."""
        return encode_boxes(
            labels,
            grid,
            num_classes=len(DETECTION_CLASSES),
            min_overlap=self.min_overlap,
            min_radius_cells=self.min_radius_cells,
            min_points=self.min_points,
        )

    def loss(self, output: QueryDetections, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Terms "heatmap" and "class" (focal, for each object found), and those of `box_terms` at assigned queries."""
        targets = self.targets(labels, output.grid)
        objects, queries = self.assignment(output, targets)
        found = targets.select(objects)
        wanted_class = torch.zeros_like(output.class_logits, dtype=torch.float32).flatten(0, 1)
        wanted_class[queries, found.class_index] = 1.0
        logits = output.class_logits.flatten(0, 1).float()
        return {
            "heatmap": focal_loss(output.peaks.heatmap.float(), targets.heatmap, len(targets.cell_index)),
            "class": sigmoid_focal(logits, wanted_class).sum() / max(len(queries), 1),
            **box_terms(_from_cells_of(found, output, queries), found),
        }

    @torch.no_grad()
    def assignment(
        self, output: QueryDetections, targets: CenterTargets
    ) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
        """Objects (rows of the targets) and the query of each (frame * Q + query)."""
        cells = math.prod(output.grid.shape_yx)
        frame_of_object, cell = targets.cell_index // cells, targets.cell_index % cells
        wanted, _ = box_rows(_as_numbers(targets), cell, output.grid)
        objects, queries = [], []
        for frame in range(len(output.numbers)):
            own = (frame_of_object == frame).nonzero()[:, 0]
            boxes, _ = box_rows(output.numbers[frame].float(), output.peaks.cell[frame], output.grid)
            logits = output.class_logits[frame].float()
            cost = self.costs.matrix(logits, boxes, targets.class_index[own], wanted[own], output.grid)
            is_far = self._is_far(cell[own], output.peaks.cell[frame], output.grid)
            of_object, of_query = assign(np.where(is_far, FORBIDDEN, cost))
            is_kept = ~is_far[of_object, of_query]
            objects.append(own[torch.from_numpy(of_object[is_kept]).to(own.device)])
            queries.append(torch.from_numpy(of_query[is_kept]).to(own.device) + frame * self.num_queries)
        return torch.cat(objects), torch.cat(queries)

    def _is_far(self, objects: Int[Tensor, " N"], peaks: Int[Tensor, " Q"], grid: BevGrid) -> Bool[np.ndarray, "N Q"]:
        """Which queries start too far from which objects, both as flat cells, to learn their boxes."""
        if self.match_within_m is None:
            return np.zeros((len(objects), len(peaks)), bool)
        columns = grid.shape_yx[1]
        of_object, of_peak = (torch.stack((cell % columns, cell // columns), 1).float() for cell in (objects, peaks))
        return (torch.cdist(of_object, of_peak) * grid.cell_m > self.match_within_m).cpu().numpy()

    @torch.no_grad()
    def decode(self, output: QueryDetections) -> list[Detections]:
        """Detections of each frame in `ego`, best score first: the class of the peak, both probabilities multiplied."""
        return [
            kept_detections(self._candidates(output, frame), self.decode_settings)
            for frame in range(len(output.numbers))
        ]

    def context(self, output: QueryDetections) -> dict[str, Agents]:
        """The refined queries behind the detections, for motion and planning."""
        with torch.no_grad():
            candidates = [self._candidates(output, frame) for frame in range(len(output.numbers))]
        probabilities = output.class_logits.detach().float().sigmoid()
        return {"agents": agents_of(output.features.unbind(), probabilities.unbind(), candidates, self.decode_settings)}

    def _candidates(self, output: QueryDetections, frame: int) -> Candidates:
        """All queries of a frame as what may be detections."""
        class_index, cell = output.peaks.class_index[frame], output.peaks.cell[frame]
        logits = output.class_logits[frame].float().gather(1, class_index[:, None])[:, 0]
        rows, attribute_logits = box_rows(output.numbers[frame].float(), cell, output.grid)
        return Candidates(
            scores=logits.sigmoid() * output.peaks.score[frame].float(),
            class_index=class_index,
            cell=cell,
            rows=rows,
            attribute_logits=attribute_logits,
        )


class HeatBranch(nn.Module):
    """A residual block and a convolution to the heat map's logits."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels, eps=1e-3),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels, eps=1e-3),
        )
        self.shortcut = nn.Identity() if channels == in_channels else nn.Conv2d(in_channels, channels, 1)
        self.logits = nn.Conv2d(channels, len(DETECTION_CLASSES), 3, padding=1)
        nn.init.constant_(self.logits.bias, _PRIOR_LOGIT)  # type: ignore[arg-type]

    def forward(self, features: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K Y X"]:
        """Logits for each class and cell."""
        return self.logits(torch.relu(self.block(features) + self.shortcut(features)))


@torch.no_grad()
def best_peaks(
    heatmap: Float[Tensor, "B K Y X"], is_unfiltered: Tensor, count: int
) -> tuple[Int[Tensor, "B Q"], Int[Tensor, "B Q"], Float[Tensor, "B Q"]]:
    """Classes, flat cells and probabilities of the best peaks over all classes and cells, best first.

    Args:
        heatmap: Logits.
        is_unfiltered: (K, 1, 1); True for classes of which cells beside a better one count too.
        count: Peaks wanted; with fewer, any cells follow, with probability 0.

    Raises:
        ValueError: fewer cells than `count`.
    """
    probability = heatmap.float().sigmoid()
    candidates = torch.where(is_unfiltered | is_peak(probability), probability, 0.0).flatten(1)
    if candidates.shape[1] < count:
        raise ValueError(f"{count} queries need as many cells, the heat map has {candidates.shape[1]}")
    score, index = candidates.topk(count)
    cells = heatmap.shape[-2] * heatmap.shape[-1]
    return index // cells, index % cells, score


def sigmoid_focal(
    logits: Float[Tensor, "*N"], wanted: Float[Tensor, "*N"], *, alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, "*N"]:
    """Focal loss of independent yes-no questions (Lin et al., ICCV 2017, equation 5), for each by itself."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    p = logits.sigmoid()
    wrong = wanted + p - 2 * wanted * p  # 1 - p where yes is right, p elsewhere
    return (alpha * wanted + (1 - alpha) * (1 - wanted)) * wrong**gamma * cross_entropy


def _as_numbers(targets: CenterTargets) -> Float[Tensor, "N R"]:
    """Box numbers of the targets; attributes are left at zero."""
    fields = [getattr(targets, name) for name in BOX_CHANNELS if name != "attribute"]
    attribute = fields[0].new_zeros((len(targets.cell_index), BOX_CHANNELS["attribute"]))
    return torch.cat((*fields, attribute), dim=1)


def _from_cells_of(
    targets: CenterTargets, output: QueryDetections, queries: Int[Tensor, " N"]
) -> dict[str, Float[Tensor, "N _"]]:
    """Numbers of the chosen queries, with the offset measured from the cell of the target, not of the peak."""
    rows, columns = output.grid.shape_yx
    numbers = output.numbers.flatten(0, 1)[queries].float()
    fields = dict(zip(BOX_CHANNELS, numbers.split(tuple(BOX_CHANNELS.values()), dim=1), strict=True))
    own, wanted = output.peaks.cell.flatten()[queries], targets.cell_index % (rows * columns)
    apart = torch.stack((own % columns - wanted % columns, own // columns - wanted // columns), dim=1)
    return fields | {"offset": fields["offset"] + apart}


def _mlp(in_channels: int, hidden: int, out_channels: int, *, layers: int = 2, bias: float | None = None) -> nn.Module:
    widths = [in_channels, *[hidden] * (layers - 1), out_channels]
    steps: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        steps += [nn.Linear(before, after), nn.ReLU(inplace=True)]
    last = steps[-2]
    if bias is not None and isinstance(last, nn.Linear):
        nn.init.constant_(last.bias, bias)
    return nn.Sequential(*steps[:-1])
