"""What a model wrote to files is scored from them to the same numbers, to the last digit, for every task."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.predicted_samples import assert_same
from fixtures.training_runs import SMALL
from fixtures.worlds import tiny_preset

from bevstack.build import build_model, compose, save_weights
from bevstack.cli.eval import EXIT_PARTLY
from bevstack.cli.main import main
from bevstack.data.index import open_index
from bevstack.evaluation.dense.map_vectors import PredictedLines
from bevstack.evaluation.dense.map_vectors_file import true_map_lines, write_map_lines
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.store import PredictionStore
from bevstack.sim.make import make_worlds

pytestmark = pytest.mark.slow

TASKS = ("detection", "tracking", "found_motion", "planning", "map", "occupancy")
"""What a model without a second stage says, with all that runs around it."""
PROTOCOLS = {
    "det/nusc-cvpr19",
    "track/nusc-2020",
    "motion/epa-uniad",
    "motion/epa-vad",
    "plan/uniad",
    "plan/stp3",
    "plan/vad",
    "plan/polygon",
    "plan/boundary",
    "map/bevfusion-iou",
    "occ/occ3d-miou",
    "occ/rayiou",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rescored") / "world"
    make_worlds(
        root, scenes=2, seed=3, preset=tiny_preset(), keyframes_per_scene=3, occupancy=("occ3d",), show_progress=False
    )
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = compose(["experiment=m3net_small", *SMALL, "input.image_size.height=64", "input.image_size.width=192"])
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    return save_weights(path, build_model(config, pretrained=False), config)


@pytest.fixture(scope="module")
def evaluated(world: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated") / "out"
    words = ["--checkpoint", str(weights), "--data", str(world), "--device", "cpu", "--frames", "1"]
    assert main(["eval", *words, "--out", str(out)]) == 0
    return out


def test_two_processes_write_what_one_writes(world: Path, weights: Path, evaluated: Path, tmp_path: Path) -> None:
    words = ["--checkpoint", str(weights), "--data", str(world), "--device", "cpu", "--frames", "1"]
    assert main(["eval", *words, "--out", str(tmp_path), "--processes", "2"]) == 0
    one, two = (
        json.loads((folder / "metrics.json").read_text())["results"]["fusion"] for folder in (evaluated, tmp_path)
    )
    assert one.pop("seconds_per_frame") > 0 and two.pop("seconds_per_frame") > 0
    assert two == one
    stored = [PredictionStore(folder / "predictions_fusion.parquet").read() for folder in (evaluated, tmp_path)]
    assert_same(*(replace(each, tracking=None) for each in stored))
    assert_same_tracks(*(each.tracking for each in stored))
    submissions = [json.loads((folder / "submission_fusion.json").read_text()) for folder in (evaluated, tmp_path)]
    assert submissions[0] == submissions[1]
    assert not list(tmp_path.glob(".predictions*"))


def assert_same_tracks(one: BoxColumns | None, other: BoxColumns | None) -> None:
    """The same boxes, joined to the same tracks in each scene of three frames; every process counts from 0."""
    assert one is not None and other is not None and one.track_index is not None and other.track_index is not None
    np.testing.assert_array_equal(one.translation, other.translation)
    np.testing.assert_array_equal(one.score, other.score)
    for scene in (0, 1):
        own = one.sample_index // 3 == scene
        pairs = set(zip(one.track_index[own].tolist(), other.track_index[own].tolist(), strict=True))
        assert len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


def scores(world: Path, file: Path, out: Path) -> dict:
    words = ["--data", str(world), "--frames", "1", "--out", str(out)]
    code = main(["eval", "--predictions", str(file), *words])
    metrics = json.loads((out / "metrics.json").read_text())
    assert code == (EXIT_PARTLY if metrics["not_scored"] else 0)
    (row,) = metrics["results"].values()
    assert row.pop("seconds_per_frame") is None
    return {"protocols": metrics["protocols"], **row}


def test_all_tasks_of_a_checkpoint_score_the_same_from_the_store_beside_its_metrics(
    world: Path, evaluated: Path, tmp_path: Path
) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text())
    own = {"protocols": metrics["protocols"], **metrics["results"]["fusion"]}
    assert own.pop("seconds_per_frame") > 0
    store = evaluated / "predictions_fusion.parquet"
    assert scores(world, store, tmp_path / "again") == own
    assert set(own["protocols"]) >= PROTOCOLS
    said = PredictionStore(store)
    assert said.tasks == TASKS
    assert said.meta.model["weights_sha256"] == metrics["checkpoint"]["weights_sha256"]
    assert said.meta.data["hash"] == metrics["data"]["hash"] and "m3net" in said.meta.config
    assert set(own["protocols"]) <= set(said.description["protocols"])


def test_official_files_of_every_task_score_the_same(world: Path, evaluated: Path, tmp_path: Path) -> None:
    own = json.loads((evaluated / "metrics.json").read_text())["results"]["fusion"]
    store = str(evaluated / "predictions_fusion.parquet")
    others = ("tracking", "motion", "planning", "map", "occupancy", "seconds_per_frame")
    boxes = {name: value for name, value in own.items() if name not in others}
    for task, expected in (
        ("detection", boxes),
        ("tracking", {"tracking": own["tracking"]}),
        ("planning", {"planning": own["planning"]}),
        ("map", {"map": own["map"]}),
        ("occupancy", {"occupancy": own["occupancy"]}),
    ):
        assert main(["predictions", "convert", store, str(tmp_path / task), "--as", task]) == 0
        found = scores(world, tmp_path / task, tmp_path / f"{task}_scores")
        assert {name: value for name, value in found.items() if name != "protocols"} == expected
    assert scores(world, evaluated / "submission_fusion.json", tmp_path / "written_by_eval") == {
        "protocols": ["det/nusc-cvpr19"],
        **boxes,
    }


def test_predict_writes_the_same_predictions_as_eval(
    world: Path, weights: Path, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "predictions.parquet"
    words = ["--checkpoint", str(weights), "--data", str(world), "--device", "cpu", "--out", str(out)]
    assert main(["predict", *words]) == 0
    assert f"{', '.join(TASKS)} of 6 of 6 samples" in capsys.readouterr().out
    one, other = PredictionStore(out).read(), PredictionStore(evaluated / "predictions_fusion.parquet").read()
    for a, b in zip(one.map, other.map, strict=True):
        assert (a.probabilities == b.probabilities).all()
    assert (one.detection.translation == other.detection.translation).all()
    assert (one.planning.poses == other.planning.poses).all()


def test_the_lines_of_the_map_as_a_file_are_found_without_exception(world: Path, tmp_path: Path) -> None:
    index = open_index(world)
    tokens = [index.sample_tokens[row] for row in range(index.num_samples)]
    lines = {}
    for token in tokens:
        truth = true_map_lines(index, token)
        certain = np.ones(len(truth.lines))
        lines[token] = PredictedLines(lines=truth.lines, class_index=truth.class_index, scores=certain)
    write_map_lines(tmp_path / "lines.json", lines, {"use_camera": True})
    found = scores(world, tmp_path / "lines.json", tmp_path / "out")["map_lines"]["map/chamfer-ap"]
    assert found["num_frames"] == 6 and found["mean_ap"] == 1.0
