"""The network of the paper at its full size learns for one step from a real frame, on a CPU."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.labelled_scenes import occupancy_of
from fixtures.real_frame import real_frame_root
from torch import Tensor, nn

from bevstack.build import build_frames, build_model, compose, instantiate
from bevstack.data.collate import collate
from bevstack.data.maps import MAP_CLASSES
from bevstack.training.fit import flat_weights
from bevstack.types import BevGrid

pytestmark = [pytest.mark.slow, pytest.mark.nuscenes, pytest.mark.timeout(3600)]


def street_masks(grid: BevGrid) -> Tensor:
    """A straight street along the car, since the real frame comes without its map: (1, 6, Y, X)."""
    beside_m = grid.centers_m()[..., 1].abs()
    bands = {
        "drivable_area": (0, 8),
        "ped_crossing": (0, 2),
        "walkway": (8, 11),
        "stop_line": (2, 3),
        "carpark_area": (11, 14),
        "divider": (0, 0.5),
    }
    return torch.stack([(beside_m >= bands[name][0]) & (beside_m < bands[name][1]) for name in MAP_CLASSES])[None]


def shape_of_data(kept: dict[str, tuple[int, ...]], name: str) -> Any:
    """A hook that notes the shape of a part's output."""

    def note(part: nn.Module, given: object, out: Any) -> None:
        kept[name] = tuple((out if isinstance(out, Tensor) else out.data).shape)

    return note


@torch.no_grad()
def awaken(model: nn.Module) -> None:
    """What starts at zero hides what stands before it from the gradient; after the first step nothing is zero."""
    for part in model.parameters():
        if part.ndim > 1 and not part.any():
            part.normal_(std=0.01)


def test_the_large_network_takes_a_step_on_a_real_frame(nuscenes_real: Path, tmp_path: Path) -> None:
    config = compose(["experiment=m3net"])
    root, version, split = real_frame_root(nuscenes_real, tmp_path)
    config.input.occupancy = None  # the excerpt has none: see below
    frame = build_frames(config, root=root, version=version, split=split)[0]
    assert frame.annotations is not None
    occupancy = occupancy_of(frame, instantiate(config, "occupancy_grid"))
    batch, labels = collate([replace(frame, annotations=replace(frame.annotations, occupancy=occupancy))])
    assert labels is not None and len(labels.boxes_ego[0]) > 30
    labels = replace(
        labels,
        map_masks=street_masks(instantiate(config, "map_grid")),
        map_valid=torch.ones(1, dtype=torch.bool),
    )
    model = build_model(config).train()
    awaken(model)
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("encoders.camera.backbone", "encoders.camera", "encoders.lidar", "fuser", "backbone"):
        model.get_submodule(name).register_forward_hook(shape_of_data(shapes, name))

    outputs = model(batch)

    assert shapes == {
        "encoders.camera.backbone": (1, 6, 256, 32, 88),
        "encoders.camera": (1, 80, 180, 180),
        "encoders.lidar": (1, 256, 180, 180),
        "fuser": (1, 256, 180, 180),
        "backbone": (1, 512, 180, 180),
    }
    output = outputs["m3net"]
    assert output["detection"].class_logits.shape == (1, 200, 10)
    assert output["map"].logits.shape == output["map"].coarse.shape == (1, 6, 200, 200)
    assert output["occupancy"].logits.raster().values.shape == (1, 5, 172, 172, 1, 18)
    assert output["occupancy"].grid.shape_xyz == (512, 512, 40)

    weights, terms = flat_weights(config.loss_weights), model.loss(outputs, labels)
    assert terms.keys() == weights.keys() and all(math.isfinite(float(term.detach())) for term in terms.values())
    torch.stack([weights[name] * term for name, term in terms.items()]).sum().backward()

    trained = {name: part for name, part in model.named_parameters() if part.requires_grad}
    assert [name for name, part in trained.items() if part.grad is None] == []
    assert [name for name, part in trained.items() if not part.grad.isfinite().all()] == []
    silent = [name for name, part in trained.items() if not part.grad.any()]
    # A single key frame says nothing of velocities.
    assert [name for name in silent if ".branches.velocity." not in name] == []
