"""The whole model: what it gives for missing sensors, that frames do not disturb each other, that it learns."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, box_surface_cloud, make_batch, make_labels, one_frame, random_cloud
from fixtures.found_boxes import assert_found

from bevstack.fusion.bev_backbone import BevBackbone
from bevstack.fusion.concat import ConcatFuser
from bevstack.fusion.lift_splat import LiftSplat
from bevstack.model import CameraBevEncoder, DrivingModel
from bevstack.perception.camera.mobilenet import MobileNetV2Backbone
from bevstack.perception.heads.detection import CenterHead
from bevstack.perception.lidar.pillars import PillarEncoder


def make_camera() -> CameraBevEncoder:
    backbone = MobileNetV2Backbone(weights=None, stride=8, deepest_stride=16, out_channels=16)
    return CameraBevEncoder(
        backbone=backbone, lift=partial(LiftSplat, grid=SMALL_GRID, depth_range_m=(1.0, 17.0), depth_bins=16)
    )


def make_lidar() -> PillarEncoder:
    return PillarEncoder(grid=SMALL_GRID, pillar_channels=16, out_channels=24)


def make_model(*sources: str) -> DrivingModel:
    makers: dict[str, Callable] = {"camera": make_camera, "lidar": make_lidar}
    return DrivingModel(
        encoders={name: makers[name]() for name in sources},
        fuser=partial(ConcatFuser, out_channels=24),
        backbone=partial(BevBackbone, widths=(24, 32), depths=(2, 2), strides=(1, 2), up_channels=16),
        heads={"detection": partial(CenterHead, shared_channels=24, branch_channels=24)},
    )


@pytest.mark.parametrize("sources", [("camera",), ("lidar",), ("camera", "lidar")])
def test_every_set_of_sensors_gives_an_estimate_for_each_frame(sources: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    model, batch = make_model(*sources).eval(), make_batch([random_cloud(rng), random_cloud(rng)])
    estimates = model.decode(model(batch), batch)
    assert [estimate.token for estimate in estimates] == ["frame-0", "frame-1"]
    assert all(estimate.detections is not None for estimate in estimates)


@pytest.mark.parametrize("is_training", [False, True])
def test_missing_sensors_and_empty_clouds_give_finite_output(is_training: bool) -> None:
    model = make_model("camera", "lidar").train(is_training)
    full = random_cloud(np.random.default_rng(0))
    blind = make_batch([full, full])
    blind.camera_mask[:] = False
    for batch in (blind, make_batch([None, None]), make_batch([np.zeros((0, 5)), None]), make_batch([full, None])):
        output = model(batch)["detection"]
        assert output.heatmap.isfinite().all() and output.boxes.isfinite().all()


def test_two_frames_at_once_equal_each_alone() -> None:
    rng = np.random.default_rng(0)
    model, batch = make_model("camera", "lidar").eval(), make_batch([random_cloud(rng), None])
    batch.camera_mask[0, 3] = False
    together = model(batch)["detection"]
    for index in range(2):
        alone = model(one_frame(batch, index))["detection"]
        torch.testing.assert_close(together.heatmap[index], alone.heatmap[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(together.boxes[index], alone.boxes[0], rtol=1e-3, atol=1e-4)


def test_the_gradient_of_the_loss_reaches_every_parameter() -> None:
    model = make_model("camera", "lidar").train()
    rows = [("car", "vehicle.moving", 6.3, -4.1, 0.9, 4.6, 1.9, 1.7, 0.4, 5.0, 2.0)]
    outputs = model(make_batch([random_cloud(np.random.default_rng(0))]))
    terms = model.loss(outputs, make_labels([rows]))
    assert all(name.startswith("detection/") for name in terms)
    torch.stack(list(terms.values())).sum().backward()
    missing = [
        name for name, value in model.named_parameters() if value.grad is None or not value.grad.isfinite().all()
    ]
    assert not missing


def test_a_model_learns_one_scene_by_heart() -> None:
    rng = np.random.default_rng(0)
    rows = [
        ("car", "vehicle.moving", 6.3, -4.1, 0.85, 4.6, 1.9, 1.7, 0.4, 5.0, 2.0),
        ("car", "vehicle.parked", -7.2, 8.1, 0.8, 4.2, 1.8, 1.6, -2.9, 0.0, 0.0),
        ("truck", "vehicle.stopped", 1.1, 7.7, 1.6, 8.0, 2.6, 3.2, 1.6, 0.0, 0.0),
        ("pedestrian", "pedestrian.standing", -3.3, -3.3, 0.9, 0.7, 0.7, 1.8, 2.2, 0.0, 0.1),
    ]
    batch, labels = make_batch([box_surface_cloud(rows, rng)]), make_labels([rows])
    model = make_model("camera", "lidar").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=120)
    for _ in range(120):
        optimizer.zero_grad()
        torch.stack(list(model.loss(model(batch), labels).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    assert_found(model.eval().decode(model(batch), batch)[0].detections, rows)


def test_a_model_without_encoders_is_refused() -> None:
    with pytest.raises(ValueError, match="an encoder and a head"):
        DrivingModel(encoders={}, fuser=ConcatFuser, heads={"detection": CenterHead})
