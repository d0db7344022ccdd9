"""Clips: a frame with the frames of its drive before it, for models with a memory.

A frame at the start of a scene has fewer frames before it than others of its batch. Nothing is repeated or made up to
fill the gap: the batch gets a *blank* in its place, a frame without any sensor, of a scene without a name. As a memory
begins anew wherever the scene of a row changes, a blank leaves no trace.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bevstack.types.frame import Frame
from bevstack.types.interfaces import FrameSource

NO_SCENE = ""
"""Scene of a blank: no scene of any data set has this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One sample of a loader."""

    frame: Frame
    history: tuple[Frame, ...] = ()
    """Earlier frames of the same scene, oldest first, without annotations; fewer than asked for at its start."""


def earlier_frames(source: FrameSource, index: int, frame: Frame, *, count: int, step: int = 1) -> tuple[Frame, ...]:
    """Up to `count` frames of the same scene before frame `index`, every `step`th, oldest first, unannotated.

    Args:
        source: Frames in order of scene and time. One with a method `inputs` (frames without ground truth) is not
            asked for labels.
        index: Position of the frame.
        frame: The frame at that position.
        count: How many.
        step: Distance between them in frames.
    """
    read: Callable[[int], Frame] = getattr(source, "inputs", source.__getitem__)
    found: list[Frame] = []
    newest = frame
    for position in range(index - step, max(-1, index - count * step - 1), -step):
        earlier = read(position)
        if earlier.scene_name != frame.scene_name or earlier.timestamp_us >= newest.timestamp_us:
            break
        newest = replace(earlier, annotations=None)
        found.append(newest)
    return tuple(reversed(found))


def history_rows(clips: Sequence[Clip]) -> tuple[tuple[Frame, ...], ...]:
    """The frames before those of a batch, oldest first, one row for each step back, filled up with blanks at the front.

    As many rows as the longest history has.
    """
    longest = max((len(clip.history) for clip in clips), default=0)
    columns = []
    for clip in clips:
        oldest = clip.history[0] if clip.history else clip.frame
        columns.append((blank_before(oldest),) * (longest - len(clip.history)) + clip.history)
    return tuple(zip(*columns))


def blank_before(frame: Frame) -> Frame:
    """A frame in which there is nothing, at the time and place of another: what stands for one that does not exist."""
    return replace(
        frame,
        token=NO_SCENE,
        scene_name=NO_SCENE,
        cameras=(),
        lidar=None,
        description="",
        route=None,
        cue=None,
        annotations=None,
    )
