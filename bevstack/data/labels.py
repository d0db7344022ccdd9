"""Labels that are computed from a frame as it is, after any augmentation, rather than moved along with it."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

from bevstack.types.frame import Frame
from bevstack.types.interfaces import FrameSource

SourceT = TypeVar("SourceT", bound=FrameSource)


@runtime_checkable
class Labeller(Protocol):
    """Adds one kind of label to a frame."""

    def __call__(self, frame: Frame) -> Frame:
        """The frame with labels in its annotations; `frame` itself stays as it is."""


def labelled(frame: Frame, labellers: Sequence[Labeller]) -> Frame:
    """The frame after every labeller, in this order."""
    for labeller in labellers:
        frame = labeller(frame)
    return frame


class LabelledFrames(Generic[SourceT]):
    """The frames of a source with all their labels, un-augmented: what evaluation reads. Implements `FrameSource`.

    Args:
        source: where the frames come from; stays reachable for its tables.
        labellers: applied to every frame, in this order.
    """

    def __init__(self, source: SourceT, labellers: Sequence[Labeller]) -> None:
        self.source = source
        self.labellers = tuple(labellers)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Frame:
        return labelled(self.source[index], self.labellers)
