"""Two runs, or two sets of runs with different seeds, side by side: values, difference, interval, significant or not.

With one run a side the interval is that of the scenes alone (`bootstrap`, paired): it says whether these two sets of
weights differ on other scenes of this kind, not whether training again would repeat it. With several runs a side their
means are compared and the spread between runs counts as well: the squared errors of scenes and seeds are added, with
the degrees of freedom of Welch and Satterthwaite. A side with a single run is given the spread of the other.

Each interval is one of its own: of twenty figures that do not differ, one is expected to look significant.
"""

import statistics as mean
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from bevstack.evaluation.comparison.bootstrap import (
    DEFAULT_RESAMPLES,
    MIN_SCENES,
    Estimate,
    Interval,
    Statistic,
    bootstrap,
    difference,
    mean_of,
)
from bevstack.evaluation.comparison.figure_names import figures_of, is_headline, kind_of
from bevstack.evaluation.comparison.gate import Shown
from bevstack.evaluation.comparison.scene_statistics import RowFigures
from bevstack.evaluation.comparison.slices import SCENE_SLICES
from bevstack.evaluation.run_results import RunResults, check_same_table
from bevstack.evaluation.task_statistics import TaskStatistics
from bevstack.seed_statistics import Spread, joint_spread, seed_spreads

