"""How the losses of several tasks become one descent direction.

Every way starts from the same fixed weights of the terms (`loss_weights`); L_t is the weighted loss of task t.

FixedWeights        the sum of all L_t
LearnedUncertainty  learned variances: Kendall et al., CVPR 2018, section 3
GradNorm            weights that make tasks learn at similar rates: Chen et al., ICML 2018, algorithm 1
PCGrad              conflicting parts of the gradients removed: Yu et al., NeurIPS 2020, algorithm 1

What a way has learned lies in its parameters and buffers, and so in every checkpoint.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class FixedWeights(nn.Module):
    """The sum of all losses. Also the ground that the other ways build on.

    Args:
        tasks: names, in the order of all tensors here.
        shared: prefixes of the parameters in which gradients of tasks are compared; None for all that belong to no
            single task.
    """

    needs_task_gradients = False
    """Whether `after_backward` gets the gradient of each task by itself, and may change the shared one."""

    def __init__(self, *, tasks: Sequence[str], shared: Sequence[str] | None = None) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.shared = None if shared is None else tuple(shared)

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """What the optimizer lowers, for one micro-batch with these losses of the tasks."""
        return torch.stack([losses[task] for task in self.tasks]).sum()

    def after_backward(self, losses: Tensor, gradients: Tensor | None, generator: torch.Generator) -> Tensor | None:
        """Called once a step, before the gradient is clipped.

        Args:
            losses: (T,), mean over all frames of the step.
            gradients: (T, P) of the losses in the shared parameters, mean over all frames of the step and, with
                several processes, the same in each; None where they are not needed.
            generator: for random choices; the same in all processes.

        Returns:
            (P,), the gradient to use in place of that of the objective; None to leave it.
        """
        return None

    def values(self) -> dict[str, float]:
        """What to log; always the same names."""
        return {}


class LearnedUncertainty(FixedWeights):
    """Each task has a variance that is learned with the model: the sum over t of exp(-s_t) L_t + s_t, s_t = log var.

    This is twice Kendall's equation 7, so that it starts as the plain sum. Its optimum for constant losses is
    exp(s_t) = L_t. A loss that can become negative has none.

    Args:
        initial_log_variance: s_t at the start.
        lr_scale: factor on the optimizer's learning rate for the s_t.
    """

    def __init__(
        self,
        *,
        tasks: Sequence[str],
        shared: Sequence[str] | None = None,
        initial_log_variance: float = 0.0,
        lr_scale: float = 1.0,
    ) -> None:
        super().__init__(tasks=tasks, shared=shared)
        if lr_scale <= 0:
            raise ValueError(f"lr_scale={lr_scale} must be above 0")
        self.lr_scale = lr_scale
        self.log_variance = nn.Parameter(torch.full((len(self.tasks),), float(initial_log_variance)))

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """What the optimizer lowers, for one micro-batch with these losses of the tasks."""
        stacked = torch.stack([losses[task] for task in self.tasks])
        return (torch.exp(-self.log_variance) * stacked + self.log_variance).sum()

    def values(self) -> dict[str, float]:
        """The factor on each task."""
        return dict(zip(self.tasks, torch.exp(-self.log_variance).tolist(), strict=True))


class GradNorm(FixedWeights):
    """Factors on the tasks, moved each step so that slow tasks get larger gradients; they always add up to T.

    The wanted norm of task t is the mean norm times (r_t)^alpha, where r_t is L_t over its value at the first step,
    divided by the mean of that over the tasks. The norm is linear in the factor, so the derivative of the distance to
    it is exact without a second backward pass through the gradient. Adam makes the steps, so their size does not
    depend on the size of the gradients.

    Args:
        alpha: how strongly rates are pulled together; 0 makes all norms equal.
        lr: step of the factors.
    """

    needs_task_gradients = True
    lowest_factor = 1e-3

    def __init__(
        self, *, tasks: Sequence[str], shared: Sequence[str] | None = None, alpha: float = 1.5, lr: float = 0.025
    ) -> None:
        super().__init__(tasks=tasks, shared=shared)
        if alpha < 0 or lr <= 0:
            raise ValueError(f"alpha={alpha} must not be below 0 and lr={lr} must be above 0")
        self.alpha, self.lr = alpha, lr
        size = len(self.tasks)
        for name, start in (("factors", 1.0), ("initial_losses", 0.0), ("mean", 0.0), ("square", 0.0)):
            self.register_buffer(name, torch.full((size,), start))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        self.factors: Tensor
        self.initial_losses: Tensor
        self.mean: Tensor
        self.square: Tensor
        self.num_steps: Tensor

    def objective(self, losses: Mapping[str, Tensor]) -> Tensor:
        """What the optimizer lowers, for one micro-batch with these losses of the tasks."""
        # A copy: the factors move between forward passes, and a graph may still hold them.
        return (self.factors.clone() * torch.stack([losses[task] for task in self.tasks])).sum()

    @torch.no_grad()
    def after_backward(self, losses: Tensor, gradients: Tensor | None, generator: torch.Generator) -> Tensor | None:
        """Move the factors for the next step; the gradient of this one stays."""
        assert gradients is not None
        self.num_steps += 1
        if int(self.num_steps) == 1:
            self.initial_losses.copy_(losses.abs().clamp_min(1e-8))
        lengths = gradients.norm(dim=1)
        norms = self.factors * lengths
        rates = (losses / self.initial_losses).clamp_min(1e-8)
        wanted = norms.mean() * (rates / rates.mean()) ** self.alpha
        self._adam_step(torch.sign(norms - wanted) * lengths)
        self.factors.clamp_(min=self.lowest_factor)
        self.factors.mul_(len(self.tasks) / self.factors.sum())
        return None

    def values(self) -> dict[str, float]:
        """The factor on each task."""
        return dict(zip(self.tasks, self.factors.tolist(), strict=True))

    def _adam_step(self, gradient: Tensor) -> None:
        count = int(self.num_steps)
        self.mean.lerp_(gradient, 1 - 0.9)
        self.square.lerp_(gradient.square(), 1 - 0.999)
        root = (self.square / (1 - 0.999**count)).sqrt()
        self.factors.sub_(self.lr * (self.mean / (1 - 0.9**count)) / (root + 1e-12))


class PCGrad(FixedWeights):
    """Where the gradients of two tasks conflict, each loses its part along the other before they are added up.

    Only the shared parameters are changed. Kept gradients and dot products are those of the whole step: over all
    micro-batches and all processes.
    """

    needs_task_gradients = True

    def __init__(self, *, tasks: Sequence[str], shared: Sequence[str] | None = None) -> None:
        super().__init__(tasks=tasks, shared=shared)
        self._conflicts = 0

    @torch.no_grad()
    def after_backward(self, losses: Tensor, gradients: Tensor | None, generator: torch.Generator) -> Tensor | None:
        """The sum of the gradients after projection, (P,)."""
        assert gradients is not None
        squares = gradients.square().sum(dim=1)
        total = torch.zeros_like(gradients[0])
        self._conflicts = 0
        for task in range(len(self.tasks)):
            projected = gradients[task].clone()
            for other in torch.randperm(len(self.tasks), generator=generator).tolist():
                product = projected @ gradients[other]
                if other != task and product < 0:
                    projected -= product / squares[other] * gradients[other]
                    self._conflicts += 1
            total += projected
        return total

    def values(self) -> dict[str, float]:
        """Projections made in the latest step."""
        return {"conflicts": float(self._conflicts)}
