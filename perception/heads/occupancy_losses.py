"""What an occupancy head learns from: cross entropy, the affinities of MonoScene, and the Lovasz-softmax.

Cao and de Charette, MonoScene, CVPR 2022, section 3.3; Berman, Triki and Blaschko, The Lovasz-Softmax Loss, CVPR 2018,
section 3.2. All are taken frame by frame and averaged over the frames that have labels. Every voxel has a weight: how
many voxels it stands for, so that a sample of a large grid gives an estimate of the same numbers.

Letters: B frames, N voxels, K classes, U V W voxels of the labels along x, y, z, Z Y X coarse voxels.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.perception.heads.voxel_classifier import VoxelValues
from bevstack.types.batch import Labels
from bevstack.types.bev import VoxelGrid

Supervision = Literal["all", "camera", "lidar"]
CountsName = Literal["occ3d", "openoccupancy"]

CLASS_COUNTS: dict[str, tuple[int, ...]] = {
    "occ3d": (
        944004, 1897170, 152386, 2391677, 16957802, 724139, 189027, 2074468, 413451, 2384460, 5916653, 175883646,
        4275424, 51393615, 61411620, 105975596, 116424404, 1892500630,
    ),
    "openoccupancy": (
        0, 25985376, 1561108, 28862014, 196106643, 15920504, 2158753, 26539491, 4004729, 34838681, 75173306,
        2255027978, 50959399, 646022466, 869055679, 1446141335, 1724391378, 2242961742295,
    ),
}  # fmt: skip
"""Voxels of each of `OCCUPANCY_CLASSES` in the training split of nuScenes, as users of the two formats publish them.
OpenOccupancy has no class "others"."""

_TERMS = ("cross_entropy", "scene_class", "geometry", "lovasz")


class OccupancyLoss(nn.Module):
    """The four terms of M3Net's occupancy loss, on the voxels that are known.

    Args:
        supervise: "all" known voxels, or only those that a "camera" or the "lidar" observed.
        class_counts: Voxels of each class in the training data; a class weighs 1 / ln(count). A name takes the
            published counts of that format.
        num_voxels: Learn from a random sample of at most so many voxels of each frame, half of it occupied where
            there are as many; each voxel weighs as much as those it stands for. None takes all: right for the
            640,000 of Occ3D, gigabytes for the ten million of OpenOccupancy.

    Raises:
        ValueError: an unknown name, counts of another number, or fewer than two voxels.
    """

    class_weights: Tensor

    def __init__(
        self,
        *,
        supervise: Supervision = "camera",
        class_counts: CountsName | Sequence[float] = "occ3d",
        num_voxels: int | None = None,
    ) -> None:
        super().__init__()
        if supervise not in ("all", "camera", "lidar"):
            raise ValueError(f"supervise={supervise!r} must be 'all', 'camera' or 'lidar'")
        if num_voxels is not None and num_voxels < 2:
            raise ValueError(f"num_voxels={num_voxels} must be 2 or more, or None for all")
        self.supervise, self.num_voxels = supervise, num_voxels
        self.register_buffer("class_weights", torch.tensor(weights_of(class_counts)), persistent=False)

    def forward(self, logits: VoxelValues, grid: VoxelGrid, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Unweighted terms; zero, but with a gradient path, where no voxel of the batch is known.

        Args:
            logits: On any raster.
            grid: The voxels of the labels.
            labels: `occupancy` and, unless all voxels are learned, the mask that `supervise` names.

        Raises:
            ValueError: labels without occupancy, without the wanted mask, or on another grid.
        """
        target, is_known = self._known(labels, grid)
        chosen = [chosen_voxels(*frame, self.num_voxels) for frame in zip(target, is_known, strict=True)]
        counts = [len(index) for index, _ in chosen]
        if not any(counts):
            return dict.fromkeys(_TERMS, logits.zero())
        index = torch.cat([index for index, _ in chosen])
        frame = torch.repeat_interleave(torch.tensor(counts, device=index.device))
        index_xyz = torch.stack(torch.unravel_index(index, grid.shape_xyz), dim=1)
        values = logits.at(logits.taps(grid), frame, index_xyz).split(counts)
        classes = target.flatten(1)[frame, index].long().split(counts)
        terms = [
            occupancy_terms(values[i], classes[i], weight, self.class_weights)
            for i, (_, weight) in enumerate(chosen)
            if len(weight)
        ]
        return {name: torch.stack([of_frame[name] for of_frame in terms]).mean() for name in _TERMS}

    def _known(self, labels: Labels, grid: VoxelGrid) -> tuple[UInt8[Tensor, "B U V W"], Bool[Tensor, "B U V W"]]:
        """Classes, and which voxels are learned."""
        if labels.occupancy is None:
            raise ValueError("the labels have no occupancy: ask the data for it, or leave the occupancy head out")
        if tuple(labels.occupancy.shape[1:]) != grid.shape_xyz:
            raise ValueError(
                f"occupancy labels of {tuple(labels.occupancy.shape[1:])} voxels do not fit an output grid of "
                f"{grid.shape_xyz}: use one format for both"
            )
        is_known = labels.occupancy != OCCUPANCY_IGNORE
        if self.supervise == "all":
            return labels.occupancy, is_known
        is_camera = self.supervise == "camera"
        mask = labels.occupancy_camera_mask if is_camera else labels.occupancy_lidar_mask
        if mask is None:
            raise ValueError(
                f"supervise={self.supervise!r} needs labels with that mask: use 'all' for a format without"
            )
        return labels.occupancy, is_known & mask


