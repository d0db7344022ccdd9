"""Starting from weights of another model: training in stages (LiDAR first, then fusion) and fine-tuning."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from bevstack.weights_file import read_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferReport:
    """Which tensors of a model were filled from a file, and which were left as initialised."""

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    """Not in the file."""
    reshaped: tuple[str, ...]
    """In the file with another shape; left as initialised."""
    unused: tuple[str, ...]
    """In the file only."""

    def lines(self) -> list[str]:
        """One line for each part of the model: how many of its tensors came from the file."""
        parts: dict[str, list[int]] = {}
        for names, is_loaded in ((self.loaded, 1), (self.fresh, 0), (self.reshaped, 0)):
            for name in names:
                counts = parts.setdefault(_part_of(name), [0, 0])
                counts[0] += is_loaded
                counts[1] += 1
        lines = []
        for part, (got, total) in sorted(parts.items()):
            state = "loaded" if got == total else "fresh" if got == 0 else f"partly loaded, {got} of {total} tensors"
            lines.append(f"  {part}: {state}")
        lines += [f"  {name}: another shape in the file, left fresh" for name in self.reshaped]
        unused = sorted({_part_of(name) for name in self.unused})
        return lines + ([f"  not used from the file: {', '.join(unused)}"] if unused else [])


def load_matching(model: nn.Module, path: str | Path) -> TransferReport:
    """Fill the tensors of a model that a file has under the same name and shape; leave the others as they are.

    For training in stages: LiDAR first, then fusion from the LiDAR weights; and for fine-tuning.

    Raises:
        ValueError: not one tensor fits.
    """
    file, tensors, _ = read_weights(path)
    own = model.state_dict()
    common = [name for name in own if name in tensors]
    loaded = [name for name in common if own[name].shape == tensors[name].shape]
    if not loaded:
        raise ValueError(f"{file} has no tensor in common with this model; is it the right file?")
    model.load_state_dict({**own, **{name: tensors[name].to(own[name].dtype) for name in loaded}})
    return TransferReport(
        loaded=tuple(loaded),
        fresh=tuple(name for name in own if name not in tensors),
        reshaped=tuple(name for name in common if name not in loaded),
        unused=tuple(sorted(set(tensors) - set(own))),
    )


def _part_of(name: str) -> str:
    """`encoders.camera` of `encoders.camera.backbone.0.weight`, `fuser` of `fuser.conv.weight`."""
    words = name.split(".")
    return ".".join(words[:2]) if words[0] in ("encoders", "heads", "behaviour") else words[0]
