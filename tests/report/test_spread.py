"""Intervals and slices of a page: they follow from what the evaluation kept, and are left out where it kept nothing."""

import dataclasses
import json
from pathlib import Path

import pytest
from fixtures.ten_classes import ten_classes_frames, ten_classes_root, truth_as_detections

from bevstack.evaluation.comparison.bootstrap import Estimate, Interval
from bevstack.evaluation.comparison.scene_statistics import STATISTICS_FILE
from bevstack.evaluation.detection.nuscenes import to_records
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.runner import ToScore, evaluate
from bevstack.report import spread as spread_module
from bevstack.report.content import collect
from bevstack.report.page import render
from bevstack.report.spread import Spread, spread_of


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spread")
    frames = ten_classes_frames(ten_classes_root(folder / "data"))
    tokens = [frames.token(k) for k in range(len(frames))]
    records = {
        token: to_records(token, truth_as_detections(frames, k), frames.ego(k).T_global_ego)
        for k, token in enumerate(tokens)
    }
    row = ToScore(boxes=lambda: BoxColumns.from_records(records), meta=None)
    evaluate({"fusion": row}, frames, tokens, folder / "eval", provenance={"checkpoint": {"name": "labels"}})
    return folder / "eval"


def test_the_first_slice_is_everything(results: Path) -> None:
    spread = spread_of(results, "fusion")
    name, values = spread.slices[0]
    scored = json.loads((results / "metrics.json").read_text())["results"]["fusion"]
    assert name == "all" and spread.columns[:2] == ("NDS", "mAP")
    assert values[:2] == (scored["nds"], scored["mean_ap"])
    assert "0-20 m" in dict(spread.slices)


def test_few_scenes_have_no_interval_and_the_page_says_so(results: Path) -> None:
    spread = spread_of(results, "fusion")
    assert not spread.intervals and spread.text("det.NDS") == ""
    assert "6 are needed" in spread.note and spread.note in render(collect(results))


def test_the_page_shows_intervals_beside_their_numbers(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Estimate(value=0.5, interval=Interval(low=0.25, high=0.75, method="bca"), std_error=0.1)
    monkeypatch.setattr(spread_module, "MIN_SCENES", 1)
    monkeypatch.setattr(spread_module, "bootstrap", lambda *given, **more: {"det.NDS": wide, "det.AP.car": wide})
    spread = spread_of(results, "fusion")
    assert set(spread.intervals) == {"det.NDS"}  # not those of single classes
    text = render(dataclasses.replace(collect(results), spread=spread))
    assert "95 %: 0.250 to 0.750" in text


def test_an_evaluation_without_statistics_has_neither(results: Path, tmp_path: Path) -> None:
    assert spread_of(tmp_path, "fusion") == Spread()
    assert (results / STATISTICS_FILE).is_file()
