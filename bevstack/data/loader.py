"""Frames to batches, in parallel, in an order and with augmentations that depend on nothing but a seed.

What sample i of epoch e looks like is decided by (seed, e, i) alone: not by the number of workers, not by how far
they run ahead, not by whether the run was interrupted. So the epoch travels to the workers inside each sample's key,
not as their state; and a run that stops in the middle of an epoch goes on at the same batch by skipping keys, not
frames.
"""

import copy
import logging
import signal
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from bevstack.data.augment import Augmentation
from bevstack.data.class_names import CAMERA_NAMES, DETECTION_CLASSES
from bevstack.data.clips import Clip, earlier_frames
from bevstack.data.collate import collate_clips
from bevstack.data.images import ImageSize
from bevstack.data.labels import Labeller, labelled
from bevstack.types.batch import Batch, Labels
from bevstack.types.errors import CalibrationError, DatasetError
from bevstack.types.frame import Frame
from bevstack.types.interfaces import FrameSource

_LOG = logging.getLogger(__name__)
_EXPECTED_ERRORS = (DatasetError, CalibrationError, ValueError, OSError)


class SampleKey(NamedTuple):
    """Which frame, and which of its possible augmentations."""

    epoch: int
    frame_index: int
    repeat: int = 0
    """0 for the first time that the frame comes in its epoch, 1 for the second, ..."""


class FrameDataset(Dataset[Frame]):
    """The frames of a source, augmented, then labelled. A plain index means its first appearance in epoch 0.

    Args:
        source: where frames come from.
        augmentations: applied in this order, each with the sample's own generator; one that has a `last_epoch` is left
            out from that epoch on.
        seed: of all augmentations.
        labellers: applied in this order to the augmented frame.
        num_history: frames of the past in each clip.
        history_step: distance between them, and from the frame, in frames of the source.

    Raises:
        ValueError: `num_history` is negative or `history_step` is not positive.
    """

    def __init__(
        self,
        source: FrameSource,
        augmentations: Sequence[Augmentation] = (),
        seed: int = 0,
        labellers: Sequence[Labeller] = (),
        num_history: int = 0,
        history_step: int = 1,
    ) -> None:
        if num_history < 0 or history_step < 1:
            raise ValueError(f"num_history={num_history} must be at least 0 and history_step={history_step} at least 1")
        self.source = source
        self.num_history, self.history_step = num_history, history_step
        self.augmentations = tuple(augmentations)
        self.seed = seed
        self.labellers = tuple(labellers)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey | int) -> Frame:
        key = key if isinstance(key, SampleKey) else SampleKey(0, int(key))
        return self._clip(key, num_history=0).frame

    def clip(self, key: SampleKey) -> Clip:
        """The frame of this key with those before it. The frame is the same whatever comes with it."""
        return self._clip(key, self.num_history)

    def _clip(self, key: SampleKey, num_history: int) -> Clip:
        frame = self.source[key.frame_index]
        earlier = earlier_frames(self.source, key.frame_index, frame, count=num_history, step=self.history_step)
        frame, *history = self._augmented([frame, *reversed(earlier)], key)  # newest first
        return Clip(frame=labelled(frame, self.labellers), history=tuple(reversed(history)))

    def _augmented(self, frames: list[Frame], key: SampleKey) -> list[Frame]:
        """The frames of a clip, each with its own draws; what moves the world draws the same for all of them."""
        rngs = [np.random.default_rng((self.seed, *key, *((age,) if age else ()))) for age in range(len(frames))]
        for augmentation in self.augmentations:
            if not _is_on(augmentation, key.epoch):
                continue
            used = rngs
            if getattr(augmentation, "moves_world", False):
                used = [rngs[0], *(copy.deepcopy(rngs[0]) for _ in frames[1:])]
            frames = [augmentation(frame, rng) for frame, rng in zip(frames, used, strict=True)]
        return frames


def _is_on(augmentation: Augmentation, epoch: int) -> bool:
    """Whether an augmentation takes part in an epoch; most have no end and no such attribute."""
    last_epoch = getattr(augmentation, "last_epoch", None)
    return last_epoch is None or epoch < last_epoch


