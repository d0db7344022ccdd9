"""The whole chain on a real nuScenes key frame: predict, eval and report, with a small untrained model."""

import json
from pathlib import Path

import pytest
from fixtures.browser import open_in_browser, root_data
from fixtures.real_frame import SAMPLE_TOKEN, real_frame_root

from bevstack.build import build_model, compose, save_weights
from bevstack.cli.main import main

pytestmark = pytest.mark.nuscenes

OVERRIDES = (
    "experiment=fusion_small",
    "grid.x_range_m=[-51.2,51.2]",
    "grid.y_range_m=[-51.2,51.2]",
    "grid.cell_m=0.8",
    "input.image_size.height=64",
    "input.image_size.width=192",
)


@pytest.fixture(scope="module")
def data(nuscenes_real: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    return real_frame_root(nuscenes_real, tmp_path_factory.mktemp("real") / "root")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = compose(OVERRIDES)
    return save_weights(tmp_path_factory.mktemp("weights") / "untrained.safetensors", build_model(config), config)


def test_predict_writes_an_official_submission_of_the_real_frame(
    data: tuple[Path, str, str], weights: Path, tmp_path: Path
) -> None:
    root, version, split = data
    out = tmp_path / "submission.json"
    words = ["--checkpoint", str(weights), "--data", str(root), "--version", version, "--split", split]
    assert main(["predict", *words, "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    assert list(content["results"]) == [SAMPLE_TOKEN]
    assert content["meta"]["use_camera"] and content["meta"]["use_lidar"]
    assert len(content["results"][SAMPLE_TOKEN]) <= 500


def test_eval_and_report_show_the_real_frame_with_its_pictures_and_boxes(
    data: tuple[Path, str, str], weights: Path, tmp_path: Path
) -> None:
    root, version, split = data
    out = tmp_path / "results"
    words = ["--checkpoint", str(weights), "--data", str(root), "--version", version, "--split", split]
    assert main(["eval", *words, "--modality", "all", "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics["results"]) == ["fusion", "lidar", "camera"]
    assert sum(metrics["results"]["fusion"]["num_ground_truth"].values()) > 30
    (folder,) = (out / "frames").iterdir()
    frame = json.loads((folder / "frame.json").read_text())
    assert frame["scene_name"] == "scene-0061"
    assert len(frame["cameras"]) == 6 and (folder / "CAM_FRONT.jpg").stat().st_size > 1000
    assert len(frame["points"]) > 10_000
    assert main(["report", str(out)]) == 0
    shown = root_data(open_in_browser(out / "report.html", tmp_path / "profile"))
    assert "error" not in shown, shown
    assert shown["viewer"] == "drawn" and shown["frame"] == SAMPLE_TOKEN and shown["pictures"] == "6"
