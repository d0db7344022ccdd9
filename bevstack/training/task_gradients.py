"""The gradient of each task by itself, over the micro-batches of one optimizer step."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn


class TaskGradients:
    """Gradients of several losses with respect to the same parameters, as rows of one matrix.

    Each micro-batch costs one more backward pass for each task. The graph is kept for the ordinary backward pass.

    Args:
        tasks: one row each.
        parameters: their gradients, flattened one after the other, are the columns.
    """

    def __init__(self, tasks: Sequence[str], parameters: Sequence[nn.Parameter]) -> None:
        self.tasks = tuple(tasks)
        self.parameters = list(parameters)
        self._sums: Tensor | None = None  # T P

    def add(self, losses: Mapping[str, Tensor], share: float) -> None:
        """Take in one micro-batch.

        Args:
            losses: of each task; one without a graph (a task without any label in the batch) has no gradient.
            share: of this micro-batch in the step; the shares of a step add up to 1.
        """
        rows = torch.stack([self._row(losses[task]) for task in self.tasks]) * share  # T P
        self._sums = rows if self._sums is None else self._sums.add_(rows)

    def take(self, mean_over_processes: Callable[[Tensor], Tensor]) -> Tensor:
        """The gradients of the step, (T, P); the next step starts anew."""
        assert self._sums is not None
        gradients, self._sums = mean_over_processes(self._sums), None
        return gradients

    def assign(self, gradient: Tensor) -> None:
        """Replace the gradients of the parameters by a flat one, (P,)."""
        start = 0
        for parameter in self.parameters:
            part = gradient[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
            if parameter.grad is not None:
                parameter.grad.copy_(part)
            elif bool(part.any()):
                parameter.grad = part.clone()

    def _row(self, loss: Tensor) -> Tensor:
        if not loss.requires_grad:
            return torch.zeros(sum(parameter.numel() for parameter in self.parameters), device=loss.device)
        found = torch.autograd.grad(loss, self.parameters, retain_graph=True, allow_unused=True)
        pairs = zip(found, self.parameters, strict=True)
        return torch.cat([(torch.zeros_like(own) if grad is None else grad).flatten().float() for grad, own in pairs])
