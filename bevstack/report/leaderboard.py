"""The page of a leaderboard: one table for each protocol and each data set, from verified bundles only."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import bevstack
from bevstack.evaluation.comparison.bootstrap import Interval, bootstrap
from bevstack.evaluation.comparison.bundle import Verified, extract, verify
from bevstack.evaluation.comparison.figure_names import figures_of, is_headline, kind_of, prefixes
from bevstack.evaluation.comparison.runs import row_statistic
from bevstack.evaluation.comparison.scene_statistics import STATISTICS_FILE, read_statistics
from bevstack.evaluation.protocols import PROTOCOLS
from bevstack.evaluation.run_results import RunResults
from bevstack.report.templates import FOLDER, filled_in

_RESAMPLES = 300
_HEADLINES = {"nds": "NDS", "mean_ap": "mAP", "mean_iou": "mIoU"}
"""Headline field of a protocol -> the last word of its name; others are called as their field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of one table."""

    name: str
    row: str
    file: str
    signer: str | None
    model: str | None
    created: str
    lead: float | None
    lead_interval: Interval | None
    others: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All entries that share protocol, data and samples, best first."""

    protocol: str
    title: str
    source: str
    data: dict[str, Any]
    lead: tuple[str, str]
    """Name and unit of the figure that ranks."""
    columns: tuple[tuple[str, str], ...]
    entries: tuple[Entry, ...]

    @property
    def reach(self) -> float:
        """The largest value of the figure that ranks, for the bars."""
        return max([entry.lead for entry in self.entries if entry.lead is not None], default=0.0) or 1.0


def read_entries(folder: Path) -> tuple[list[Verified], list[str]]:
    """The bundles of a folder that are what they say, and why the others are left out.

    Raises:
        FileNotFoundError: there is no such folder, or no bundle in it.
    """
    files = sorted(folder.glob("*.zip"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no .zip bundle; 'bevstack leaderboard pack RUN OUT.zip' makes one")
    bundles, refused = [], []
    for file in files:
        try:
            bundles.append(verify(file))
        except ValueError as error:
            refused.append(str(error).replace(str(file), file.name))
    return bundles, refused


def tables_of(bundles: Sequence[Verified]) -> list[Table]:
    """Sort the rows of all bundles into tables; numbers of different protocols or data are never mixed."""
    groups: dict[tuple[str, ...], list[tuple[Verified, str, dict[str, Any]]]] = {}
    for bundle in bundles:
        of = bundle.manifest["data"]
        data = tuple(str(of[key]) for key in ("version", "split", "hash", "samples_sha256"))
        for row, content in bundle.metrics["results"].items():
            found, intervals = figures_of(content), _intervals(bundle, row)
            for protocol, prefix in prefixes().items():
                own = {name: value for name, value in found.items() if name.startswith(f"{prefix}.")}
                if own and protocol in bundle.manifest["protocols"]:
                    member = bundle, row, {"figures": own, "intervals": intervals}
                    groups.setdefault((protocol, *data), []).append(member)
    order = list(PROTOCOLS)
    return [_table(key[0], groups[key]) for key in sorted(groups, key=lambda key: (order.index(key[0]), *key[1:]))]


def write_page(bundles: Sequence[Verified], refused: Sequence[str], path: Path) -> Path:
    """Write one HTML file that needs nothing else.

    Args:
        bundles: What is shown.
        refused: Why other files are not.
        path: Replaced where it exists.
    """
    text = filled_in(
        "leaderboard.html",
        {"figure": _figure},
        tables=tables_of(bundles),
        num_bundles=len(bundles),
        refused=refused,
        style=(FOLDER / "report.css").read_text(),
        version=bevstack.__version__,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _table(protocol: str, members: Sequence[tuple[Verified, str, dict[str, Any]]]) -> Table:
    info, prefix = PROTOCOLS[protocol], prefixes()[protocol]
    names = [name for name in members[0][2]["figures"] if is_headline(name)]
    lead = f"{prefix}.{_HEADLINES.get(info.headline, info.headline)}"
    if lead not in names:  # a protocol whose headline has parts: the mean of them, or the first
        parts = [name for name in members[0][2]["figures"] if name.startswith(f"{lead}.")]
        lead = next((name for name in parts if name.endswith(".mean")), (parts or names)[0])
    columns = [name for name in names if name != lead]
    entries = [_entry(bundle, row, numbers, lead, columns) for bundle, row, numbers in members]
    is_lower_better = kind_of(lead).is_lower_better
    worst = np.inf if is_lower_better else -np.inf
    entries.sort(
        key=lambda entry: worst if entry.lead is None else entry.lead,
        reverse=not is_lower_better,
    )
    return Table(
        protocol=protocol,
        title=info.title,
        source=info.source,
        data=members[0][0].manifest["data"],
        lead=(lead[len(prefix) + 1 :], kind_of(lead).unit),
        columns=tuple((name[len(prefix) + 1 :], kind_of(name).unit) for name in columns),
        entries=tuple(entries),
    )


def _entry(bundle: Verified, row: str, numbers: dict[str, Any], lead: str, columns: Sequence[str]) -> Entry:
    manifest, figures = bundle.manifest, numbers["figures"]
    interval: Interval | None = numbers["intervals"].get(lead)
    scale = kind_of(lead).scale
    if interval is not None:
        interval = Interval(low=interval.low * scale, high=interval.high * scale, method=interval.method)
    return Entry(
        name=manifest["name"],
        row=row,
        file=bundle.path.name,
        signer=bundle.signature.fingerprint if bundle.signature else None,
        model=manifest["model"]["sha256"],
        created=manifest["created"][:10],
        lead=_scaled(lead, figures.get(lead)),
        lead_interval=interval,
        others=tuple(_scaled(name, figures.get(name)) for name in columns),
    )


def _intervals(bundle: Verified, row: str) -> dict[str, Interval | None]:
    """Of every figure that is kept by scene."""
    with tempfile.TemporaryDirectory(prefix="bevstack-page-") as folder:
        file = extract(bundle, [STATISTICS_FILE], Path(folder))[STATISTICS_FILE]
        statistics = read_statistics(file)
    run = RunResults(folder=bundle.path, metrics=bundle.metrics, statistics=statistics, row=row)
    statistic = row_statistic(run, row)
    if statistic is None:
        return {}
    estimates = bootstrap(statistic, len(statistics.facts.scene_names), resamples=_RESAMPLES)
    return {name: estimate.interval for name, estimate in estimates.items()}


def _scaled(name: str, value: float | None) -> float | None:
    return None if value is None else value * kind_of(name).scale


def _figure(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:.2f}" if unit == "pt" else f"{value:.3f}"
