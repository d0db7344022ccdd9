"""Run the step again whose loss was not finite, and find the first module that made it so."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from bevstack.build import build_model
from bevstack.training.evidence import read_evidence
from bevstack.types import Batch, BoxIndex, Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """A place where values that are not finite appear."""

    where: str
    """Module name with the path inside its output, a field of the batch or the labels, or a parameter."""
    count: int
    """Values that are not finite."""
    size: int
    """All values."""
    frames: tuple[str, ...] = ()
    """Tokens of the frames that they belong to, where the tensor says so; else none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What came out of running the step again."""

    step: int
    precision: str
    tokens: tuple[str, ...]
    recorded_terms: tuple[str, ...]
    """Terms that were not finite in the run."""
    terms: dict[str, float]
    """All terms of the replay."""
    inputs: tuple[Culprit, ...]
    """In the batch, the labels and the weights, before anything is computed."""
    modules: tuple[Culprit, ...]
    """Module outputs, in the order in which the modules finished: the first is where it began."""

    @property
    def wrong_terms(self) -> tuple[str, ...]:
        """Terms of the replay that are not finite."""
        return tuple(name for name, value in self.terms.items() if not torch.isfinite(torch.tensor(value)))

    @property
    def is_reproduced(self) -> bool:
        """Whether the same terms are not finite again."""
        return set(self.wrong_terms) == set(self.recorded_terms)


def replay_step(file: str | Path) -> Replay:
    """Rebuild model, batch and random state of a saved step and run its forward pass.

    Args:
        file: from `Evidence.save`. Runs on the CPU for precision 32 and bf16, on a GPU for 16.

    Raises:
        FileNotFoundError, ValueError: see `read_evidence`; or the step needs a GPU and there is none.
    """
    content = read_evidence(file)
    batch, labels = content["batch"], content["labels"]
    config = OmegaConf.create(content["config"])
    assert isinstance(config, DictConfig)
    torch.set_num_threads(int(content["threads"]))
    device = _device(content["precision"])
    model = build_model(config, pretrained=False)
    model.load_state_dict(content["model"])
    if config.trainer.get("channels_last"):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.to(device).train()
    inputs = (
        *_culprits("batch", batch, batch),
        *_culprits("labels", _without_unknown(labels), batch),
        *_culprits("weights", dict(model.named_parameters()), batch),
    )
    found: list[Culprit] = []
    handles = [
        module.register_forward_hook(functools.partial(_look, name, batch, found))
        for name, module in model.named_modules()
        if name
    ]
    torch.manual_seed(int(content["torch_seed"]))
    with _autocast(content["precision"], device):
        terms = model.loss(model(batch.to(device)), labels.to(device))
    for handle in handles:
        handle.remove()
    return Replay(
        step=int(content["step"]),
        precision=str(content["precision"]),
        tokens=batch.tokens,
        recorded_terms=tuple(content["terms"]),
        terms={name: float(value.detach()) for name, value in terms.items()},
        inputs=inputs,
        modules=tuple(found),
    )


def _without_unknown(labels: Labels) -> Labels:
    """Labels without the NaN that stand for a velocity nobody knows."""
    columns = [BoxIndex.VX, BoxIndex.VY]
    boxes = tuple(rows.clone() for rows in labels.boxes_ego)
    for rows in boxes:
        rows[:, columns] = rows[:, columns].nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
    return replace(labels, boxes_ego=boxes)


def _look(name: str, batch: Batch, found: list[Culprit], module: nn.Module, inputs: Any, output: Any) -> None:
    found += _culprits(name, output, batch)


def _culprits(where: str, item: Any, batch: Batch) -> list[Culprit]:
    """Every tensor in a nested value that is not finite throughout."""
    return [
        Culprit(where=path, count=int(wrong.sum()), size=wrong.numel(), frames=_frames(wrong, batch))
        for path, wrong in _wrong_values(where, item)
    ]


def _wrong_values(path: str, item: Any) -> Iterator[tuple[str, Tensor]]:
    """(path, mask of the values that are not finite) of the tensors in a nested value that have any."""
    if isinstance(item, Tensor):
        wrong = ~torch.isfinite(item.detach()) if item.is_floating_point() else torch.zeros(0, dtype=torch.bool)
        if bool(wrong.any()):
            yield path, wrong.cpu()
    elif is_dataclass(item) and not isinstance(item, type):
        for field in fields(item):
            yield from _wrong_values(f"{path}.{field.name}", getattr(item, field.name))
    elif isinstance(item, Mapping):
        for key, value in item.items():
            yield from _wrong_values(f"{path}.{key}", value)
    elif isinstance(item, (list, tuple)):
        for index, value in enumerate(item):
            yield from _wrong_values(f"{path}[{index}]", value)


def _frames(wrong: Tensor, batch: Batch) -> tuple[str, ...]:
    """Tokens of the frames with a wrong value: rows are frames, pictures of frames, or points."""
    size = batch.batch_size
    rows = wrong.flatten(1).any(dim=1) if wrong.ndim > 1 else wrong
    if len(rows) == len(batch.point_frame_index) and wrong.ndim > 1 and len(rows) > size:
        chosen = batch.point_frame_index.cpu()[rows].unique().tolist()
    elif wrong.ndim > 1 and len(rows) in (size, size * batch.images.shape[1]):
        chosen = (rows.nonzero().flatten() // (len(rows) // size)).unique().tolist()
    else:
        return ()
    return tuple(batch.tokens[index] for index in chosen)


def _device(precision: str) -> torch.device:
    if precision != "16":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError("the step was computed in float16 on a GPU: replay it on a machine that has one")
    return torch.device("cuda")


def _autocast(precision: str, device: torch.device) -> AbstractContextManager:
    kinds: dict[str, Callable[[], AbstractContextManager]] = {
        "32": nullcontext,
        "bf16": lambda: torch.autocast(device.type, torch.bfloat16),
        "16": lambda: torch.autocast(device.type, torch.float16),
    }
    return kinds[precision]()
