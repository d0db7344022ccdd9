"""Parameters shared out over processes (FSDP2) learn what one process learns, and leave the same kind of files."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixtures.training_runs import shrunk, some_frames

from bevstack.build import load_model
from bevstack.training.fit import run_training
from bevstack.training.metrics_log import read_metrics
from bevstack.training.run_folder import RunFolder
from bevstack.weights_file import read_checkpoint, read_weights

TESTS = Path(__file__).resolve().parents[1]

SHARDED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
from fixtures.training_runs import killed_after, shrunk, some_frames
from bevstack.training.fit import run_training
from bevstack.training.run_folder import RunFolder
root, frames = Path({root!r}), some_frames(6)
sources = {{"train": frames, "val": frames}}
config = shrunk("lidar_small", root, *{overrides!r}, "trainer.strategy=fsdp")
whole = run_training(config, sources=sources)
if whole.is_first_process:
    killed_after(whole.folder, 1, root / "killed")
torch.distributed.init_process_group("gloo") if not torch.distributed.is_initialized() else None
torch.distributed.barrier()
killed = RunFolder(root / "killed")
run_training(killed.read_config(), resume=killed, sources=sources)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Folders of three runs on the same batches: one process; two that share out; those killed and resumed.

    The one process takes the two halves of each batch one after the other, so the batch norms see halves in both.
    """
    root = tmp_path_factory.mktemp("runs")
    overrides = ("trainer.max_steps=3", "trainer.batch_size=2", "trainer.validate_every_epochs=0.5",
                 "trainer.checkpoint_steps=1", "trainer.keep_checkpoints=9", "model.backbone.widths=[8,8,8]",
                 "balance=uncertainty")  # fmt: skip
    script = root / "sharded.py"
    script.write_text(SHARDED.format(tests=str(TESTS), root=str(root / "two"), overrides=overrides))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    done = subprocess.run(command, check=False, timeout=600, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    frames = some_frames(6)
    config = shrunk("lidar_small", root / "one", *overrides, "trainer.accumulate=2")
    one = run_training(config, sources={"train": frames, "val": frames}).folder
    (two,) = (root / "two" / "lidar_small").iterdir()
    return one, two, root / "two" / "killed"


def test_two_processes_that_share_out_learn_what_one_learns(runs: tuple[Path, Path, Path]) -> None:
    """Losses, and validation with the averaged weights, within 0.2 %: sums run in another order."""
    one, two, _ = (read_metrics(run / "metrics.csv") for run in runs)
    for name in ("train/loss", "train/detection/heatmap", "train/grad_norm", "train/balance/detection"):
        mine, theirs = ([row[name] for row in rows if name in row] for rows in (one, two))
        assert len(mine) == 3
        assert mine == pytest.approx(theirs, rel=2e-3), name
    weights = read_weights(runs[1])[1]
    for name, tensor in read_weights(runs[0])[1].items():
        if "running_" not in name and "num_batches" not in name:  # each process keeps its own running statistics
            # Of the tensor as a whole: Adam's first steps turn the sign of a gradient near zero into a whole step.
            assert float((weights[name] - tensor).norm()) <= 2e-3 * float(tensor.norm()) + 1e-3, name


def test_the_files_hold_whole_tensors_that_one_process_can_load(runs: tuple[Path, Path, Path]) -> None:
    one, two, _ = runs
    mine, theirs = (read_checkpoint(RunFolder(run).newest_checkpoint()) for run in (one, two))
    assert {name: tensor.shape for name, tensor in theirs["state_dict"].items()} == {
        name: tensor.shape for name, tensor in mine["state_dict"].items()
    }
    assert all(type(tensor) is torch.Tensor for tensor in theirs["state_dict"].values())
    assert len(theirs["optimizer_states"][0]["state"]) == len(mine["optimizer_states"][0]["state"])
    for source in (two, RunFolder(two).newest_checkpoint()):
        assert load_model(source).metadata["step"] == "3"


def test_a_resumed_run_ends_with_the_same_weights(runs: tuple[Path, Path, Path]) -> None:
    _, two, resumed = runs
    expected, got = (read_checkpoint(RunFolder(run).checkpoint_of(3)) for run in (two, resumed))
    for name, tensor in expected["state_dict"].items():
        assert "running_" in name or torch.equal(got["state_dict"][name], tensor), name
    averaged = read_weights(resumed)[1]
    for name, tensor in read_weights(two)[1].items():
        assert "running_" in name or torch.equal(averaged[name], tensor), name
