"""The plan of an interaction experiment, and what it makes of finished runs: numbers known by hand."""

import json
import threading
import time
from pathlib import Path

import pytest

from bevstack.build import compose
from bevstack.report.interaction import write_page
from bevstack.seed_statistics import seed_mean
from bevstack.training import carry_out as carrying_out
from bevstack.training import planned_runs
from bevstack.training.carry_out import carry_out
from bevstack.training.fit import flat_weights
from bevstack.training.interaction import JOINT, plan, summarise, variants_of
from bevstack.training.metrics_log import MetricsLog, columns_for
from bevstack.training.planned_runs import PlannedRun, Variant, named_overrides
from bevstack.training.tasks import tasks_of

TWO_HEADS = ("experiment=lidar_small", "+head@model.heads.second=center", "+loss@loss_weights.second=center")


def test_the_interval_is_students() -> None:
    three = seed_mean([1.0, 2.0, 3.0])
    assert three.mean == 2.0
    assert three.half_width == pytest.approx(4.303 / 3**0.5, rel=1e-3)  # t of 0.975 with two degrees of freedom
    assert not three.is_clear
    assert seed_mean([5.0, 5.1, 4.9]).is_clear
    assert seed_mean([1.0]).half_width is None
    with pytest.raises(ValueError, match="one run or more"):
        seed_mean([])


def test_each_task_of_a_joint_head_is_also_trained_alone() -> None:
    variants = variants_of(
        ["experiment=m3net_small"], more=named_overrides("interaction", "m3net_small"), leave_one_out=True
    )
    by_name = {variant.name: variant for variant in variants}
    assert by_name[JOINT].tasks == ("m3net/detection", "m3net/map", "m3net/occupancy")
    assert by_name["only_map"].tasks == ("m3net/map",)
    assert set(by_name["only_map"].overrides) == {
        "model.heads.m3net.readouts.detection=null",
        "loss_weights.m3net.detection=null",
        "model.heads.m3net.readouts.occupancy=null",
        "loss_weights.m3net.occupancy=null",
    }
    assert by_name["without_map"].tasks == ("m3net/detection", "m3net/occupancy")
    assert {"without_scaling", "concatenation"} <= set(by_name)
    for name in ("only_map", "without_scaling", "concatenation"):  # each is a configuration that exists
        config = compose(["experiment=m3net_small", *by_name[name].overrides])
        assert tasks_of(flat_weights(config.loss_weights)) == by_name[name].tasks


def test_heads_of_their_own_are_taken_out_whole() -> None:
    variants = variants_of(TWO_HEADS, more={"pcgrad": ["balance=pcgrad"]})
    assert [variant.name for variant in variants] == [JOINT, "only_detection", "only_second", "pcgrad"]
    assert variants[1].overrides == ("model.heads.second=null", "loss_weights.second=null")


def test_a_single_task_cannot_interact() -> None:
    with pytest.raises(ValueError, match="m3net_small"):
        variants_of(["experiment=lidar_small"], more={})


def test_other_settings_get_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_runs, "build_frames", lambda config, part: range(8))
    data = ("data.root=a", "data.val_root=b", "trainer.max_epochs=2", "trainer.batch_size=2")

    def folders(*more: str, limit: int | None = None) -> list[Path]:
        overrides = [*TWO_HEADS, *data, *more]
        runs = plan(overrides, variants_of(overrides, more={})[:2], range(2), tmp_path, limit=limit)
        assert {run.steps for run in runs} == {8}
        return [run.folder for run in runs]

    first = folders()
    assert len(set(first)) == 4
    assert folders() == first
    assert not set(first) & {*folders("optim.optimizer.lr=0.1"), *folders(limit=3)}


def _finished(folder: Path, variant: str, seed: int, mean_ap: float, cosines: tuple[float, ...] = ()) -> PlannedRun:
    """A run folder as training and evaluation leave it."""
    run = PlannedRun(
        variant=Variant(name=variant, overrides=("a=1",), tasks=("x",)),
        seed=seed,
        overrides=(),
        folder=folder / f"{variant}-{seed}",
        steps=3,
    )
    run.metrics.parent.mkdir(parents=True)
    (run.run / "weights.safetensors").touch()
    scores = {"mean_ap": mean_ap, "class_ap": {"car": 0.5}, "map": {"map/iou": {"mean_iou": 0.25, "iou": None}}}
    run.metrics.write_text(json.dumps({"results": {"fusion": scores}}))
    log = MetricsLog(run.run / "metrics.csv", None, columns_for([], ["cosine/x~y"]), first_step=0)
    for step, cosine in enumerate(cosines, start=1):
        log.write(step, {"elapsed_s": 2.0 * step, "train/loss": 1.0, "cosine/x~y": cosine})
    log.close()
    return run


