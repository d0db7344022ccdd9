"""Checkpoints between optimizer steps, by time, by steps, on request and at the end; written whole or not at all."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from bevstack.training.ema import WeightAverage
from bevstack.training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)


class TrainingInterrupted(Exception):  # noqa: N818 - not an error: what the user asked for
    """The user asked to stop (Ctrl-C or SIGTERM); the state up to this step is in `checkpoint`."""

    def __init__(self, checkpoint: Path, signal_number: int) -> None:
        super().__init__(f"interrupted, saved {checkpoint}")
        self.checkpoint = checkpoint
        self.signal_number = signal_number


class Averaging(Callback):
    """Keeps the averaged weights, validates with them, and stores them in every checkpoint.

    Args:
        average: of the model alone (names without a prefix).
        description: metadata of a weights file, but for the step.
    """

    def __init__(self, average: WeightAverage, description: dict[str, str]) -> None:
        self.average = average
        self.description = description
        self._last_step = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The parameters may have been shared out over the processes by now."""
        self.average.follow(_model_of(pl_module))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the step that a resumed run has reached."""
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the weights after an optimizer step."""
        if trainer.global_step > self._last_step:
            self._last_step = trainer.global_step
            self.average.update(_model_of(pl_module), trainer.global_step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate with the averaged weights."""
        self.average.swap(_model_of(pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train on with the model's own."""
        self.average.swap(_model_of(pl_module))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the averaged weights with what `bevstack.build.load_model` needs."""
        checkpoint["bevstack"] = {
            "averaged": {name: tensor.clone() for name, tensor in self.average.whole(_model_of(pl_module)).items()},
            "metadata": {**self.description, "step": str(trainer.global_step)},
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the averaged weights back."""
        self.average.load(checkpoint["bevstack"]["averaged"], _model_of(pl_module))


class Checkpointing(Callback):
    """Saves, and ends the run when the user or the clock says so. All processes act at the same step.

    Args:
        run: where the files go.
        minutes: time between checkpoints; None for none by time.
        steps: also after every so many optimizer steps.
        keep: how many to keep.
        max_minutes: end the run after this time.
        stop_signals: signals that arrived, oldest first; see `signals_collected`.
    """

    def __init__(
        self,
        run: RunFolder,
        *,
        minutes: float | None,
        steps: int | None,
        keep: int,
        max_minutes: float | None,
        stop_signals: list[int],
    ) -> None:
        self._run, self._minutes, self._steps, self._keep = run, minutes, steps, keep
        self._max_minutes, self._stop_signals = max_minutes, stop_signals
        self._started_at = self._saved_at = time.monotonic()
        self._last_step = 0
        self._saved_step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        self._started_at = self._saved_at = time.monotonic()
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimizer step: save if it is time, stop if it is asked for.

        Raises:
            TrainingInterrupted: a stop signal has arrived; the checkpoint is written.
        """
        if trainer.global_step == self._last_step:
            return  # gradients are still being accumulated: that state cannot be saved
        self._last_step = trainer.global_step
        now = time.monotonic()
        is_due = self._minutes is not None and now - self._saved_at > 60 * self._minutes
        is_over = self._max_minutes is not None and now - self._started_at > 60 * self._max_minutes
        stop_signal, is_due, is_over = self._agreed(trainer, (self._stop_signals or [0])[0], is_due, is_over)
        by_steps = self._steps is not None and trainer.global_step % self._steps == 0
        if stop_signal or is_due or is_over or by_steps:
            file = self.save(trainer)
            if stop_signal:
                raise TrainingInterrupted(file, stop_signal)
        if is_over:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the final state."""
        if trainer.global_step != self._saved_step:
            self.save(trainer)

    def save(self, trainer: Trainer) -> Path:
        """Write a checkpoint of this step under a temporary name, move it into place, delete the oldest."""
        file = self._run.checkpoint_of(trainer.global_step)
        temporary = file.with_suffix(".partial")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            os.replace(temporary, file)
            for old in sorted(self._run.checkpoints.glob("step*.ckpt"))[: -self._keep]:
                old.unlink()
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        return file

    @staticmethod
    def _agreed(trainer: Trainer, stop_signal: int, is_due: bool, is_over: bool) -> tuple[int, bool, bool]:
        """What any process wants, all do."""
        if trainer.world_size == 1:
            return stop_signal, is_due, is_over
        device = trainer.strategy.root_device
        wishes = torch.tensor([stop_signal, int(is_due), int(is_over)], device=device)
        torch.distributed.all_reduce(wishes, op=torch.distributed.ReduceOp.MAX)
        return int(wishes[0]), bool(wishes[1]), bool(wishes[2])


@contextmanager
def signals_collected() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM add to the list instead of ending the process; a second Ctrl-C ends it at once."""
    received: list[int] = []

    def collect(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        _LOG.warning("stopping after this step; Ctrl-C again stops at once and loses the steps since the last save")

    try:
        previous = {number: signal.signal(number, collect) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals cannot be handled here
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _model_of(pl_module: LightningModule) -> torch.nn.Module:
    model = pl_module.model
    assert isinstance(model, torch.nn.Module)
    return model
