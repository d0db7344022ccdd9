"""Every difference of preprocessing that is planted is found by its name, and none where all paths are alike."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.training_runs import SMALL_PARTS
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from bevstack.build import compose, experiment_names, portable_yaml
from bevstack.cli.main import main
from bevstack.data.class_names import CAMERA_NAMES
from bevstack.geometry.transforms import from_xy_yaw, transform_points
from bevstack.lint.axes import axes_of
from bevstack.lint.card import CONSEQUENCES, PreprocessingCard, compare
from bevstack.lint.measure_boxes import heading_name
from bevstack.lint.paths import Deployed
from bevstack.lint.preprocessing import LintReport, lint, lint_named
from bevstack.weights_file import describe, write_weights

SWIN = "model.encoders.camera.backbone.settings"
READER = "data.frames._target_"
TURNED = [*CAMERA_NAMES[1:], CAMERA_NAMES[0]]

PLANTED: dict[str, tuple[str, dict[str, object]]] = {
    "half the sweeps": ("sweeps", {"input.num_sweeps": 5}),
    "other pixel statistics": ("normalisation", {"model.encoders.camera.backbone._target_": "CaffeBackbone"}),
    "intensities of another scale": ("normalisation", {READER: "UnitIntensity"}),
    "larger pictures": ("image_size", {"input.image_size.height": 256, "input.image_size.width": 704}),
    "colours as OpenCV has them": ("channel_order", {READER: "BlueGreenRed"}),
    "a larger grid": ("ranges", {"grid.x_range_m": [-54.4, 54.4], "grid.y_range_m": [-54.4, 54.4]}),
    "far points left out": ("ranges", {READER: "NearPoints"}),
    "truck and bus exchanged": ("class_order", {READER: "OtherClassOrder"}),
    "points in LiDAR axes": ("axes", {READER: "SidewaysAxes"}),
    "headings clockwise": ("yaw", {READER: "ClockwiseYaw"}),
    "width before length": ("box_layout", {READER: "WidthFirst"}),
    "z of the bottom": ("box_layout", {READER: "BottomCentre"}),
    "cropped at the bottom": ("crop", {READER: "CroppedBelow"}),
    "camera matrix without the crop": ("crop", {READER: "StaleMatrix"}),
    "time negative in the past": ("sweep_time_sign", {READER: "TimeOfSweep"}),
    "age in milliseconds": ("sweep_time_sign", {READER: "AgeInMilliseconds"}),
    "sweeps not moved": ("ego_motion", {READER: "StillSweeps"}),
    "cameras not moved": ("ego_motion", {READER: "LateCameras"}),
    "cameras in another order": ("camera_order", {"input.cameras": TURNED}),
}
"""What is planted -> (fact that it shows in, changes of the configuration)."""


STAGES = [name for name in experiment_names() if name.startswith("m3net_stage")]
"""Parts of `m3net`, each with its own large encoders."""


@functools.cache
def experiment(name: str = "fusion_small") -> DictConfig:
    """As it ships; only the trunk of the largest backbone is made small, which no fact looks at."""
    config = compose([f"experiment={name}"])
    if OmegaConf.select(config, SWIN) is not None:
        OmegaConf.update(config, SWIN, SMALL_PARTS[SWIN], force_add=True)
    return config


def changed(config: DictConfig, changes: dict[str, object]) -> DictConfig:
    """The configuration with other values; the name of a faulty part stands for its class."""
    config = config.copy()
    OmegaConf.set_struct(config, False)
    for key, value in changes.items():
        is_class = key.endswith("_target_")
        OmegaConf.update(config, key, f"fixtures.faulty_readers.{value}" if is_class else value, force_add=True)
    return config


def names(report: LintReport) -> list[str]:
    return [difference.name for difference in report.differences]


@pytest.fixture(scope="module")
def clean() -> LintReport:
    return lint(experiment(), name="fusion_small")


# -- planted ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_difference_is_found_by_its_name_alone(plant: str) -> None:
    expected, changes = PLANTED[plant]
    train = experiment()
    report = lint(train, Deployed.from_config(changed(train, changes)))
    assert names(report) == [expected]
    difference = report.differences[0]
    assert any(value != difference.values["train"] for value in difference.values.values())
    assert "train" in difference.sentence.lower() and CONSEQUENCES[expected][1:] in difference.sentence


def test_every_fact_has_a_plant() -> None:
    assert {name for name, _ in PLANTED.values()} == set(CONSEQUENCES)


def test_several_differences_are_all_found_at_once() -> None:
    train = experiment()
    several = {"input.num_sweeps": 3, "input.cameras": TURNED, READER: "ClockwiseYaw"}
    assert names(lint(train, Deployed.from_config(changed(train, several)))) == ["sweeps", "yaw", "camera_order"]


def test_a_fault_that_all_paths_share_is_no_difference_between_them() -> None:
    config = changed(experiment(), {READER: "BlueGreenRed"})
    report = lint(config)
    assert report.differences == ()
    assert report.cards[0].facts["channel_order"] == {"": "BGR"}


def test_an_augmentation_that_leaves_the_boxes_behind_is_found() -> None:
    report = lint(changed(experiment(), {"augment.world._target_": "TornWorld"}))
    assert names(report) == ["axes"] and "Train with augment.world" in report.differences[0].sentence


def test_class_names_of_another_order_in_the_weights_are_found() -> None:
    config = experiment()
    own = Deployed.from_config(config)
    report = lint(config, Deployed(config=own.config, class_names=own.class_names[::-1]))
    assert names(report) == ["class_order"]


def test_a_sensor_that_is_not_read_after_training_is_a_difference() -> None:
    train = experiment("lidar_small")
    report = lint(train, Deployed.from_config(changed(train, {"input.num_sweeps": 0, "input.cameras": ["CAM_FRONT"]})))
    assert {"sweeps", "camera_order"} <= set(names(report))


# -- shipped ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in STAGES)) for name in experiment_names()]
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
