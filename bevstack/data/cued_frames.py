"""Frames with the cues of a cache: fresh, stale by a given time, or wrong on purpose.

A cue that does not belong to its frame is left out, counted and named in the log once: the model runs on without it.
Only one thing is refused: cues refined with annotations on a split that is not for training.
"""

import hashlib
import logging
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from bevstack.data.cue_cache import CueCache, CueRow
from bevstack.data.index import DatasetIndex
from bevstack.data.picture_hash import picture_hash, picture_hash_of_sample
from bevstack.data.training_splits import check_training_split
from bevstack.types.frame import Frame
from bevstack.types.interfaces import FrameSource

_LOG = logging.getLogger(__name__)

MAX_AGE_ERROR_S = 0.3
"""A stale cue may be this much older or younger than asked for: key frames are half a second apart."""


class CuedFrames:
    """The frames of a source with `Frame.cue`. Implements `FrameSource`; all else is that of the source.

    Args:
        source: where the frames come from.
        cache: None where there are no cues: no frame gets one.
        age_s: 0 for the cue of the frame itself; above 0 for that of the frame so long before it in the same scene. The
            first frames of a scene then have none.
        wrong_seed: None for the right cue; a number for that of a frame of another scene, drawn from the seed and the
            frame's token. Its text is then wrong on purpose, and the time of the cue is that of the right one.

    Raises:
        ValueError: `age_s` is negative, or the cues were refined with annotations and the source's split is not for
            training.
    """

    def __init__(
        self, source: FrameSource, cache: CueCache | None, *, age_s: float = 0.0, wrong_seed: int | None = None
    ) -> None:
        if not age_s >= 0 or not np.isfinite(age_s):
            raise ValueError(f"age_s={age_s} must be 0 (fresh cues) or more")
        if cache is not None and cache.settings.refinement == "annotations":
            split = getattr(source, "split", None)
            check_training_split("(unknown)" if split is None else split, getattr(source, "index", None))
        self.source, self.cache, self.age_s, self.wrong_seed = source, cache, age_s, wrong_seed
        self.num_without: Counter[str] = Counter()
        """Frames without a cue so far, by reason (of this process: workers count for themselves)."""
        self._fitting: dict[str, bool] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Frame:
        return self.with_cue(self.source[index])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "source":  # not yet there while a copy is being made
            raise AttributeError(name)
        return getattr(self.source, name)

    def inputs(self, index: int) -> Frame:
        """Frame `index` without ground truth, with its cue."""
        read = getattr(self.source, "inputs", self.source.__getitem__)
        return self.with_cue(replace(read(index), annotations=None))

    def with_cue(self, frame: Frame) -> Frame:
        """The frame with its cue; without one where there is none that belongs to it."""
        if self.cache is None:
            return self._without(frame, "there is no cache")
        row = self._row(self.cache, frame)
        if row is None:
            return self._without(frame, "not in the cache" if self.age_s == 0 else "nothing so old in its scene")
        if not self._fits(frame, row, self.cache.settings.cameras):
            return self._without(frame, "the cue describes other pictures")
        if self.wrong_seed is not None:
            other = self._other_row(self.cache, frame, self.wrong_seed)
            if other is None:
                return self._without(frame, "no other scene has a cue")
            row = replace(other, sample_token=row.sample_token, timestamp_us=row.timestamp_us)
        if row.embedding is None:
            return self._without(frame, f"answer {row.fault}")
        source = self.cache.settings.source
        return replace(frame, cue=row.cue(source if self.wrong_seed is None else f"{source}, wrong on purpose"))

    def _row(self, cache: CueCache, frame: Frame) -> CueRow | None:
        if self.age_s == 0:
            row = cache.row(frame.scene_name, frame.token)
            return row if row is None or row.timestamp_us == frame.timestamp_us else None
        wanted_us = frame.timestamp_us - round(self.age_s * 1e6)
        rows = [row for row in cache.rows(frame.scene_name) if row.timestamp_us <= frame.timestamp_us]
        row = min(rows, key=lambda row: abs(row.timestamp_us - wanted_us), default=None)
        if row is None or abs(row.timestamp_us - wanted_us) > MAX_AGE_ERROR_S * 1e6:
            return None
        return row

    def _other_row(self, cache: CueCache, frame: Frame, seed: int) -> CueRow | None:
        """A cue of another scene: the same one for the same seed and frame."""
        number = int.from_bytes(hashlib.sha256(frame.token.encode()).digest()[:8], "little")
        rng = np.random.default_rng((seed, number))
        others = [name for name in cache.scene_names if name != frame.scene_name]
        for name in rng.permutation(others):
            rows = [row for row in cache.rows(str(name)) if row.embedding is not None]
            if rows:
                return rows[int(rng.integers(len(rows)))]
        return None

    def _fits(self, frame: Frame, row: CueRow, cameras: tuple[str, ...]) -> bool:
        """Whether the cue describes the pictures of the frame that it names. Files are looked at once; the pictures of
        earlier frames can only be looked at where they are files.
        """
        token = row.sample_token
        if token not in self._fitting:
            index = getattr(self.source, "index", None)
            if token == frame.token:
                self._fitting[token] = picture_hash(self.source, frame, cameras) == row.picture_hash
            elif isinstance(index, DatasetIndex):
                self._fitting[token] = picture_hash_of_sample(index, token, cameras) == row.picture_hash
            else:
                return True
        return self._fitting[token]

    def _without(self, frame: Frame, reason: str) -> Frame:
        self.num_without[reason] += 1
        if self.num_without[reason] == 1:
            _LOG.warning("frame %s goes on without a cue: %s (said once; num_without counts)", frame.token, reason)
        return replace(frame, cue=None)