def weights_of(class_counts: CountsName | Sequence[float]) -> list[float]:
    """1 / ln(count) of each class; at most 1.

    Raises:
        ValueError: an unknown name, or counts of another number.
    """
    if isinstance(class_counts, str):
        if class_counts not in CLASS_COUNTS:
            raise ValueError(f"class_counts={class_counts!r} must be one of {sorted(CLASS_COUNTS)} or numbers")
        class_counts = CLASS_COUNTS[class_counts]
    if len(class_counts) != len(OCCUPANCY_CLASSES):
        raise ValueError(f"class_counts has {len(class_counts)} numbers, there are {len(OCCUPANCY_CLASSES)} classes")
    return [1 / math.log(max(count, math.e)) for count in class_counts]


@torch.no_grad()
def chosen_voxels(
    target: UInt8[Tensor, "U V W"], is_known: Bool[Tensor, "U V W"], limit: int | None
) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
    """Flat indices of the voxels to learn from, and how many voxels each stands for.

    Without a limit all known voxels. With one, occupied and free voxels are drawn apart: free space fills nine tenths
    of a grid and is easily learned.
    """
    known = is_known.flatten().nonzero()[:, 0]
    if limit is None or len(known) <= limit:
        return known, torch.ones(len(known), device=known.device)
    is_free = target.flatten()[known] == OCCUPANCY_FREE
    kinds = (known[~is_free], known[is_free])
    half = limit // 2
    num_occupied = min(len(kinds[0]), max(half, limit - len(kinds[1])))
    index, weight = [], []
    for kind, share in zip(kinds, (num_occupied, limit - num_occupied), strict=True):
        share = min(share, len(kind))
        # With replacement: as good on average, and no permutation of millions.
        drawn = kind if share == len(kind) else kind[torch.randint(len(kind), (share,), device=kind.device)]
        index.append(drawn)
        weight.append(torch.full((share,), len(kind) / max(share, 1), device=kind.device))
    return torch.cat(index), torch.cat(weight)


def occupancy_terms(
    logits: Float[Tensor, "N K"],
    target: Int[Tensor, " N"],
    weight: Float[Tensor, " N"],
    class_weights: Float[Tensor, " K"],
) -> dict[str, Float[Tensor, ""]]:
    """The four terms of at least one voxel."""
    log_p = F.log_softmax(logits, dim=1)
    probability = log_p.exp()
    of_target = weight * class_weights[target]
    cross_entropy = -(of_target * log_p.gather(1, target[:, None])[:, 0]).sum() / of_target.sum()
    terms = (
        cross_entropy,
        scene_class_affinity(probability, target, weight),
        geometric_affinity(probability, target, weight),
        lovasz_softmax(probability, target, weight),
    )
    return dict(zip(_TERMS, terms, strict=True))


