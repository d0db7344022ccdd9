"""Every experiment that ships composes, builds and learns for one step, on CPU with synthetic frames."""

from pathlib import Path

import pytest
import torch
from fixtures.training_runs import shrunk, some_frames
from omegaconf import OmegaConf

from bevstack.build import CONFIG_FOLDER, build_loader, build_model, experiment_names, instantiate
from bevstack.training.fit import flat_weights
from bevstack.training.module import TrainingModule

EXPERIMENTS = experiment_names()


def test_there_are_experiments() -> None:
    assert {"fusion_small", "lidar_small", "camera_small", "fusion_voxel_small", "fusion_nuscenes"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_learns_for_one_step(name: str, tmp_path: Path) -> None:
    config = shrunk(name, tmp_path, "trainer.batch_size=2")
    model = build_model(config)
    settings = instantiate(config, "trainer")
    module = TrainingModule(
        model=model,
        loss_weights=flat_weights(config.loss_weights),
        optim=instantiate(config, "optim"),
        total_steps=2,
        seed=0,
    )
    optimizer = module.configure_optimizers()["optimizer"]
    before = {key: value.detach().clone() for key, value in model.named_parameters() if value.requires_grad}
    frames = some_frames(2, instantiate(config, "occupancy_grid") if "occupancy_grid" in config else None)
    batch, labels = next(iter(build_loader(config, frames, "train", batch_size=settings.batch_size)))
    assert labels is not None
    loss = module.training_step((batch, labels), 0)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert any(not torch.equal(value, before[key]) for key, value in model.named_parameters() if key in before)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_named_as_its_file_and_says_what_it_is(name: str, tmp_path: Path) -> None:
    assert shrunk(name, tmp_path).name == name
    lines = (CONFIG_FOLDER / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith("# ")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_loss_term_of_an_experiment_has_one_weight(name: str, tmp_path: Path) -> None:
    config = shrunk(name, tmp_path)
    parts = {**config.model.heads, **config.model.get("behaviour", {}), "language": config.model.get("language")}
    assert {name for name, value in parts.items() if value is not None} == set(
        OmegaConf.to_container(config.loss_weights)
    )
