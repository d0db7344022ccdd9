"""A step with a loss that is not finite is kept, and replaying it finds where that began."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.training_runs import FrameList, shrunk, some_frames
from omegaconf import DictConfig

from bevstack.build import build_model
from bevstack.cli.main import main
from bevstack.model import DrivingModel
from bevstack.training import fit
from bevstack.training.fit import run_training
from bevstack.training.replay import replay_step

OVERRIDES = (
    "model.backbone.widths=[8,8,8]",
    "trainer.max_steps=2",
    "trainer.batch_size=2",
    "trainer.validate_every_epochs=null",
)


def _evidence(folder: Path, frames: FrameList, *overrides: str) -> Path:
    """The file that a run on these frames leaves when it stops."""
    with pytest.raises(ValueError, match="bevstack replay"):
        run_training(shrunk("lidar_small", folder, *OVERRIDES, *overrides), sources={"train": frames})
    (file,) = (folder / "latest" / "evidence").glob("*.pt")
    return file


def _one_frame_with_a_bad_echo() -> FrameList:
    """Two frames; of the second one, a point near the car has an intensity that is no number."""
    first, second = (some_frames(2)[index] for index in range(2))
    assert second.lidar is not None
    points = np.array(second.lidar.points_ego)
    points[np.argmin(np.hypot(points[:, 0] - 5.0, points[:, 1])), 3] = np.nan
    return FrameList([first, replace(second, lidar=replace(second.lidar, points_ego=points))])


def test_a_bad_weight_is_named_with_the_first_module_that_suffers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def planted(config: DictConfig) -> DrivingModel:
        model = build_model(config)
        with torch.no_grad():
            model.heads["detection"].shared[0].weight[0, 0, 0, 0] = torch.nan
        return model

    monkeypatch.setattr(fit, "build_model", planted)
    file = _evidence(tmp_path, some_frames(2), "trainer.precision=bf16")
    assert main(["replay", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "precision bf16" in lines[0]
    assert lines[lines.index("not finite before anything was computed:") + 1].startswith(
        "  weights.heads.detection.shared.0.weight: 1 of"
    )
    assert lines[lines.index("outputs that are not finite, in the order of computation:") + 1].startswith(
        "  heads.detection.shared.0: "
    )
    assert lines[-1] == "reproduced"


def test_a_bad_point_is_named_with_its_frame(tmp_path: Path) -> None:
    result = replay_step(_evidence(tmp_path, _one_frame_with_a_bad_echo()))
    assert result.is_reproduced
    assert [culprit.where for culprit in result.inputs] == ["batch.points_ego"]
    assert result.inputs[0].frames == ("frame-1",)
    assert result.modules[0].where.startswith("encoders.lidar")


def test_a_step_that_is_finite_now_ends_with_code_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _evidence(tmp_path, _one_frame_with_a_bad_echo())
    content = torch.load(file, weights_only=True)
    content["batch"]["points_ego"] = content["batch"]["points_ego"].nan_to_num()
    torch.save(content, file)
    assert main(["replay", str(file)]) == 3
    assert "NOT reproduced" in capsys.readouterr().out


def test_files_of_another_kind_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.pt"
    torch.save({"model": {}}, file)
    assert main(["replay", str(file)]) == 1
    assert "no evidence" in capsys.readouterr().err
    file.write_bytes(b"nonsense")
    assert main(["replay", str(file)]) == 1
    assert "damaged" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "absent.pt")]) == 1
