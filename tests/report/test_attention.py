"""The attention of a cue on the page: over the bird's-eye view and the ground in the cameras, with its words."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.browser import open_in_browser, root_data
from fixtures.scenes import one_car_ahead
from fixtures.ten_classes import ten_classes_frames, ten_classes_root, truth_as_detections

from bevstack.data.bird_rasters import attention_raster
from bevstack.evaluation.dense.tasks import DenseResults, predicted_rasters
from bevstack.evaluation.detection.nuscenes import to_records
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.runner import ToScore, evaluate
from bevstack.report.content import collect
from bevstack.report.page import render, write_report
from bevstack.types import BevGrid, Frame, SceneEstimate
from bevstack.types.cue import Cue
from bevstack.types.scene import CueAttention

GRID = BevGrid(x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), z_range_m=(-5.0, 3.0), cell_m=0.8)
WORDS = "A pedestrian <b>crosses</b> from the left, a car brakes ahead"


def told(frame: Frame, *, lit: bool = True) -> SceneEstimate:
    """What a model says that a cue has pointed 12 m ahead and 4 m to the left."""
    x, y = GRID.centers_m().numpy().transpose(2, 0, 1)
    weights = np.exp(-((x - 12) ** 2 + (y - 4) ** 2) / 60) if lit else np.ones_like(x)
    cue = Cue(
        text=WORDS,
        embedding=np.array([1.0], np.float32),
        mirrored_embedding=None,
        frame_token="earlier",
        timestamp_us=frame.timestamp_us - 500_000,
        source="by hand",
    )
    attention = CueAttention(weights=weights, grid=GRID, cue_weight=0.124)
    return SceneEstimate(token=frame.token, timestamp_us=frame.timestamp_us, attention=attention, cue=cue)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of one row with text and one without."""
    folder = tmp_path_factory.mktemp("attention")
    frames = ten_classes_frames(ten_classes_root(folder / "data"))
    tokens = [frames.token(k) for k in range(len(frames))]
    records = {
        token: to_records(token, truth_as_detections(frames, k), frames.ego(k).T_global_ego)
        for k, token in enumerate(tokens)
    }
    rows = {}
    for name in ("fusion", "lidar"):
        dense = DenseResults()
        for k in range(len(frames)):
            estimate = told(frames[k])
            dense.add(estimate if name == "fusion" else replace(estimate, cue=None), None)
        rows[name] = ToScore(boxes=lambda: BoxColumns.from_records(records), meta=None, dense=dense)
    evaluate(rows, frames, tokens, folder / "out", provenance={"checkpoint": {"name": "by hand"}})
    return folder / "out"


def test_the_brightest_cell_of_the_picture_lies_where_the_weights_are_largest() -> None:
    frame = one_car_ahead()
    raster = attention_raster(told(frame).attention.weights, GRID)
    assert raster.values.shape == (64, 64)
    row, column = np.unravel_index(raster.values.argmax(), raster.values.shape)
    x = raster.x_range_m[1] - (row + 0.5) * 1.6
    y = raster.y_range_m[1] - (column + 0.5) * 1.6
    assert abs(x - 12) < 1.6 and abs(y - 4) < 1.6
    assert raster.values.max() > 240 and raster.values.min() == 0


def test_the_caption_has_words_age_share_and_range() -> None:
    rasters = predicted_rasters(told(one_car_ahead()))
    assert set(rasters) == {"attention"}
    assert rasters["attention"].caption == f"“{WORDS}” · 0.5 s old · 12.4% of the features · weights 0.00 to 0.99"
    assert len(rasters["attention"].png) < 4000
    assert predicted_rasters(replace(told(one_car_ahead()), cue=None)) == {}


def test_even_weights_are_kept_as_they_are() -> None:
    raster = attention_raster(told(one_car_ahead(), lit=False).attention.weights, GRID)
    assert (raster.values == 255).all()


def test_words_of_a_cue_cannot_break_the_page(results: Path) -> None:
    assert "<b>crosses" not in render(collect(results))


def test_the_viewer_glows_in_the_cameras_that_see_the_place_and_only_in_the_row_with_text(
    results: Path, tmp_path: Path
) -> None:
    page = write_report(collect(results), tmp_path / "report.html")
    data = root_data(open_in_browser(page, tmp_path / "profile"))
    assert "error" not in data and data["viewer"] == "drawn", data
    assert int(data["patches"]) > 20
    click = "<script>document.getElementById('layer-attention').click()</script></body>"
    page.write_text(page.read_text().replace("</body>", click))
    assert root_data(open_in_browser(page, tmp_path / "profile"))["patches"] == "0"