def scene_class_affinity(
    probability: Float[Tensor, "N K"], target: Int[Tensor, " N"], weight: Float[Tensor, " N"]
) -> Float[Tensor, ""]:
    """Minus the logarithms of precision, recall and specificity of each class, averaged over the classes present."""
    num_classes = probability.shape[1]
    hits = weight * probability.gather(1, target[:, None])[:, 0]
    hit = hits.new_zeros(num_classes).index_add(0, target, hits)
    actual = weight.new_zeros(num_classes).index_add(0, target, weight)
    predicted = weight @ probability
    present = actual > 0
    return _affinity(hit, predicted, actual, weight.sum())[present].mean()


def geometric_affinity(
    probability: Float[Tensor, "N K"], target: Int[Tensor, " N"], weight: Float[Tensor, " N"]
) -> Float[Tensor, ""]:
    """The same three logarithms for occupied against free."""
    occupied = 1 - probability[:, OCCUPANCY_FREE]
    is_occupied = (target != OCCUPANCY_FREE).to(weight.dtype) * weight
    return _affinity(occupied @ is_occupied, occupied @ weight, is_occupied.sum(), weight.sum())


def _affinity(hit: Tensor, predicted: Tensor, actual: Tensor, total: Tensor) -> Tensor:
    """-ln precision - ln recall - ln specificity from soft counts; what has nothing to count over is left out."""
    tiny = torch.finfo(hit.dtype).tiny
    precision = _minus_log(hit / predicted.clamp_min(tiny))
    recall = _minus_log(hit / actual.clamp_min(tiny))
    absent = total - actual
    # One minus the share of false alarms: as a difference of large sums it would lose its digits.
    specificity = _minus_log(1 - (predicted - hit) / absent.clamp_min(tiny))
    has_any, has_none = actual > 0, absent > 0
    return torch.where(has_any, precision + recall, 0.0) + torch.where(has_none, specificity, 0.0)


def _minus_log(share: Tensor) -> Tensor:
    """Minus the logarithm of a share of one; finite, with a finite slope, at 0 and where rounding leaves [0, 1]."""
    return -share.clamp(1e-12, 1.0).log()


def lovasz_softmax(
    probability: Float[Tensor, "N K"], target: Int[Tensor, " N"], weight: Float[Tensor, " N"]
) -> Float[Tensor, ""]:
    """The Lovasz extension of 1 - IoU of each class present, averaged over them (equation 11 of the paper)."""
    losses = []
    of_classes = probability.unbind(1)  # one gradient for all of them, not a zero-filled one for each
    for index in target.unique().tolist():
        is_class = (target == index).to(probability.dtype)
        error = (is_class - of_classes[index]).abs()
        order = _descending(error.detach())
        gradient = _jaccard_steps(is_class[order], weight[order])
        losses.append(error[order] @ gradient)
    return torch.stack(losses).mean()


def _descending(values: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
    """Order from the largest to the smallest; on a CPU numpy's vectorised sort takes a fifth of the time."""
    if values.device.type == "cpu" and not torch.compiler.is_compiling():
        return torch.from_numpy(np.argsort(-values.numpy()))
    return values.argsort(descending=True)


def _jaccard_steps(is_class: Float[Tensor, " N"], weight: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """By how much 1 - IoU grows with each further voxel that is wrong, in the given order (algorithm 1)."""
    own, other = (is_class * weight).double(), ((1 - is_class) * weight).double()
    total = own.sum()
    loss = 1 - (total - own.cumsum(0)) / (total + other.cumsum(0))
    return torch.diff(loss, prepend=loss.new_zeros(1)).to(weight.dtype)
