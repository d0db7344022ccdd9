"""Map and occupancy on the report's page: tables under their protocols, and a viewer that shows what was stored."""

import json
from pathlib import Path

import pytest
from fixtures.browser import open_in_browser, root_data
from fixtures.dense_labels import MAP_GRID, add_labels, nearly
from fixtures.ten_classes import ten_classes_frames, ten_classes_root, truth_as_detections

from bevstack.data.bird_rasters import occupancy_raster
from bevstack.data.class_names import OCCUPANCY_FREE
from bevstack.evaluation.dense.tasks import DenseResults
from bevstack.evaluation.detection.nuscenes import to_records
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.runner import ToScore, evaluate
from bevstack.report.content import collect
from bevstack.report.page import render, write_report

SHIFTS = {"fusion": 2, "lidar": 10}


def write_results(root: Path, out: Path, *, with_boxes: bool) -> Path:
    """An evaluation of two modalities, each shifted by its own number of cells."""
    frames = ten_classes_frames(root)
    tokens = [frames.token(k) for k in range(len(frames))]
    records = {
        token: to_records(token, truth_as_detections(frames, k), frames.ego(k).T_global_ego)
        for k, token in enumerate(tokens)
    }
    rows = {}
    for name, shift in SHIFTS.items():
        dense = DenseResults()
        for k in range(len(frames)):
            frame = add_labels(frames[k])
            dense.add(nearly(frame, shift), frame.annotations)
        boxes = (lambda: BoxColumns.from_records(records)) if with_boxes else None
        rows[name] = ToScore(boxes=boxes, meta=None, dense=dense)
    evaluate(rows, frames, tokens, out, provenance={"checkpoint": {"name": "shifted labels"}}, labellers=(add_labels,))
    return out


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Results with boxes, and without."""
    folder = tmp_path_factory.mktemp("dense")
    root = ten_classes_root(folder / "data")
    return (
        write_results(root, folder / "three_tasks", with_boxes=True),
        write_results(root, folder / "two_tasks", with_boxes=False),
    )


def opened(page: Path, profile: Path, clicks: str = "") -> dict[str, str]:
    """What the viewer says of itself after some clicks."""
    text = page.read_text().replace("</body>", f"<script>{clicks}</script></body>")
    page.write_text(text)
    data = root_data(open_in_browser(page, profile))
    assert "error" not in data, data
    return data


def test_the_page_has_both_tasks_with_every_modality_class_and_protocol(results: tuple[Path, Path]) -> None:
    page = render(collect(results[0]))
    for text in ("map/bevfusion-iou", "occ/occ3d-miou", "driveable surface", "ped crossing", "fusion, iou-fixed-0.5"):
        assert text in page
    assert 'id="map"' in page and 'id="occupancy"' in page and 'id="classes"' in page
    assert "nothing of ped crossing, walkway, stop line, carpark area is in this data" in page
    assert "fusion, ap" in page and "The column ap is the average precision of cells" in page
    assert "rayiou" not in page, "no LiDAR was given to this evaluation"


def test_a_model_without_objects_has_no_tables_of_boxes(results: tuple[Path, Path]) -> None:
    page = render(collect(results[1]))
    assert 'id="map"' in page and 'id="occupancy"' in page
    assert 'id="classes"' not in page and 'id="curves"' not in page and "NDS" not in page


def test_results_from_before_these_tasks_still_make_a_page(results: tuple[Path, Path], tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    metrics = json.loads((results[0] / "metrics.json").read_text())
    for key in ("protocols", "not_scored"):
        del metrics[key]
    for row in metrics["results"].values():
        del row["map"], row["occupancy"]
    (old / "metrics.json").write_text(json.dumps(metrics))
    for path in (results[0] / "frames").glob("*/frame.json"):
        frame = json.loads(path.read_text())
        del frame["rasters"]
        (old / "frames" / path.parent.name).mkdir(parents=True)
        (old / "frames" / path.parent.name / "frame.json").write_text(json.dumps({**frame, "cameras": []}))
    page = write_report(collect(old), tmp_path / "old.html")
    assert 'id="map"' not in page.read_text()
    data = opened(page, tmp_path / "profile")
    assert data["viewer"] == "drawn" and data["ground"] == "nothing"


def test_the_viewer_shows_the_predicted_map_first(results: tuple[Path, Path], tmp_path: Path) -> None:
    data = opened(write_report(collect(results[0]), tmp_path / "report.html"), tmp_path / "profile")
    assert data["ground"] == "map, prediction (fusion)"
    assert data["cells"] == str(40 * MAP_GRID.shape_yx[1])


def test_the_true_occupancy_is_one_click_away_and_classes_can_be_hidden(
    results: tuple[Path, Path], tmp_path: Path
) -> None:
    frame = add_labels(ten_classes_frames(results[0].parent / "data")[0])
    truth = frame.annotations.occupancy
    seen = occupancy_raster(truth.semantics, truth.grid).values
    clicks = (
        "const ground = document.getElementById('ground'); ground.value = 'occupancy';"
        "ground.dispatchEvent(new Event('change'));"
        "document.querySelector('#ground-whose button[value=truth]').click();"
    )
    page = write_report(collect(results[1]), tmp_path / "report.html")
    data = opened(page, tmp_path / "profile", clicks)
    assert data["ground"] == "occupancy, truth"
    assert data["cells"] == str((seen != OCCUPANCY_FREE).sum())
    buttons = "[...document.querySelectorAll('#ground-legend button')]"
    hide_road = f"{buttons}.find((button) => button.textContent.includes('driveable')).click();"
    page = write_report(collect(results[1]), tmp_path / "hidden.html")
    hidden = opened(page, tmp_path / "profile", clicks + hide_road)
    assert hidden["cells"] == str(10 * 5)  # the car


def test_rasters_add_little_to_the_page(results: tuple[Path, Path]) -> None:
    for path in (results[0] / "frames").glob("*/frame.json"):
        frame = json.loads(path.read_text())
        assert len(json.dumps(frame["rasters"])) < 12_000
