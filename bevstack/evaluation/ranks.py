"""The processes that share an evaluation: who takes which scenes, and how what they found comes together on the first.

Every process predicts, reads labels and matches for whole scenes of its own, and hands on statistics only: predictions
stay where they were made. One process alone runs through the same code, in which handing on does nothing.

Processes are started by `torchrun --nproc_per_node N -m bevstack eval ...`, or by `launch`, which does the same on one
machine without a port. They talk through gloo, wherever their models run.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch.distributed as dist

from bevstack.data.index import DatasetIndex

T = TypeVar("T")

_RENDEZVOUS = "BEVSTACK_RENDEZVOUS"
"""Where processes that `launch` starts meet; those of torchrun meet at the address in their environment."""
_PATIENCE = timedelta(hours=12)
"""One share may take far longer than another. A process that dies is noticed by whoever started it."""
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among all that share the evaluation."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the results."""
        return self.rank == 0

    def share(self, index: DatasetIndex, sample_tokens: Sequence[str]) -> tuple[str, ...]:
        """The samples of this process: whole scenes one after the other, about as many samples for each process.

        Args:
            index: The data set.
            sample_tokens: All samples, scene by scene.

        Raises:
            ValueError: there are fewer scenes than processes.
        """
        if self.count == 1:
            return tuple(sample_tokens)
        scene = np.array([int(index["sample_scene"][index.sample_row(token)]) for token in sample_tokens], np.int64)
        first = np.flatnonzero(np.diff(scene, prepend=-1))
        if len(first) < self.count:
            raise ValueError(
                f"{self.count} processes share {len(first)} scenes: each needs one of its own; start {len(first)} or "
                "fewer"
            )
        middles = np.append(first, len(scene))
        middles = (middles[1:] + middles[:-1]) / 2
        begin = np.searchsorted(middles, np.arange(self.count + 1) * len(scene) / self.count)
        for rank in range(1, self.count):  # none may go empty, at either end
            begin[rank] = min(max(begin[rank], begin[rank - 1] + 1), len(first) - (self.count - rank))
        bounds = np.append(first, len(scene))[begin]
        return tuple(sample_tokens[bounds[self.rank] : bounds[self.rank + 1]])

    def gathered(self, value: T) -> list[T] | None:
        """What all processes give, in their order, on the first; None on the others. All must call it."""
        if self.count == 1:
            return [value]
        values: list[Any] | None = [None] * self.count if self.is_first else None
        dist.gather_object(value, values, dst=0)
        return values

    def from_first(self, value: T) -> T:
        """What the first process gives, on all of them. All must call it."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    @contextmanager
    def after_first(self) -> Iterator[None]:
        """The first process goes through alone, then all others: for what is made once and then only read."""
        if self.count > 1 and not self.is_first:
            dist.barrier()
        yield
        if self.count > 1 and self.is_first:
            dist.barrier()


@contextmanager
def open_ranks() -> Iterator[Ranks]:
    """This process as its environment describes it (`RANK`, `WORLD_SIZE`); alone where nothing is said."""
    count = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if count == 1:
        yield Ranks()
        return
    rank = int(os.environ["RANK"])
    place = os.environ.get(_RENDEZVOUS, "env://")
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=count, timeout=_PATIENCE)
    try:
        yield Ranks(rank, count)
    finally:
        dist.destroy_process_group()


def is_one_of_several() -> bool:
    """Whether this process was started as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def launch(words: Sequence[str], count: int, *, fine: Sequence[int] = (0,)) -> int:
    """Run a bevstack command in several processes of this machine.

    Args:
        words: The command and its arguments.
        count: How many processes.
        fine: Exit codes of a process that has done its work; any other ends all processes.

    Returns:
        The exit code of the first process, or of the one that failed.
    """
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    with tempfile.TemporaryDirectory(prefix="bevstack-ranks-") as folder:
        common = {"OMP_NUM_THREADS": str(threads), **os.environ, "WORLD_SIZE": str(count)}
        common[_RENDEZVOUS] = f"file://{folder}/rendezvous"
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "bevstack", *words], env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            )
            for rank in range(count)
        ]
        try:
            return _first_or_failed(running, fine)
        finally:
            for process in running:
                if process.poll() is None:
                    process.terminate()
            for process in running:
                process.wait()


def _first_or_failed(running: Sequence["subprocess.Popen[bytes]"], fine: Sequence[int]) -> int:
    while True:
        codes = [process.poll() for process in running]
        failed = next((code for code in codes if code is not None and code not in fine), None)
        if failed is not None:
            return failed if failed > 0 else 1
        if None not in codes:
            return running[0].returncode
        time.sleep(_LOOK_EVERY_S)
