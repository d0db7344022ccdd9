"""Detection metrics over processes: the same as in one, whatever the shares, and the same failure on all."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
import torch.multiprocessing as processes
from fixtures.detection_splits import Recipe, write_split

from bevstack.data.index import open_index
from bevstack.evaluation.detection.boxes import read_truth
from bevstack.evaluation.detection.protocol import DetectionScores, score
from bevstack.evaluation.detection.ranks import _owners, score_over_ranks
from bevstack.evaluation.predictions.box_columns import read_submission_columns
from bevstack.evaluation.splits import split_tokens

SHARES = {
    "alternating": lambda tokens: (tokens[::2], tokens[1::2]),
    "overlapping and out of order": lambda tokens: (tokens[3:] + tokens[:1], tokens[4::-1]),
    "all in one process": lambda tokens: ((), tokens),
    "a lost sample": lambda tokens: (tokens[:3], tokens[4:]),
}


def _score_share(rank: int, root: Path) -> None:
    store = f"file://{root / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    index = open_index(root, "v1.0-mini", out=root / "index")
    tokens = split_tokens(index, "mini_val")
    predictions, _ = read_submission_columns(root / "results.json")
    results = {}
    for name, share in SHARES.items():
        own = share(tokens)[rank]
        try:
            results[name] = score_over_ranks(predictions.select(own), read_truth(index, own), tokens)
        except ValueError as error:
            results[name] = error
    (root / f"{rank}.pkl").write_bytes(pickle.dumps(results))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict], DetectionScores, tuple[str, ...]]:
    """What both processes say for each share, what one process says, and the samples."""
    root = tmp_path_factory.mktemp("ranks") / "data"
    path = write_split(root, 11, Recipe(samples_per_scene=4, truth_per_sample=40, predictions_per_sample=80))
    index = open_index(root, "v1.0-mini", out=root / "index")
    tokens = split_tokens(index, "mini_val")
    processes.spawn(_score_share, args=(root,), nprocs=2)
    results = [pickle.loads((root / f"{rank}.pkl").read_bytes()) for rank in (0, 1)]
    alone, _ = score(read_submission_columns(path)[0].select(tokens), read_truth(index, tokens))
    return results, alone, tokens


@pytest.mark.parametrize("name", ["alternating", "overlapping and out of order", "all in one process"])
def test_two_processes_score_as_one(of_two_processes, name: str) -> None:
    results, alone, _ = of_two_processes
    assert alone.nds > 0
    assert results[0][name] == results[1][name] == alone


def test_a_sample_that_no_process_holds_is_named_on_both(of_two_processes) -> None:
    results, _, tokens = of_two_processes
    for result in results:
        assert f"1 of 8 samples are held by no process, the first is {tokens[3]}" in str(result["a lost sample"])


def test_classes_are_shared_out_by_their_size() -> None:
    owners = np.array(_owners(np.array([100, 60, 50, 0, 0, 0, 0, 0, 0, 5]), 2))
    assert owners[0] != owners[1] == owners[2]
    assert set(owners) == {0, 1}
