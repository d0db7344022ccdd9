"""Forecasts on the page: stored with the frame, faded by probability, for objects above the slider's score."""

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.browser import open_in_browser, root_data
from fixtures.ten_classes import ten_classes_frames, ten_classes_root, truth_as_detections

from bevstack.evaluation.detection.nuscenes import to_records
from bevstack.evaluation.motion.columns import MotionColumns
from bevstack.evaluation.motion.forecasts import to_motion_columns
from bevstack.evaluation.motion.shown import MAX_SHOWN_FORECASTS, forecast_rows
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.runner import ToScore, evaluate
from bevstack.report.content import collect
from bevstack.report.page import write_report
from bevstack.types.scene import Detections, MotionForecasts

MODES = ((0.7, 4.0), (0.28, 2.0), (0.02, 1.0))
"""Probability and speed along x."""


def driving(detections: Detections) -> MotionForecasts:
    """All objects drive along x, in three modes."""
    times_s = 0.5 * np.arange(1, 13)
    ways = np.stack([np.column_stack((speed * times_s, 0 * times_s)) for _, speed in MODES])
    count = len(detections)
    return MotionForecasts(
        trajectories_ego=(detections.boxes.centers[:, None, None, :2] + ways).astype(np.float32),
        probabilities=np.tile(np.float32([p for p, _ in MODES]), (count, 1)),
        dt_s=0.5,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of one row with forecasts and one without."""
    folder = tmp_path_factory.mktemp("forecasts")
    frames = ten_classes_frames(ten_classes_root(folder / "data"))
    tokens = [frames.token(k) for k in range(len(frames))]
    found = {token: truth_as_detections(frames, k) for k, token in enumerate(tokens)}
    poses = {token: frames.ego(k).T_global_ego for k, token in enumerate(tokens)}
    records = {token: to_records(token, found[token], poses[token]) for token in tokens}
    columns = [to_motion_columns(token, found[token], driving(found[token]), poses[token]) for token in tokens]
    joined = MotionColumns(
        boxes=BoxColumns.concatenate(each.boxes for each in columns),
        trajectories=np.concatenate([each.trajectories for each in columns]),
        probabilities=np.concatenate([each.probabilities for each in columns]),
    )
    boxes = lambda: BoxColumns.from_records(records)  # noqa: E731
    rows = {
        "fusion": ToScore(boxes=boxes, meta=None, forecasts=lambda: joined),
        "lidar": ToScore(boxes=boxes, meta=None),
    }
    evaluate(rows, frames, tokens, folder / "out", provenance={"checkpoint": {"name": "by hand"}})
    return folder / "out"


def test_a_stored_frame_has_the_ways_of_its_objects_in_its_own_frame(results: Path) -> None:
    frame = json.loads(next((results / "frames").glob("*/frame.json")).read_text())
    rows = frame["forecasts"]["fusion"]
    assert set(frame["forecasts"]) == {"fusion"}
    assert len(rows) == sum(1 for row in frame["predictions"]["fusion"] if row[-1] >= 0.3) > 3
    for row in rows:
        assert [mode["probability"] for mode in row["modes"]] == [0.7, 0.28]  # a mode of 2 % is not worth a line
        for mode, (_, speed) in zip(row["modes"], MODES, strict=False):
            way = np.array(mode["way"])
            assert way.shape == (13, 2)
            np.testing.assert_allclose(
                way - way[0], np.column_stack((speed * 0.5 * np.arange(13), np.zeros(13))), atol=0.03
            )
        assert any(np.hypot(box[0] - way[0, 0], box[1] - way[0, 1]) < 0.02 for box in frame["predictions"]["fusion"])


def test_only_the_best_objects_of_a_crowded_frame_are_shown() -> None:
    count = 2 * MAX_SHOWN_FORECASTS
    boxes = BoxColumns(
        sample_tokens=("a", "b"),
        sample_index=np.ones(count, np.int32),
        translation=np.zeros((count, 3)),
        size_wlh=np.ones((count, 3)),
        rotation_wxyz=np.tile((1.0, 0.0, 0.0, 0.0), (count, 1)),
        velocity=np.zeros((count, 2)),
        class_index=np.zeros(count, np.int8),
        score=np.linspace(0.3, 1.0, count),
        attribute_index=np.full(count, -1, np.int8),
    )
    motion = MotionColumns(
        boxes=boxes, trajectories=np.zeros((count, 1, 12, 2)), probabilities=np.full((count, 1), 0.01)
    )
    rows = forecast_rows(motion, "b", np.eye(4))
    assert len(rows) == MAX_SHOWN_FORECASTS and rows[0]["score"] == 1.0 and len(rows[0]["modes"]) == 1
    assert forecast_rows(motion, "a", np.eye(4)) == []


def test_the_viewer_draws_a_line_for_each_mode_and_none_where_the_layer_is_off(results: Path, tmp_path: Path) -> None:
    page = write_report(collect(results), tmp_path / "report.html")
    data = root_data(open_in_browser(page, tmp_path / "profile"))
    assert "error" not in data and data["viewer"] == "drawn", data
    assert int(data["ways"]) > 6 and int(data["ways"]) % 2 == 0
    click = "<script>document.getElementById('layer-forecasts').click()</script></body>"
    page.write_text(page.read_text().replace("</body>", click))
    assert root_data(open_in_browser(page, tmp_path / "profile"))["ways"] == "0"
