"""The seams between parts. Anything with these methods fits; nothing has to inherit."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from bevstack.types.batch import Batch, Labels
from bevstack.types.bev import BevFeatures
from bevstack.types.context import SceneContext
from bevstack.types.frame import EgoState, Frame
from bevstack.types.scene import CueAttention, SceneEstimate, ScenePart
from bevstack.types.trajectory import Plan, Route

HeadOutput = Any
"""Raw network output of one head: that head's own dataclass of tensors."""

OutputT = TypeVar("OutputT")


@runtime_checkable
class FrameSource(Protocol):
    """A sequence of frames: a data set, a recorded drive, a simulated world."""

    def __len__(self) -> int:
        """Number of frames."""

    def __getitem__(self, index: int) -> Frame:
        """Frame `index`, in order of scene and time."""


@runtime_checkable
class SensorEncoder(Protocol):
    """Turns one sensor's part of a batch into features on the grid."""

    out_channels: int

    def __call__(self, batch: Batch) -> BevFeatures:
        """Features of this sensor; `valid` is False everywhere in frames where the sensor is missing."""


@runtime_checkable
class BevFuser(Protocol):
    """Joins features of several sources on one grid. Built with `in_channels: dict[source, channels]`."""

    out_channels: int

    def __call__(self, per_source: Mapping[str, BevFeatures]) -> BevFeatures:
        """Fused features.

        Raises:
            ValueError: the sources lie on different grids.
        """


@runtime_checkable
class FeatureMemory(Protocol):
    """Joins the fused features of a frame with what earlier frames of its drive saw. Built with `in_channels`.

    The memory itself is held by whoever steps through the drives; None stands for that of a drive that begins. A row
    begins anew where its scene changes or time does not advance.
    """

    out_channels: int
    num_past: int
    """Frames before one that may have a say in it."""

    def __call__(self, bev: BevFeatures, batch: Batch, state: Any = None) -> tuple[BevFeatures, Any]:
        """Features with the past in them, on the same grid, and what to remember for the next frame."""

    def remember(self, bev: BevFeatures, batch: Batch, state: Any = None) -> Any:
        """The second result alone, for frames whose own output nobody needs."""


@runtime_checkable
class LanguageFuser(Protocol[OutputT]):
    """Lets the cue of each frame shape its features. Built with `in_channels`.

    Frames without a cue pass unchanged.
    """

    out_channels: int
    embedding_dim: int
    """Width of the cues' embeddings."""

    def __call__(self, bev: BevFeatures, batch: Batch) -> tuple[BevFeatures, OutputT]:
        """Features on the same grid, and what the other methods need."""

    def loss(self, output: OutputT, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Named, unweighted terms."""

    def decode(self, output: OutputT) -> Sequence[CueAttention]:
        """Where the cue has lit up the features of each frame."""

    def context(self, output: OutputT) -> Mapping[str, Tensor]:
        """Parts of `SceneContext` for the heads of the second stage."""


@runtime_checkable
class Head(Protocol[OutputT]):
    """A task on top of fused BEV features. Any nn.Module with these three methods is a head."""

    def __call__(self, bev: BevFeatures) -> OutputT:
        """Raw network output; logits and offsets, no thresholds."""

    def loss(self, output: OutputT, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Named, unweighted terms. Weights are applied once, in training/module.py."""

    def decode(self, output: OutputT) -> Sequence[ScenePart | tuple[ScenePart, ...]]:
        """Physical quantities in the ego frame, for each frame one part, or a tuple of parts of a joint head."""


@runtime_checkable
class BehaviourHead(Protocol[OutputT]):
    """What others and the vehicle itself will do, on top of what perception has found: motion and planning.

    Built with `in_channels: int`, the width of the bird's-eye features, and `agent_channels: int`, that of the agents
    (0 where no head hands on agents).
    """

    def __call__(self, context: SceneContext, batch: Batch) -> OutputT:
        """Raw network output. From `batch` a head reads what the car knows of itself: status, route, cue."""

    def loss(self, output: OutputT, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Named, unweighted terms."""

    def decode(self, output: OutputT) -> Sequence[ScenePart]:
        """Physical quantities in `ego`, one part for each frame."""


@runtime_checkable
class Planner(Protocol):
    """Decides where to drive."""

    def plan(self, scene: SceneEstimate, ego: EgoState, route: Route) -> Plan:
        """Always returns a plan within its time budget; Plan.source says how it came about.

        `scene` is in `ego` at reference time and may lack any part; forecasts belong to its detections.
        """
