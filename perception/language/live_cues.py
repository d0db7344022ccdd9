"""Cues while driving: a captioner on a thread of its own, and the newest cue that it has finished.

A captioner takes longer than a frame lasts. It always gets the newest frame when it has finished one, frames in
between are never described, and the stack never waits: what it gets is a cue of some time ago, whose age the model is
told. With each frame goes what the model has found in it, so that a caption can be held against that.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from bevstack.types.cue import Cue
from bevstack.types.errors import DatasetError
from bevstack.types.frame import Frame
from bevstack.types.scene import SceneEstimate

_LOG = logging.getLogger(__name__)
_EXPECTED = (DatasetError, OSError, RuntimeError, ValueError)
"""What a captioner may fail with on a frame: no model, no memory, no usable answer. All else is a fault of ours."""


class NoCueError(ValueError):
    """An answer that is no cue, such as an empty or a foreign one.

    Args:
        fault: Its name, to count it by.
        message: What is wrong, with the frame.
    """

    def __init__(self, fault: str, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class LiveCues:
    """Describes frames on a thread of its own, and gives the newest cue that is finished.

    Args:
        describe: Makes the cue of a frame, given what the model has found in it; None where it has nothing to say. It
            runs on another thread than the caller. `cue_maker.CueMaker` is one.
    """

    def __init__(self, describe: Callable[[Frame, SceneEstimate], Cue | None]) -> None:
        self.faults: Counter[str] = Counter()
        """Failures of the captioner, by name: each is a frame that the stack drove on without a new cue."""
        self._describe = describe
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._waiting: tuple[Frame, SceneEstimate] | None = None
        self._is_busy = self._is_closed = False
        self._drive = 0
        self._cue: Cue | None = None
        self._failure: BaseException | None = None

    def newest(self) -> Cue | None:
        """The newest cue of this drive that is finished, or None. Never waits."""
        with self._changed:
            return self._cue

    def offer(self, frame: Frame, estimate: SceneEstimate) -> None:
        """Have this frame described next, in place of one that still waits. Never waits itself.

        Raises:
            ValueError: it is closed already. What the captioner could not expect to fail with is raised here as well.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure
            if self._is_closed:
                raise ValueError("these live cues are closed: make new ones for another drive")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="live cues", daemon=True)
                self._thread.start()
            self._waiting = frame, estimate
            self._changed.notify_all()

    def reset(self) -> None:
        """A new drive begins: no cue of the old one is given any more, not even one that is still being made."""
        with self._changed:
            self._drive += 1
            self._cue = self._waiting = None

    def wait(self, timeout_s: float) -> bool:
        """Wait until every frame handed over is described; False where that takes longer."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, timeout_s)

    def close(self) -> None:
        """Let the thread end after the frame that it is at."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def __enter__(self) -> "LiveCues":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_idle(self) -> bool:
        return self._failure is not None or (self._waiting is None and not self._is_busy)

    def _work(self) -> None:
        while (taken := self._next_frame()) is not None:
            frame, estimate, drive = taken
            cue = None
            try:
                cue = self._cue_of(frame, estimate)
            except NoCueError as error:
                self._count(error.fault, str(error))
            except _EXPECTED as error:
                self._count(type(error).__name__, f"frame {frame.token} is not described: {error}")
            except BaseException as error:  # handed to the caller: a thread that dies in silence looks like no cues
                self._failure = error
            with self._changed:
                self._is_busy = False
                if cue is not None and drive == self._drive:
                    self._cue = cue
                self._changed.notify_all()
                if self._failure is not None:
                    return

    def _next_frame(self) -> tuple[Frame, SceneEstimate, int] | None:
        """Wait for a frame to describe; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._is_closed)
            if self._is_closed or self._waiting is None:
                return None
            (frame, estimate), self._waiting, self._is_busy = self._waiting, None, True
            return frame, estimate, self._drive

    def _cue_of(self, frame: Frame, estimate: SceneEstimate) -> Cue | None:
        cue = self._describe(frame, estimate)
        if cue is not None and cue.frame_token != frame.token:
            self._count("another frame", f"the cue for frame {frame.token} is of frame {cue.frame_token}")
            return None
        return cue

    def _count(self, kind: str, message: str) -> None:
        self.faults[kind] += 1
        _LOG.log(logging.WARNING if self.faults[kind] == 1 else logging.INFO, message)
