"""Parameters shared out over the processes (FSDP2, `torch.distributed.fsdp.fully_shard`).

Each process keeps its part of every parameter, gradient and optimizer state, and gathers the rest of a stage only while
that stage computes. All functions here also take a model that is not sharded. Stages hand on dataclasses, so a torch is
needed whose `fully_shard` looks for tensors inside them; 2.13 does.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: nn.Module, mesh: Any) -> None:
    """Share out each encoder, the fuser, the backbone and each head of a `DrivingModel`, then what is left.

    Args:
        model: the whole model, equal in all processes.
        mesh: one-dimensional device mesh of the processes.
    """
    from torch.distributed.fsdp import fully_shard

    heads = [*model.heads.values(), *model.behaviour.values()]  # type: ignore[union-attr, operator]
    stages = [*model.encoders.values(), model.fuser, model.backbone, *heads]  # type: ignore[union-attr, operator]
    for stage in stages:
        if stage is not None and any(True for _ in stage.parameters()):
            fully_shard(stage, mesh=mesh)
    # Also the root is shared out again after each forward pass: the averaged weights are swapped in between two.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def is_sharded(model: nn.Module) -> bool:
    """Whether this process has only a part of the parameters."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole(tensor: Tensor) -> Tensor:
    """The tensor with the parts of all processes, which must all call this; an ordinary tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor, sharing memory with it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process would have of a whole tensor that is shared out as `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    moved = tensor.to(like.device)
    # All processes have the same whole tensor: nothing needs to be sent.
    return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None).to_local()


def gathered(part: Tensor, like: Tensor) -> Tensor:
    """The whole of which `part` is what this process has, shared out as `like` is. All processes must call this."""
    if not isinstance(like, DTensor):
        return part
    joined = DTensor.from_local(part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())
    return joined.full_tensor()


@torch.no_grad()
def gathered_state(model: nn.Module) -> dict[str, Tensor]:
    """The whole state dict, in all processes, which must all call this."""
    return {name: whole(tensor) for name, tensor in model.state_dict().items()}
