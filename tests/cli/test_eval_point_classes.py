"""`bevstack eval --predictions FOLDER` on classes of LiDAR points."""

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.nuscenes_tiny import SPLIT, VERSION, token, write_tiny

from bevstack.cli.main import main
from bevstack.data.lidarseg import CHALLENGE_CLASS, labels_path
from bevstack.evaluation.dense.lidarseg import submission_path, write_submission

SENSORS = {"use_camera": False, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": False}
SWEEPS = {"LIDAR_TOP0": np.array([24, 24, 17, 0], np.uint8), "LIDAR_TOP10": np.array([24, 17, 30], np.uint8)}


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A data set with point labels, and a submission that has one of six points wrong."""
    root = write_tiny(tmp_path / "tiny")
    found = {token(name): np.maximum(CHALLENGE_CLASS[categories], 1) for name, categories in SWEEPS.items()}
    found[token("LIDAR_TOP10")][2] = 4
    for name, categories in SWEEPS.items():
        path = labels_path(root, VERSION, token(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        categories.tofile(path)
    write_submission(tmp_path / "mine", SPLIT, found, SENSORS)
    return ["eval", "--predictions", str(tmp_path / "mine"), "--data", str(root), "--out", str(tmp_path / "out")]


def test_a_folder_of_point_classes_is_scored(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(arguments) == 0
    assert "lidarseg/nusc (mIoU of LiDAR points): mean_iou" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    numbers = metrics["results"]["submission"]["lidarseg"]["lidarseg/nusc"]
    assert metrics["protocols"] == ["lidarseg/nusc"] and metrics["submission_meta"] == SENSORS
    # Roads are right; two of the three points that are or are called cars; the only plant is missed.
    assert numbers["mean_iou"] == pytest.approx((1 + 2 / 3 + 0) / 3) and numbers["num_points"] == 6


def test_a_sweep_that_is_missing_stops_everything(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    submission_path(tmp_path / "mine", SPLIT, token("LIDAR_TOP10")).unlink()
    assert main(arguments) == 1
    assert f"of sample {token('sample1')} is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
