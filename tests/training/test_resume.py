"""A run that is killed and resumed ends with the weights of the run that was left alone."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.training_runs import FrameList, killed_after, shrunk, some_frames

from bevstack.training.fit import run_training
from bevstack.training.metrics_log import read_metrics
from bevstack.training.run_folder import RunFolder
from bevstack.types import Frame
from bevstack.weights_file import read_checkpoint, read_weights

STEPS = 5
OVERRIDES = (
    f"trainer.max_steps={STEPS}",
    "trainer.batch_size=2",
    "trainer.accumulate=2",
    "trainer.checkpoint_steps=1",
    "trainer.keep_checkpoints=100",
    "trainer.validate_every_epochs=0.75",
    "trainer.val_batches=2",
    "data.class_balanced=true",
    "model.encoders.camera.backbone.deepest_stride=16",
    "model.backbone.widths=[8,8,8]",
    "optim.lr_scale={}",
)
KILLED_AT = sorted(np.random.default_rng(20).choice(np.arange(1, STEPS), 3, replace=False).tolist())


def _sources() -> dict:
    frames = some_frames(5)
    return {"train": frames, "val": frames}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over several epochs, with accumulation and validation, that kept the checkpoint of every step."""
    config = shrunk("fusion_small", tmp_path_factory.mktemp("runs"), *OVERRIDES)
    return run_training(config, sources=_sources()).folder


@pytest.mark.parametrize("step", KILLED_AT)
def test_a_run_killed_at_a_random_step_ends_with_the_same_weights(whole_run: Path, step: int, tmp_path: Path) -> None:
    killed = killed_after(whole_run, step, tmp_path / "run")
    torch.manual_seed(step)  # the state of the generators before a resume must not matter
    resumed = run_training(killed.read_config(), resume=killed, sources=_sources())
    expected, got = read_checkpoint(RunFolder(whole_run).newest_checkpoint()), read_checkpoint(resumed.checkpoint)
    assert resumed.steps == STEPS
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(got["state_dict"][name], tensor), name
    averaged = read_weights(resumed.folder)[1]
    for name, tensor in read_weights(whole_run)[1].items():
        assert torch.equal(averaged[name], tensor), name
    rows, whole_rows = read_metrics(resumed.folder / "metrics.csv"), read_metrics(whole_run / "metrics.csv")
    for name in ("train/loss", "train/grad_norm", "val/loss"):  # those of the lost steps are there once, not twice
        assert [row[name] for row in rows if name in row] == [row[name] for row in whole_rows if name in row], name


def test_a_checkpoint_on_other_data_is_refused(whole_run: Path, tmp_path: Path) -> None:
    killed = killed_after(whole_run, 3, tmp_path / "run")
    file = killed.newest_checkpoint()
    content = read_checkpoint(file)
    content["bevstack"]["metadata"]["data_hash"] = "another"
    torch.save(content, file)
    with pytest.raises(ValueError, match="not that of .* any more"):
        run_training(killed.read_config(), resume=killed, sources=_sources())


class _InterruptedFrames(FrameList):
    """Frames, and the user presses Ctrl-C while one of them is read."""

    def __init__(self, frames: FrameList, at_read: int) -> None:
        super().__init__([frames[index] for index in range(len(frames))])
        self.at_read, self.num_read = at_read, 0

    def __getitem__(self, index: int) -> Frame:
        self.num_read += 1
        if self.num_read == self.at_read:
            signal.raise_signal(signal.SIGINT)
        return super().__getitem__(index)


def test_ctrl_c_finishes_the_step_saves_and_can_be_resumed(tmp_path: Path) -> None:
    config = shrunk("lidar_small", tmp_path, "trainer.max_steps=4", "trainer.batch_size=1",
                    "trainer.validate_every_epochs=null")  # fmt: skip
    frames = some_frames(4)
    handler_before = signal.getsignal(signal.SIGINT)
    stopped = run_training(config, sources={"train": _InterruptedFrames(frames, at_read=2)})
    assert stopped.signal_number == signal.SIGINT
    assert stopped.weights is None
    assert stopped.checkpoint.name == "step0000002.ckpt"
    assert signal.getsignal(signal.SIGINT) is handler_before
    resumed = run_training(config, resume=RunFolder(stopped.folder), sources={"train": frames})
    assert resumed.steps == 4
    assert resumed.weights is not None
