"""Files of predictions of every kind: recognised, read, converted, checked, and scored without a model."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.nuscenes_tiny import SPLIT
from fixtures.predicted_samples import META, assert_same, boxes_of, plans_of, predicted_of
from fixtures.ten_classes import ten_classes_frames, ten_classes_root, truth_as_detections

from bevstack.cli.main import main
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.dense.folder import DenseFolder, write_dense_folder
from bevstack.evaluation.detection.nuscenes import to_records
from bevstack.evaluation.planning.file import write_planning
from bevstack.evaluation.planning.origin import PlanOrigin
from bevstack.evaluation.predictions.checks import check_predictions
from bevstack.evaluation.predictions.files import EXPORTS, open_predictions, write_as
from bevstack.evaluation.predictions.predicted import TASKS, Predicted
from bevstack.evaluation.predictions.store import PredictionStore
from bevstack.evaluation.predictions.submission import SubmissionMeta, write_submission
from bevstack.evaluation.predictions.writer import write_predictions
from bevstack.types import OCC3D_GRID, Occupancy

TOKENS = ("a", "b", "c")
KINDS = {
    "detection": "nuScenes detection",
    "tracking": "nuScenes tracking",
    "motion": "nuScenes prediction",
    "planning": "planning",
    "map": "map folder",
    "occupancy": "Occ3D submission",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ten_classes_root(tmp_path_factory.mktemp("files") / "root")


@pytest.fixture(scope="module")
def frames(root: Path) -> NuScenesFrames:
    return ten_classes_frames(root)


def truth_of(frames: NuScenesFrames) -> dict[str, list[dict]]:
    return {
        frames.token(k): to_records(frames.token(k), truth_as_detections(frames, k), frames.ego(k).T_global_ego)
        for k in range(len(frames))
    }


def submission(frames: NuScenesFrames, path: Path, records: dict | None = None) -> Path:
    return write_submission(
        path, SubmissionMeta.of_modality("fusion"), truth_of(frames) if records is None else records
    )


@pytest.mark.parametrize("task", list(KINDS))
def test_every_official_format_is_known_by_its_content_and_gives_the_store_back(task: str, tmp_path: Path) -> None:
    written = predicted_of(TOKENS, [task])
    store = PredictionStore(write_predictions(tmp_path / "store.parquet", written, META))
    there = open_predictions(write_as(task, tmp_path / "a_file_with_any_name", store))
    assert there.kind == KINDS[task] and there.tasks == (task,)
    read = there.read()
    if task == "motion":  # only named samples are in this format
        np.testing.assert_array_equal(read.motion.trajectories, written.motion.trajectories)
        assert set(read.sample_tokens) == {"a", "c"}
        return
    assert_same(read, written)
    back = open_predictions(write_as("store", tmp_path / "back.parquet", there))
    assert_same(back.read(), written)


def test_sensors_travel_through_the_official_format(tmp_path: Path) -> None:
    store = PredictionStore(write_predictions(tmp_path / "s.parquet", predicted_of(TOKENS, ["detection"]), META))
    there = open_predictions(write_as("detection", tmp_path / "s.json", store))
    assert there.meta.sensors == META.sensors


def test_an_occ3d_submission_needs_nothing_but_one_array_a_sample_and_may_be_a_zip(tmp_path: Path) -> None:
    semantics = np.full(OCC3D_GRID.shape_xyz, 17, np.uint8)
    semantics[3, 4, 5] = 4
    (tmp_path / "results").mkdir()
    np.savez_compressed(tmp_path / "results" / "a.npz", semantics)
    with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
        archive.write(tmp_path / "results" / "a.npz", "results/a.npz")
    for path in (tmp_path / "results", tmp_path / "upload"):
        there = open_predictions(path)
        assert there.kind == "Occ3D submission" and there.sample_tokens == ("a",)
        (found,) = there.read().occupancy
        assert found.grid == OCC3D_GRID
        np.testing.assert_array_equal(found.semantics, semantics)
    with pytest.raises(ValueError, match="exists already"):
        write_dense_folder(tmp_path / "results", "occupancy", there.parts(), META)


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("occupancy", lambda a: a[:-1], "sample a .a.npz.: field 'occupancy' is uint8 of shape"),
        ("occupancy", lambda a: a + 200, "sample a .a.npz.: field 'occupancy' has classes 200 to"),
        ("map", lambda a: a - 1, "sample a .a.npz.: field 'probabilities' runs from -0.9"),
        ("map", lambda a: np.where(a > 0.5, np.nan, a), "sample a .a.npz.: field 'probabilities' runs from nan"),
        ("map", lambda a: a[0], "sample a .a.npz.: field 'probabilities' is float32 of shape .12, 16., not float of"),
    ],
)
def test_a_wrong_array_is_named_with_folder_sample_and_field(task: str, change, message: str, tmp_path: Path) -> None:
    folder = write_dense_folder(tmp_path / "out", task, [predicted_of(TOKENS, [task])], META)
    name = "probabilities" if task == "map" else "arr_0"
    with np.load(folder / "a.npz") as archive:
        array = archive[name]
    np.savez_compressed(folder / "a.npz", **{name: change(array)})
    with pytest.raises(ValueError, match=f"out: {message}"):
        list(DenseFolder(folder).parts())
    content = (folder / "b.npz").read_bytes()
    (folder / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="out: sample a .*cannot be read, the file is damaged"):
        list(DenseFolder(folder).parts())


def test_wrong_metadata_of_a_folder_is_named(tmp_path: Path) -> None:
    folder = write_dense_folder(tmp_path / "out", "map", [predicted_of(TOKENS, ["map"])], META)
    said = json.loads((folder / "meta.json").read_text())
    for change, message in (
        ({"classes": ["road"]}, "field 'classes' is .'road'., not"),
        ({"grid": {"cell_m": 1}}, "field 'grid' is .*which is no grid"),
        ({"use_camera": "yes"}, "field 'use_camera' of 'sensors' is 'yes'"),
        ({"format": "smells"}, "is no folder of predictions"),
    ):
        (folder / "meta.json").write_text(json.dumps(said | change))
        with pytest.raises(ValueError, match=message):
            open_predictions(folder)
    with pytest.raises(ValueError, match="is no folder of predictions: it needs SAMPLE_TOKEN.npz"):
        open_predictions(tmp_path_of_nothing(tmp_path))


def tmp_path_of_nothing(tmp_path: Path) -> Path:
    (tmp_path / "nothing").mkdir()
    return tmp_path / "nothing"


def test_what_is_no_file_of_predictions_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not predictions")
    with pytest.raises(ValueError, match="notes.txt is no file of predictions: it is neither Parquet, JSON, a zip"):
        open_predictions(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match="there are no predictions .*missing"):
        open_predictions(tmp_path / "missing")
    store = PredictionStore(write_predictions(tmp_path / "s.parquet", predicted_of(TOKENS, ["planning"]), META))
    with pytest.raises(ValueError, match="has nothing of 'map' to write; it has planning"):
        write_as("map", tmp_path / "map", store)
    with pytest.raises(ValueError, match="no format 'detections' .did you mean detection"):
        write_as("detections", tmp_path / "x", store)
    assert set(EXPORTS) - {"store"} <= set(TASKS)


def test_samples_that_are_missing_or_of_another_split_are_named_before_any_metric(tmp_path: Path) -> None:
    store = PredictionStore(write_predictions(tmp_path / "s.parquet", predicted_of(TOKENS), META))
    check_predictions(store, "val", TOKENS, TOKENS)
    check_predictions(store, "val", ("c", "b", "a", "d"), ("a", "c"))
    with pytest.raises(ValueError, match="s.parquet: sample b is not in split 'val', nor are 1 other samples of 3"):
        check_predictions(store, "val", ("a",), ("a",))
    with pytest.raises(ValueError, match="s.parquet: sample x of split 'val' is missing, with 1 others of 3"):
        check_predictions(store, "val", (*TOKENS, "x", "y"), ("a", "x", "y"))


def test_json_and_store_of_the_same_boxes_score_the_same_and_the_exit_code_says_what_was_scored(
    root: Path, frames: NuScenesFrames, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    official = submission(frames, tmp_path / "official.json")
    store = write_as("store", tmp_path / "store.parquet", open_predictions(official))
    found = []
    for number, file in enumerate((official, store)):
        out = tmp_path / f"out{number}"
        words = ["--data", str(root), "--version", frames.index.version, "--split", SPLIT, "--frames", "1"]
        code = main(["eval", "--predictions", str(file), *words, "--out", str(out), "--json", str(out / "again.json")])
        assert code == 0
        metrics = json.loads((out / "again.json").read_text())
        assert metrics == json.loads((out / "metrics.json").read_text())
        assert metrics["predictions"]["kind"] == ("nuScenes detection", "bevstack store")[number]
        found.append(metrics["results"]["submission"])
    assert found[0] == found[1] and found[0]["mean_ap"] == pytest.approx(1.0)
    assert "det/nusc-cvpr19" in capsys.readouterr().out


def test_a_store_with_more_than_the_data_has_labels_for_is_scored_in_part_and_says_so(
    root: Path, frames: NuScenesFrames, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tokens = [frames.token(k) for k in range(len(frames))]
    predicted = replace(predicted_of(tokens), motion=None)
    store = write_predictions(tmp_path / "all.parquet", predicted, META)
    words = ["--data", str(root), "--out", str(tmp_path / "out"), "--frames", "1"]
    assert main(["eval", "--predictions", str(store), *words]) == 3
    printed = capsys.readouterr().out
    assert "map segmentation is predicted but not scored: no map of the locations" in printed
    assert "tables with another hash" in printed
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    row = metrics["results"]["fusion"]
    assert {"map", "occupancy"} <= set(metrics["not_scored"]) and not {"map", "occupancy"} & set(row)
    assert set(row["planning"]) >= {"plan/uniad", "plan/stp3", "plan/vad", "plan/polygon"}
    assert {"expert", "constant_velocity"} <= set(row["planning"]["plan/uniad"]["baselines"])
    assert set(row["motion"]) == {"motion/epa-uniad", "motion/epa-vad", "motion/found-nusc"}
    assert set(row["planning"]) <= set(metrics["protocols"]) and metrics["protocol"] == "det/nusc-cvpr19"
    assert "plan/polygon" in printed and "motion/epa-vad" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found, token: found.pop(token), "sample {token} of split '{split}' is missing"),
        (lambda found, token: found.update(elsewhere=[]), "sample elsewhere is not in split '{split}'"),
        (lambda found, token: found[token][0].update(detection_name="kar"), "{token}, box 0: field 'detection_name'"),
        (lambda found, token: found[token][1].update(size=[1, float("nan"), 1]), "{token}, box 1: field 'size'"),
        (lambda found, token: found.update({token: found[token][:1] * 501}), "sample {token} has 501 boxes"),
    ],
)
def test_a_fault_of_a_submission_is_named_and_nothing_is_scored(
    root: Path, frames: NuScenesFrames, tmp_path: Path, capsys: pytest.CaptureFixture, change, message: str
) -> None:
    records, token = truth_of(frames), frames.token(1)
    change(records, token)
    (tmp_path / "bad.json").write_text(json.dumps({"meta": {"use_lidar": True}, "results": records}))
    words = ["--data", str(root), "--out", str(tmp_path / "out")]
    assert main(["eval", "--predictions", str(tmp_path / "bad.json"), *words]) == 1
    printed = capsys.readouterr()
    assert message.format(token=token, split=SPLIT) in printed.err and "bad.json" in printed.err
    assert not (tmp_path / "out").exists() and "NDS" not in printed.out


def test_a_missing_plan_is_asked_for_and_not_an_empty_list(
    root: Path, frames: NuScenesFrames, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_planning(tmp_path / "plans.json", plans_of([frames.token(k) for k in range(1, len(frames))]))
    words = ["--data", str(root), "--out", str(tmp_path / "out")]
    assert main(["eval", "--predictions", str(tmp_path / "plans.json"), *words]) == 1
    printed = capsys.readouterr().err
    assert f"sample {frames.token(0)} of split '{SPLIT}' is missing" in printed
    assert "every sample needs its planning" in printed and "empty list" not in printed


def test_a_file_is_shown_and_converted_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    store = write_predictions(tmp_path / "all.parquet", predicted_of(TOKENS), META)
    assert main(["predictions", "show", str(store)]) == 0
    printed = capsys.readouterr().out
    assert "bevstack store, 3 samples" in printed and "weights_sha256=000" in printed
    assert f"{len(boxes_of(TOKENS))} boxes" in printed and "3 plans" in printed
    said = PlanOrigin(source="learned")
    made = replace(plans_of(TOKENS), origins=(said, PlanOrigin(source="candidate"), said))
    write_predictions(tmp_path / "made.parquet", replace(predicted_of(TOKENS), planning=made), META)
    assert main(["predictions", "show", str(tmp_path / "made.parquet")]) == 0
    assert "3 plans (2 learned, 1 candidate)" in capsys.readouterr().out
    assert main(["predictions", "show", str(store), "--config"]) == 0
    assert capsys.readouterr().out == META.config
    assert main(["predictions", "convert", str(store), str(tmp_path / "plans.json"), "--as", "planning"]) == 0
    assert_same(
        open_predictions(tmp_path / "plans.json").read(), Predicted(sample_tokens=TOKENS, planning=plans_of(TOKENS))
    )
    assert main(["predictions", "convert", str(store), str(tmp_path / "x.json")]) == 1
    assert "name one with --as" in capsys.readouterr().err
    store.write_bytes(store.read_bytes()[:-9])
    assert main(["predictions", "show", str(store)]) == 1
    assert "no whole Parquet file" in capsys.readouterr().err


def test_occupancy_of_occ3d_leaves_out_what_is_not_needed(tmp_path: Path) -> None:
    grid = Occupancy(semantics=np.full(OCC3D_GRID.shape_xyz, 17, np.uint8), grid=OCC3D_GRID)
    folder = write_dense_folder(tmp_path / "o", "occupancy", [Predicted(sample_tokens=("a",), occupancy=(grid,))], META)
    assert [file.name for file in folder.iterdir()] == ["a.npz"]
