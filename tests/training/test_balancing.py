"""Balancing the losses of tasks: directions and optima known by hand, then whole runs of a model with two heads."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixtures.training_runs import killed_after, shrunk, some_frames
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bevstack.training.balancing import FixedWeights, GradNorm, LearnedUncertainty, PCGrad
from bevstack.training.fit import run_training
from bevstack.training.gradient_cosine import cosine_columns, gradient_cosines
from bevstack.training.metrics_log import read_metrics
from bevstack.training.task_gradients import TaskGradients
from bevstack.training.tasks import shared_parameters, task_losses, task_of, tasks_of
from bevstack.weights_file import read_checkpoint, read_weights

TESTS = Path(__file__).resolve().parents[1]
TASKS = ("a", "b")
BALANCES = ("uncertainty", "gradnorm", "pcgrad")
NUMBERS = st.lists(st.floats(-3, 3, width=32), min_size=8, max_size=8)


def _same_order() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _direction(balance: FixedWeights, gradients: Tensor, losses: tuple[float, ...] = (1.0, 1.0)) -> Tensor | None:
    return balance.after_backward(torch.tensor(losses), gradients, _same_order())


# ---------------------------------------------------------------- tasks


def test_a_task_is_a_head_or_a_readout_of_a_joint_head() -> None:
    assert task_of("detection/heatmap") == "detection"
    assert task_of("m3net/map/focal") == "m3net/map"
    assert tasks_of(["m3net/map/focal", "m3net/box/l1", "m3net/map/dice"]) == ("m3net/map", "m3net/box")
    with pytest.raises(ValueError, match="'heatmap' must be named"):
        task_of("heatmap")


def test_the_loss_of_a_task_is_the_weighted_sum_of_its_terms() -> None:
    terms = {"a/x": torch.tensor(2.0), "b/x": torch.tensor(5.0), "a/y": torch.tensor(3.0)}
    losses = task_losses(terms, {"a/x": 10.0, "a/y": 1.0, "b/x": 2.0})
    assert {task: float(loss) for task, loss in losses.items()} == {"a": 23.0, "b": 10.0}


def test_what_lies_outside_the_readouts_is_shared() -> None:
    head = nn.Module()
    head.layers, head.readouts = nn.Linear(2, 2), nn.ModuleDict({"map": nn.Linear(2, 1), "box": nn.Linear(2, 1)})
    model = nn.Module()
    model.backbone = nn.Linear(2, 2)
    model.heads = nn.ModuleDict({"joint": head, "own": nn.Linear(2, 1)})
    names = set(shared_parameters(model, ("joint/map", "joint/box", "own")))
    assert names == {"backbone.weight", "backbone.bias", "heads.joint.layers.weight", "heads.joint.layers.bias"}
    assert set(shared_parameters(model, ("own",), ["backbone"])) == {"backbone.weight", "backbone.bias"}
    with pytest.raises(ValueError, match="'backbon'"):
        shared_parameters(model, ("own",), ["backbon"])


# ---------------------------------------------------------------- gradients


def _linear_tasks(weight: nn.Parameter) -> dict[str, Tensor]:
    """Losses whose gradients are (1, 0) and (-1, 1)."""
    return {"a": weight[0], "b": -weight[0] + weight[1]}


def test_gradients_of_micro_batches_add_up_to_that_of_the_step() -> None:
    weight, unused = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    gradients = TaskGradients(TASKS, [weight, unused])
    gradients.add({"a": weight[0] * 3, "b": torch.tensor(7.0)}, 0.5)  # b has no label in this one
    gradients.add(_linear_tasks(weight), 0.5)
    assert gradients.take(lambda tensor: tensor).tolist() == [[2.0, 0.0, 0.0], [-0.5, 0.5, 0.0]]
    gradients.add(_linear_tasks(weight), 1.0)
    assert gradients.take(lambda tensor: tensor).tolist() == [[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0]]


def test_cosines_and_norms_of_known_gradients() -> None:
    values = gradient_cosines(torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, 0.0]]), ("a", "b", "none"))
    assert values["cosine/a~b"] == pytest.approx(-(0.5**0.5))
    assert values["gradient_norm/b"] == pytest.approx(2**0.5)
    assert set(cosine_columns(("a", "b", "none"))) - set(values) == {"cosine/a~none", "cosine/b~none"}


# ---------------------------------------------------------------- balances


def test_conflicting_gradients_lose_their_parts_along_each_other() -> None:
    weight = nn.Parameter(torch.zeros(2))
    gradients = TaskGradients(TASKS, [weight])
    losses = _linear_tasks(weight)
    gradients.add(losses, 1.0)
    balance = PCGrad(tasks=TASKS)
    balance.objective(losses).backward()
    assert weight.grad is not None and weight.grad.tolist() == [0.0, 1.0]
    direction = _direction(balance, gradients.take(lambda tensor: tensor))
    # a: (1, 0) + 1/2 (-1, 1) = (0.5, 0.5); b: (-1, 1) + (1, 0) = (0, 1)
    assert direction is not None
    gradients.assign(direction)
    assert weight.grad.tolist() == [0.5, 1.5]
    assert balance.values() == {"conflicts": 2.0}


def test_gradients_that_agree_are_added_up() -> None:
    gradients = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    direction = _direction(PCGrad(tasks=TASKS), gradients)
    assert direction is not None and direction.tolist() == [4.0, 1.0]


@given(NUMBERS)
def test_the_projected_direction_of_two_tasks_harms_neither(numbers: list[float]) -> None:
    gradients = torch.tensor(numbers, dtype=torch.float64).view(2, 4)
    direction = _direction(PCGrad(tasks=TASKS), gradients)
    assert direction is not None
    assert float((gradients @ direction).min()) >= -1e-9 * (1 + float(gradients.square().sum()))


def test_learned_variances_converge_to_the_losses() -> None:
    balance = LearnedUncertainty(tasks=TASKS)
    losses = {"a": torch.tensor(4.0), "b": torch.tensor(0.25)}
    assert float(balance.objective(losses).detach()) == pytest.approx(4.25)
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        balance.objective(losses).backward()
        optimizer.step()
    assert list(balance.values().values()) == pytest.approx([1 / 4.0, 1 / 0.25], rel=1e-3)


def test_gradnorm_without_rates_makes_the_norms_equal() -> None:
    balance = GradNorm(tasks=TASKS, alpha=0.0, lr=0.01)
    for _ in range(800):
        _direction(balance, torch.tensor([[6.0, 8.0], [1.0, 0.0]]))
    assert list(balance.values().values()) == pytest.approx([2 / 11, 20 / 11], abs=0.03)


def test_gradnorm_gives_the_task_that_learns_slowly_more() -> None:
    balance = GradNorm(tasks=TASKS, alpha=1.5)
    for losses in ((2.0, 2.0), (0.5, 2.0), (0.4, 1.9), (0.3, 1.9)):
        _direction(balance, torch.eye(2), losses)
    factors = balance.values()
    assert factors["b"] > 1.0 > factors["a"]
    assert sum(factors.values()) == pytest.approx(2.0)
    loss = balance.objective({"a": torch.tensor(1.0), "b": torch.tensor(10.0)})
    assert float(loss) == pytest.approx(factors["a"] + 10 * factors["b"])


@pytest.mark.parametrize("balance", [FixedWeights, LearnedUncertainty, GradNorm])
def test_every_balance_starts_as_the_plain_sum(balance: type[FixedWeights]) -> None:
    losses = {"a": torch.tensor(3.0), "b": torch.tensor(4.0)}
    assert float(balance(tasks=TASKS).objective(losses).detach()) == 7.0


# ---------------------------------------------------------------- runs

TWO_HEADS = (
    "+head@model.heads.second=center",
    "+loss@loss_weights.second=center",
    "model.backbone.widths=[8,8,8]",
    "trainer.batch_size=2",
    "trainer.validate_every_epochs=null",
    "trainer.gradient_cosine_every=2",
)


@pytest.mark.parametrize("balance", BALANCES)
def test_a_run_killed_and_resumed_ends_with_the_same_weights(balance: str, tmp_path: Path) -> None:
    overrides = (*TWO_HEADS, f"balance={balance}", "trainer.max_steps=3", "trainer.checkpoint_steps=1",
                 "trainer.accumulate=2", "trainer.keep_checkpoints=9")  # fmt: skip
    whole = run_training(shrunk("lidar_small", tmp_path, *overrides), sources={"train": some_frames(4)})
    killed = killed_after(whole.folder, 1, tmp_path / "killed")
    torch.manual_seed(5)
    resumed = run_training(killed.read_config(), resume=killed, sources={"train": some_frames(4)})
    expected, got = (read_checkpoint(result.checkpoint)["state_dict"] for result in (whole, resumed))
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name
    rows, whole_rows = (read_metrics(result.folder / "metrics.csv") for result in (resumed, whole))
    names = [name for name in whole_rows[0] if name.startswith(("train/balance", "cosine", "gradient_norm"))]
    assert [[row.get(name) for name in names] for row in rows] == [
        [row.get(name) for name in names] for row in whole_rows
    ]
    assert [row["step"] for row in rows if "cosine/detection~second" in row] == [1, 2]


TWO_PROCESSES = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from fixtures.training_runs import shrunk, some_frames
from bevstack.training.fit import run_training
for balance in {balances!r}:
    config = shrunk("lidar_small", Path({root!r}) / balance, *{overrides!r}, f"balance={{balance}}")
    run_training(config, sources={{"train": some_frames(4)}})
"""


