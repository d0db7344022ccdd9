"""One question over many frames of a drive."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bevstack.asking.answer import Answer
from bevstack.asking.sources import Beliefs
from bevstack.asking.template import Answerer
from bevstack.evaluation.predict import spread
from bevstack.types.errors import DatasetError


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAnswer:
    """An answer, and the instant that it is about."""

    token: str
    scene: str
    position: int
    """Of the frame in its scene, from 0."""
    time_s: float
    """Since the scene began."""
    answer: Answer


def frames_asked(beliefs: Beliefs, scene: str | None, frame: str | None, limit: int | None = None) -> list[str]:
    """Sample tokens of the frames that are meant.

    Args:
        beliefs: What is asked.
        scene: Name of a scene: all its frames, unless `frame` names one.
        frame: A sample token, or with `scene` the position of the frame in it.
        limit: At most so many, spread evenly.

    Raises:
        DatasetError: there is no such scene or sample.
        ValueError: the position is out of range.
    """
    frames = beliefs.frames
    if scene is None:
        if frame is not None:
            return [frames.token(frames.index_of(frame))]
        return [frames.token(0)]
    positions = frames.frames_of_scene(scene)
    if not positions:
        names = ", ".join(each.name for each in frames.scenes[:5])
        raise DatasetError(f"split '{frames.split}' has no scene '{scene}'; it has {names}, ...")
    if frame is None:
        return [frames.token(positions[each]) for each in spread(len(positions), limit)]
    if not frame.isdigit():
        return [frames.token(frames.index_of(frame))]
    if int(frame) >= len(positions):
        raise ValueError(f"--frame {frame}: scene {scene} has the frames 0 to {len(positions) - 1}")
    return [frames.token(positions[int(frame)])]


def ask_frames(
    beliefs: Beliefs, answerer: Answerer, question: str, tokens: Sequence[str]
) -> Iterator[FrameAnswer]:  # fmt: skip
    """The answers of some frames, one after the other."""
    frames = beliefs.frames
    for token in tokens:
        index = frames.index_of(token)
        sample = int(frames.sample_rows[index])
        scene = frames.index.scene_of_sample(sample)
        first = frames.frames_of_scene(scene.name)[0]
        times = [
            frames.index["data_timestamp_us"][frames.reference_row(int(frames.sample_rows[k]))] for k in (first, index)
        ]
        yield FrameAnswer(
            token=token,
            scene=scene.name,
            position=index - first,
            time_s=float(times[1] - times[0]) * 1e-6,
            answer=answerer.answer(question, beliefs.belief(token)),
        )
