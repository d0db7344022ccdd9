"""What a driver would look at, in words: made from the pictures by a vision-language model, off-line or on a thread of
its own, and given to the model as an embedding (in the style of VLM-E2E, arXiv 2502.18042).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """A driver's attention at one instant. It may be older than the frame that it comes with, never younger."""

    text: str
    embedding: Float32[np.ndarray, " E"]
    """Of `text`, of length 1."""
    mirrored_embedding: Float32[np.ndarray, " E"] | None
    """Of the text with left and right exchanged, for frames that augmentation has mirrored; None where not known."""
    frame_token: str
    """The frame whose pictures it describes."""
    timestamp_us: int
    """Of that frame."""
    source: str
    """Captioner, refinement and text encoder, as the cache names them."""

    def __post_init__(self) -> None:
        length = float(np.linalg.norm(self.embedding))
        if not abs(length - 1.0) < 1e-3:
            raise ValueError(f"the cue of frame {self.frame_token} has an embedding of length {length:.4f}, not 1")
