"""What perception hands on to motion and planning inside the network, so that gradients can flow through it.

Letters: B frames, A agents (padded), C channels, K classes, Y X cells.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from bevstack.types.bev import BevFeatures, BevGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """The objects that the detection head has found, padded to the frame that has most.

    Agent n is row n of the `Detections` that the head decodes to, best score first.
    """

    features: Float[Tensor, "B A C"]
    boxes_ego: Float[Tensor, "B A 9"]
    """Columns as in `BoxIndex`; without gradient."""
    class_index: Int[Tensor, "B A"]
    """The class that the detection has; others may be as probable."""
    class_probabilities: Float[Tensor, "B A K"]
    """Of `bevstack.data.class_names.DETECTION_CLASSES`; without gradient."""
    scores: Float[Tensor, "B A"]
    """As in the detections; without gradient."""
    mask: Bool[Tensor, "B A"]
    """False for padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapBelief:
    """The map as the network sees it."""

    probabilities: Float[Tensor, "B K Y X"]
    """In the order of `bevstack.data.maps.MAP_CLASSES`; without gradient."""
    grid: BevGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneContext:
    """Everything that a head of the second stage may look at; parts that no head gives are None."""

    bev: BevFeatures
    """The features that the perception heads saw."""
    agents: Agents | None = None
    map: MapBelief | None = None
    cue_embedding: Float[Tensor, "B C"] | None = None
    """The cue at the width of `bev`, zero in frames without one; None in models without language."""