def test_differences_are_taken_seed_by_seed(tmp_path: Path) -> None:
    runs = [_finished(tmp_path, JOINT, seed, 0.5 + 0.1 * seed, (-0.5, 0.1, 0.7)) for seed in range(3)]
    runs += [_finished(tmp_path, "only_x", seed, 0.4 + 0.1 * seed) for seed in range(2)]
    unfinished = _finished(tmp_path, "only_x", 2, 0.0)
    unfinished.metrics.unlink()
    content = summarise([*runs, unfinished])
    assert content["metrics"]["fusion.mean_ap"][JOINT]["mean"] == pytest.approx(0.6)
    assert content["differences"]["fusion.mean_ap"]["only_x"]["values"] == pytest.approx((0.1, 0.1))
    assert content["differences"]["fusion.mean_ap"]["only_x"]["half_width"] == pytest.approx(0.0, abs=1e-9)
    assert set(content["metrics"]) == {"fusion.mean_ap", "fusion.map.map/iou.mean_iou"}
    assert content["runs"][0]["metrics"]["fusion.class_ap.car"] == 0.5
    assert content["cosines"][JOINT]["x~y"]["mean"] == pytest.approx(0.1)
    assert content["cosines"][JOINT]["x~y"]["share_in_conflict"] == pytest.approx(1 / 3)
    assert content["missing"] == ["only_x seed 2"]
    assert planned_runs.seconds_per_step(runs[0]) == pytest.approx(2.0)
    described = {
        "experiment": "e",
        "overrides": ["a=b"],
        "bevstack_version": "1",
        "git_commit": "",
        "torch_version": "2",
    }
    text = write_page({**described, **content}, tmp_path / "page.html").read_text()
    assert "+0.100 ± 0.000" in text and "only_x seed 2" in text and "x and y" in text
    assert "http" not in text


def test_a_page_without_any_finished_run_says_so(tmp_path: Path) -> None:
    described = {"experiment": "e", "overrides": [], "bevstack_version": "1", "git_commit": "", "torch_version": "2"}
    text = write_page({**described, **summarise([])}, tmp_path / "page.html").read_text()
    assert "No run is finished" in text


def test_finished_runs_are_left_alone(tmp_path: Path) -> None:
    run = _finished(tmp_path, JOINT, 0, 0.5)
    before = sorted((file, file.stat().st_mtime_ns) for file in tmp_path.rglob("*"))
    said: list[str] = []
    carry_out([run], processes=1, limit=None, say=said.append)
    assert said == ["1 of 1 runs are finished already"]
    assert sorted((file, file.stat().st_mtime_ns) for file in tmp_path.rglob("*")) == before


def _planned(folder: Path, seed: int) -> PlannedRun:
    variant = Variant(name=JOINT, overrides=(), tasks=("x",))
    words = ("experiment=lidar_small", "data.root=a", "data.val_root=b", f"seed={seed}")
    return PlannedRun(variant=variant, seed=seed, overrides=words, folder=folder / f"joint-{seed}", steps=1)


def test_runs_at_the_same_time_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both_train = threading.Barrier(2, timeout=10)
    commands: list[list[str]] = []

    def call(run: PlannedRun, words: list[str], processes: int) -> None:
        commands.append(words)
        if words[0] == "train":
            both_train.wait()  # one after the other, this would time out

    monkeypatch.setattr(carrying_out, "_call", call)
    monkeypatch.setattr(carrying_out.os, "sched_getaffinity", lambda pid: set(range(6)))
    carry_out([_planned(tmp_path, seed) for seed in range(2)], processes=2, limit=7, say=lambda line: None)
    trained = [words for words in commands if words[0] == "train"]
    assert len(trained) == 2 and all("trainer.threads=3" in words for words in trained)
    scored = [words for words in commands if words[0] == "eval"]
    assert len(scored) == 2 and all(words[-2:] == ["--limit", "7"] for words in scored)


def test_an_interruption_begins_no_further_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def call(run: PlannedRun, words: list[str], processes: int) -> None:
        begun.append(run.seed)
        time.sleep(0.1)
        raise KeyboardInterrupt

    def interrupted(futures: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(carrying_out, "_call", call)
    monkeypatch.setattr(carrying_out, "as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carry_out([_planned(tmp_path, seed) for seed in range(50)], processes=1, limit=None, say=lambda line: None)
    assert len(begun) < 50


def test_every_beginning_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying_out, "_call", lambda run, words, processes: None)
    said: list[str] = []
    carry_out([_planned(tmp_path, 0)], processes=1, limit=None, say=said.append)
    assert [line.split(":")[0] for line in said[1:]] == [
        "training joint seed 0, 1 steps", "scoring joint seed 0, eval", "[1/1] joint seed 0",
    ]  # fmt: skip


def test_a_run_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    variant = Variant(name=JOINT, overrides=(), tasks=("x",))
    words = ("experiment=lidar_small", "data.root=absent", "data.val_root=absent")
    run = PlannedRun(variant=variant, seed=0, overrides=words, folder=tmp_path / "joint", steps=1)
    with pytest.raises(ValueError, match=r"1 runs failed.*bevstack train ended with 1: .*absent.*log\.txt"):
        carry_out([run], processes=1, limit=None, say=lambda line: None)