class EpochSampler(DistributedSampler[Any]):
    """Keys of one epoch for one of several processes, from a given sample on.

    It is a `DistributedSampler`, so that training frameworks know that the sharding is done. Shuffled epochs give
    every process the same number of samples, by repeating the first few (a process with a batch less would leave the
    others waiting); unshuffled ones, meant for evaluation, give each sample exactly once.

    Args:
        num_samples: length of the data set.
        shuffle: a new order each epoch, from (seed, epoch).
        seed: of the order.
        num_replicas: number of processes.
        rank: this process, from 0.
        frame_classes: for each sample, the classes that occur in it; given, epochs are drawn as
            `class_balanced_indices` says. Needs `shuffle`.

    Raises:
        ValueError: rank is not below num_replicas, or the lengths do not match.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        shuffle: bool,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        frame_classes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        if frame_classes is not None and len(frame_classes) != num_samples:
            raise ValueError(f"frame_classes has {len(frame_classes)} entries for {num_samples} samples")
        if frame_classes is not None and not shuffle:
            raise ValueError("class-balanced epochs are random: they need shuffle=True")
        super().__init__(range(num_samples), num_replicas=num_replicas, rank=rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.frame_classes = frame_classes
        self.start = 0
        """Samples of this process to leave out at the start of the next pass; 0 again after it."""
        self.num_samples = len(self._shard(self._epoch_order()))

    def __len__(self) -> int:
        """Samples of this process in a whole epoch."""
        return self.num_samples

    def __iter__(self) -> Iterator[SampleKey]:
        keys = self._shard(self._epoch_order())[self.start :]
        self.start = 0
        return iter(keys)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass. Another epoch than the current one starts from its first sample."""
        if epoch != self.epoch:
            self.start = 0
        super().set_epoch(epoch)

    def _epoch_order(self) -> np.ndarray:
        total = len(self.dataset)  # type: ignore[arg-type]
        if not self.shuffle:
            return np.arange(total)
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.frame_classes is None:
            return rng.permutation(total)
        return class_balanced_indices(self.frame_classes, rng)

    def _shard(self, order: np.ndarray) -> list[SampleKey]:
        if self.shuffle and len(order):
            order = np.resize(order, -(-len(order) // self.num_replicas) * self.num_replicas)
        seen: dict[int, int] = {}
        keys = []
        for index in order.tolist():
            repeat = seen.get(index, 0)
            seen[index] = repeat + 1
            keys.append(SampleKey(self.epoch, index, repeat))
        return keys[self.rank :: self.num_replicas]


def class_balanced_indices(frame_classes: Sequence[Sequence[int]], rng: np.random.Generator) -> np.ndarray:
    """Sample indices of one epoch in which every class gets the same number of draws, shuffled.

    The sampling of CBGS (Zhu et al., Class-balanced grouping and sampling for point cloud 3D object detection, 2019,
    section 3.1): each class draws, with replacement, from the samples that contain it; all classes draw equally often,
    in sum as often as (sample, class) pairs exist. Samples without any class never come.

    Raises:
        ValueError: no sample contains any class.
    """
    holders: dict[int, list[int]] = {}
    for index, classes in enumerate(frame_classes):
        for class_index in set(classes):
            holders.setdefault(int(class_index), []).append(index)
    if not holders:
        raise ValueError("no frame contains any object: class-balanced epochs have nothing to draw from")
    total = sum(len(indices) for indices in holders.values())
    draws = -(-total // len(holders))
    drawn = [rng.choice(holders[class_index], size=draws) for class_index in sorted(holders)]
    return rng.permutation(np.concatenate(drawn))


def classes_of_frames(source: FrameSource) -> list[tuple[int, ...]]:
    """For each frame the detection classes that are annotated in it; reads every frame, so prefer a source's own table.

    Raises:
        ValueError: a frame has no annotations.
    """
    found = []
    for index in range(len(source)):
        frame = source[index]
        if frame.annotations is None:
            raise ValueError(f"frame {frame.token} has no annotations: classes cannot be balanced over it")
        found.append(tuple(np.unique(frame.annotations.boxes.class_index).tolist()))
    present = {class_index for classes in found for class_index in classes}
    missing = [name for class_index, name in enumerate(DETECTION_CLASSES) if class_index not in present]
    _LOG.info("classes that occur in no frame: %s", ", ".join(missing) or "none")
    return found


class FrameLoader(DataLoader[tuple[Batch, Labels | None]]):
    """A `DataLoader` of (Batch, Labels or None) that knows how far its consumer is. Make it with `make_loader`."""

    sampler: EpochSampler
    batch_size: int
    _handed_out: tuple[int, int] = (0, 0)
    """(epoch, batches of it that the consumer has received)."""

    @property
    def epoch(self) -> int:
        """The epoch that the next or running pass goes through."""
        return self.sampler.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; see `EpochSampler.set_epoch`."""
        self.sampler.set_epoch(epoch)

    def set_position(self, epoch: int, batches_done: int) -> None:
        """Make the next pass go through `epoch` from batch `batches_done` on; a finished epoch leads to the next.

        Raises:
            ValueError: `batches_done` is negative or beyond the end of the epoch.
        """
        if not 0 <= batches_done <= len(self):
            raise ValueError(f"batches_done={batches_done} must be between 0 and {len(self)}, the batches of an epoch")
        if batches_done == len(self):
            epoch, batches_done = epoch + 1, 0
        self.sampler.set_epoch(epoch)
        self.sampler.start = batches_done * self.batch_size
        self._handed_out = (epoch, batches_done)

    def state_dict(self) -> dict[str, int]:
        """Where the consumer is: epoch, and batches of it that it has received."""
        epoch, batches_done = self._handed_out
        return {"epoch": self.epoch, "batches_done": batches_done if epoch == self.epoch else 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was taken."""
        self.set_position(state["epoch"], state["batches_done"])

    def __iter__(self) -> Iterator[tuple[Batch, Labels | None]]:  # type: ignore[override]
        """Batches of this process in order; errors of workers arrive as they were raised."""
        epoch, batches_done = self.epoch, self.sampler.start // self.batch_size
        for item in super().__iter__():
            if isinstance(item, Exception):
                raise item
            batches_done += 1
            self._handed_out = (epoch, batches_done)
            yield item


def make_loader(
    source: FrameSource,
    *,
    batch_size: int,
    augmentations: Sequence[Augmentation] = (),
    labellers: Sequence[Labeller] = (),
    shuffle: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    image_size: ImageSize | None = None,
    camera_names: Sequence[str] = CAMERA_NAMES,
    frame_classes: Sequence[Sequence[int]] | None = None,
    num_history: int = 0,
    history_step: int = 1,
    num_replicas: int | None = None,
    rank: int | None = None,
    drop_last: bool = False,
    pin_memory: bool = False,
    prefetch_factor: int = 2,
) -> FrameLoader:
    """A loader of batches from a source of frames.

    Args:
        source: where frames come from; each worker process gets its own copy.
        batch_size: frames a batch.
        augmentations: applied to each frame in this order.
        labellers: applied to each frame after its augmentations.
        shuffle: a new order each epoch; see `EpochSampler` for what this means with several processes.
        seed: of the order and of the augmentations.
        num_workers: processes that load, each with one thread; they live as long as the loader. 0 loads in this one.
        image_size: size of all pictures; needed where a batch may have none (see `collate`).
        camera_names: order of the camera axis.
        frame_classes: for class-balanced epochs; see `class_balanced_indices`.
        num_history: frames of the past that come with each frame, for models with a memory (`Batch.history`).
        history_step: distance between them in frames of the source.
        num_replicas: training processes that share the data; None asks torch.distributed.
        rank: this process among them; None asks torch.distributed.
        drop_last: leave out a last batch that is not full.
        pin_memory: hand out batches in page-locked memory, for copies to a GPU that overlap with work.
        prefetch_factor: batches that each worker prepares ahead.

    Raises:
        ValueError: a number is out of its range.
    """
    if batch_size < 1 or num_workers < 0:
        raise ValueError(f"batch_size={batch_size} must be at least 1 and num_workers={num_workers} at least 0")
    dataset = FrameDataset(source, augmentations, seed, labellers, num_history, history_step)
    in_group = torch.distributed.is_available() and torch.distributed.is_initialized()
    if num_replicas is None:
        num_replicas = torch.distributed.get_world_size() if in_group else 1
    if rank is None:
        rank = torch.distributed.get_rank() if in_group else 0
    sampler = EpochSampler(
        len(source), shuffle=shuffle, seed=seed, num_replicas=num_replicas, rank=rank, frame_classes=frame_classes
    )
    # Threads of OpenCV in this process would also be a deadlock waiting to happen in forked workers.
    cv2.setNumThreads(0)
    workers: dict[str, Any] = {}
    if num_workers:
        workers = {"persistent_workers": True, "prefetch_factor": prefetch_factor, "worker_init_fn": _one_thread}
    return FrameLoader(
        _ErrorsAsItems(dataset),  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=partial(_collate_or_error, camera_names=tuple(camera_names), image_size=image_size),
        pin_memory=pin_memory,
        drop_last=drop_last,
        **workers,
    )


class _ErrorsAsItems(Dataset[Any]):
    """Returns expected errors instead of raising them.

    Raised in a worker, an exception reaches the user as a page of foreign traceback; returned, it can be raised again
    with its own one-line message.
    """

    def __init__(self, dataset: FrameDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> Clip | Exception:
        try:
            return self.dataset.clip(key)
        except _EXPECTED_ERRORS as error:
            return _portable(error)


def _collate_or_error(
    items: list[Clip | Exception], camera_names: Sequence[str], image_size: ImageSize | None
) -> tuple[Batch, Labels | None] | Exception:
    clips = []
    for item in items:
        if isinstance(item, Exception):
            return item
        clips.append(item)
    try:
        return collate_clips(clips, camera_names, image_size)
    except _EXPECTED_ERRORS as error:
        return _portable(error)


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note: tracebacks themselves do not cross processes."""
    error.add_note("".join(traceback.format_exception(error)))
    return error


def _one_thread(worker_index: int) -> None:
    # Ctrl-C is for the main process, which may still want to finish its step. SIGTERM must keep ending a worker: it is
    # how Python ends its child processes on the way out.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
