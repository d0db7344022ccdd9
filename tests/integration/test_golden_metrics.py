"""Published figures of real result files, reproduced by the command that users run."""

import json
import shutil
from pathlib import Path

import pytest

from bevstack.cli.main import main
from bevstack.data.class_names import DETECTION_CLASSES

pytestmark = pytest.mark.nuscenes

FILES = ("trelpy_lidar_results_nusc.json", "fastbev_camera_mini_val_results.json")
ERRORS = {"trans_err": "mATE", "scale_err": "mASE", "orient_err": "mAOE", "vel_err": "mAVE", "attr_err": "mAAE"}


@pytest.fixture(scope="module")
def tables(nuscenes_real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of `mini_val` alone, without a picture or a point, where an index may be written."""
    root = tmp_path_factory.mktemp("golden") / "root"
    shutil.copytree(nuscenes_real / "mini_val" / "derived_tables" / "v1.0-mini", root / "v1.0-mini")
    return root


def evaluated(tables: Path, file: Path, out: Path) -> dict:
    words = ["--data", str(tables), "--version", "v1.0-mini", "--split", "mini_val", "--frames", "1"]
    assert main(["eval", "--predictions", str(file), *words, "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["protocols"] == ["det/nusc-cvpr19"] and metrics["data"]["num_frames"] == 81
    return metrics["results"]["submission"]


@pytest.mark.parametrize("name", FILES)
def test_detection_of_real_files_has_the_devkits_metrics_to_the_last_digit_from_json_and_store(
    nuscenes_real: Path, tables: Path, tmp_path: Path, name: str
) -> None:
    official = nuscenes_real / "results" / name
    golden = json.loads((nuscenes_real / "results" / "expected_devkit_detection_metrics.json").read_text())[name]
    row = evaluated(tables, official, tmp_path / "from_json")
    assert row["nds"] == golden["nd_score"] and row["mean_ap"] == golden["mean_ap"]
    assert row["class_ap_at"] == {each: golden["label_aps"][each] for each in DETECTION_CLASSES}
    assert row["errors"] == {ERRORS[field]: value for field, value in golden["tp_errors"].items()}
    store = tmp_path / "store.parquet"
    assert main(["predictions", "convert", str(official), str(store)]) == 0
    assert evaluated(tables, store, tmp_path / "from_store") == row


def test_the_published_mean_average_precision_is_reproduced(nuscenes_real: Path, tables: Path, tmp_path: Path) -> None:
    published = json.loads((nuscenes_real / "results" / "trelpy_lidar_metrics_summary.json").read_text())
    row = evaluated(tables, nuscenes_real / "results" / FILES[0], tmp_path / "out")
    assert row["mean_ap"] == published["mean_ap"]
    # The boxes of these tables are turned about z only.
    assert row["nds"] == pytest.approx(published["nd_score"], abs=2e-6)
