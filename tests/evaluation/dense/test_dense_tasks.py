"""Map and occupancy through the evaluation: one pass, every number under its protocol, and no number without labels."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.dense_labels import add_labels, nearly
from fixtures.scenes import one_car_ahead
from fixtures.ten_classes import ten_classes_frames, ten_classes_root, truth_as_detections
from fixtures.training_runs import SMALL

from bevstack.build import build_model, compose, save_weights
from bevstack.cli.eval_table import table
from bevstack.cli.main import main
from bevstack.data.available_labels import has_map, has_occupancy, occupancy_format
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.dense.tasks import DenseResults, predicted_rasters, true_rasters
from bevstack.evaluation.detection.nuscenes import to_records
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.runner import Evaluation, ToScore, evaluate
from bevstack.types import Frame

OCCUPANCY_PROTOCOLS = ["occ/occ3d-miou", "occ/occ3d-miou-lidar-mask", "occ/occ3d-miou-no-mask"]
MAP_PROTOCOLS = ["map/bevfusion-iou", "map/iou-fixed-0.5", "map/ap"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ten_classes_root(tmp_path_factory.mktemp("dense") / "root")


@pytest.fixture(scope="module")
def frames(root: Path) -> NuScenesFrames:
    return ten_classes_frames(root)


def dense_of(frames: list[Frame], shifts: tuple[int, ...] = (0, 0)) -> DenseResults:
    dense = DenseResults()
    for frame, shift in zip(frames, shifts, strict=True):
        dense.add(nearly(frame, shift), frame.annotations)
    return dense


def evaluated(frames: NuScenesFrames, out: Path, *, with_boxes: bool, shifts: tuple[int, ...] = (0, 0)) -> Evaluation:
    tokens = [frames.token(k) for k in range(len(frames))]
    records = {
        token: to_records(token, truth_as_detections(frames, k), frames.ego(k).T_global_ego)
        for k, token in enumerate(tokens)
    }
    dense = dense_of([add_labels(frames[k]) for k in range(len(frames))], shifts)
    row = ToScore(boxes=(lambda: BoxColumns.from_records(records)) if with_boxes else None, meta=None, dense=dense)
    return evaluate({"fusion": row}, frames, tokens, out, provenance={}, labellers=(add_labels,))


def test_the_labels_as_prediction_score_one_under_every_protocol() -> None:
    frame = add_labels(one_car_ahead())
    scores = dense_of([frame, frame]).scores()
    assert list(scores) == ["map", "occupancy"]
    assert list(scores["map"]) == MAP_PROTOCOLS and list(scores["occupancy"]) == OCCUPANCY_PROTOCOLS
    for numbers in (*scores["map"].values(), *scores["occupancy"].values()):
        assert numbers.get("mean_iou", numbers.get("mean_ap")) == 1.0 and numbers["num_frames"] == 2
    assert scores["map"]["map/bevfusion-iou"]["class_iou"]["walkway"] is None


def test_what_has_no_labels_is_not_scored_but_its_pictures_are_kept() -> None:
    frame = add_labels(one_car_ahead())
    dense = DenseResults()
    dense.add(nearly(frame), None)
    dense.add(nearly(frame), one_car_ahead().annotations)
    assert dense.scores() == {} and dense.tasks == ("map", "occupancy")
    dense.add(nearly(frame), replace(frame.annotations, occupancy=None))
    assert list(dense.scores()) == ["map"]
    assert dense.rasters[frame.token] == predicted_rasters(nearly(frame))


def test_pictures_of_truth_and_of_a_perfect_prediction_are_the_same_and_small() -> None:
    frame = add_labels(one_car_ahead())
    rasters = true_rasters(frame.annotations)
    assert rasters == predicted_rasters(nearly(frame))
    assert rasters["map"].x_range_m == (-50.0, 50.0) and rasters["occupancy"].x_range_m == (-40.0, 40.0)
    assert sum(len(raster.png) for raster in rasters.values()) < 4000


def test_metrics_hold_all_three_tasks_with_their_protocols(frames: NuScenesFrames, tmp_path: Path) -> None:
    evaluated(frames, tmp_path, with_boxes=True)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["protocol"] == "det/nusc-cvpr19"
    assert metrics["protocols"] == ["det/nusc-cvpr19", *MAP_PROTOCOLS, *OCCUPANCY_PROTOCOLS]
    row = metrics["results"]["fusion"]
    assert row["mean_ap"] == pytest.approx(1.0)
    for task in ("map", "occupancy"):
        assert all(protocol == numbers["protocol"] for protocol, numbers in row[task].items())
    assert row["map"]["map/bevfusion-iou"]["class_iou"]["stop_line"] is None
    text = table(metrics)
    for word in ("det/nusc-cvpr19", *MAP_PROTOCOLS, *OCCUPANCY_PROTOCOLS, "drivable_area", "vegetation"):
        assert word in text


def test_a_model_without_objects_is_scored_and_its_least_alike_frame_comes_first(
    frames: NuScenesFrames, tmp_path: Path
) -> None:
    evaluation = evaluated(frames, tmp_path, with_boxes=False, shifts=(0, 30))
    row = evaluation.content["results"]["fusion"]
    assert "nds" not in row and evaluation.content["protocol"] == "map/bevfusion-iou"
    assert 0.2 < row["map"]["map/bevfusion-iou"]["mean_iou"] < 1.0
    first, second = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert first.endswith(frames.token(1)) and second.endswith(frames.token(0))
    stored = json.loads((tmp_path / "frames" / first / "frame.json").read_text())
    assert len(stored["ground_truth"]) == 10 and stored["predictions"] == {}
    assert {task: set(of_task) for task, of_task in stored["rasters"].items()} == {
        "map": {"truth", "fusion"},
        "occupancy": {"truth", "fusion"},
    }
    assert "det/nusc" not in table(evaluation.content)


def test_a_data_set_says_which_labels_it_brings(frames: NuScenesFrames, tmp_path: Path) -> None:
    index, split = frames.index, frames.split
    assert not has_map(index, split) and occupancy_format(index, split) is None
    root = ten_classes_root(tmp_path / "with_labels")
    own = ten_classes_frames(root)
    scene = own.scenes[0]
    for path in (f"maps/expansion/{scene.location}.json", f"gts/{scene.name}/{own.token(1)}/labels.npz"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    assert has_map(own.index, own.split)
    assert occupancy_format(own.index, own.split) == "occ3d"
    assert not has_occupancy(own.index, own.split, "openoccupancy")


@pytest.mark.slow
@pytest.mark.parametrize("without", [(), ("detection",)])
def test_data_without_labels_is_named_and_not_scored(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture, without: tuple[str, ...]
) -> None:
    overrides = [f"model.heads.m3net.readouts.{task}=null" for task in without]
    config = compose(
        ["experiment=m3net_small", *SMALL, "input.image_size.height=64", "input.image_size.width=160", *overrides]
    )
    weights = save_weights(tmp_path / "weights.safetensors", build_model(config, pretrained=False), config)
    words = ["--checkpoint", str(weights), "--data", str(root), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["eval", *words]) == 0
    printed = capsys.readouterr().out
    assert printed.count("is predicted but not scored") == 2 and "maps/expansion" in printed
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(metrics["not_scored"]) == {"map", "occupancy"}
    assert not {"map", "occupancy"} & set(metrics["results"]["fusion"])
    assert ("nds" in metrics["results"]["fusion"]) == (not without)
    assert main(["report", str(tmp_path / "out")]) == 0
    code = main(["predict", *words[:-2], "--out", str(tmp_path / "submission.json")])
    assert (code == 0) == (not without)
    if without:
        assert "finds no objects" in capsys.readouterr().err
