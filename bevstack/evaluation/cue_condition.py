"""Which text a model is given while it is scored: its own cue, an older one, a wrong one, or none."""

from dataclasses import dataclass, replace
from typing import Any

from bevstack.build import override_keys
from bevstack.data.cued_frames import CuedFrames
from bevstack.evaluation.checkpoint import Checkpoint
from bevstack.evaluation.ranks import Ranks
from bevstack.types.interfaces import FrameSource


@dataclass(frozen=True, slots=True, kw_only=True)
class CueCondition:
    """What differs from the cues that a model was trained with; None keeps what its configuration says."""

    name: str | None = None
    """Of the cues in the data set's folder `cues`."""
    age_s: float | None = None
    """How much older than the frame; 0 is the cue of the frame itself."""
    wrong_seed: int | None = None
    """Cues of other scenes, drawn with this seed."""
    is_absent: bool = False
    """No text at all."""

    def apply(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint, whose frames then come with these cues.

        Raises:
            ValueError: the model reads no text, or the condition contradicts itself.
        """
        if self == CueCondition():
            return checkpoint
        if checkpoint.model.language is None:
            raise ValueError(
                f"{checkpoint.description['name']} reads no text (it has no model.language): leave out the options "
                "about cues"
            )
        if self.is_absent and self != CueCondition(is_absent=True):
            raise ValueError("without cues there is none to be named, old or wrong: give --no-cues alone")
        known = {"name": self.name, "age_s": self.age_s, "wrong_seed": self.wrong_seed}
        words = [f"data.cues.{key}={value}" for key, value in known.items() if value is not None]
        if self.is_absent:
            words.append("data.cues.name=null")
        elif self.name is None and checkpoint.config.data.cues.name is None:
            raise ValueError("the model was trained without cues, so which are meant? give --cues NAME")
        return replace(checkpoint, config=override_keys(checkpoint.config, words))


def cues_given(checkpoint: Checkpoint, frames: FrameSource, ranks: Ranks) -> dict[str, Any]:
    """What the record of an evaluation says of the text: which it was, and how many frames went without.

    Args:
        checkpoint: the model, with its condition.
        frames: those that it has seen.
        ranks: this process among those that share them; all must call.

    Returns:
        Empty for a model that reads no text.
    """
    if checkpoint.model.language is None:
        return {}
    cues = checkpoint.config.data.cues
    own = frames.num_without if isinstance(frames, CuedFrames) else {}
    without: dict[str, int] = {}
    for part in ranks.gathered(dict(own)) or []:
        for reason, count in part.items():
            without[reason] = without.get(reason, 0) + count
    given = {"name": cues.name, "age_s": float(cues.age_s), "wrong_seed": cues.wrong_seed}
    return {"cues": {**given, "frames_without": without}}
