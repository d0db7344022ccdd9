"""The stages of M3Net's training fit into one another: numbers of the recipe, and weights by name."""

from functools import cache
from pathlib import Path

import pytest
import torch
from fixtures.training_runs import some_frames
from omegaconf import DictConfig

from bevstack.build import build_model, compose, instantiate
from bevstack.training.fit import run_training

STAGES = ("m3net_stage1", "m3net_stage2", "m3net_stage3")


@cache
def composed(experiment: str) -> DictConfig:
    return compose([f"experiment={experiment}"])


@cache
def shapes(experiment: str) -> dict[str, tuple[int, ...]]:
    """Tensors of the model at its full size, none of which takes memory."""
    with torch.device("meta"):
        model = build_model(composed(experiment))
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("experiment", "epochs", "without_paste", "is_balanced", "tasks"),
    [
        ("m3net_stage1", 6, 4, True, {"detection"}),
        ("m3net_stage2", 12, 3, True, {"detection", "map"}),
        ("m3net_stage3", 15, 4, False, {"detection", "map", "occupancy"}),
        ("m3net", 15, 4, True, {"detection", "map", "occupancy"}),
    ],
)
def test_a_stage_has_the_epochs_tasks_and_last_epochs_of_the_recipe(
    experiment: str, epochs: int, without_paste: int, is_balanced: bool, tasks: set[str]
) -> None:
    config = composed(experiment)
    assert config.trainer.max_epochs == epochs and config.trainer.batch_size == 8
    assert epochs - config.augment.paste.last_epoch == without_paste
    assert config.data.class_balanced is is_balanced
    assert {name for name, part in config.model.heads.m3net.readouts.items() if part is not None} == tasks
    assert {name for name, part in config.loss_weights.m3net.items() if part is not None} == tasks


@pytest.mark.parametrize(("before", "after"), [(STAGES[0], STAGES[1]), (STAGES[1], STAGES[2])])
def test_the_weights_of_a_stage_fit_the_next_by_name(before: str, after: str) -> None:
    old, new = shapes(before), shapes(after)
    assert {name for name in old if old[name] != new.get(name)} == set()
    fresh = set(new) - set(old)
    expected = {
        "m3net_stage2": ("fuser.votes.", "heads.m3net.readouts.map.", ".scaling."),
        "m3net_stage3": ("heads.m3net.readouts.occupancy.", ".scaling.occupancy."),
    }[after]
    assert fresh and all(any(part in name for part in expected) for name in fresh)


def test_the_last_stage_is_the_one_stage_network() -> None:
    assert shapes("m3net_stage3") == shapes("m3net")


def test_a_later_stage_asks_for_the_run_it_starts_from(tmp_path: Path) -> None:
    overrides = ("trainer.precision=32", "trainer.accelerator=cpu", "trainer.workers=0", "augment.paste=null")
    config = compose(["experiment=m3net_stage2", *overrides, "trainer.batch_size=1", f"run_root={tmp_path}"])
    with pytest.raises(FileNotFoundError, match="RUN_OF_M3NET_STAGE1; give .* a run folder"):
        run_training(config, sources={"train": some_frames(1), "val": some_frames(1)})
    assert not any(tmp_path.iterdir())


def test_the_schedule_is_one_cycle_of_rate_and_momentum() -> None:
    optim = instantiate(composed("m3net"), "optim")
    optimizer, scheduler = optim.build(torch.nn.Linear(2, 2), 11)
    seen = []
    for _ in range(11):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
        optimizer.step()
        scheduler.step()
    assert seen[0] == pytest.approx((8e-5, 0.9)) and seen[4] == pytest.approx((8e-4, 0.805))
    assert seen[10] == pytest.approx((8e-9, 0.9))
