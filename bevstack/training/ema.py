"""Averaged weights: an exponential moving average over the steps (Polyak averaging), which is what gets evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bevstack.training.sharding import gathered, own_part, part_like


class WeightAverage:
    """Moving average of all floating point parameters and buffers of a model; other buffers are copied.

    Of a model whose parameters are shared out over processes (FSDP2), each process averages its part; see `follow`.

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
        for name, tensor in _parts(model).items():
            if tensor.is_floating_point() and decay > 0:
                averages.append(self.tensors[name])
                latest.append(tensor)
            else:
                self.tensors[name].copy_(tensor)
        if averages:
            torch._foreach_lerp_(averages, latest, 1.0 - decay)

    def follow(self, model: nn.Module) -> None:
        """Keep only what this process has of the model, once its parameters have been shared out."""
        for name, like in model.state_dict().items():
            if self.tensors[name].shape != own_part(like).shape:
                self.tensors[name] = part_like(self.tensors[name], like).clone()

    def whole(self, model: nn.Module) -> dict[str, Tensor]:
        """The average with the parts of all processes, which must all call this."""
        return {name: gathered(self.tensors[name], like) for name, like in model.state_dict().items()}

    def load(self, tensors: dict[str, Tensor], model: nn.Module) -> None:
        """Take over a stored average, whole tensors."""
        for name, like in model.state_dict().items():
            self.tensors[name].copy_(part_like(tensors[name], like))

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
        for name, tensor in _parts(model).items():
            held = tensor.clone()
            tensor.copy_(self.tensors[name])
            self.tensors[name].copy_(held)


def _parts(model: nn.Module) -> dict[str, Tensor]:
    """What this process has of the state dict, sharing memory with the model."""
    return {name: own_part(tensor.detach()) for name, tensor in model.state_dict().items()}
