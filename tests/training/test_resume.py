"""A run that is killed and resumed ends with the weights of the run that was left alone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.training_runs import shrunk, some_frames

from bevstack.training.fit import run_training
from bevstack.training.metrics_log import read_metrics
from bevstack.training.run_folder import RunFolder
from bevstack.weights_file import read_checkpoint, read_weights

STEPS = 7
OVERRIDES = (
    f"trainer.max_steps={STEPS}",
    "trainer.batch_size=2",
    "trainer.accumulate=2",
    "trainer.checkpoint_steps=1",
    "trainer.keep_checkpoints=100",
    "trainer.validate_every_epochs=0.75",
    "data.class_balanced=true",
)


def _sources() -> dict:
    frames = some_frames(5)
    return {"train": frames, "val": frames}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over several epochs, with accumulation and validation, that kept the checkpoint of every step."""
    config = shrunk("fusion_small", tmp_path_factory.mktemp("runs"), *OVERRIDES)
    return run_training(config, sources=_sources()).folder


def _killed_after(whole_run: Path, step: int, folder: Path) -> RunFolder:
    """What a run killed some time after `step` leaves behind: later losses were written, later checkpoints not."""
    shutil.copytree(whole_run, folder)
    for file in (folder / "checkpoints").iterdir():
        if int(file.stem.removeprefix("step")) > step:
            file.unlink()
    (folder / "weights.safetensors").unlink()
    return RunFolder(folder)


@pytest.mark.parametrize(
    "step", sorted(np.random.default_rng(20).choice(np.arange(1, STEPS), 3, replace=False).tolist())
)
def test_a_run_killed_at_a_random_step_ends_with_the_same_weights(whole_run: Path, step: int, tmp_path: Path) -> None:
    killed = _killed_after(whole_run, step, tmp_path / "run")
    torch.manual_seed(step)  # the state of the generators before a resume must not matter
    resumed = run_training(killed.read_config(), resume=killed, sources=_sources())
    expected = read_checkpoint(RunFolder(whole_run).newest_checkpoint())
    content = read_checkpoint(resumed.checkpoint)
    assert resumed.steps == STEPS
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(content["state_dict"][name], tensor), name
    for name, tensor in read_weights(whole_run)[1].items():
        assert torch.equal(read_weights(resumed.folder)[1][name], tensor), name


def test_the_losses_of_lost_steps_are_written_once(whole_run: Path, tmp_path: Path) -> None:
    killed = _killed_after(whole_run, 3, tmp_path / "run")
    resumed = run_training(killed.read_config(), resume=killed, sources=_sources())
    expected, got = read_metrics(whole_run / "metrics.csv"), read_metrics(resumed.folder / "metrics.csv")
    for name in ("train/loss", "train/grad_norm", "val/loss"):
        assert [row[name] for row in got if name in row] == [row[name] for row in expected if name in row], name


def test_changed_data_is_refused(whole_run: Path, tmp_path: Path) -> None:
    killed = _killed_after(whole_run, 3, tmp_path / "run")
    config = killed.read_config()
    (tmp_path / "other" / "v1.0-world").mkdir(parents=True)
    config.data.root = str(tmp_path / "other")
    with pytest.raises(Exception, match="other"):
        run_training(config, resume=killed)
