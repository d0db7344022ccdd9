"""Which query answers for which object: the one-to-one assignment of least total cost (Carion et al., DETR, ECCV 2020).

Costs as in TransFusion (Bai et al., CVPR 2022, section 3.5), with the weights of M3Net: how little the query believes
in the object's class, how far its centre is, how little the boxes overlap. Letters: Q queries, N objects, K classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from bevstack.geometry.boxes import box_iou
from bevstack.types.bev import BevGrid
from bevstack.types.boxes import BoxIndex

FORBIDDEN = 1e6
"""Cost of a pair that shall not be; also in place of one that is not finite: the loss, not the assignment, shall say
that the network has diverged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingCosts:
    """Weights of the parts of the cost, and the shape of the class cost.

    Raises:
        ValueError: a negative weight, or none above 0.
    """

    class_weight: float = 0.15
    centre_weight: float = 0.25
    """Of the L1 distance of centres as share of the grid."""
    iou_weight: float = 0.25
    alpha: float = 0.25
    gamma: float = 2.0

    def __post_init__(self) -> None:
        weights = (self.class_weight, self.centre_weight, self.iou_weight)
        if min(weights) < 0 or max(weights) == 0:
            raise ValueError(f"class, centre and iou weights {weights} must be 0 or more, and one of them above 0")

    def matrix(
        self,
        class_logits: Float[Tensor, "Q K"],
        boxes: Float[Tensor, "Q 9"],
        class_index: Int[Tensor, " N"],
        wanted: Float[Tensor, "N 9"],
        grid: BevGrid,
    ) -> Float[np.ndarray, "N Q"]:
        """What it costs that a query answers for an object, boxes as in `BoxIndex`."""
        size_m = wanted.new_tensor((grid.x_range_m[1] - grid.x_range_m[0], grid.y_range_m[1] - grid.y_range_m[0]))
        apart = torch.cdist(wanted[:, : BoxIndex.Z] / size_m, boxes[:, : BoxIndex.Z] / size_m, p=1)
        overlap = box_iou(wanted.cpu().numpy(), boxes.cpu().numpy())
        disbelief = self._class_cost(class_logits)[:, class_index].T
        known = (self.class_weight * disbelief + self.centre_weight * apart).cpu().numpy()
        cost = known - self.iou_weight * overlap
        return np.where(np.isfinite(cost), cost, FORBIDDEN)

    def _class_cost(self, logits: Float[Tensor, "Q K"]) -> Float[Tensor, "Q K"]:
        """By how much the focal loss of a query is larger with the class than without it."""
        log_p, log_q = F.logsigmoid(logits), F.logsigmoid(-logits)
        p = log_p.exp()
        return (1 - self.alpha) * p**self.gamma * log_q - self.alpha * (1 - p) ** self.gamma * log_p


def assign(cost: Float[np.ndarray, "N Q"]) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Objects and their queries, ordered by object; with more objects than queries the costliest are left out."""
    objects, queries = linear_sum_assignment(cost)
    return objects.astype(np.int64), queries.astype(np.int64)
