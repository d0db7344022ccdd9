"""What an ablation makes of finished evaluations: numbers known by hand, verdicts, the page and the short table."""

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures.result_folders import evaluate_file, write_data, write_results

from bevstack.report.ablation import markdown_table, verdict_counts, write_page
from bevstack.report.ablation_chart import condition_chart
from bevstack.report.ablation_figures import FIGURES, GROUPS, HEADLINES, read_figures
from bevstack.report.ablation_summary import summarise, verdict
from bevstack.seed_statistics import seed_mean
from bevstack.training.ablation import AblatedModel, conditions_of
from bevstack.training.planned_runs import PlannedRun, Scoring, Variant

L2, MAP = "plan.uniad.l2_m.at_3s", "det.mAP"
TEXTS = conditions_of(("fresh", "absent", "wrong"))
GIVEN = {
    "experiment": "e", "overrides": ["a=b"], "frozen": ["encoders"], "init_from": "demo",
    "bevstack_version": "1", "git_commit": "", "torch_version": "2",
}  # fmt: skip


def _model(name: str, form: str | None, ego: bool = False, **more: str | None) -> AblatedModel:
    variant = Variant(name=name, overrides=("x=1",), tasks=("planning",))
    return AblatedModel(variant=variant, form=form, ego_status=ego, **{"baseline": None, "without_ego": None, **more})


NONE, READER = _model("none", None), _model("reader", "residual", baseline="none")
DRIVER = _model("driver", None, ego=True, without_ego="none")


def _metrics(mean_ap: float, l2_m: float, without: int | None = None) -> dict[str, Any]:
    by_second = {"at_1s": l2_m / 4, "at_2s": l2_m / 2, "at_3s": l2_m, "mean": l2_m}
    planning = {"plan/uniad": {"l2_m": by_second, "turning": {"l2_m": {"at_3s": 2 * l2_m}}}}
    cues = None if without is None else {"cues": {"name": "c", "age_s": 0.0, "frames_without": {"empty": without}}}
    return {
        "data": {"version": "v", "split": "s", "hash": "h", "num_frames": 40, "num_scenes": 2},
        "protocols": ["det/nusc-cvpr19", "plan/uniad"],
        "results": {"fusion": {"nds": 0.5, "mean_ap": mean_ap, "planning": planning}},
        **(cues or {}),
    }


def _run(folder: Path, model: AblatedModel, seed: int, of_texts: dict[str, dict[str, Any]]) -> PlannedRun:
    run = PlannedRun(
        variant=model.variant,
        seed=seed,
        overrides=(),
        folder=folder / f"{model.variant.name}-{seed}",
        steps=3,
        scorings=tuple(Scoring(folder=of.folder) for of in model.conditions(TEXTS)),
    )
    for text, metrics in of_texts.items():
        file = run.run / "eval" / text / "metrics.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(metrics))
    return run


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """Three seeds whose own level varies much: fresh text is 10 cm better than none, a wrong one 30 cm worse."""
    runs = []
    for seed, level in enumerate((1.0, 2.0, 3.0)):
        runs.append(_run(tmp_path, NONE, seed, {"absent": _metrics(0.5, level)}))
        better = {"fresh": _metrics(0.5, level - 0.1 - 0.01 * seed, 4), "wrong": _metrics(0.5, level + 0.2, 4)}
        runs.append(_run(tmp_path, READER, seed, better if seed else {**better, "absent": _metrics(0.5, level)}))
        runs.append(_run(tmp_path, DRIVER, seed, {"absent": _metrics(0.5, level + (0.5 if seed else -0.5))}))
    return {**GIVEN, **summarise(runs, (NONE, READER, DRIVER), TEXTS)}


def test_values_are_means_over_seeds_in_the_unit_that_is_shown(content: dict[str, Any]) -> None:
    assert content["values"][L2]["none"]["absent"]["mean"] == pytest.approx(2.0)
    assert content["values"][L2]["none"]["absent"]["half_width"] == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert content["values"][MAP]["reader"]["fresh"]["mean"] == pytest.approx(50.0)
    assert content["figures"][MAP] == {"unit": "pt", "is_lower_better": False}
    assert content["figures"][L2] == {"unit": "m", "is_lower_better": True}
    assert content["values"][f"{L2}@turning"]["none"]["absent"]["mean"] == pytest.approx(4.0)


def test_a_difference_seed_by_seed_sees_what_the_spread_between_seeds_hides(content: dict[str, Any]) -> None:
    gain = content["against_none"][L2]["reader"]["fresh"]
    assert gain["values"] == pytest.approx((-0.1, -0.11, -0.12))
    assert gain["half_width"] == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    assert gain["verdict"] == "helps"
    assert content["against_none"][L2]["reader"]["wrong"]["verdict"] == "harms"
    assert content["against_fresh"][L2]["reader"]["wrong"]["mean"] == pytest.approx(0.31)
    assert content["against_fresh"][L2]["reader"]["wrong"]["verdict"] == "harms"
    assert set(content["against_fresh"][L2]["reader"]) == {"absent", "wrong"}


