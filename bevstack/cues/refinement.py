"""Where the facts come from that captions are refined with: nowhere, ground truth of training data, or a model."""

from typing import Protocol

from bevstack.data.cue_cache import Refinement
from bevstack.data.index import DatasetIndex
from bevstack.data.training_splits import check_training_split
from bevstack.engine import Session
from bevstack.perception.language.facts import SceneFacts, facts_from_annotations, facts_from_estimate
from bevstack.types.frame import Frame
from bevstack.types.interfaces import FrameSource


class FactSource(Protocol):
    """Gives the facts of a frame."""

    kind: Refinement

    def __call__(self, frame: Frame, position: int, cameras: tuple[str, ...]) -> SceneFacts:
        """What is known of the frame at a position of the source, as far as these cameras can see it."""


class AnnotationFacts:
    """Ground truth, of training splits only. A `FactSource`.

    Args:
        split: the split that the frames are of.
        index: of the data set, for scenes that a held-out split has too.

    Raises:
        ValueError: the split is not for training.
    """

    kind: Refinement = "annotations"

    def __init__(self, split: str, index: DatasetIndex) -> None:
        check_training_split(split, index)
        self.split = split

    def __call__(self, frame: Frame, position: int, cameras: tuple[str, ...]) -> SceneFacts:
        """The annotated facts; crossings and stop lines where the frame has map masks."""
        return facts_from_annotations(frame, split=self.split, cameras=cameras)


class EstimateFacts:
    """What a model finds in the frame: the way that refinement works in a vehicle. A `FactSource`.

    Args:
        session: runs the model.
        frames: the same frames as the model reads them, at the same positions.
    """

    kind: Refinement = "estimates"

    def __init__(self, session: Session, frames: FrameSource) -> None:
        self._session, self._frames = session, frames

    def __call__(self, frame: Frame, position: int, cameras: tuple[str, ...]) -> SceneFacts:
        """The facts of the model's estimate."""
        return facts_from_estimate(self._session.step(self._frames[position]), frame, cameras=cameras)
