"""What differs between two runs is found, grouped, and ordered by how likely it is to matter."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from bevstack.build import compose, portable_yaml
from bevstack.cli.main import main
from bevstack.lint.run_difference import RunDifference, explain
from bevstack.lint.run_facts import norm_of, parts_of, read_run
from bevstack.weights_file import describe, write_weights

BASE = ("experiment=lidar_small", "data.root=here", "data.val_root=there")


def write_run(
    folder: Path,
    *overrides: str,
    weights: dict[str, torch.Tensor] | None = None,
    versions: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    step: int = 100,
) -> Path:
    """A run folder as `bevstack train` leaves it."""
    folder.mkdir()
    base = [item for item in BASE if item.split("=")[0] not in {override.split("=")[0] for override in overrides}]
    config = compose([*base, *overrides])
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    described = {"git_commit": "aaa", "packages": {"torch": "2.6"}, "data_hash": "0001", **(versions or {})}
    (folder / "versions.json").write_text(json.dumps(described))
    some = {"encoders.lidar.w": torch.ones(4), "fuser.w": torch.ones(9), "heads.detection.n": torch.zeros(2)}
    tensors = weights or some
    metadata = describe(portable_yaml(config), step=step, data_hash=described["data_hash"])
    write_weights(folder / "weights.safetensors", tensors, metadata)
    if metrics is not None:
        (folder / "eval").mkdir()
        (folder / "eval" / "metrics.json").write_text(json.dumps(metrics))
    return folder


def results(nds: float, protocols: tuple[str, ...] = ("det/nusc-cvpr19",), data: str = "d") -> dict[str, Any]:
    row = {"nds": nds, "mean_ap": 0.5, "class_ap": {"car": nds - 0.1}, "num_frames": 3, "errors": {"mATE": None}}
    return {"protocols": list(protocols), "data": {"hash": data}, "results": {"lidar": row}}


def difference(a: Path, b: Path) -> RunDifference:
    return explain(read_run(a), read_run(b))


def test_a_run_does_not_differ_from_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "a", metrics=results(0.6))
    found = difference(run, run)
    assert (found.causes, found.weights, found.metrics, found.warnings) == ((), (), (), ())
    assert main(["explain-diff", str(run), str(run)]) == 0
    assert "no difference in configuration, versions, data, weights and metrics" in capsys.readouterr().out


def test_causes_are_grouped_and_the_likeliest_comes_first(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a")
    b = write_run(
        tmp_path / "b",
        "input.num_sweeps=5",
        "optim.optimizer.lr=0.123",
        "loss_weights.detection.yaw=3.0",
        "augment.world.rotation_rad=0.1",
        "trainer.max_epochs=3",
        "trainer.workers=7",
        "model.heads.detection.shared_channels=8",
        "seed=4",
        "name=other",
        versions={"git_commit": "bbb", "data_hash": "0002", "packages": {"torch": "2.7"}},
        step=50,
    )
    causes = difference(a, b).causes
    assert [(cause.group, cause.key) for cause in causes] == [
        ("data", "data hash"),
        ("data", "input.num_sweeps"),
        ("model", "model.heads.detection.shared_channels"),
        ("trainer", "optimiser steps"),
        ("trainer", "trainer.max_epochs"),
        ("optim", "optim.optimizer.lr"),
        ("loss", "loss_weights.detection.yaw"),
        ("augment", "augment.world.rotation_rad"),
        ("versions", "git_commit"),
        ("seed", "seed"),
        ("versions", "torch"),
        ("trainer", "trainer.workers"),
        ("other", "name"),
    ]
    assert (causes[1].a, causes[1].b) == (10, 5) and all(cause.why for cause in causes)


def test_a_key_that_only_one_run_has_is_absent_in_the_other(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a")
    b = write_run(tmp_path / "b", "augment.image=null", "+optim.extra=1")
    extra = next(cause for cause in difference(a, b).causes if cause.key == "optim.extra")
    assert (extra.a, extra.b) == ("absent", 1)


def test_a_part_that_only_one_run_has_is_one_cause(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", "experiment=fusion_small")
    causes = {cause.key: cause for cause in difference(a, b).causes}
    assert causes["model.encoders.camera"].a == "absent"
    assert str(causes["model.encoders.camera"].b).startswith("CameraBevEncoder(backbone._target_=")
    assert not [key for key in causes if key.startswith("model.encoders.camera.")]


def test_weights_are_compared_part_by_part(tmp_path: Path) -> None:
    ones = {"encoders.lidar.w": torch.ones(4), "encoders.lidar.b": torch.ones(4), "fuser.w": torch.ones(9)}
    a = write_run(tmp_path / "a", weights={**ones, "heads.map.w": torch.ones(2)})
    b = write_run(
        tmp_path / "b", weights={**ones, "encoders.lidar.w": torch.full((4,), 2.0), "heads.map.w": torch.ones(3)}
    )
    resized, moved = difference(a, b).weights
    assert (resized.part, resized.parameters_a, resized.parameters_b, resized.relative_distance) == (
        "heads.map",
        2,
        3,
        None,
    )
    assert (moved.part, moved.parameters_a) == ("encoders.lidar", 8)
    assert moved.norm_a == pytest.approx(8**0.5) and moved.norm_b == pytest.approx(20**0.5)
    assert moved.relative_distance == pytest.approx(2 / 8**0.5)


def test_integer_tensors_are_no_weights() -> None:
    tensors = {"heads.a.b.w": torch.ones(2), "heads.a.count": torch.tensor(3), "backbone.w": torch.ones(1)}
    assert parts_of(tensors) == {"heads.a": ["heads.a.b.w"], "backbone": ["backbone.w"]}
    assert norm_of(tensors, ["heads.a.b.w"]) == pytest.approx(2**0.5)


def test_metrics_show_headline_numbers_first_and_leave_out_what_was_not_measured(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", metrics=results(0.6)), write_run(tmp_path / "b", metrics=results(0.7))
    metrics = difference(a, b).metrics
    assert [metric.name for metric in metrics] == ["lidar.nds", "lidar.class_ap.car"]
    assert metrics[0].difference == pytest.approx(0.1)


def test_metrics_of_different_protocols_are_not_compared(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", metrics=results(0.6))
    b = write_run(tmp_path / "b", metrics=results(0.7, protocols=("det/other",), data="e"))
    found = difference(a, b)
    assert found.metrics == () and len(found.warnings) == 2
    assert "different protocols" in found.warnings[0] and "different data" in found.warnings[1]


def test_the_command_prints_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_run(tmp_path / "a", metrics=results(0.6))
    b = write_run(tmp_path / "b", "input.num_sweeps=5", "seed=1", metrics=results(0.7))
    assert main(["explain-diff", str(a), str(b), "--top", "1"]) == 0
    text = capsys.readouterr().out
    assert "input.num_sweeps  10 -> 5" in text and "and 1 more" in text and "+0.1000" in text
    assert main(["explain-diff", str(a), str(b), "--json"]) == 0
    assert [cause["key"] for cause in json.loads(capsys.readouterr().out)["causes"]] == ["input.num_sweeps", "seed"]


def test_a_weights_file_alone_can_be_compared(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    found = difference(run / "weights.safetensors", run)
    folders = {"data.root", "data.val_root", "run_root", "init_from"}
    code = {"torch", "git_commit", "bevstack_version", "torch_version"}
    assert {cause.key for cause in found.causes} <= folders | code
    assert found.weights == ()
    assert read_run("demo").step is not None and read_run("demo").weights


def test_a_run_that_was_never_finished_is_compared_by_what_it_left(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", "seed=3")
    (b / "weights.safetensors").unlink()
    found = difference(a, b)
    assert "seed" in {cause.key for cause in found.causes}
    assert {part.norm_b for part in found.weights} == {None}


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "a")
    assert main(["explain-diff", str(run), str(tmp_path / "nowhere")]) == 1
    assert "there is no weights file" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["explain-diff", str(run), str(tmp_path / "empty")]) == 1
    assert "not a run folder" in capsys.readouterr().err
    (run / "versions.json").write_text("{")
    assert main(["explain-diff", str(run), str(run)]) == 1
    assert "versions.json is damaged" in capsys.readouterr().err
