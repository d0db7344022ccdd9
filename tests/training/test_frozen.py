"""Parts that stay as they are while the rest learns."""

from pathlib import Path

import pytest
import torch
from fixtures.training_runs import shrunk, some_frames
from torch import nn

from bevstack.build import build_model, config_yaml
from bevstack.training.fit import run_training
from bevstack.training.frozen import freeze, keep_still
from bevstack.weights_file import describe, read_weights, write_weights

SHORT = ("trainer.max_steps=3", "trainer.batch_size=2", "trainer.validate_every_epochs=0.5")


def test_frozen_parts_keep_weights_and_statistics_to_the_bit_while_the_others_learn(tmp_path: Path) -> None:
    plain = shrunk("lidar_small", tmp_path, *SHORT)
    first = build_model(plain).state_dict()
    start = write_weights(tmp_path / "start.safetensors", first, describe(config_yaml(plain), step=0, data_hash=""))
    config = shrunk("lidar_small", tmp_path, *SHORT, f"init_from={start}", "optim.frozen=[encoders]")
    frames = some_frames(4)
    last = read_weights(run_training(config, sources={"train": frames, "val": frames}).folder)[1]
    changed = {name for name in first if not torch.equal(first[name], last[name])}
    assert changed
    assert not any(name.startswith("encoders.") for name in changed)


def test_gradients_pass_through_a_frozen_part_to_what_lies_before_it() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    frozen = freeze(model, ["1", "2"])
    model.train()
    keep_still(frozen)
    assert [module.training for module in model] == [True, False, True]  # the norm alone
    model(torch.randn(4, 2)).sum().backward()
    assert [parameter.grad is not None for parameter in model.parameters()] == [True, True, False, False, False, False]


def test_a_part_that_the_model_does_not_have_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"optim.frozen names 'encoder'.*did you mean encoders"):
        freeze(nn.ModuleDict({"encoders": nn.Linear(1, 1)}), ["encoder"])
