"""What passes between the shared decoder of M3Net and the tasks that read it (Chen et al., M3Net, AAAI 2025).

A task takes part in the joint decoder (`joint_decoder.py`) as a `TaskReadout`: it says where to start (`queries`), the
decoder refines all tasks' queries with shared weights, and the task reads its result off (`forward`). Each readout is
one file with its own loss and decoding, like any other head.

Letters: B frames, Q queries, C channels, Y X bird's-eye cells.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from bevstack.types.batch import Labels
from bevstack.types.bev import BevFeatures, BevGrid
from bevstack.types.scene import ScenePart


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """The questions of one task to the bird's-eye features. Ragged over frames: padded, with a mask."""

    features: Float[Tensor, "B Q C"]
    position: Float[Tensor, "B Q C"]
    """Position embedding, added where attention offsets and weights are predicted, never to the features."""
    reference_cells: Float[Tensor, "B Q 2"]
    """Where each query looks: (column along x, row along y) as in `BevGrid.to_cells`, cell centres at k + 0.5."""
    mask: Bool[Tensor, "B Q"]
    """False for padding."""
    context: Any = None
    """What the task's own readout needs again: coarse outputs, classes, cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stem:
    """What a task may look at to place its queries."""

    features: Float[Tensor, "B C Y X"]
    """The shared 3x3 convolution of the bird's-eye features (M3Net's G)."""
    bev: BevFeatures
    """The input of the decoder, with its grid and active voxels."""
    earlier: Mapping[str, Queries] = field(default_factory=dict)
    """Queries of the tasks before this one, in the order of the decoder's readouts."""

    @property
    def grid(self) -> BevGrid:
        """The grid of all features here."""
        return self.bev.grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What the decoder hands back to one task after its last layer."""

    queries: Queries
    """As the task had placed them; `features` are still the initial ones."""
    features: Float[Tensor, "B Q C"]
    """The refined queries."""
    bev: Float[Tensor, "B C Y X"]
    """Refined bird's-eye features plus their input (X_L + X_0)."""
    task_scale: Float[Tensor, "B C Y X"]
    """This task's channel scaling of the last layer (g_t); ones where scaling is off."""
    grid: BevGrid


@runtime_checkable
class TaskReadout(Protocol):
    """A task on the shared decoder. Built with `channels: int`, the width of the decoder, and `in_channels: int`."""

    def queries(self, stem: Stem) -> Queries:
        """Where the task starts to look."""

    def __call__(self, decoded: Decoded) -> Any:
        """Raw output of the task: its own dataclass of tensors."""

    def loss(self, output: Any, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Named, unweighted terms."""

    def decode(self, output: Any) -> list[ScenePart]:
        """Physical quantities in `ego`, one part for each frame."""
