"""What the vehicle really did, as planners learn from it: steps that are not known never count.

Letters: B frames, T steps.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bevstack.types.batch import Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """The driven future of each frame."""

    poses: Float[Tensor, "B T 3"]
    """x, y of the rear axle and yaw; 0 where not known."""
    known: Bool[Tensor, "B T"]

    @classmethod
    def of(cls, labels: Labels, *, steps: int) -> "Expert":
        """The first `steps` of the labels; what they do not have is not known."""
        batch, device = len(labels.boxes_ego), labels.boxes_ego[0].device
        poses = torch.full((batch, steps, 3), torch.nan, device=device)
        if labels.ego_future is not None:
            shared = min(steps, labels.ego_future.shape[1])
            poses[:, :shared] = labels.ego_future[:, :shared].float()
        known = poses.isfinite().all(dim=-1)
        return cls(poses=torch.where(known[..., None], poses, 0.0), known=known)

    @property
    def has_future(self) -> Bool[Tensor, " B"]:
        """At least one step is known; other frames teach nothing."""
        return self.known.any(dim=1)

    def mean_over_frames(self, values: Float[Tensor, " B"]) -> Float[Tensor, ""]:
        """Mean over the frames with a future; zero, with gradients, where there is none."""
        counts = self.has_future
        return torch.where(counts, values, 0.0).sum() / counts.sum().clamp(min=1)

    def mean_over_steps(self, values: Tensor) -> Tensor:
        """(B, ..., T) to (B, ...): the mean over the known steps of each frame; 0 where there is none."""
        known = self.known.view(len(self.known), *(1,) * (values.ndim - 2), -1)
        return torch.where(known, values, 0.0).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)
