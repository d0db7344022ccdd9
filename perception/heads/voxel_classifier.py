"""Class logits of the fine voxels inside coarse ones, of all of them or only of those asked for.

A loss that learns from a sample of the voxels needs a fortieth of the logits of a whole grid, and the logits are the
largest tensor of an occupancy head. Letters: B frames, C channels, K classes, Z Y X coarse voxels, S fine voxels in
each of them, N chosen voxels, and O Q P fine voxels along z, y, x.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.perception.heads.voxel_resample import VoxelRaster, VoxelTaps
from bevstack.types.bev import VoxelGrid


@runtime_checkable
class VoxelValues(Protocol):
    """Values on fine voxels, whether they are there already or worked out when asked for."""

    @property
    def num_frames(self) -> int:
        """Frames of the batch."""

    def zero(self) -> Float[Tensor, ""]:
        """Nothing, with a gradient path to what the values come from."""

    def taps(self, target: VoxelGrid) -> VoxelTaps:
        """Where the centres of a grid lie among the fine voxels."""

    def at(self, taps: VoxelTaps, frame: Int[Tensor, " N"], index_xyz: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """Values (float32) at chosen voxels of the target that the taps belong to."""

    def dense(self, frame: int) -> Float[Tensor, "O Q P K"]:
        """One frame as a plain array of fine voxels, the axes z, y, x."""


class VoxelClassifier(nn.Module):
    """Two hidden layers for each coarse voxel, then one linear map for each fine voxel in it.

    Args:
        channels: Width of the features.
        sub_voxels: Fine voxels in a coarse one.
        classes: Logits of each.
    """

    def __init__(self, *, channels: int, sub_voxels: int, classes: int) -> None:
        super().__init__()
        self.sub_voxels, self.classes = sub_voxels, classes
        self.hidden = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU(inplace=True)
        )
        self.logits = nn.Linear(channels, sub_voxels * classes)

    def forward(self, features: Float[Tensor, "*V C"]) -> Float[Tensor, "*V S K"]:
        """Logits of all fine voxels."""
        return self.logits(self.hidden(features)).unflatten(-1, (self.sub_voxels, self.classes))

    def of_sub_voxels(self, features: Float[Tensor, "N C"], sub_voxel: Int[Tensor, " N"]) -> Float[Tensor, "N K"]:
        """Logits of one fine voxel in each of N coarse ones: each linear map sees the rows that ask for it."""
        order = sub_voxel.argsort(stable=True)
        counts = torch.bincount(sub_voxel, minlength=self.sub_voxels).tolist()
        groups = self.hidden(features.index_select(0, order)).split(counts)
        weights = self.logits.weight.unflatten(0, (self.sub_voxels, self.classes))
        biases = self.logits.bias.unflatten(0, (self.sub_voxels, self.classes))
        found = [F.linear(group, weight, bias) for group, weight, bias in zip(groups, weights, biases, strict=True)]
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return torch.cat(found).index_select(0, back)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifiedVoxels:
    """Features of coarse voxels, and the network that says the classes of their fine voxels."""

    features: Float[Tensor, "B Z Y X C"]
    classifier: VoxelClassifier
    sub_voxels: tuple[int, int, int]
    """Fine voxels along x, y and z in a coarse one."""
    low_m: tuple[float, float, float]
    """Lower corner (x, y, z) in `ego`."""
    size_m: tuple[float, float, float]
    """Size (x, y, z) of a fine voxel."""

    @property
    def num_frames(self) -> int:
        """Frames of the batch."""
        return len(self.features)

    def zero(self) -> Float[Tensor, ""]:
        """Nothing, with a gradient path to features and classifier."""
        return self.raster(slice(0, 1)).values.sum() * 0.0

    def taps(self, target: VoxelGrid) -> VoxelTaps:
        """As of a `VoxelRaster`; no logit is worked out for it."""
        return self._over(self.features[..., None, :]).taps(target)

    def at(self, taps: VoxelTaps, frame: Int[Tensor, " N"], index_xyz: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """Logits (float32) at chosen voxels; only these are worked out where no interpolation is needed."""
        if not all(axis.is_exact for axis in taps):
            return self.raster().at(taps, frame, index_xyz)
        fine = [axis.lower[chosen] for axis, chosen in zip(taps, index_xyz.unbind(1), strict=True)]
        (x, y, z), (fx, fy, fz) = fine, self.sub_voxels
        levels, rows, columns = self.features.shape[1:4]
        coarse = ((frame * levels + z // fz) * rows + y // fy) * columns + x // fx
        sub_voxel = (z % fz * fy + y % fy) * fx + x % fx
        return self.classifier.of_sub_voxels(self.features.flatten(0, 3).index_select(0, coarse), sub_voxel).float()

    def dense(self, frame: int) -> Float[Tensor, "O Q P K"]:
        """Logits of one frame as a plain array of fine voxels, the axes z, y, x."""
        return self.raster(slice(frame, frame + 1)).dense(0)

    def raster(self, frames: slice = slice(None)) -> VoxelRaster:
        """All logits of some frames."""
        return self._over(self.classifier(self.features[frames]))

    def _over(self, values: Float[Tensor, "B Z Y X S K"]) -> VoxelRaster:
        return VoxelRaster(values=values, sub_voxels=self.sub_voxels, low_m=self.low_m, size_m=self.size_m)
