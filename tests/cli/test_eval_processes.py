"""`bevstack eval` in two processes: the numbers of one, for every task, and one message where it fails."""

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.scored_drives import evaluate_drives, predictions_of, write_drives

from bevstack.cli.main import main
from bevstack.evaluation.ranks import Ranks

PROTOCOLS = {"det/nusc-cvpr19", "track/nusc-2020", "motion/nusc", "motion/epa-uniad", "motion/epa-vad", "plan/uniad"}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one process in `one`, of two in `two`."""
    folder = tmp_path_factory.mktemp("processes")
    index = write_drives(folder / "data")
    predicted = predictions_of(index, off_m=0.6)
    evaluate_drives(index.root, predicted, folder / "one")
    evaluate_drives(index.root, predicted, folder / "two", "--processes", "2")
    return folder


@pytest.mark.slow
def test_two_processes_write_what_one_writes(out: Path) -> None:
    one, two = (json.loads((out / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert two["results"] == one["results"] and two["protocols"] == one["protocols"]
    assert set(two["protocols"]) >= PROTOCOLS
    for name in ("curves.json", "frame_counts.json"):
        assert (out / "two" / name).read_bytes() == (out / "one" / name).read_bytes()
    kept = [dict(np.load(out / name / "scene_statistics.npz")) for name in ("one", "two")]
    assert kept[0].keys() == kept[1].keys() and len(kept[0]) > 100
    for name, array in kept[0].items():
        np.testing.assert_array_equal(array, kept[1][name], err_msg=name)


@pytest.mark.slow
def test_more_processes_than_scenes_are_refused(out: Path, capfd: pytest.CaptureFixture) -> None:
    file = str(out / "one.parquet")
    words = ["eval", "--predictions", file, "--data", str(out / "data"), "--out", str(out / "none")]
    assert main([*words, "--limit", "1", "--processes", "2"]) == 1
    assert "2 processes share 1 scenes: each needs one of its own" in capfd.readouterr().err
    assert not (out / "none").exists()
    assert main([*words, "--processes", "0"]) == 1


class Index:
    """As much of an index as shares look at."""

    def __init__(self, sizes: list[int]) -> None:
        self.scenes = np.repeat(np.arange(len(sizes)), sizes)

    def sample_row(self, token: str) -> int:
        return int(token)

    def __getitem__(self, name: str) -> np.ndarray:
        return {"sample_scene": self.scenes}[name]


@pytest.mark.parametrize("sizes", [[40] * 9, [1, 1, 1, 90], [90, 1, 1, 1], [5, 60, 2, 2, 30, 1], [3, 3]])
def test_shares_are_whole_scenes_and_all_samples_in_order(sizes: list[int]) -> None:
    index, tokens = Index(sizes), [str(row) for row in range(sum(sizes))]
    for count in range(1, len(sizes) + 1):
        shares = [Ranks(rank, count).share(index, tokens) for rank in range(count)]  # type: ignore[arg-type]
        assert [token for share in shares for token in share] == tokens and all(shares)
        scenes = [{index.scenes[int(token)] for token in share} for share in shares]
        assert sum(len(each) for each in scenes) == len(sizes)
