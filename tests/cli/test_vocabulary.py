"""`bevstack vocabulary`: from driven futures to a file that a model takes."""

from pathlib import Path

import numpy as np
import pytest
from fixtures.drives import SPLIT, drive

from bevstack.cli.main import main
from bevstack.data import training_splits
from bevstack.planning.vocabulary import Vocabulary


def driven(out: Path) -> Path:
    """Two scenes in which the vehicle speeds up, of which 16 frames have a whole future."""
    drive(out, {"a": {}, "b": {}}, num_keyframes=14, ego=lambda t: (200.0 + t * t, 200.0, 0.0))
    return out


def test_driven_futures_become_a_vocabulary_that_a_model_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_splits, "_OFFICIAL", (SPLIT,))
    file = tmp_path / "new" / "driven.npz"
    words = ["vocabulary", "make", str(driven(tmp_path / "data")), "--split", SPLIT, "--size", "8", "--out", str(file)]
    assert main(words) == 0
    assert "16 of 28 frames" in capsys.readouterr().out
    poses = Vocabulary(size=8, weights=file).poses.numpy()
    ends = np.sort(poses[:, -1, 0])
    start_s = 0.5 * np.arange(8)
    np.testing.assert_allclose(ends, (start_s + 3) ** 2 - start_s**2, atol=1e-3)
    assert main(["vocabulary", "show", str(file)]) == 0
    assert "8 trajectories of 6 steps" in capsys.readouterr().out


def test_futures_of_a_split_that_is_not_for_training_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["vocabulary", "make", str(driven(tmp_path / "data")), "--split", SPLIT, "--out", str(tmp_path / "v.npz")]
    assert main(words) == 1
    assert "is not for training" in capsys.readouterr().err
    assert not (tmp_path / "v.npz").exists()


def test_a_file_that_is_no_vocabulary_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["vocabulary", "show", str(tmp_path / "missing.npz")]) == 1
    assert "missing.npz" in capsys.readouterr().err
