"""Averaged weights: an exponential moving average over the steps (Polyak averaging), which is what gets evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Moving average of all floating point parameters and buffers of a model; other buffers are copied.

    Args:
        model: where the average starts.
        decay: weight of the past at each step; early on min(decay, (1 + n) / (10 + n)) after n steps, so that the
            random start is forgotten quickly. None keeps a plain copy of the latest weights.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after optimizer step `step` (1 for the first)."""
        decay = 0.0 if self.decay is None else min(self.decay, (1 + step) / (10 + step))
        averages, latest = [], []
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and decay > 0:
                averages.append(self.tensors[name])
                latest.append(tensor.detach())
            else:
                self.tensors[name].copy_(tensor)
        if averages:
            torch._foreach_lerp_(averages, latest, 1.0 - decay)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a stored average."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """The model computes with the averaged weights inside the block, and has its own back afterwards."""
        self.swap(model)
        try:
            yield
        finally:
            self.swap(model)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the averaged weights with those of the model; a second call undoes the first."""
        for name, tensor in model.state_dict().items():
            held = tensor.clone()
            tensor.copy_(self.tensors[name])
            self.tensors[name].copy_(held)
