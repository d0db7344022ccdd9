"""`bevstack compare` on every task that is kept by scene: intervals, slices, and what is never significant."""

import json
from pathlib import Path

import pytest
from fixtures.scored_drives import evaluate_drives, predictions_of, write_drives

from bevstack.cli.main import main
from bevstack.evaluation.comparison.figure_names import is_headline, kind_of

CLEAR = {
    "track.amotp": "worse",
    "motion.nusc.min_ade_m.5": "worse",
    "motion.epa-uniad.mean_epa": "worse",
    "motion.epa-uniad.min_ade_m.car": "worse",
    "plan.uniad.l2_m.mean": "worse",
    "plan.stp3.l2_m.mean": "worse",
    "plan.uniad.l2_m.mean@turning": "worse",
    "track.amotp.car": "worse",
}
"""What the run that is off by more must be told to be."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("compared")
    index = write_drives(folder / "data")
    return tuple(  # type: ignore[return-value]
        evaluate_drives(index.root, predictions_of(index, off_m=off_m), folder / name)
        for name, off_m in (("near", 0.2), ("far", 0.9))
    )


def compared(a: Path, b: Path, out: Path, *more: str) -> dict[str, dict]:
    assert main(["compare", str(a), str(b), "--resamples", "60", "--json", str(out), *more]) == 0
    (figures,) = json.loads(out.read_text())["rows"].values()
    return {figure["name"]: figure for figure in figures}


def test_a_run_that_is_off_by_more_is_worse_in_every_task_with_its_interval(runs, tmp_path: Path, capsys) -> None:
    figures = compared(*runs, tmp_path / "c.json", "--slices", "turning")
    assert {name: figures[name]["verdict"] for name in CLEAR} == CLEAR
    for name in CLEAR:
        low, high = figures[name]["interval"]["low"], figures[name]["interval"]["high"]
        assert low <= figures[name]["difference"] <= high
    printed = capsys.readouterr().out
    assert "plan.vad.l2_m.mean@turning" in printed and "plan.vad.l2_m.at_1s" not in printed
    assert not any("baselines" in name for name in figures)


def test_a_run_never_differs_from_itself(runs, tmp_path: Path) -> None:
    figures = compared(runs[0], runs[0], tmp_path / "c.json")
    assert {figure["verdict"] for figure in figures.values()} <= {"equal", "not measured"}
    assert not any("@" in name for name in figures)
    assert sum(figure["verdict"] == "equal" for figure in figures.values()) > 100


def test_the_gate_knows_the_figures_of_all_tasks(runs) -> None:
    words = ["compare", *map(str, runs), "--resamples", "20", "--fail-if"]
    assert main([*words, "plan.uniad.l2_m.mean@turning > 0.05 significant"]) == 3
    assert main([*words, "track.amota.pedestrian > 0; motion.nusc.min_fde_m.10 < 0"]) == 0


def test_figures_of_all_tasks_have_a_unit_and_a_better_side() -> None:
    for name, unit, is_lower_better in (
        ("track.amota", "pt", False),
        ("track.amotp", "m", True),
        ("track.ids.car", "", True),
        ("plan.uniad.l2_m.mean", "m", True),
        ("plan.polygon.collision_until.vehicles.mean", "pt", True),
        ("plan.boundary.leaves_until.mean", "pt", True),
        ("motion.nusc.miss_rate.5", "pt", True),
        ("motion.nusc.off_road_rate", "pt", True),
        ("motion.epa-vad.epa.car", "pt", False),
        ("instance.vpq.vpq.30x30", "pt", False),
        ("lidarseg.nusc.frequency_weighted_iou", "pt", False),
        ("map.chamfer-ap.mAP", "pt", False),
    ):
        assert (name, kind_of(name).unit, kind_of(name).is_lower_better) == (name, unit, is_lower_better)
    headlines = ("track.amota", "plan.uniad.l2_m.mean", "plan.polygon.collision_until.vehicles.mean@turning")
    assert all(is_headline(name) for name in (*headlines, "motion.nusc.min_ade_m.5"))
    assert not any(is_headline(name) for name in ("track.amota.car", "plan.uniad.l2_m.at_1s", "motion.epa-vad.epa.car"))
