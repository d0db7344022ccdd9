"""The cue of a frame while driving: captioned, checked, held against what the model has found, and embedded."""

from bevstack.data.cue_cache import CueSettings
from bevstack.perception.language.answers import fault_of
from bevstack.perception.language.captioner import Captioner
from bevstack.perception.language.facts import facts_from_estimate
from bevstack.perception.language.live_cues import NoCueError
from bevstack.perception.language.refine import refine
from bevstack.perception.language.text_encoders import TextEncoder, embed_both
from bevstack.types.cue import Cue
from bevstack.types.frame import Frame
from bevstack.types.scene import SceneEstimate


class CueMaker:
    """Makes cues as `bevstack cues make --refine estimates` does, one frame at a time: what `LiveCues` runs.

    Args:
        captioner: Makes the text from the pictures of the frame, in the size that the model reads.
        encoder: Embeds it: the one that the model was trained with.
    """

    def __init__(self, *, captioner: Captioner, encoder: TextEncoder) -> None:
        self._captioner, self._encoder = captioner, encoder
        self.settings = CueSettings(
            captioner=captioner.name,
            prompt_version=captioner.prompt_version,
            encoder=encoder.name,
            refinement="estimates",
            cameras=captioner.cameras,
            width=encoder.width,
        )

    def __call__(self, frame: Frame, estimate: SceneEstimate) -> Cue:
        """The cue; statements that the estimate does not support are gone, and the route's manoeuvre comes first.

        Raises:
            NoCueError: the answer is empty, endless, foreign or senseless, or nothing is left of it.
        """
        answer = self._captioner.caption(frame)
        fault = fault_of(answer)
        if fault is not None:
            raise NoCueError(fault, f"the answer about frame {frame.token} is {fault}: {answer[:60]!r}")
        facts = facts_from_estimate(estimate, frame, cameras=self._captioner.cameras)
        text = refine(" ".join(answer.split()), facts, frame.route).text
        if not text:
            raise NoCueError(
                "nothing left", f"nothing that is said of frame {frame.token} is supported: {answer[:60]!r}"
            )
        embedding, mirrored = embed_both(self._encoder, [text])
        return Cue(
            text=text,
            embedding=embedding[0],
            mirrored_embedding=mirrored[0],
            frame_token=frame.token,
            timestamp_us=frame.timestamp_us,
            source=self.settings.source,
        )
