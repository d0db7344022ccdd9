"""Parts of a model that stay as they are while the rest learns: no gradient, and norms that keep their statistics."""

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from bevstack.types.errors import did_you_mean


def freeze(model: nn.Module, names: Sequence[str]) -> tuple[nn.Module, ...]:
    """Take parts of a model out of training.

    Gradients still pass through a frozen part to what lies before it. Whoever trains must also call `keep_still`, or
    else norms go on averaging.

    Args:
        model: its parameters are marked.
        names: of modules, for example `encoders.camera` or `heads`.

    Returns:
        The frozen modules.

    Raises:
        ValueError: the model has no such module.
    """
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules or not name:
            raise ValueError(
                f"optim.frozen names '{name}', which is no part of the model{did_you_mean(name, list(modules))}"
            )
    frozen = tuple(modules[name] for name in names)
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def keep_still(frozen: Sequence[nn.Module]) -> None:
    """Norms keep their statistics and nothing is dropped in parts that do not learn.

    To be called after anything that sets a mode. What else a part does differently in training, such as losses on a
    sample of the voxels, it goes on doing: its losses may still teach what lies before it.
    """
    for module in frozen:
        for part in module.modules():
            if isinstance(part, (_NormBase, _DropoutNd)):
                part.eval()
