"""How sure the numbers of a page are, and where they come from: intervals over scenes, and figures of slices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bevstack.evaluation.comparison.bootstrap import MIN_SCENES, Interval, bootstrap
from bevstack.evaluation.comparison.figure_names import is_headline
from bevstack.evaluation.comparison.runs import row_statistic
from bevstack.evaluation.comparison.scene_statistics import STATISTICS_FILE
from bevstack.evaluation.comparison.slices import OBJECT_SLICES
from bevstack.evaluation.run_results import read_run

_RESAMPLES = 300
"""Enough for two digits of an interval: a page is made in seconds, `bevstack compare` draws more."""
_COLUMNS = {
    "det.NDS": "NDS",
    "det.mAP": "mAP",
    "det.mATE": "mATE",
    "det.mAOE": "mAOE",
    "det.mAVE": "mAVE",
    "map.bevfusion-iou.mIoU": "map mIoU",
    "occ.occ3d-miou.mIoU": "occ mIoU",
    "occ.rayiou.mIoU": "RayIoU",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of the first row of an evaluation."""

    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """Figure, as `bevstack compare` names it -> its 95 % interval over scenes."""
    num_scenes: int = 0
    columns: tuple[str, ...] = ()
    """Heads of the figures that the slices have."""
    slices: tuple[tuple[str, tuple[float | None, ...]], ...] = ()
    """Name of each slice and its figures; "all" first."""

    def text(self, name: str) -> str:
        """`0.640 to 0.708`, or nothing where there is no interval."""
        interval = self.intervals.get(name)
        return "" if interval is None else f"95 %: {interval.low:.3f} to {interval.high:.3f}"

    @property
    def note(self) -> str:
        """What a reader must know of the intervals."""
        if self.intervals:
            return (
                f"95 % intervals over other scenes of this kind, from {self.num_scenes} scenes; the noise of training "
                "is not in them."
            )
        return f"No intervals: {self.num_scenes} scenes, {MIN_SCENES} are needed." if self.num_scenes else ""


def spread_of(folder: Path, row: str) -> Spread:
    """From what an evaluation keeps by scene; empty where it keeps nothing, as older ones do."""
    if not (folder / STATISTICS_FILE).is_file():
        return Spread()
    run = read_run(str(folder))
    parts = (*run.statistics.facts.slices, *OBJECT_SLICES)
    statistic, sliced = row_statistic(run, row), row_statistic(run, row, parts)
    if statistic is None or sliced is None:
        return Spread()
    num_scenes = len(run.statistics.facts.scene_names)
    estimates = bootstrap(statistic, num_scenes, resamples=_RESAMPLES) if num_scenes >= MIN_SCENES else {}
    intervals = {name: of.interval for name, of in estimates.items() if of.interval is not None and is_headline(name)}
    figures = sliced(np.ones(num_scenes))
    shown = {name: title for name, title in _COLUMNS.items() if figures.get(name) is not None}
    rows = [("all", tuple(figures[name] for name in shown))]
    for part in parts:
        values = tuple(figures.get(f"{name}@{part}") for name in shown)
        if any(value is not None for value in values):
            rows.append((part, values))
    return Spread(intervals=intervals, num_scenes=num_scenes, columns=tuple(shown.values()), slices=tuple(rows))
