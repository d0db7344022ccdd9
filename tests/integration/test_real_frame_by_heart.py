"""The small M3Net learns a real frame by heart: pictures, LiDAR and boxes of scene-0061."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.real_frame import real_frame_root

from bevstack.build import build_frames, build_model, compose
from bevstack.data.collate import collate
from bevstack.training.fit import flat_weights
from bevstack.training.precision import has_fast_bf16

pytestmark = [pytest.mark.slow, pytest.mark.nuscenes, pytest.mark.timeout(1800)]

STEPS = 240
MIN_POINTS = 5
OVERRIDES = (
    "experiment=m3net_small",
    "input.occupancy=null",  # the excerpt has neither occupancy nor the vector map
    *(f"model.heads.m3net.readouts.{task}=null" for task in ("map", "occupancy")),
    *(f"loss_weights.m3net.{task}=null" for task in ("map", "occupancy")),
)


def test_all_boxes_with_five_points_are_found_within_half_a_metre(nuscenes_real: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = compose(OVERRIDES)
    root, version, split = real_frame_root(nuscenes_real, tmp_path)
    batch, labels = collate([build_frames(config, root=root, version=version, split=split)[0]])
    assert labels is not None
    model, weights = build_model(config).train(), flat_weights(config.loss_weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16(gpu=False)):
            terms = model.loss(model(batch), labels)
        torch.stack([weights[name] * term for name, term in terms.items()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()

    found = model.eval().decode(model(batch), batch)[0].detections

    assert found is not None
    confident = found.scores > 0.2
    wanted = labels.num_points[0] >= MIN_POINTS
    boxes, classes = labels.boxes_ego[0][wanted].numpy(), labels.class_index[0][wanted].numpy()
    x_range, y_range = config.grid.x_range_m, config.grid.y_range_m
    on_grid = (np.abs(boxes[:, 0]) < x_range[1]) & (np.abs(boxes[:, 1]) < y_range[1])
    assert on_grid.sum() >= 25
    missed = []
    for box, class_index in zip(boxes[on_grid], classes[on_grid], strict=True):
        own = confident & (found.boxes.class_index == class_index)
        distance_m = np.hypot(*(found.boxes.centers[own, :2] - box[:2]).T)
        if len(distance_m) == 0 or distance_m.min() > 0.5:
            missed.append((int(class_index), box[:2].round(1).tolist(), distance_m.min() if len(distance_m) else None))
    assert not missed, f"{len(missed)} of {on_grid.sum()}: {missed}"
    assert confident.sum() < 2 * len(labels.boxes_ego[0])
