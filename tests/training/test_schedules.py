"""Learning rates, parameter groups, averaged weights and settings: values known by hand."""

import functools

import pytest
import torch
from torch import nn

from bevstack.training.ema import WeightAverage
from bevstack.training.optim import Constant, OneCycle, OptimSettings, WarmupCosine, parameter_groups
from bevstack.training.settings import TrainerSettings


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))


def test_one_cycle_starts_low_peaks_at_its_share_and_ends_at_its_end() -> None:
    cycle = OneCycle(rise_share=0.2, start=0.1, end=0.001)
    factors = [cycle.factor(step, 101) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(range(101), key=factors.__getitem__) == 20
    assert factors[20] == pytest.approx(1.0)
    assert factors[60] == pytest.approx((1 + 0.001) / 2)
    assert factors[100] == pytest.approx(0.001)


def test_warm_up_is_linear_and_shrinks_for_short_runs() -> None:
    schedule = WarmupCosine(warmup_steps=10, start=0.0, end=0.0)
    assert [schedule.factor(step, 101) for step in (0, 5, 10, 100)] == pytest.approx([0.0, 0.5, 1.0, 0.0])
    assert schedule.factor(2, 4) == pytest.approx(1.0)


@pytest.mark.parametrize("schedule", [OneCycle(), WarmupCosine(), Constant()])
def test_a_schedule_is_defined_for_a_run_of_one_step(schedule: OneCycle | WarmupCosine | Constant) -> None:
    assert 0 < schedule.factor(0, 1) <= 1


def test_momentum_goes_against_the_learning_rate_and_both_follow_a_resumed_run() -> None:
    cycle = OneCycle(rise_share=0.4, start=0.1, end=1e-5, momentum=(0.9, 0.805))
    settings = OptimSettings(optimizer=functools.partial(torch.optim.AdamW, lr=8e-4, betas=(0.5, 0.99)), schedule=cycle)

    def at(steps: int, resumed_at: int | None = None) -> tuple[float, float, float]:
        optimizer, scheduler = settings.build(_model(), 101)
        for step in range(steps):
            optimizer.step()
            scheduler.step()
            if step + 1 == resumed_at:
                states = optimizer.state_dict(), scheduler.state_dict()
                optimizer, scheduler = settings.build(_model(), 101)
                optimizer.load_state_dict(states[0])
                scheduler.load_state_dict(states[1])
        group = optimizer.param_groups[0]
        return group["lr"], *group["betas"]

    assert at(0) == pytest.approx((8e-5, 0.9, 0.99))
    assert at(40) == pytest.approx((8e-4, 0.805, 0.99))
    assert at(100) == pytest.approx((8e-9, 0.9, 0.99))
    assert at(70) == at(70, resumed_at=30) and at(70)[1] == pytest.approx((0.9 + 0.805) / 2)


def test_a_momentum_schedule_needs_an_optimizer_with_betas() -> None:
    settings = OptimSettings(
        optimizer=functools.partial(torch.optim.SGD, lr=0.1), schedule=OneCycle(momentum=(0.9, 0.8))
    )
    with pytest.raises(ValueError, match="SGD"):
        settings.build(_model(), 10)
    with pytest.raises(ValueError, match=r"momentum=\(1.5, 0.8\)"):
        OneCycle(momentum=(1.5, 0.8))


def test_norms_and_biases_have_no_decay_and_prefixes_scale_the_rate() -> None:
    optimizer_of = functools.partial(torch.optim.AdamW, lr=0.1, weight_decay=0.01)
    settings = OptimSettings(optimizer=optimizer_of, schedule=Constant(), lr_scale={"0": 0.5})
    optimizer, _ = settings.build(_model(), 10)
    found = {(group["lr"], group["weight_decay"]): len(group["params"]) for group in optimizer.param_groups}
    assert found == {(0.05, 0.01): 1, (0.05, 0.0): 1, (0.1, 0.0): 3, (0.1, 0.01): 1}


def test_a_prefix_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="encoders.camera"):
        parameter_groups(_model(), {"encoders.camera": 0.5})


def test_the_average_follows_the_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    average = WeightAverage(model, decay=0.9)
    nn.init.constant_(model.weight, 1.0)
    average.update(model, 1)
    assert average.tensors["weight"].item() == pytest.approx(1 - 2 / 11)  # early decay (1 + 1) / (10 + 1)
    before = average.tensors["weight"].item()
    average.update(model, 1000)
    assert average.tensors["weight"].item() == pytest.approx(0.9 * before + 0.1)


def test_swapping_twice_gives_everything_back() -> None:
    model = _model()
    average = WeightAverage(model, decay=0.9)
    nn.init.normal_(model[0].weight)
    own = model[0].weight.detach().clone()
    averaged = average.tensors["0.weight"].clone()
    average.swap(model)
    assert torch.equal(model[0].weight, averaged)
    average.swap(model)
    assert torch.equal(model[0].weight, own)
    assert torch.equal(average.tensors["0.weight"], averaged)


def test_the_shorter_of_epochs_and_steps_counts() -> None:
    assert TrainerSettings(max_epochs=2).total_steps(10.5) == 21
    assert TrainerSettings(max_epochs=2, max_steps=5).total_steps(10.5) == 5


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "max_epochs or trainer.max_steps"),
        ({"max_steps": 0}, "above 0"),
        ({"max_steps": 2.5}, "whole number"),
        ({"max_epochs": "many"}, "above 0"),
        ({"max_steps": 1, "precision": "8"}, "auto, 32, bf16 or 16"),
        ({"max_steps": 1, "ema_decay": 1.0}, r"\[0, 1\)"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainerSettings(**wrong)


def test_a_batch_must_divide_by_the_processes() -> None:
    settings = TrainerSettings(max_steps=1, batch_size=6, accumulate=2)
    assert settings.micro_batch_size(3) == 1
    with pytest.raises(ValueError, match="does not divide by 2 processes"):
        settings.micro_batch_size(2)
