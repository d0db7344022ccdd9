"""How long, how large, how often: the `trainer` section of the configuration, checked before anything starts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Precision = Literal["auto", "32", "bf16", "16"]
Strategy = Literal["auto", "ddp", "fsdp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSettings:
    """Numbers of a training run that belong to no part of the model.

    Raises:
        ValueError: a number outside its range.
    """

    max_epochs: float | None = None
    """Passes over the training frames; with `max_steps` also given, the shorter one counts."""
    max_steps: int | None = None
    """Optimizer steps."""
    max_minutes: float | None = None
    """Stop after this wall-clock time with the weights reached so far; the schedule still aims at the last step."""
    batch_size: int = 4
    """Frames of one optimizer step, over all processes and accumulated micro-batches together."""
    accumulate: int = 1
    """Micro-batches of one process per optimizer step."""
    workers: int = 1
    """Data loading processes of each training process."""
    threads: int | None = None
    """CPU threads of each training process; null shares the cores out between the training processes."""
    accelerator: str = "auto"
    """auto, cpu or gpu."""
    precision: Precision = "auto"
    """auto is bf16 on a GPU that has it and on a CPU with AMX, 32 elsewhere; bf16 and 16 are mixed precision. On a CPU
    bf16 is two to three times as fast as 32 where the processor has AMX, and many times slower where it has not. The
    run folder stores what auto came to, and a resumed run keeps to it."""
    channels_last: bool | None = None
    """Weights of 2D convolutions in the layout that fast bf16 kernels want; null uses it with bf16 on a CPU."""
    strategy: Strategy = "auto"
    """How processes started by torchrun share the work. ddp: each has the whole model. fsdp: each keeps a part of every
    parameter, gradient and optimizer state (FSDP2). auto is ddp; with one process all are the same."""
    grad_clip: float | None = 10.0
    """Largest norm of all gradients together."""
    ema_decay: float | None = 0.999
    """Of the averaged weights, which are what is validated and saved; null uses the raw weights."""
    validate_every_epochs: float | None = 1.0
    """null never validates during training."""
    val_batches: int | None = None
    """At most this many batches per validation."""
    checkpoint_minutes: float | None = 10.0
    checkpoint_steps: int | None = None
    """Also save after every so many steps."""
    keep_checkpoints: int = 2
    """Older ones are deleted."""
    log_every_steps: int = 1
    gradient_cosine_every: int | None = None
    """Log the cosine between the gradients of each two tasks, and the norm of each, every so many steps; such a step
    costs one more backward pass for each task."""
    sync_batchnorm: bool = True
    """One batch statistic over all GPUs; has no effect on CPU."""
    deterministic: bool = True

    def __post_init__(self) -> None:
        if self.max_epochs is None and self.max_steps is None:
            raise ValueError("set trainer.max_epochs or trainer.max_steps")
        positive = ("max_epochs", "max_steps", "max_minutes", "batch_size", "accumulate", "threads", "grad_clip",
                    "validate_every_epochs", "val_batches", "checkpoint_minutes", "checkpoint_steps",
                    "keep_checkpoints", "log_every_steps", "gradient_cosine_every")  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and value > 0):
                raise ValueError(f"{name}={value!r} must be a number above 0")
        whole = ("max_steps", "batch_size", "accumulate", "workers", "checkpoint_steps", "log_every_steps",
                 "gradient_cosine_every")  # fmt: skip
        for name in whole:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 0):
                raise ValueError(f"{name}={value!r} must be a whole number")
        if str(self.precision) not in ("auto", "32", "bf16", "16"):
            raise ValueError(f"precision={self.precision!r} must be auto, 32, bf16 or 16")
        if self.strategy not in ("auto", "ddp", "fsdp"):
            raise ValueError(f"strategy={self.strategy!r} must be auto, ddp or fsdp")
        if self.accelerator not in ("auto", "cpu", "gpu"):
            raise ValueError(f"accelerator={self.accelerator!r} must be auto, cpu or gpu")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay} must lie in [0, 1)")

    def micro_batch_size(self, world_size: int) -> int:
        """Frames of one forward pass of one process.

        Raises:
            ValueError: the batch does not divide by processes and accumulation.
        """
        shares = world_size * self.accumulate
        if self.batch_size % shares:
            raise ValueError(
                f"trainer.batch_size={self.batch_size} does not divide by {world_size} processes x "
                f"trainer.accumulate={self.accumulate}"
            )
        return self.batch_size // shares

    def total_steps(self, steps_per_epoch: float) -> int:
        """Optimizer steps of the whole run; the shorter of `max_epochs` and `max_steps`."""
        limits = [] if self.max_steps is None else [self.max_steps]
        if self.max_epochs is not None:
            limits.append(max(1, round(self.max_epochs * steps_per_epoch)))
        return min(limits)

    def thread_count(self, local_world_size: int) -> int:
        """CPU threads for this process."""
        return self.threads or max(1, len(_cores()) // local_world_size)


def _cores() -> Sequence[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)
