"""Which loss terms make up a task, and which parameters several tasks share.

Terms are named "head/term", those of a joint head "head/readout/term"; a task is a head or a readout of a joint head.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn


def task_of(term: str) -> str:
    """`detection` of `detection/heatmap`, `m3net/map` of `m3net/map/focal`.

    Raises:
        ValueError: the name has no head in front.
    """
    path = term.split("/")
    if len(path) < 2:
        raise ValueError(f"the loss term '{term}' must be named head/term or head/readout/term")
    return "/".join(path[:-1][:2])


def tasks_of(terms: Iterable[str]) -> tuple[str, ...]:
    """The tasks that have a term, in order of appearance."""
    return tuple(dict.fromkeys(map(task_of, terms)))


def task_losses(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Weighted sum of each task's terms."""
    weighted: dict[str, list[Tensor]] = {}
    for name, term in terms.items():
        weighted.setdefault(task_of(name), []).append(weights[name] * term)
    return {task: torch.stack(parts).sum() for task, parts in weighted.items()}


def shared_parameters(
    model: nn.Module, tasks: Sequence[str], prefixes: Sequence[str] | None = None
) -> dict[str, nn.Parameter]:
    """The trained parameters whose gradients tasks are compared in.

    Args:
        model: a `DrivingModel`; the part of task `a` is `heads.a` or `behaviour.a`, that of `a/b` is
            `heads.a.readouts.b`. The language gate is shared by all, but for what tells the text from the features.
        tasks: from `tasks_of`.
        prefixes: take the parameters below these names, such as `backbone`; None takes all that belong to no task.

    Raises:
        ValueError: a prefix matches no trained parameter, or nothing is shared.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if prefixes is not None:
        for prefix in prefixes:
            if not any(_is_below(name, prefix) for name in trained):
                raise ValueError(f"balance.shared names '{prefix}', which has no trained parameter in the model")
        chosen = {name: value for name, value in trained.items() if any(_is_below(name, part) for part in prefixes)}
    else:
        own = [part for task in tasks for part in _parts_of(task)]
        chosen = {name: value for name, value in trained.items() if not any(_is_below(name, part) for part in own)}
    if not chosen:
        raise ValueError(f"the tasks {', '.join(tasks)} share no trained parameter: train them as they are")
    return chosen


def _parts_of(task: str) -> tuple[str, ...]:
    if task == "language":
        return ("language.tell",)
    head, _, readout = task.partition("/")
    return (f"heads.{head}.readouts.{readout}",) if readout else (f"heads.{head}", f"behaviour.{head}")


def _is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")
