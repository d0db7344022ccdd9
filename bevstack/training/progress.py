"""How fast, how far, how long still, and how much of the time was spent waiting for data."""

import logging
import sys
import time
from collections import deque
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from bevstack.training.metrics_log import MetricsLog

_LOG = logging.getLogger(__name__)

_WINDOW_STEPS = 20
"""Steps over which the rate is taken."""


class Progress(Callback):
    """Progress bar on a terminal, a plain line every few seconds elsewhere, and rows in the metrics log.

    Must be the last callback, so that the time that others take (saving) does not count as waiting for data.

    Args:
        total_steps: optimizer steps of the run.
        batch_size: frames per optimizer step.
        steps_per_epoch: optimizer steps of one pass over the data.
        log: where losses go; None on all processes but the first.
        log_every_steps: rows of the log are that many steps apart.
        line_seconds: time between plain lines.
        is_shown: False on all processes but the first.
    """

    def __init__(
        self,
        *,
        total_steps: int,
        batch_size: int,
        steps_per_epoch: float,
        log: MetricsLog | None,
        log_every_steps: int = 1,
        line_seconds: float = 15.0,
        is_shown: bool = True,
    ) -> None:
        self._total_steps, self._batch_size, self._steps_per_epoch = total_steps, batch_size, steps_per_epoch
        self._log, self._log_every_steps, self._line_seconds = log, log_every_steps, line_seconds
        self._is_shown = is_shown
        self._is_terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=_WINDOW_STEPS)
        self._step_wait_s = self._step_work_s = 0.0
        self._waited_s = self._worked_s = 0.0
        self._last_step, self._lr = 0, 0.0
        self._ready_at = self._begun_at = self._started_at = self._line_at = 0.0

    @property
    def samples_per_s(self) -> float:
        """Frames per second over the last steps, waiting for data included."""
        return self._batch_size * len(self._recent) / max(sum(map(sum, self._recent)), 1e-9)

    @property
    def data_wait(self) -> float:
        """Share of the last steps' time that went into waiting for data."""
        return sum(wait for wait, _ in self._recent) / max(sum(map(sum, self._recent)), 1e-9)

    @property
    def elapsed_s(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        before = self._log.elapsed_before_s if self._log is not None else 0.0
        return before + time.monotonic() - self._started_at

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        self._started_at = self._ready_at = time.monotonic()
        self._last_step = trainer.global_step
        if self._is_shown and self._is_terminal:
            self._bar = tqdm(total=self._total_steps, initial=self._last_step, unit="step", dynamic_ncols=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The data has arrived."""
        self._begun_at = time.monotonic()
        self._step_wait_s += self._begun_at - self._ready_at
        self._lr = max(group["lr"] for group in trainer.optimizers[0].param_groups)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One micro-batch is done; at the end of an optimizer step, report."""
        now = time.monotonic()
        self._step_work_s += now - self._begun_at
        if trainer.global_step > self._last_step:
            self._recent.append((self._step_wait_s, self._step_work_s))
            self._step_wait_s = self._step_work_s = 0.0
            self._last_step = trainer.global_step
            self._report(trainer, pl_module, now)
        self._ready_at = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the validation losses."""
        values = getattr(pl_module, "validation", {})
        step = trainer.global_step
        if self._log is not None and values and not trainer.sanity_checking:
            row = {f"val/{name}": value for name, value in values.items()}
            self._log.write(step, {"epoch": step / self._steps_per_epoch, "elapsed_s": self.elapsed_s, **row})
        if self._is_shown and values:
            self._say(f"step {step}/{self._total_steps}  validation loss {values['loss']:.4f}")
        self._ready_at = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close bar and log."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close bar and log."""
        self._close()

    def _report(self, trainer: Trainer, pl_module: LightningModule, now: float) -> None:
        step, latest = self._last_step, getattr(pl_module, "latest", {})
        cosines = getattr(pl_module, "cosines", {})
        if self._log is not None and (step % self._log_every_steps == 0 or step == self._total_steps or cosines):
            row = {f"train/{name}": value for name, value in latest.items()} | cosines
            row |= {"lr": self._lr, "samples_per_s": self.samples_per_s, "data_wait": self.data_wait}
            self._log.write(step, {"epoch": step / self._steps_per_epoch, "elapsed_s": self.elapsed_s, **row})
        if not self._is_shown:
            return
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix_str(
                f"loss {latest['loss']:.3f}, {self.samples_per_s:.1f} frames/s, data wait {self.data_wait:.0%}"
            )
        elif now - self._line_at > self._line_seconds or step == self._total_steps:
            self._line_at = now
            left_s = (self._total_steps - step) * self._batch_size / self.samples_per_s
            self._say(
                f"step {step}/{self._total_steps}  epoch {step / self._steps_per_epoch:.2f}  "
                f"loss {latest['loss']:.4f}  lr {self._lr:.2e}  {self.samples_per_s:.2f} frames/s  "
                f"data wait {self.data_wait:.0%}  ETA {_clock(left_s)}"
            )

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._log is not None:
            self._log.close()
            self._log = None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
