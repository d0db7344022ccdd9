from pathlib import Path

import numpy as np
import pytest
from fixtures.training_runs import shrunk, some_frames

from bevstack.build import build_model
from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.collate import collate
from bevstack.perception.heads.motion_anchors import STANDING_CLASSES
from bevstack.types.scene import SceneEstimate

STANDING = [DETECTION_CLASSES.index(name) for name in STANDING_CLASSES]


@pytest.mark.parametrize("nms_iou", ["null", "0.02"])
def test_each_forecast_starts_from_its_own_detection_whatever_was_suppressed(tmp_path: Path, nms_iou: str) -> None:
    settings = f"model.heads.m3net.readouts.detection.nms_iou={nms_iou}"
    model = build_model(shrunk("motion_small", tmp_path, settings), pretrained=False).eval()
    frames = some_frames(2)
    batch, _ = collate([frames[0], frames[1]])
    estimates: list[SceneEstimate] = model.decode(model(batch), batch)
    counts = [len(estimate.detections) for estimate in estimates if estimate.detections is not None]
    assert len(counts) == 2 and min(counts) > 0
    for estimate in estimates:
        detections, motion = estimate.detections, estimate.motion
        assert detections is not None and motion is not None and len(motion) == len(detections)
        boxes = detections.boxes
        velocity = np.where(np.isin(boxes.class_index, STANDING)[:, None], 0.0, boxes.velocities)
        onward = boxes.centers[:, None, :2] + velocity[:, None] * motion.dt_s * np.arange(1, 13)[:, None]
        likely = motion.trajectories_ego[np.arange(len(motion)), motion.probabilities.argmax(axis=1)]
        np.testing.assert_allclose(likely, onward, atol=1e-3)
