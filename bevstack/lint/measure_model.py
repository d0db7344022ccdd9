"""What a model does to its input before its first layer, and the grids of its parts: measured on built objects."""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bevstack.lint.card import Fact, Value
from bevstack.types.bev import BevGrid, VoxelGrid

_PIXELS = 64
"""Side of the test pictures: divides by every stride."""


class _Seen(Exception):  # noqa: N818 - no error: it ends a forward pass whose first input is all that was wanted
    """Carries the first input of a network."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


def measure_backbone(backbone: nn.Module) -> Fact:
    """Mean and standard deviation by which an image backbone normalises each channel of pixels in 0 to 255.

    Four one-coloured pictures go in, and what arrives at the first layer tells the affine map.
    """
    pictures = torch.zeros((1, 4, 3, _PIXELS, _PIXELS), dtype=torch.uint8)
    for channel in range(3):
        pictures[0, channel + 1, channel] = 255
    seen = _first_input(backbone, pictures)
    if seen is None:
        return {"pixels": "no layer of the backbone takes three channels"}
    values = seen.mean(dim=(2, 3)).double()  # (4 pictures, 3 channels)
    gains = (values[1:] - values[0]) / 255  # rows: channel that went in, columns: channel that came out
    shown: dict[str, Value] = {}
    for channel in range(3):
        came_out = int(gains[channel].abs().argmax())
        gain = float(gains[channel, came_out])
        if abs(gain) < 1e-12:
            return {"pixels": f"channel {channel} does not reach the first layer"}
        name = f"channel {channel}"
        shown[f"{name} mean"] = round(-float(values[0, came_out]) / gain, 3)
        shown[f"{name} std"] = round(1 / gain, 3)
        if came_out != channel:
            shown[f"{name} goes to"] = float(came_out)
    return shown


def _first_input(backbone: nn.Module, pictures: Tensor) -> Tensor | None:
    def look(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        for value in (*arguments, *named.values()):
            if isinstance(value, Tensor) and value.ndim == 4 and value.shape[:2] == (4, 3):
                raise _Seen(value.detach().float())

    hooks = [
        module.register_forward_pre_hook(look, with_kwargs=True)
        for module in backbone.modules()
        if module is not backbone
    ]
    was_training = backbone.training
    try:
        with torch.no_grad():
            backbone.eval()(pictures, torch.ones((1, 4), dtype=torch.bool))
    except _Seen as seen:
        return seen.value
    finally:
        backbone.train(was_training)
        for hook in hooks:
            hook.remove()
    return None


def measure_grids(parts: Any) -> Fact:
    """Every grid of a tree of parts (modules, partial calls, dictionaries): where it is -> what it covers."""
    found = {name: grid for name, grid in _grids(parts, "")}
    return {name: _grid_text(grid) for name, grid in found.items()}


def _grids(item: Any, name: str) -> Iterator[tuple[str, BevGrid | VoxelGrid]]:
    if isinstance(item, (BevGrid, VoxelGrid)):
        yield name, item
    elif isinstance(item, nn.Module):
        for child_name, module in item.named_modules():
            for key, value in vars(module).items():
                if isinstance(value, (BevGrid, VoxelGrid)):
                    yield _joined(_joined(name, child_name), key), value
    elif isinstance(item, functools.partial):
        yield from _grids(item.keywords, name)
    elif isinstance(item, dict):
        for key, value in item.items():
            yield from _grids(value, _joined(name, str(key)))


def _joined(left: str, right: str) -> str:
    return f"{left}.{right}" if left and right else left or right


def _grid_text(grid: BevGrid | VoxelGrid) -> str:
    ranges = [getattr(grid, f"{axis}_range_m") for axis in "xyz"]
    sides = " ".join(f"{axis} {low:g} to {high:g}" for axis, (low, high) in zip("xyz", ranges, strict=True))
    cell = getattr(grid, "cell_m", None) or getattr(grid, "voxel_m", None)
    return f"{sides} m in {cell} m"
