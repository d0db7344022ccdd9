"""M3Net's parts together: learned by heart, started from a detection stage, frames that do not disturb each other."""

from functools import partial

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, box_surface_cloud, make_batch, make_labels, one_frame, random_cloud
from fixtures.found_boxes import assert_found

from bevstack.fusion.bev_backbone import BevBackbone
from bevstack.fusion.concat import ConcatFuser
from bevstack.fusion.lift_splat import LiftSplat
from bevstack.fusion.mafi import MafiFuser
from bevstack.model import CameraBevEncoder, DrivingModel
from bevstack.perception.camera.mobilenet import MobileNetV2Backbone
from bevstack.perception.heads.detection import CenterHead
from bevstack.perception.heads.detection_queries import DetectionReadout
from bevstack.perception.heads.joint_decoder import JointDecoder
from bevstack.perception.heads.map_segmentation import MapReadout
from bevstack.perception.heads.occupancy import OccupancyReadout
from bevstack.perception.lidar.pillars import PillarEncoder
from bevstack.types import BevGrid, VoxelGrid

MAP_GRID = BevGrid(x_range_m=(-10.0, 10.0), y_range_m=(-10.0, 10.0), z_range_m=(-5.0, 3.0), cell_m=0.5)
OCCUPANCY_GRID = VoxelGrid(x_range_m=(-8.0, 8.0), y_range_m=(-8.0, 8.0), z_range_m=(-1.8, 3.0), voxel_m=0.8)
READOUTS = {
    "detection": partial(DetectionReadout, num_queries=40, branch_channels=32),
    "map": partial(MapReadout, map_grid=MAP_GRID, attention_heads=4),
    "occupancy": partial(OccupancyReadout, output_grid=OCCUPANCY_GRID, blocks=1, heads=4, crop_margin=0),
}
BOX_WEIGHTS = {"heatmap": 6.0, "attribute": 0.4}  # all others 2


def make_encoder(source: str) -> torch.nn.Module:
    if source == "lidar":
        return PillarEncoder(grid=SMALL_GRID, pillar_channels=16, out_channels=24, voxel_levels=5)
    backbone = MobileNetV2Backbone(weights=None, stride=8, deepest_stride=16, out_channels=16)
    return CameraBevEncoder(
        backbone=backbone, lift=partial(LiftSplat, grid=SMALL_GRID, depth_range_m=(1.0, 17.0), depth_bins=16)
    )


def make_model(*sources: str, tasks: tuple[str, ...] = tuple(READOUTS)) -> DrivingModel:
    head = partial(
        JointDecoder, channels=32, layers=2, heads=4, feedforward=64, readouts={name: READOUTS[name] for name in tasks}
    )
    return with_head({"m3net": head}, partial(MafiFuser, out_channels=24), *sources)


def with_head(heads: dict, fuser: partial, *sources: str) -> DrivingModel:
    return DrivingModel(
        encoders={name: make_encoder(name) for name in sources},
        fuser=fuser,
        backbone=partial(BevBackbone, widths=(24, 32), depths=(2, 2), strides=(1, 2), up_channels=16),
        heads=heads,
    )


def test_detection_on_the_joint_decoder_learns_one_scene_by_heart_without_suppression() -> None:
    rng = np.random.default_rng(0)
    rows = [
        ("car", "vehicle.moving", 6.3, -4.1, 0.85, 4.6, 1.9, 1.7, 0.4, 5.0, 2.0),
        ("car", "vehicle.parked", -7.2, 8.1, 0.8, 4.2, 1.8, 1.6, -2.9, 0.0, 0.0),
        ("truck", "vehicle.stopped", 1.1, 7.7, 1.6, 8.0, 2.6, 3.2, 1.6, 0.0, 0.0),
        ("pedestrian", "pedestrian.standing", -3.3, -3.3, 0.9, 0.7, 0.7, 1.8, 2.2, 0.0, 0.1),
    ]
    batch, labels = make_batch([box_surface_cloud(rows, rng)]), make_labels([rows])
    model = make_model("lidar", tasks=("detection",)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=100)
    for _ in range(100):
        optimizer.zero_grad()
        terms = model.loss(model(batch), labels)
        weighted = [BOX_WEIGHTS.get(name.split("/")[-1], 2.0) * value for name, value in terms.items()]
        torch.stack(weighted).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    assert_found(model.eval().decode(model(batch), batch)[0].detections, rows)


@pytest.mark.parametrize("sources", [("camera",), ("lidar",), ("camera", "lidar")])
def test_every_set_of_sensors_gives_all_three_tasks_for_each_frame(sources: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    model, batch = make_model(*sources).eval(), make_batch([random_cloud(rng), random_cloud(rng)])
    for estimate in model.decode(model(batch), batch):
        assert estimate.detections is not None and np.isfinite(estimate.detections.boxes.rows).all()
        assert estimate.map is not None and estimate.map.probabilities.shape[1:] == (40, 40)
        assert estimate.occupancy is not None and estimate.occupancy.semantics.shape == (20, 20, 6)


def test_two_frames_at_once_equal_each_alone_in_all_tasks() -> None:
    rng = np.random.default_rng(0)
    model, batch = make_model("camera", "lidar").eval(), make_batch([random_cloud(rng, 300), random_cloud(rng)])
    batch.camera_mask[0, 3] = False
    together = model(batch)["m3net"]
    for index in range(2):
        alone = model(one_frame(batch, index))["m3net"]
        pairs = (
            (together["detection"].numbers, alone["detection"].numbers),
            (together["map"].logits, alone["map"].logits),
            (together["occupancy"].logits.raster().values, alone["occupancy"].logits.raster().values),
        )
        for joint, single in pairs:
            torch.testing.assert_close(joint[index], single[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("is_training", [False, True])
def test_missing_sensors_and_empty_clouds_give_finite_output(is_training: bool) -> None:
    model = make_model("camera", "lidar").train(is_training)
    full = random_cloud(np.random.default_rng(0))
    blind = make_batch([full, full])
    blind.camera_mask[:] = False
    for batch in (blind, make_batch([None, None]), make_batch([np.zeros((0, 5)), None]), make_batch([full, None])):
        output = model(batch)["m3net"]
        assert output["detection"].numbers.isfinite().all() and output["detection"].peaks.heatmap.isfinite().all()
        assert output["map"].logits.isfinite().all() and output["occupancy"].logits.raster().values.isfinite().all()


def test_a_detection_stage_with_plain_fusion_fills_encoders_fusion_and_backbone() -> None:
    heads = {"detection": partial(CenterHead, shared_channels=8, branch_channels=8)}
    stage = with_head(heads, partial(ConcatFuser, out_channels=24), "camera", "lidar")
    joint = make_model("camera", "lidar")
    report = joint.load_state_dict(stage.state_dict(), strict=False)
    assert all(name.startswith("heads.detection.") for name in report.unexpected_keys)
    assert all(name.startswith(("heads.m3net.", "fuser.votes.")) for name in report.missing_keys)
