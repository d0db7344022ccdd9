"""Tracks, plans, the route and the vehicle's own drive: stored with the frame, drawn and told on the page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.browser import open_in_browser, root_data
from fixtures.ten_classes import ten_classes_frames, ten_classes_root, truth_as_detections

from bevstack.evaluation.detection.nuscenes import to_columns
from bevstack.evaluation.planning.ego_future import read_ego_future
from bevstack.evaluation.planning.file import PlanColumns
from bevstack.evaluation.planning.origin import PlanOrigin
from bevstack.evaluation.planning.shown import plan_rows
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.runner import ToScore, evaluate
from bevstack.evaluation.tracking.shown import MAX_SHOWN_TRACKS, track_rows
from bevstack.report.content import collect
from bevstack.report.page import render, write_report

WAY = np.column_stack((2.0 * np.arange(1, 7), np.zeros(6), np.zeros(6)))
ORIGIN = PlanOrigin(source="fallback_stop", reasons=("off the road <b>in</b> 1.2 s", "hits car 7"))


def plans_of(tokens: list[str]) -> PlanColumns:
    """4 m/s ahead in all samples, told to turn left."""
    return PlanColumns(
        sample_tokens=tuple(tokens),
        poses=np.tile(WAY, (len(tokens), 1, 1)),
        command_index=np.ones(len(tokens), np.int8),
        uses_ego_status=True,
        command_source="route",
        origins=(ORIGIN,) * len(tokens),
    )


def with_identities(boxes: BoxColumns) -> BoxColumns:
    """The k-th box of each sample is one object."""
    number = np.concatenate([np.arange(count) for count in np.diff(boxes.sample_first)]).astype(np.int64)
    return replace(boxes, track_index=number, track_ids=tuple(f"name-{k}" for k in range(int(number.max()) + 1)))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of one row with tracks and plans and one without."""
    folder = tmp_path_factory.mktemp("plans")
    frames = ten_classes_frames(ten_classes_root(folder / "data"))
    tokens = [frames.token(k) for k in range(len(frames))]
    poses = [frames.ego(k).T_global_ego for k in range(len(frames))]
    boxes = BoxColumns.concatenate(
        to_columns(token, truth_as_detections(frames, k), poses[k]) for k, token in enumerate(tokens)
    )
    rows = {
        "fusion": ToScore(
            boxes=lambda: boxes, meta=None, tracks=lambda: with_identities(boxes), plans=lambda: plans_of(tokens)
        ),
        "lidar": ToScore(boxes=lambda: boxes, meta=None),
    }
    evaluate(rows, frames, tokens, folder / "out", provenance={"checkpoint": {"name": "by hand"}})
    return folder / "out"


def stored(results: Path) -> list[dict[str, Any]]:
    frames = [json.loads(path.read_text()) for path in (results / "frames").glob("*/frame.json")]
    return sorted(frames, key=lambda frame: frame["timestamp_us"])


def test_a_stored_frame_has_the_plan_with_its_footprints_source_and_reasons(results: Path) -> None:
    for frame in stored(results):
        assert set(frame["plans"]) == {"fusion"}
        plan = frame["plans"]["fusion"]
        assert (plan["source"], tuple(plan["reasons"]), plan["command"]) == (ORIGIN.source, ORIGIN.reasons, "left")
        boxes = np.array(plan["boxes"])
        assert boxes.shape == (7, 5) and (boxes[:, 2] == 4.084).all() and (boxes[:, 3] == 1.85).all()
        np.testing.assert_allclose(boxes[1:, :2] - boxes[0, :2], WAY[:, :2], atol=2e-3)


def test_the_own_future_of_a_frame_ends_where_the_scene_does(results: Path) -> None:
    first, last = stored(results)
    assert [len(first["driven"]), len(last["driven"])] == [2, 1]
    assert np.hypot(*np.subtract(first["driven"][1][:2], first["driven"][0][:2])) > 0.1


