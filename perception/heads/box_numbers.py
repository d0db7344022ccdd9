"""The numbers that a network gives for a box, and their loss: shared by every head that finds boxes.

Letters: N boxes.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bevstack.data.class_names import ATTRIBUTES, DETECTION_CLASSES
from bevstack.perception.heads.heatmap_targets import CenterTargets

BOX_CHANNELS = {"offset": 2, "height": 1, "log_size": 3, "heading": 2, "velocity": 2, "attribute": len(ATTRIBUTES)}
"""Numbers of a box, in the order of the channels; fields of `CenterTargets` say what they mean."""

_TERMS = {"offset": "offset", "height": "height", "log_size": "size", "heading": "yaw", "velocity": "velocity"}
_SYMMETRIC_CLASSES = ("barrier",)
"""Looking the same from both ends: a heading and its opposite are equally right."""


def box_terms(predicted: Mapping[str, Tensor], targets: CenterTargets) -> dict[str, Float[Tensor, ""]]:
    """Terms "offset", "height", "size", "yaw", "velocity", "attribute", each a mean over the boxes that count.

    L1, summed over the numbers of the term; cross entropy for attributes. Unknown velocities and attributes do not
    count.

    Args:
        predicted: (N, ...) numbers by name as in `BOX_CHANNELS`, row by row for the boxes of `targets`.
        targets: What they should be.
    """
    terms = {}
    for field, name in _TERMS.items():
        wanted = getattr(targets, field)
        is_known = wanted.isfinite()
        error = (predicted[field] - torch.where(is_known, wanted, 0.0)).abs() * is_known
        if field == "heading":
            opposite = (predicted[field] + wanted).abs().sum(dim=1, keepdim=True) / 2
            turned = _is_symmetric(targets)[:, None] & (2 * opposite < error.sum(1, keepdim=True))
            error = torch.where(turned, opposite.expand_as(error), error)
        terms[name] = error.sum() / is_known[:, 0].sum().clamp_min(1)
    has_attribute = targets.attribute_index >= 0
    cross_entropy = F.cross_entropy(predicted["attribute"], targets.attribute_index.clamp_min(0), reduction="none")
    terms["attribute"] = (cross_entropy * has_attribute).sum() / has_attribute.sum().clamp_min(1)
    return terms


def _is_symmetric(targets: CenterTargets) -> Tensor:
    symmetric = [DETECTION_CLASSES.index(name) for name in _SYMMETRIC_CLASSES]
    return torch.isin(targets.class_index, targets.class_index.new_tensor(symmetric))
