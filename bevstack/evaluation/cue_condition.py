"""Which text a model is given while it is scored: the cue of the frame, an older, a wrong, a live one, or none."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from bevstack.build import override_keys
from bevstack.data.cued_frames import CuedFrames
from bevstack.engine import CueSource
from bevstack.evaluation.checkpoint import Checkpoint
from bevstack.evaluation.ranks import Ranks
from bevstack.perception.language.captioners import captioner_of
from bevstack.perception.language.cue_maker import CueMaker
from bevstack.perception.language.describer import ORACLE_NAME
from bevstack.perception.language.live_cues import LiveCues
from bevstack.perception.language.text_encoders import text_encoder
from bevstack.types.cue import Cue
from bevstack.types.interfaces import FrameSource

_PATIENCE_S = 600.0


class PunctualCues(LiveCues):
    """Live cues of a captioner that is always done when the next frame comes.

    Each frame gets the cue of the one before it, so that an evaluation says the same on a busy and on an idle machine.
    """

    num_without = 0
    """Frames for which there was no cue yet."""

    def newest(self) -> Cue | None:
        """The cue of the frame before; that of an older one where it could not be described. Waits for it.

        Raises:
            ValueError: the captioner does not come to an end.
        """
        if not self.wait(_PATIENCE_S):
            raise ValueError(f"the captioner needs over {_PATIENCE_S:.0f} s for a frame: score a cache of its cues")
        cue = super().newest()
        self.num_without += cue is None
        return cue


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
    captioner: str | None = None
    """Makes the text on the way, from the frames themselves."""
    encoder: str = "minilm"
    """Embeds what the captioner says."""

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
        known = {"name": self.name, "age_s": self.age_s, "wrong_seed": self.wrong_seed}
        words = [f"data.cues.{key}={value}" for key, value in known.items() if value is not None]
        if bool(words) + self.is_absent + (self.captioner is not None) > 1:
            raise ValueError(
                "cues are cached (--cues, --cue-age, --wrong-cues), live (--live-cues) or absent (--no-cues): give one"
            )
        if self.is_absent or self.captioner is not None:
            words = ["data.cues.name=null"]
        elif self.name is None and checkpoint.config.data.cues.name is None:
            raise ValueError("the model was trained without cues, so which are meant? give --cues NAME")
        return replace(checkpoint, config=override_keys(checkpoint.config, words))

    def source(self, checkpoint: Checkpoint, device: str) -> CueSource:
        """What a session of the checkpoint takes its text from.

        Raises:
            ValueError: the captioner cannot run here, or the model reads texts of another encoder.
        """
        if self.captioner is None:
            return "cached"
        if self.captioner == ORACLE_NAME:
            raise ValueError(f"{ORACLE_NAME} reads ground truth, which no frame brings while driving: score its cache")
        encoder = text_encoder(self.encoder, device)
        width = int(checkpoint.config.model.language.embedding_dim)
        if encoder.width != width:
            raise ValueError(
                f"{self.encoder} makes {encoder.width} numbers of a text, the model reads {width}: give the encoder "
                "that it was trained with as --text-encoder"
            )
        return PunctualCues(CueMaker(captioner=captioner_of(self.captioner, device=device), encoder=encoder))

    def record(
        self, checkpoint: Checkpoint, frames: FrameSource, sources: Iterable[CueSource], ranks: Ranks
    ) -> dict[str, Any]:
        """What `metrics.json` says of the text: which it was, and how many frames went without.

        Args:
            checkpoint: the model, after `apply`.
            frames: those that it has seen.
            sources: where its sessions had their text from.
            ranks: this process among those that share the frames; all must call.

        Returns:
            Empty for a model that reads no text.
        """
        if checkpoint.model.language is None:
            return {}
        own = Counter(frames.num_without) if isinstance(frames, CuedFrames) else Counter[str]()
        for source in sources:
            if isinstance(source, PunctualCues):
                own["no cue yet"] += source.num_without
        without = sum(ranks.gathered(own) or [], Counter[str]())
        cues = checkpoint.config.data.cues
        given = {"name": cues.name, "age_s": float(cues.age_s), "wrong_seed": cues.wrong_seed}
        return {"cues": {**given, "captioner": self.captioner, "frames_without": dict(without)}}
