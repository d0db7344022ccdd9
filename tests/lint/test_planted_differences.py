"""Every difference of preprocessing that is planted is found by its name, and no other is."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.lint_configs import READER, TURNED, changed, experiment, names

from bevstack.evaluation.detection.nuscenes import to_records
from bevstack.lint import paths
from bevstack.lint.card import CONSEQUENCES
from bevstack.lint.paths import Deployed
from bevstack.lint.preprocessing import lint
from bevstack.types import BoxIndex, Detections

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
    "one camera cropped otherwise": ("crop", {READER: "OneOddCamera"}),
    "cameras in another order": ("camera_order", {"input.cameras": TURNED}),
}
"""What is planted -> (fact that it shows in, changes of the configuration)."""


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


def test_a_heading_that_is_written_in_another_way_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def clockwise(token: str, detections: Detections, T_global_ego: np.ndarray) -> list[dict]:
        rows = detections.boxes.rows.copy()
        rows[:, BoxIndex.YAW] *= -1
        return to_records(token, replace(detections, boxes=replace(detections.boxes, rows=rows)), T_global_ego)

    monkeypatch.setattr(paths, "to_records", clockwise)
    report = lint(experiment())
    assert names(report) == ["yaw"]
    assert report.differences[0].values["eval"] == {
        "": "counter-clockwise from x as read, clockwise from x as written to submissions"
    }


def test_class_names_of_another_order_in_the_weights_are_found() -> None:
    config = experiment()
    own = Deployed.from_config(config)
    report = lint(config, Deployed(config=own.config, class_names=own.class_names[::-1]))
    assert names(report) == ["class_order"]


def test_a_sensor_that_is_not_read_after_training_is_a_difference() -> None:
    train = experiment("lidar_small")
    report = lint(train, Deployed.from_config(changed(train, {"input.num_sweeps": 0, "input.cameras": ["CAM_FRONT"]})))
    assert {"sweeps", "camera_order"} <= set(names(report))
