"""Parameter groups and learning rate schedules. A schedule is a pure function of the step, so resuming needs no state.

One cycle: Smith and Topin, Super-Convergence, 2019, with the cosine shape that LiDAR detectors use.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class Schedule(Protocol):
    """Learning rate over a run, relative to the optimizer's."""

    def factor(self, step: int, total_steps: int) -> float:
        """Factor for optimizer step `step` of `total_steps`, counted from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCycle:
    """Cosine rise from `start` to 1 over the first `rise_share` of the steps, then cosine fall to `end`.

    The momentum may go the other way (Smith, A Disciplined Approach to Neural Network Hyper-Parameters, 2018, section
    4.3): from the first number of `momentum` to the second and back. None leaves it to the optimizer.
    """

    rise_share: float = 0.3
    start: float = 0.1
    end: float = 1e-4
    momentum: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rise_share < 1:
            raise ValueError(f"rise_share={self.rise_share} must lie in [0, 1)")
        if self.momentum is not None and not all(0 <= value < 1 for value in self.momentum):
            raise ValueError(f"momentum={self.momentum} must be two numbers in [0, 1)")

    def factor(self, step: int, total_steps: int) -> float:
        """Factor for optimizer step `step` of `total_steps`, counted from 0."""
        return self._along(step, total_steps, self.start, 1.0, self.end)

    def momentum_at(self, step: int, total_steps: int) -> float | None:
        """Momentum for optimizer step `step` of `total_steps`; None where it does not change."""
        if self.momentum is None:
            return None
        high, low = self.momentum
        return self._along(step, total_steps, high, low, high)

    def _along(self, step: int, total_steps: int, start: float, top: float, end: float) -> float:
        rise = self.rise_share * max(total_steps - 1, 1)
        if step < rise:
            return _cosine(start, top, step / rise)
        return _cosine(top, end, (step - rise) / max(total_steps - 1 - rise, 1e-9))


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupCosine:
    """Linear rise over `warmup_steps`, then cosine fall to `end`."""

    warmup_steps: int = 500
    start: float = 0.3
    end: float = 1e-3

    def factor(self, step: int, total_steps: int) -> float:
        """Factor for optimizer step `step` of `total_steps`, counted from 0."""
        warmup = min(self.warmup_steps, total_steps // 2)
        if step < warmup:
            return self.start + (1.0 - self.start) * step / warmup
        return _cosine(1.0, self.end, (step - warmup) / max(total_steps - 1 - warmup, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The optimizer's learning rate throughout."""

    def factor(self, step: int, total_steps: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimSettings:
    """The `optim` section: an optimizer that lacks only its parameters, a schedule, and exceptions by name."""

    optimizer: Callable[..., Optimizer]
    schedule: Schedule
    lr_scale: Mapping[str, float] = field(default_factory=dict)
    """Prefix of parameter names -> factor on the learning rate, for example of a pretrained backbone."""
    frozen: Sequence[str] = ()
    """Modules that stay as they are, see `bevstack.training.frozen`."""

    def build(
        self, model: nn.Module, total_steps: int, more_groups: Sequence[dict[str, Any]] = ()
    ) -> tuple[Optimizer, LambdaLR]:
        """Optimizer and scheduler for a model.

        Args:
            model: its trained parameters.
            total_steps: of the run, for the schedule.
            more_groups: parameters that are not the model's, each group with its `lr_scale`.

        Raises:
            ValueError: a prefix in `lr_scale` matches no parameter.
        """
        optimizer = self.optimizer([*parameter_groups(model, dict(self.lr_scale)), *more_groups])
        # The groups were made with relative rates; the optimizer filled in its own rate where none was given.
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("lr_scale")
        return optimizer, _RateAndMomentum(optimizer, self.schedule, total_steps)


class _RateAndMomentum(LambdaLR):
    """The schedule's learning rate and, where it has one, its momentum."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule, total_steps: int) -> None:
        momentum_at = getattr(schedule, "momentum_at", None)
        self._momentum = None if momentum_at is None else lambda step: momentum_at(step, total_steps)
        if self._momentum is not None and self._momentum(0) is not None and "betas" not in optimizer.defaults:
            raise ValueError(f"a schedule of momentum needs an optimizer with betas, not {type(optimizer).__name__}")
        super().__init__(optimizer, lambda step: schedule.factor(step, total_steps))

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Rates of all groups at this step; sets their momentum."""
        momentum = None if self._momentum is None else self._momentum(self.last_epoch)
        if momentum is not None:
            for group in self.optimizer.param_groups:
                group["betas"] = (momentum, *group["betas"][1:])
        return super().get_lr()  # type: ignore[return-value]

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands; what it is follows from the configuration."""
        return {key: value for key, value in super().state_dict().items() if key != "_momentum"}


def parameter_groups(model: nn.Module, lr_scale: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameters by learning rate factor, and without weight decay where they are biases or norms (one dimension).

    Raises:
        ValueError: a prefix in `lr_scale` matches no parameter.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    unmatched = set(lr_scale)
    for name, parameter in model.named_parameters():
        prefixes = [prefix for prefix in lr_scale if name == prefix or name.startswith(f"{prefix}.")]
        unmatched -= set(prefixes)
        if not parameter.requires_grad:
            continue
        scale = lr_scale[max(prefixes, key=len)] if prefixes else 1.0
        groups.setdefault((float(scale), parameter.ndim > 1), []).append(parameter)
    if unmatched:
        raise ValueError(f"optim.lr_scale names {sorted(unmatched)}, which is no part of the model")
    return [
        {"params": parameters, "lr_scale": scale, **({} if decays else {"weight_decay": 0.0})}
        for (scale, decays), parameters in groups.items()
    ]


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(max(share, 0.0), 1.0)))
