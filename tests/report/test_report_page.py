"""The report of an evaluation on the tiny data set: complete, self-contained, and its viewer runs."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.browser import open_in_browser, root_data
from fixtures.ten_classes import ten_classes_frames, ten_classes_root, truth_as_detections

from bevstack.cli.main import main
from bevstack.evaluation.detection.nuscenes import to_records
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.submission import SubmissionMeta
from bevstack.evaluation.runner import ToScore, evaluate
from bevstack.report import content as content_module
from bevstack.report.content import collect
from bevstack.report.page import render, write_report
from bevstack.types import BoxIndex, Detections


def found(frames, index: int, offset_m: float, keep: int) -> Detections:
    """The first `keep` annotated boxes, all moved ahead, with falling scores."""
    truth = truth_as_detections(frames, index)
    rows = truth.boxes.rows[:keep].copy()
    rows[:, BoxIndex.X] += offset_m
    boxes = replace(truth.boxes, rows=rows, class_index=truth.boxes.class_index[:keep])
    scores = np.linspace(0.9, 0.4, keep).astype(np.float32)
    return Detections(boxes=boxes, scores=scores, attribute_index=truth.attribute_index[:keep])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training run with an evaluation of two modalities in it."""
    folder = tmp_path_factory.mktemp("runs") / "fusion_small" / "20260101-000000"
    frames = ten_classes_frames(ten_classes_root(folder.parent.parent / "data"))
    tokens = [frames.token(k) for k in range(len(frames))]

    def rows(offset_m: float, keep: tuple[int, int]) -> ToScore:
        records = {
            token: to_records(token, found(frames, k, offset_m, keep[k]), frames.ego(k).T_global_ego)
            for k, token in enumerate(tokens)
        }
        meta = SubmissionMeta.of_modality("fusion")
        return ToScore(boxes=lambda: BoxColumns.from_records(records), meta=meta, seconds_per_frame=0.25)

    evaluate(
        {"fusion": rows(0.4, (9, 6)), "lidar": rows(1.4, (5, 5))},
        frames,
        tokens,
        folder / "eval",
        provenance={"checkpoint": {"name": "</script><b>x", "parameters": 12}},
    )
    header = "step,epoch,elapsed_s,lr,samples_per_s,data_wait,train/grad_norm,train/loss,train/detection/heatmap"
    table = [f"{k},0,{k},0.001,3,0.1,2,{10 / (k + 1):.3f},{5 / (k + 1):.3f},,".rstrip(",") for k in range(9)]
    lines = [f"{header},val/loss,val/detection/heatmap"] + [f"{row},," for row in table] + ["8,0,8,,,,,,,1.5,0.8"]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "config.yaml").write_text("name: fusion_small\n")
    (folder / "versions.json").write_text(json.dumps({"seed": 7, "started": "2026-01-01T00:00:00+0000"}))
    return folder


def test_the_results_folder_holds_metrics_counts_submissions_and_frames(run: Path) -> None:
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    assert metrics["protocol"] == "det/nusc-cvpr19"
    assert list(metrics["results"]) == ["fusion", "lidar"]
    assert metrics["data"]["num_frames"] == 2
    counts = json.loads((run / "eval" / "frame_counts.json").read_text())["fusion"]["frames"]
    assert [(frame["matched"], frame["missed"], frame["false"]) for frame in counts] == [(9, 1, 0), (6, 4, 0)]
    assert (run / "eval" / "submission_lidar.json").is_file()
    stored = sorted(path.name for path in (run / "eval" / "frames").iterdir())
    assert stored[0].startswith("00001-") and len(stored) == 2
    worst = json.loads((run / "eval" / "frames" / stored[0] / "frame.json").read_text())
    assert worst["missed"] == 4
    assert len(worst["cameras"]) == 6
    assert len(worst["ground_truth"]) == 10


def test_the_page_fetches_nothing(run: Path) -> None:
    page = render(collect(run))
    without_namespaces = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\(", without_namespaces)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith(("data:", "#")) for source in sources)


def test_the_page_says_protocol_modalities_classes_and_losses(run: Path) -> None:
    page = render(collect(run))
    for text in (
        "det/nusc-cvpr19",
        "construction vehicle",
        ">fusion<",
        ">lidar<",
        "detection/heatmap",
        "learning rate",
    ):
        assert text in page
    assert page.count('class="chart"') == 10 + 5 + 2 + 2


def test_names_from_outside_cannot_break_the_page(run: Path) -> None:
    page = render(collect(run))
    assert "</script><b>x" not in page
    assert "&lt;/script&gt;&lt;b&gt;x" in page


def test_the_viewer_draws_and_counts_as_the_evaluation_did(run: Path, tmp_path: Path) -> None:
    page = write_report(collect(run), tmp_path / "report.html")
    data = root_data(open_in_browser(page, tmp_path / "profile"))
    assert "error" not in data, data
    assert data["viewer"] == "drawn"
    assert (data["matched"], data["missed"], data["wrong"]) == ("6", "4", "0")
    assert data["boxes"] == "16"
    assert data["pictures"] == "6"


def test_a_training_run_alone_and_an_evaluation_alone_make_a_page(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "train"
    alone.mkdir()
    for name in ("metrics.csv", "config.yaml", "versions.json"):
        shutil.copy(run / name, alone / name)
    training_page = render(collect(alone))
    assert "Training" in training_page and 'id="frames"' not in training_page
    evaluation = tmp_path / "results"
    shutil.copytree(run / "eval", evaluation)
    assert 'id="training"' not in render(collect(evaluation))


def test_frames_that_do_not_fit_are_left_out_and_the_page_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = collect(run)
    monkeypatch.setattr(content_module, "MAX_FRAME_BYTES", len(json.dumps(whole.frames[0])) + 100)
    smaller = collect(run)
    assert (len(smaller.frames), smaller.num_left_out) == (1, 1)
    assert "1 more stored frames were left out" in render(smaller)
    assert len(collect(run, max_frames=1).frames) == 1


def test_a_folder_that_is_no_run_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert "neither metrics.json" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_the_command_writes_the_page_beside_the_run(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").is_file()
    assert "2 frames" in capsys.readouterr().out


def test_a_submission_is_scored_from_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, out = run.parent.parent / "data", tmp_path / "out"
    words = ["eval", "--predictions", str(run / "eval" / "submission_fusion.json"), "--data", str(data)]
    assert main([*words, "--out", str(out), "--json", str(tmp_path / "m.json")]) == 0
    printed = capsys.readouterr().out
    assert "det/nusc-cvpr19" in printed and "construction_vehicle" in printed
    again = json.loads((tmp_path / "m.json").read_text())["results"]["submission"]
    before = json.loads((run / "eval" / "metrics.json").read_text())["results"]["fusion"]
    assert again["nds"] == before["nds"]
    assert main(["report", str(out)]) == 0
