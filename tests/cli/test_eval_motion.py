"""`bevstack eval --checkpoint` of a model that forecasts: the motion protocols of found objects, with baselines."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.ten_classes import ten_classes_frames, ten_classes_root, truth_as_detections
from fixtures.training_runs import SMALL

from bevstack.build import build_model, compose, save_weights
from bevstack.cli.main import main
from bevstack.evaluation.predictions.predicted import Predicted
from bevstack.perception.tracking.forecast import ConstantVelocityForecaster
from bevstack.types import SceneEstimate

PROTOCOLS = {"motion/epa-uniad", "motion/epa-vad", "motion/found-nusc"}


def test_an_estimate_with_forecasts_holds_the_motion_of_what_it_has_found(tmp_path: Path) -> None:
    frames = ten_classes_frames(ten_classes_root(tmp_path / "data"))
    parts = []
    for k in range(len(frames)):
        found, pose = truth_as_detections(frames, k), frames.ego(k).T_global_ego
        estimate = SceneEstimate(token=frames.token(k), timestamp_us=k, detections=found)
        assert Predicted.of_estimate(estimate, pose).found_motion is None
        motion = ConstantVelocityForecaster()(found)
        parts.append(Predicted.of_estimate(replace(estimate, motion=motion), pose))
    columns = Predicted.concatenate(parts).found_motion
    assert columns is not None and len(columns.boxes) > 10
    onward = columns.boxes.translation[:, None, :2] + columns.boxes.velocity[:, None] * 0.5 * np.arange(1, 13)[:, None]
    np.testing.assert_allclose(columns.trajectories[:, 0], onward, atol=1e-2)


@pytest.mark.slow
def test_a_model_that_forecasts_is_scored_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = ten_classes_root(tmp_path / "data")
    config = compose(["experiment=motion_small", *SMALL, "input.image_size.height=64", "input.image_size.width=160"])
    weights = save_weights(tmp_path / "weights.safetensors", build_model(config, pretrained=False), config)
    words = ["--checkpoint", str(weights), "--data", str(root), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["eval", *words]) == 0
    printed = capsys.readouterr().out
    row = json.loads((tmp_path / "out" / "metrics.json").read_text())["results"]["fusion"]
    assert set(row["motion"]) == PROTOCOLS
    for protocol in PROTOCOLS:
        assert protocol in printed
        assert set(row["motion"][protocol]["baselines"]) == {"constant velocity", "copy last", "empty"}
    assert main(["report", str(tmp_path / "out")]) == 0
    store = str(tmp_path / "out" / "predictions_fusion.parquet")
    assert main(["eval", "--predictions", store, "--data", str(root), "--out", str(tmp_path / "again")]) in (0, 3)
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())["results"]["fusion"]
    assert again["motion"] == row["motion"]