def test_a_track_keeps_its_number_and_trails_where_it_was(results: Path) -> None:
    first, last = (frame["tracks"]["fusion"] for frame in stored(results))
    assert all(len(track["way"]) == 1 for track in first)
    seen_before = {track["number"] for track in first}
    assert {len(track["way"]) for track in last if track["number"] in seen_before} == {2}
    for frame in stored(results):
        centres = np.array([box[:3] for box in frame["predictions"]["fusion"]])
        for track in frame["tracks"]["fusion"]:
            assert track["name"] == f"name-{track['number']}"
            assert np.linalg.norm(centres - track["way"][-1], axis=1).min() < 0.02


def test_only_the_best_tracks_of_a_crowded_frame_are_shown_and_headings_are_those_of_the_vehicle() -> None:
    count, half = 2 * MAX_SHOWN_TRACKS, np.sqrt(0.5)
    boxes = BoxColumns(
        sample_tokens=("a",),
        sample_index=np.zeros(count, np.int32),
        translation=np.zeros((count, 3)),
        size_wlh=np.ones((count, 3)),
        rotation_wxyz=np.tile((half, 0.0, 0.0, half), (count, 1)),  # a quarter to the left
        velocity=np.zeros((count, 2)),
        class_index=np.zeros(count, np.int8),
        score=np.linspace(0.3, 1.0, count),
        attribute_index=np.full(count, -1, np.int8),
    )
    rows = track_rows(with_identities(boxes), "a", ["unknown"], np.eye(4))
    assert len(rows) == MAX_SHOWN_TRACKS and rows[0]["score"] == 1.0
    assert {row["yaw"] for row in rows} == {round(np.pi / 2, 3)}


def test_plans_of_some_samples_are_those_of_the_whole(tmp_path: Path) -> None:
    frames = ten_classes_frames(ten_classes_root(tmp_path))
    tokens = [frames.token(k) for k in range(len(frames))]
    future, plans = read_ego_future(frames.index, frames.split), plans_of(tokens)
    both = plan_rows(plans, future, tokens)
    assert {**plan_rows(plans, future, tokens[1:]), **plan_rows(plans, future, tokens[:1])} == both
    assert plan_rows(replace(plans, origins=()), future, tokens[:1])[tokens[0]]["source"] == ""


def test_the_viewer_draws_and_tells_the_plan_of_the_row_and_switches_hide_it(results: Path, tmp_path: Path) -> None:
    page = write_report(collect(results), tmp_path / "report.html")
    document = open_in_browser(page, tmp_path / "profile")
    data = root_data(document)
    assert "error" not in data and data["viewer"] == "drawn", data
    assert "plan" in data["plans"].split() and int(data["tracks"]) > 3 and int(data["footprints"]) > 0
    assert "fallback_stop" in document and "off the road &lt;b&gt;in&lt;/b&gt; 1.2 s" in document
    clicks = "".join(f"document.getElementById('layer-{layer}').click();" for layer in ("plan", "tracks", "driven"))
    page.write_text(page.read_text().replace("</body>", f"<script>{clicks}</script></body>"))
    data = root_data(open_in_browser(page, tmp_path / "profile"))
    assert (data["plans"], data["tracks"], data["footprints"]) == ("", "0", "0")


def test_a_results_folder_of_the_time_before_plans_makes_a_page_without_them(results: Path, tmp_path: Path) -> None:
    content = collect(results)
    later = ("tracks", "plans", "driven", "route")
    old = [{key: value for key, value in frame.items() if key not in later} for frame in content.frames]
    page = write_report(replace(content, frames=old), tmp_path / "old.html")
    data = root_data(open_in_browser(page, tmp_path / "profile"))
    assert "error" not in data and data["viewer"] == "drawn", data
    assert (data["plans"], data["tracks"]) == ("", "0")
    assert '"plans"' not in render(replace(content, frames=old))
