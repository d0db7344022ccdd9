"""All that ships prepares its input alike on every path; the card says how, and the command compares."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.lint_configs import TURNED, changed, experiment
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from bevstack.build import experiment_names, portable_yaml
from bevstack.cli.main import main
from bevstack.data.class_names import CAMERA_NAMES
from bevstack.geometry.transforms import from_xy_yaw, transform_points
from bevstack.lint.axes import axes_of
from bevstack.lint.card import CONSEQUENCES, PreprocessingCard, compare
from bevstack.lint.measure_boxes import heading_name
from bevstack.lint.preprocessing import LintReport, lint, lint_named
from bevstack.weights_file import describe, write_weights

LARGE = ("m3net", "m3net_stage1", "m3net_stage2", "m3net_stage3", "fusion_nuscenes")
"""Seconds to build."""


@pytest.fixture(scope="module")
def clean() -> LintReport:
    return lint(experiment(), name="fusion_small")


# -- shipped ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in experiment_names()]
)
def test_no_shipped_experiment_prepares_its_input_in_two_ways(name: str) -> None:
    report = lint(experiment(name), name=name)
    assert report.differences == ()
    assert [card.path for card in report.cards] == ["train", "eval", "export", "runtime"]
    assert {allowed.path for allowed in report.allowed} <= {"train"}


def test_the_card_of_the_small_fusion_says_what_its_configuration_says(clean: LintReport) -> None:
    facts = clean.cards[0].facts
    assert list(facts) == list(CONSEQUENCES)
    assert facts["sweeps"] == {"count": 10.0, "the vehicle's own returns": "left out"}
    assert facts["channel_order"] == {"": "RGB"} and facts["image_size"] == {"height": 128.0, "width": 352.0}
    assert facts["ego_motion"] == {"LiDAR": "compensated", "cameras": "compensated"}
    assert facts["axes"] is not None and facts["axes"]["points"] == "x forward, y left, z up"
    assert facts["yaw"] == {"": "counter-clockwise from x"}
    assert facts["camera_order"] is not None and facts["camera_order"]["pictures"] == ", ".join(CAMERA_NAMES)
    assert facts["crop"] is not None and facts["crop"]["rows from"] == pytest.approx(70 / 198, abs=2e-3)
    mean, std = (facts["normalisation"][f"channel 0 {what}"] for what in ("mean", "std"))  # type: ignore[index]
    assert mean == pytest.approx(0.485 * 255, abs=0.01) and std == pytest.approx(0.229 * 255, abs=0.01)


def test_augmentation_is_allowed_named_and_shown(clean: LintReport) -> None:
    shown = {allowed.name: allowed for allowed in clean.allowed}
    assert set(shown) == {"augment.sensor_dropout", "augment.image", "augment.world"}
    assert "rotation_rad=0.39" in shown["augment.world"].detail and "yaw" in shown["augment.world"].touches


def test_paths_without_labels_say_nothing_of_boxes(clean: LintReport) -> None:
    assert [card.facts["yaw"] is None for card in clean.cards] == [False, False, True, True]


# -- pieces -----------------------------------------------------------------------------------------------------------
def test_numbers_that_are_equal_but_for_noise_are_equal() -> None:
    cards = [PreprocessingCard(path=p, facts={"crop": {"rows from": v}}) for p, v in (("a", 0.35), ("b", 0.3505))]
    assert compare(cards) == ()
    cards.append(PreprocessingCard(path="c", facts={"crop": {"rows from": 0.2}}))
    assert "a: rows from 0.35; b: rows from 0.3505; c: rows from 0.2" in compare(cards)[0].sentence.lower()
    assert compare([]) == () and compare(cards[:1]) == ()


@given(st.floats(-3.1, 3.1), st.integers(0, 3))
def test_axes_are_named_whatever_the_places(yaw: float, quarter: int) -> None:
    places = np.random.default_rng(0).uniform(-10, 10, (6, 3))
    expected = ("x forward, y left", "x right, y forward", "x backward, y right", "x left, y backward")[quarter]
    turned = transform_points(from_xy_yaw(0.0, 0.0, quarter * np.pi / 2), places)
    assert axes_of(places, turned).startswith(expected)
    assert axes_of(places, places + [2.0, 0, 0]).endswith("shifted by (2.00, 0.00, 0.00) m")
    headings = np.array([yaw, 0.3, -1.0])
    assert heading_name(headings, np.degrees(headings)) == "counter-clockwise from x, in degrees"


# -- the command ------------------------------------------------------------------------------------------------------
def weights_of(config: DictConfig, path: Path) -> Path:
    """A weights file with this configuration in it; the tensors do not matter."""
    return write_weights(path, {"a": torch.zeros(1)}, describe(portable_yaml(config), step=1, data_hash=""))


def test_a_run_whose_weights_say_something_else_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = experiment()
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    assert lint_named(str(run)).differences == (), "without weights the run is compared with what it would write"
    weights_of(changed(config, {"input.num_sweeps": 5}), run / "weights.safetensors")
    assert main(["lint", str(run)]) == 1
    text = capsys.readouterr().out
    assert "FAIL  sweeps differs. Train: count 10; eval, export and runtime: count 5." in text
    assert main(["lint", str(run), "input.num_sweeps=5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == []


def test_an_experiment_is_compared_with_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = weights_of(changed(experiment(), {"input.cameras": TURNED}), tmp_path / "w.safetensors")
    assert main(["lint", "fusion_small", "--weights", str(other), "--cards"]) == 1
    text = capsys.readouterr().out
    assert "FAIL  camera_order differs" in text and "allowed  augment.world in train" in text


def test_the_shipped_weights_are_read_as_they_were_trained() -> None:
    assert lint_named("demo").differences == ()


def test_an_unknown_target_is_answered_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "fusion_smal"]) == 1
    assert "did you mean fusion_small" in capsys.readouterr().err