def test_one_seed_and_opposite_seeds_show_nothing_and_no_change_is_called_equal(content: dict[str, Any]) -> None:
    assert content["against_none"][L2]["reader"]["absent"] == {
        "mean": 0.0, "half_width": None, "values": (0.0,), "verdict": "equal",
    }  # fmt: skip
    assert content["against_fresh"][L2]["reader"]["absent"]["verdict"] == "no difference shown"  # of one seed
    assert content["against_no_ego"][L2]["driver"]["absent"]["verdict"] == "no difference shown"
    assert content["against_none"][MAP]["reader"]["fresh"]["verdict"] == "equal"
    assert "driver" not in content["against_none"][L2] and "none" not in content["against_fresh"][L2]


@pytest.mark.parametrize(
    ("values", "is_lower_better", "said"),
    [
        ([1.0, 1.1, 0.9], False, "helps"),
        ([1.0, 1.1, 0.9], True, "harms"),
        ([-1.0, -1.1, -0.9], True, "helps"),
        ([1.0, -1.0, 0.5], False, "no difference shown"),
        ([3.0], False, "no difference shown"),
        ([0.0, 0.0], True, "equal"),
    ],
)
def test_a_verdict_needs_an_interval_that_leaves_out_zero(
    values: list[float], is_lower_better: bool, said: str
) -> None:
    assert verdict(seed_mean(values), is_lower_better=is_lower_better) == said


def test_what_is_not_there_is_named_and_what_was_not_measured_is_left_out(content: dict[str, Any]) -> None:
    assert content["missing"] == ["reader seed 1 absent", "reader seed 2 absent"]
    assert "track.amota" not in content["values"] and "occ.occ3d-miou.mIoU" not in content["values"]
    assert len(content["runs"]) == 9


def test_the_page_shows_differences_and_says_what_is_missing(content: dict[str, Any], tmp_path: Path) -> None:
    text = write_page(content, tmp_path / "page.html").read_text()
    assert "-0.110 ± 0.025" in text and "reader seed 1 absent" in text and "▲" in text and "▼" in text
    assert "4 of 40" in text and "kept as it was: encoders" in text
    assert "turning frames" in text and "Scenes made for" not in text
    assert text.count("<svg") == 2 and "http" not in text and text.count("<table") == text.count("</table")


def test_a_page_without_any_evaluation_says_so(tmp_path: Path) -> None:
    empty = {**GIVEN, **summarise([], (NONE, READER), TEXTS)}
    assert "No evaluation is finished" in write_page(empty, tmp_path / "page.html").read_text()
    assert markdown_table(empty) == "no evaluation is finished"


def test_the_short_table_has_a_row_for_each_model_and_text(content: dict[str, Any]) -> None:
    head, rule, *rows = markdown_table(content).splitlines()
    assert head.startswith("| model | text | NDS (pt) ↑ | mAP (pt) ↑ | L2 3 s (m) ↓ |")
    assert rule.count("|") == head.count("|") == rows[0].count("|")
    assert [tuple(row.split(" | ")[:2]) for row in rows[:5]] == [
        ("| none", "absent"), ("| reader", "fresh"), ("| reader", "absent"), ("| reader", "wrong"),
        ("| driver", "absent"),
    ]  # fmt: skip
    assert "1.890 ± 2.459 ▲" in rows[1] and "▼" in rows[3] and "=" in rows[1]


def test_verdicts_are_counted_over_all_figures(content: dict[str, Any]) -> None:
    counts = verdict_counts(content["against_none"])["reader"]["fresh"]
    assert counts == {"helps": 4, "harms": 0, "no difference shown": 0, "equal": 2}


def test_a_dot_lies_where_its_value_is() -> None:
    values = {"m": {"a": {"mean": 1.0, "half_width": 0.5}, "b": {"mean": 3.0, "half_width": None}}}
    chart = condition_chart("t <&>", values, conditions=("a", "b"), baseline=None, classes={"m": "model0"})
    heights = [float(part.split('"')[0]) for part in chart.split('cy="')[1:]]
    low, high = 0.5 - 0.06 * 2.5, 3.0 + 0.06 * 2.5
    assert heights == pytest.approx([202 - (v - low) / (high - low) * 172 for v in (1.0, 3.0)], abs=0.06)
    assert "t &lt;&amp;&gt;" in chart and 'class="zero"' not in chart


def test_every_headline_is_in_a_table_and_every_figure_is_a_figure_of_an_evaluation(tmp_path: Path) -> None:
    assert set(HEADLINES) <= set(FIGURES) and len({group.title for group in GROUPS}) == len(GROUPS)
    (tmp_path / "metrics.json").write_text(json.dumps(_metrics(0.25, 1.5)))
    found = read_figures(tmp_path)
    assert found[MAP] == pytest.approx(25.0) and found[L2] == pytest.approx(1.5) and list(found)[0] == "det.NDS"


def test_scenes_made_for_an_event_have_figures_of_their_own(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data")
    table = root / "v1.0-mini" / "scene.json"
    scenes = json.loads(table.read_text())
    for scene in scenes[:4]:
        scene["description"] = f"Lead braking, {scene['description']}"
    table.write_text(json.dumps(scenes))
    out = evaluate_file(write_results(tmp_path / "r.json", root, noise_m=0.4, found_share=0.8), root, tmp_path / "out")
    found = read_figures(out)
    assert 0 < found["det.mAP@lead braking"] != found["det.mAP"] and "det.mAP@crossing pedestrian" not in found
