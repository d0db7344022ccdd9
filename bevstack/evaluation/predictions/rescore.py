"""A bundle's figures computed again from its predictions, and held against those that it claims."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bevstack.evaluation.comparison.bundle import Verified, extract
from bevstack.evaluation.comparison.figure_names import figures_of
from bevstack.evaluation.predict import spread
from bevstack.evaluation.predictions.checks import check_predictions
from bevstack.evaluation.predictions.files import open_predictions
from bevstack.evaluation.predictions.labels import data_to_score
from bevstack.evaluation.predictions.scoring import Scene, score_file
from bevstack.evaluation.runner import evaluate

TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """What became of the claims of one row."""

    row: str
    confirmed: tuple[str, ...]
    """Figures that came out as claimed."""
    different: dict[str, tuple[float | None, float | None]]
    """Figure -> (claimed, computed)."""
    not_scored: tuple[str, ...]
    """Claimed, but the predictions or the data do not allow to compute them."""


def rescore(bundle: Verified, root: Path) -> tuple[Rescored, ...]:
    """Score the predictions of a bundle on the data that it names.

    Args:
        bundle: A verified bundle.
        root: Folder of the data set.

    Raises:
        ValueError: the data is not that of the bundle, or the predictions are malformed.
        DatasetError: the data cannot be read.
    """
    claimed = bundle.metrics["results"]
    with tempfile.TemporaryDirectory(prefix="bevstack-rescore-") as folder:
        files = extract(bundle, bundle.manifest["predictions"], Path(folder))
        rows = []
        for name, file in files.items():
            row = next((row for row in claimed if name.partition("_")[2].rpartition(".")[0] == row), None)
            if row is None:
                raise ValueError(f"{bundle.path}: {name} belongs to none of the rows {', '.join(claimed)}")
            found = _scored(bundle.manifest["data"], file, root, Path(folder) / f"out_{row}")
            rows.append(_held_against(row, figures_of(claimed[row]), figures_of(found)))
    return tuple(rows)


def _scored(data_of: Mapping[str, Any], predictions: Path, root: Path, out: Path) -> Mapping[str, Any]:
    file = open_predictions(predictions)
    data = data_to_score(file, root, data_of["version"], data_of["split"])
    frames = data.frames
    if frames.index.data_hash != data_of["hash"]:
        raise ValueError(
            f"{root} has the hash {frames.index.data_hash[:16]}, the bundle was scored on {data_of['hash'][:16]}: "
            "the tables are not the same"
        )
    every = [frames.token(index) for index in range(len(frames))]
    count = int(data_of["num_frames"])
    tokens = [every[index] for index in spread(len(every), None if count == len(every) else count)]
    check_predictions(file, frames.split, every, tokens)
    scores = score_file(file, Scene(data=data, tokens=tuple(tokens), is_whole=len(tokens) == len(every)))
    evaluation = evaluate(
        {"row": scores.to_score},
        frames,
        tokens,
        out,
        provenance={"checkpoint": {"name": predictions.name}},
        num_shown=0,
        labellers=replace(data, without_labels=scores.not_scored).labellers,
        without_labels=scores.not_scored,
    )
    return evaluation.content["results"]["row"]


def _held_against(row: str, claimed: Mapping[str, float | None], computed: Mapping[str, float | None]) -> Rescored:
    confirmed, different, not_scored = [], {}, []
    for name, value in claimed.items():
        if name not in computed:
            not_scored.append(name)
        elif _is_equal(value, computed[name]):
            confirmed.append(name)
        else:
            different[name] = (value, computed[name])
    return Rescored(row=row, confirmed=tuple(confirmed), different=different, not_scored=tuple(not_scored))


def _is_equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE
