"""Histories of different lengths in one batch, from the configuration to the outputs of a model with a memory."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.training_runs import FrameList, shrunk, some_frames
from torch import nn

from bevstack.build import build_loader, build_model
from bevstack.fusion.temporal import TemporalFusion
from bevstack.model import DrivingModel
from bevstack.types import Batch, Labels


def two_frames_of_one_drive() -> FrameList:
    """The second half a second after the first."""
    source = some_frames(2)
    frames = [source[0], replace(source[1], timestamp_us=source[0].timestamp_us + 500_000)]
    return FrameList([replace(frame, scene_name="drive") for frame in frames])


def batches(tmp_path: Path, batch_size: int, num_history: int) -> list[tuple[Batch, Labels]]:
    config = shrunk("fusion_small", tmp_path, f"data.num_history={num_history}")
    return list(build_loader(config, two_frames_of_one_drive(), "val", batch_size=batch_size))


@pytest.fixture
def model(tmp_path: Path) -> DrivingModel:
    """With a memory that changes what it is joined with."""
    made = build_model(shrunk("fusion_small", tmp_path), pretrained=False)
    made.memory = TemporalFusion(in_channels=made.fuser.out_channels)
    nn.init.normal_(made.memory.change.weight, std=0.1)
    return made.eval()


def heatmap(model: DrivingModel, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return model(batch)["detection"].heatmap


def test_a_blank_changes_nothing_and_a_real_past_does(model: DrivingModel, tmp_path: Path) -> None:
    (together, _), *_ = batches(tmp_path, 2, 1)
    assert together.history[0].scene_names == ("", "drive")
    found = heatmap(model, together)
    first, second = (heatmap(model, batch) for batch, _ in batches(tmp_path, 1, 1))
    bare_first, bare_second = (heatmap(model, batch) for batch, _ in batches(tmp_path, 1, 0))
    torch.testing.assert_close(found[:1], first)
    torch.testing.assert_close(found[1:], second)
    torch.testing.assert_close(first, bare_first)
    assert not torch.allclose(second, bare_second)


def test_a_model_learns_from_a_batch_with_a_blank_in_it(model: DrivingModel, tmp_path: Path) -> None:
    (batch, labels), *_ = batches(tmp_path, 2, 1)
    model.train()
    sum(model.loss(model(batch), labels).values()).backward()
    gradient = model.memory.change.weight.grad
    assert gradient is not None and gradient.isfinite().all() and gradient.any()