@pytest.mark.parametrize(
    "balances",
    [("pcgrad",), pytest.param(("uncertainty", "gradnorm"), marks=pytest.mark.slow)],
    ids=["pcgrad", "others"],
)
def test_two_processes_balance_as_one_does(balances: tuple[str, ...], tmp_path: Path) -> None:
    """Task gradients are averaged over processes and micro-batches before anything is decided from them."""
    overrides = (*TWO_HEADS, "trainer.max_steps=2", "loss_weights.second.heatmap=5.0")
    script = tmp_path / "two.py"
    root = str(tmp_path / "two")
    script.write_text(TWO_PROCESSES.format(tests=str(TESTS), root=root, overrides=overrides, balances=balances))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    done = subprocess.run(command, check=False, timeout=600, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for balance in balances:
        config = shrunk("lidar_small", tmp_path / "one" / balance, *overrides, f"balance={balance}",
                        "trainer.accumulate=2")  # fmt: skip
        one, two = run_training(config, sources={"train": some_frames(4)}).folder, tmp_path / "two" / balance / "latest"
        rows, other = (read_metrics(folder / "metrics.csv") for folder in (one, two))
        names = [name for name in rows[0] if name.startswith(("train/", "cosine", "gradient_norm"))]
        for mine, theirs in zip(rows, other, strict=True):
            for name in set(names) & set(mine):
                assert theirs[name] == pytest.approx(mine[name], rel=5e-3, abs=1e-4), (balance, name)
        weights = read_weights(two)[1]
        for name, tensor in read_weights(one)[1].items():
            if "running_" not in name and "num_batches" not in name:  # each process keeps its own running statistics
                torch.testing.assert_close(weights[name], tensor, rtol=1e-2, atol=3e-4)


@pytest.mark.parametrize("balance", ["pcgrad", "gradnorm"])
def test_unscaled_gradients_are_not_taken_with_float16(
    balance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bevstack.training.precision.uses_gpu", lambda accelerator: True)
    config = shrunk("lidar_small", tmp_path, *TWO_HEADS, "trainer.max_steps=1", f"balance={balance}",
                    "trainer.precision=16")  # fmt: skip
    with pytest.raises(ValueError, match="trainer.precision=bf16 or 32"):
        run_training(config, sources={"train": some_frames(4)})