Verdict = Literal["better", "worse", "not clear", "equal", "no interval", "not measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFigure:
    """One line of the table, in the figure's shown unit: points for fractions."""

    name: str
    unit: str
    a: float | None
    """Mean over the runs of A."""
    b: float | None
    difference: float | None
    """B - A."""
    interval: Interval | None
    """95 %, of the difference; None below six scenes and for figures that are not kept by scene."""
    verdict: Verdict
    """Of B."""
    a_runs: tuple[float | None, ...]
    b_runs: tuple[float | None, ...]

    @property
    def is_significant(self) -> bool | None:
        """None where there is no interval."""
        return None if self.interval is None else self.interval.leaves_out_zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All rows of a comparison."""

    a: tuple[str, ...]
    """Folders."""
    b: tuple[str, ...]
    protocols: tuple[str, ...]
    data: dict[str, Any]
    num_samples: int
    num_scenes: int
    rows: dict[str, tuple[ComparedFigure, ...]]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know to read the intervals."""
        notes = []
        if self.num_scenes < MIN_SCENES:
            notes.append(
                f"scenes: {self.num_scenes}; intervals need {MIN_SCENES} or more, so nothing can be called clear"
            )
        elif len(self.a) == len(self.b) == 1:
            notes.append("one run a side: the intervals know the noise of scenes, not that of training")
        if self.num_scenes >= MIN_SCENES and any(f.verdict == "no interval" for row in self.rows.values() for f in row):
            notes.append("figures without an interval are not kept by scene")
        return tuple(notes)

    def shown(self) -> dict[str, dict[str, Shown]]:
        """As a gate reads it."""
        return {
            row: {of.name: Shown(difference=of.difference, is_significant=of.is_significant) for of in figures}
            for row, figures in self.rows.items()
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, ready for a file."""
        content = asdict(self)
        for row, figures in self.rows.items():
            content["rows"][row] = [{**asdict(of), "is_significant": of.is_significant} for of in figures]
        return {**content, "notes": self.notes}


def compare(
    a: Sequence[RunResults],
    b: Sequence[RunResults],
    *,
    slices: Sequence[str] = (),
    resamples: int = DEFAULT_RESAMPLES,
    every_figure: bool = True,
) -> Comparison:
    """Compare runs.

    Args:
        a: Runs of one side, the same model with different seeds.
        b: Runs of the other side.
        slices: Names of slices whose figures are compared too.
        resamples: Draws of scenes.
        every_figure: Also those of single classes.

    Raises:
        ValueError: the runs do not share a table, or have no row in common.
    """
    runs = (*a, *b)
    protocols = check_same_table(runs)
    first = runs[0]
    facts = first.statistics.facts
    rows = {
        name: _compare_row([(run, row_a) for run in a], [(run, row_b) for run in b], slices, resamples, every_figure)
        for name, row_a, row_b in _common_rows(a, b)
    }
    return Comparison(
        a=tuple(str(run.folder) for run in a),
        b=tuple(str(run.folder) for run in b),
        protocols=protocols,
        data={key: first.metrics["data"][key] for key in ("version", "split", "hash")},
        num_samples=len(facts.sample_tokens),
        num_scenes=len(facts.scene_names),
        rows=rows,
    )


def row_statistic(run: RunResults, row: str, slices: Sequence[str] = ()) -> Statistic | None:
    """The figures of a row that are kept by scene, those of slices after an @; None where nothing is."""
    facts, statistics = run.statistics.facts, run.statistics.rows.get(row)
    by_scene = _figures_by_scene(run, row)
    if statistics is None and not by_scene:
        return None
    boxes = {} if statistics is None else {name: RowFigures(facts, statistics, name) for name in (None, *slices)}
    in_slice = {name: facts.of_scenes(name) for name in slices if name in SCENE_SLICES}

    def figures(weights: np.ndarray) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for name, part in boxes.items():
            found |= _in_slice(figures_of(part(weights)), name)
        for of_task in by_scene:
            found |= figures_of(of_task(weights))
            for name, mask in in_slice.items():
                found |= _in_slice(figures_of(of_task(weights * mask)), name)
        return found

    return figures


def _figures_by_scene(run: RunResults, row: str) -> list[Callable[[np.ndarray], Mapping[str, Any]]]:
    """For map and occupancy, and for every further task: weights of all scenes -> a part of a row of `metrics.json`."""
    dense, names = run.statistics.dense.get(row), run.statistics.facts.scene_names
    found: list[Callable[[np.ndarray], Mapping[str, Any]]] = [] if dense is None else [dense]
    return [*found, *(_weighted(of_task, names) for of_task in run.statistics.tasks.get(row, {}).values())]


def _weighted(statistics: TaskStatistics, scene_names: Sequence[str]) -> Callable[[np.ndarray], Mapping[str, Any]]:
    places = [scene_names.index(name) for name in statistics.scene_names]
    return lambda weights: {statistics.task: statistics.numbers(weights[places])}


def _in_slice(figures: dict[str, float | None], name: str | None) -> dict[str, float | None]:
    if name is None:
        return figures
    return {f"{figure}@{name}": value for figure, value in figures.items() if "@" not in figure}


def _common_rows(a: Sequence[RunResults], b: Sequence[RunResults]) -> list[tuple[str, str, str]]:
    """(shown name, row of A, row of B). Single rows are compared whatever their names."""
    names = [list(run.rows) for run in (*a, *b)]
    common = [name for name in names[0] if all(name in each for each in names)]
    if common:
        return [(name, name, name) for name in common]
    rows_a = {name for each in names[: len(a)] for name in each}
    rows_b = {name for each in names[len(a) :] for name in each}
    if len(rows_a) == len(rows_b) == 1:
        row_a, row_b = rows_a.pop(), rows_b.pop()
        return [(f"{row_b} against {row_a}", row_a, row_b)]
    raise ValueError(
        f"the runs have no row in common (A has {', '.join(sorted(rows_a))}; B has {', '.join(sorted(rows_b))}): name "
        "one of each with FOLDER:ROW"
    )


def _compare_row(
    a: Sequence[tuple[RunResults, str]],
    b: Sequence[tuple[RunResults, str]],
    slices: Sequence[str],
    resamples: int,
    every_figure: bool,
) -> tuple[ComparedFigure, ...]:
    sides = [[row_statistic(run, row, slices) for run, row in side] for side in (a, b)]
    values = [[figures_of(run.rows[row]) for run, row in side] for side in (a, b)]
    num_scenes = len(a[0][0].statistics.facts.scene_names)
    estimates: Mapping[str, Estimate] = {}
    if all(statistic is not None for side in sides for statistic in side):
        first, second = ([statistic for statistic in side if statistic is not None] for side in sides)
        estimates = bootstrap(difference(mean_of(first), mean_of(second)), num_scenes, resamples=resamples)
        for side, of_side in zip(values, (first, second), strict=True):
            for figures, statistic in zip(side, of_side, strict=True):
                figures |= {k: v for k, v in statistic(np.ones(num_scenes)).items() if "@" in k}
    wanted = ("", *slices)  # of planning, turning frames are in every row
    names = [name for name in values[0][0] if all(name in run for side in values for run in side)]
    names = [name for name in names if name.partition("@")[2] in wanted]
    return tuple(
        _compared(name, [[run[name] for run in side] for side in values], estimates.get(name), num_scenes)
        for name in names
        if every_figure or is_headline(name)
    )


def _compared(name: str, sides: list[list[float | None]], estimate: Estimate | None, num_scenes: int) -> ComparedFigure:
    kind = kind_of(name)
    scaled = [tuple(None if value is None else value * kind.scale for value in side) for side in sides]
    means = [None if None in side else mean.fmean(v for v in side if v is not None) for side in scaled]
    a, b = means
    change = None if a is None or b is None else b - a
    interval = None
    if estimate is not None and estimate.interval is not None and change is not None:
        interval = _interval(estimate, scaled, kind.scale, change, num_scenes)
    return ComparedFigure(
        name=name,
        unit=kind.unit,
        a=a,
        b=b,
        difference=change,
        interval=interval,
        verdict=_verdict(change, interval, kind.is_lower_better),
        a_runs=scaled[0],
        b_runs=scaled[1],
    )


def _interval(estimate: Estimate, sides: Sequence[Any], scale: float, change: float, num_scenes: int) -> Interval:
    """Of scenes alone where there is one run a side, else of scenes and runs together."""
    assert estimate.interval is not None and estimate.std_error is not None
    seeds = seed_spreads(*sides)
    if not seeds:
        of = estimate.interval
        return Interval(low=of.low * scale, high=of.high * scale, method=of.method)
    scenes = Spread(variance=(estimate.std_error * scale) ** 2, degrees=num_scenes - 1)
    half_width = joint_spread((scenes, *seeds)).half_width()
    return Interval(low=change - half_width, high=change + half_width, method="seeds")


def _verdict(change: float | None, interval: Interval | None, is_lower_better: bool) -> Verdict:
    if change is None:
        return "not measured"
    if change == 0 and (interval is None or interval.low == interval.high == 0):
        return "equal"
    if interval is None:
        return "no interval"
    if not interval.leaves_out_zero:
        return "not clear"
    return "better" if (interval.low > 0) != is_lower_better else "worse"
