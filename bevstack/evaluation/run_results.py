"""Results folders as a comparison reads them, and the reasons why two of them do not share a table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bevstack.evaluation.comparison.scene_statistics import STATISTICS_FILE, SceneStatistics, read_statistics
from bevstack.evaluation.protocols import same_protocols

METRICS_NAME = "metrics.json"
_IDENTITY = {"hash": "data", "version": "versions", "split": "splits"}
"""Fields of `data` that must agree, and what messages call them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """One results folder."""

    folder: Path
    metrics: dict[str, Any]
    statistics: SceneStatistics
    row: str | None
    """The only row to compare; None for all."""

    @property
    def rows(self) -> dict[str, Any]:
        """Name of the row -> its numbers."""
        results = self.metrics["results"]
        return results if self.row is None else {self.row: results[self.row]}


def read_run(text: str) -> RunResults:
    """Read the results folder, or training run with one in `eval/`, that `FOLDER` or `FOLDER:ROW` stands for.

    Raises:
        FileNotFoundError: there is no such folder, or no results in it.
        ValueError: the results are damaged or lack the row.
    """
    folder, row = Path(text), None
    if not folder.exists() and ":" in text:
        before, _, row = text.rpartition(":")
        folder = Path(before)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give the OUT folder of 'bevstack eval' or a run")
    if not (folder / METRICS_NAME).is_file() and (folder / "eval" / METRICS_NAME).is_file():
        folder = folder / "eval"
    file = folder / METRICS_NAME
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no {METRICS_NAME}: evaluate the run with 'bevstack eval --out {folder}'")
    try:
        metrics = json.loads(file.read_text())
        rows = list(metrics["results"])
        _ = [metrics["data"][name] for name in _IDENTITY], metrics["protocols"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged or of another version ({error}): evaluate the run again") from error
    if row is not None and row not in rows:
        raise ValueError(f"{folder} has no row '{row}'; it has {', '.join(rows)}")
    return RunResults(folder=folder, metrics=metrics, statistics=read_statistics(folder / STATISTICS_FILE), row=row)


def check_same_table(runs: Sequence[RunResults]) -> tuple[str, ...]:
    """The protocols of runs that share a table.

    Raises:
        ValueError: their protocols, data or samples differ; the message says which and where.
    """
    first = runs[0]
    try:
        protocols = same_protocols(run.metrics["protocols"] for run in runs)
    except ValueError as error:
        folders = " and ".join(str(run.folder) for run in runs)
        raise ValueError(f"{folders}: {error}") from error
    for run in runs[1:]:
        for field, words in _IDENTITY.items():
            values = [str(each.metrics["data"][field]) for each in (first, run)]
            if values[0] != values[1]:
                shown = " and ".join(value[:16] for value in values)
                raise ValueError(
                    f"{first.folder} and {run.folder} were scored on different {words} ({field} {shown}): "
                    "their numbers do not share a table; evaluate both on the same data"
                )
        _check_samples(first, run)
    return protocols


def _check_samples(first: RunResults, second: RunResults) -> None:
    tokens = [run.statistics.facts.sample_tokens for run in (first, second)]
    if tokens[0] == tokens[1]:
        return
    sets = [set(each) for each in tokens]
    if sets[0] == sets[1]:
        raise ValueError(f"{first.folder} and {second.folder} have the same samples in another order: evaluate again")
    odd = min(sets[0] ^ sets[1])
    owner = first if odd in sets[0] else second
    raise ValueError(
        f"{first.folder} and {second.folder} were scored on different samples ({len(tokens[0])} and {len(tokens[1])}; "
        f"only {owner.folder} has {odd}): evaluate both with the same --split and --limit"
    )
