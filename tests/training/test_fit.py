"""What a run leaves behind, and how it ends when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixtures.training_runs import shrunk, some_frames

from bevstack.build import load_model
from bevstack.training.fit import run_training
from bevstack.training.metrics_log import read_metrics
from bevstack.weights_file import read_weights

TESTS = Path(__file__).resolve().parents[1]
SHORT = ("trainer.max_steps=2", "trainer.batch_size=2", "trainer.validate_every_epochs=null")


def test_a_run_folder_holds_what_is_needed_to_repeat_and_judge_the_run(tmp_path: Path) -> None:
    frames = some_frames(4)
    config = shrunk("lidar_small", tmp_path, *SHORT, "trainer.validate_every_epochs=0.5", "seed=3")
    result = run_training(config, sources={"train": frames, "val": frames})
    assert result.folder == (tmp_path / "latest").resolve()
    assert json.loads((result.folder / "versions.json").read_text())["seed"] == 3
    rows = read_metrics(result.folder / "metrics.csv")
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2]
    assert [row["step"] for row in rows if "val/loss" in row] == [1, 2]
    assert list((result.folder / "tensorboard").iterdir())
    for source in (result.folder, result.checkpoint):
        loaded = load_model(source)
        assert loaded.metadata["step"] == "2"
        assert not loaded.model.training


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    runs = []
    for seed in (0, 0, 1):
        config = shrunk("lidar_small", tmp_path, *SHORT, f"seed={seed}")
        runs.append(read_weights(run_training(config, sources={"train": some_frames(4)}).folder)[1])
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert any(not torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


def test_a_loss_that_is_not_finite_stops_the_run_names_the_term_and_keeps_the_batch(tmp_path: Path) -> None:
    config = shrunk("lidar_small", tmp_path, *SHORT, "optim.optimizer.lr=1e30")
    with pytest.raises(ValueError, match=r"not finite at step 1: detection.*frame-\d.*batch and weights are in"):
        run_training(config, sources={"train": some_frames(4)})
    (evidence,) = (tmp_path / "latest" / "evidence").glob("*.pt")
    saved = torch.load(evidence, weights_only=True)
    assert saved["batch"]["points_ego"].shape[1] == 5
    assert len(saved["labels"]["boxes_ego"]) == 2


def test_a_term_without_a_weight_is_named(tmp_path: Path) -> None:
    config = shrunk("lidar_small", tmp_path, *SHORT, "~loss_weights.detection.yaw")
    with pytest.raises(ValueError, match="detection/yaw"):
        run_training(config, sources={"train": some_frames(4)})


def test_fewer_frames_than_a_batch_are_refused(tmp_path: Path) -> None:
    config = shrunk("lidar_small", tmp_path, *SHORT, "trainer.batch_size=8")
    with pytest.raises(ValueError, match="fewer training frames than one batch"):
        run_training(config, sources={"train": some_frames(4)})


def test_fusion_starts_from_lidar_weights_and_says_what_is_fresh(tmp_path: Path) -> None:
    lidar = run_training(shrunk("lidar_small", tmp_path, *SHORT), sources={"train": some_frames(4)})
    said: list[str] = []
    config = shrunk("fusion_small", tmp_path, *SHORT, f"init_from={lidar.folder.parents[1] / 'latest'}")
    run_training(config, sources={"train": some_frames(4)}, say=said.append)
    text = "\n".join(said)
    assert "encoders.camera: fresh" in text
    assert "encoders.lidar: loaded" in text
    assert "fuser: partly loaded" in text


TWO_PROCESSES = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from fixtures.training_runs import shrunk, some_frames
from bevstack.training.fit import run_training
frames = some_frames(6)
config = shrunk("lidar_small", Path({root!r}), *{overrides!r}, "trainer.workers=1")
run_training(config, sources={{"train": frames, "val": frames}})
"""


def test_two_processes_learn_what_one_process_learns_from_the_same_batches(tmp_path: Path) -> None:
    """One process takes the two halves of each batch one after the other, so batch statistics are of halves in both.

    The two have loading processes, the one has not: all of them must end by themselves, and give the same frames.
    """
    overrides = ("trainer.max_steps=3", "trainer.batch_size=2", "trainer.validate_every_epochs=0.5")
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES.format(tests=str(TESTS), root=str(tmp_path / "two"), overrides=overrides))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    subprocess.run(command, check=True, timeout=600, capture_output=True)
    frames = some_frames(6)
    config = shrunk("lidar_small", tmp_path / "one", *overrides, "trainer.accumulate=2")
    one = run_training(config, sources={"train": frames, "val": frames})
    two = tmp_path / "two" / "latest"
    for name in ("train/loss", "train/detection/heatmap", "train/grad_norm"):
        losses = [[row[name] for row in read_metrics(run / "metrics.csv") if name in row] for run in (one.folder, two)]
        assert losses[0] == pytest.approx(losses[1], rel=2e-3), name
    weights = read_weights(two)[1]
    for name, tensor in read_weights(one.folder)[1].items():
        if "running_" not in name and "num_batches" not in name:  # each process keeps its own running statistics
            torch.testing.assert_close(weights[name], tensor, rtol=1e-2, atol=2e-4)
