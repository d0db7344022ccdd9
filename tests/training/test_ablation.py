"""The plan of an ablation: which models are compared with which, under which texts, and in which folders."""

import json
from pathlib import Path

import pytest

from bevstack.build import compose
from bevstack.data.cue_cache import CueSettings, claim_cache, cue_folder
from bevstack.training import carry_out as carrying_out
from bevstack.training import planned_runs
from bevstack.training.ablation import CONDITIONS, captioner_of_cues, conditions_of, models_of, plan

EXPERIMENT = "drive_small"
CUES = str(compose([f"experiment={EXPERIMENT}"]).data.cues.name)


def _overrides(root: Path) -> list[str]:
    return [f"experiment={EXPERIMENT}", f"data.root={root / 'train'}", f"data.val_root={root / 'val'}"]


def _write_cues(root: Path, captioner: str = "by hand") -> None:
    for name in ("train", "val"):
        settings = CueSettings(
            captioner=captioner, prompt_version="1", encoder="e", refinement="none", cameras=("CAM_FRONT",), width=384
        )
        folder = cue_folder(root / name, CUES)
        (folder / "cues.json").unlink(missing_ok=True)
        claim_cache(folder, settings)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two data sets with cues and eight frames."""
    monkeypatch.setattr(planned_runs, "build_frames", lambda config, part: range(8))
    _write_cues(tmp_path)
    return tmp_path


def test_every_form_is_held_against_the_model_without_language_of_the_same_ego_status() -> None:
    models = {model.variant.name: model for model in models_of([f"experiment={EXPERIMENT}"], EXPERIMENT)}
    assert {name: (of.form, of.ego_status) for name, of in models.items()} == {
        "none": (None, False),
        "weighted": ("weighted", False),
        "spatial": ("spatial", False),
        "residual": ("residual", False),
        "none_with_ego": (None, True),
        "residual_with_ego": ("residual", True),
    }
    assert {name: of.baseline for name, of in models.items() if of.form} == {
        "weighted": "none", "spatial": "none", "residual": "none", "residual_with_ego": "none_with_ego",
    }  # fmt: skip
    assert models["none_with_ego"].without_ego == "none" and models["residual_with_ego"].without_ego == "residual"
    assert models["none"].baseline is None and models["residual"].without_ego is None
    assert not any(task.startswith("language") for task in models["none"].variant.tasks)
    assert {"language", "planning", "motion"} <= {task.partition("/")[0] for task in models["spatial"].variant.tasks}


def test_perception_stays_as_it_was_and_the_model_without_language_has_no_rate_for_it() -> None:
    (none, residual) = models_of([f"experiment={EXPERIMENT}"], EXPERIMENT, ("none", "residual"))
    without, having = (compose([f"experiment={EXPERIMENT}", *of.variant.overrides]) for of in (none, residual))
    assert {"encoders", "fuser", "backbone", "heads"} <= set(without.optim.frozen) & set(having.optim.frozen)
    assert without.optim.lr_scale.language is None and without.data.cues.name is None
    assert having.optim.lr_scale.language > 0 and having.data.cues.name is not None


def test_a_model_without_language_is_scored_once_and_one_with_it_under_every_text(data: Path) -> None:
    models = models_of(_overrides(data), EXPERIMENT, ("none", "residual"))
    runs = plan(_overrides(data), models, CONDITIONS, range(2), data / "out")
    scored = {run.folder.name.rpartition("-")[0]: [of.folder for of in run.scorings] for run in runs}
    assert scored["none-seed0"] == scored["none-seed1"] == ["eval/absent"]
    assert scored["residual-seed1"] == [f"eval/{of.name}" for of in CONDITIONS]
    words = {of.folder: of.words for of in runs[1].scorings}
    assert words["eval/stale-2s"][-2:] == ("--cue-age", "2")
    assert words["eval/absent"][-1] == "--no-cues" and words["eval/wrong"][-2:] == ("--wrong-cues", "0")
    assert all(of[3:5] == ("--planner", "learned") for of in words.values())
    assert not {"--no-cues", "--cue-age", "--wrong-cues"} & set(runs[0].scorings[0].words)


def test_with_gaps_between_frames_nobody_is_asked_to_plan(data: Path) -> None:
    models = models_of(_overrides(data), EXPERIMENT, ("none",))
    (run,) = plan(_overrides(data), models, CONDITIONS, range(1), data / "out", limit=4)
    assert "--planner" not in run.scorings[0].words


def test_cues_that_were_made_again_make_other_runs_of_the_models_that_read_them(data: Path) -> None:
    def folders() -> dict[str, str]:
        models = models_of(_overrides(data), EXPERIMENT, ("none", "residual"))
        return {run.variant.name: run.folder.name for run in plan(_overrides(data), models, CONDITIONS, [0], data)}

    before = folders()
    assert folders() == before
    _write_cues(data, captioner="another one")
    assert folders()["none"] == before["none"] and folders()["residual"] != before["residual"]


def test_fewer_texts_are_the_same_runs(data: Path) -> None:
    models = models_of(_overrides(data), EXPERIMENT, ("residual",))
    (few,) = plan(_overrides(data), models, conditions_of(("wrong", "fresh")), [0], data)
    (all_of_them,) = plan(_overrides(data), models, CONDITIONS, [0], data)
    assert few.folder == all_of_them.folder and [of.folder for of in few.scorings] == ["eval/fresh", "eval/wrong"]


def test_only_the_captioner_that_wrote_the_cached_text_speaks_live(data: Path) -> None:
    assert captioner_of_cues(_overrides(data), EXPERIMENT) == "by hand"
    assert "live" not in {of.name for of in conditions_of((), "by hand")}
    assert {of.name for of in conditions_of((), "by hand")} | {"live"} == {of.name for of in CONDITIONS}
    assert "live" in {of.name for of in conditions_of((), "zero-shot:lite0+minilm")}
    assert [of.name for of in conditions_of(("live",), "by hand")] == ["live"]


def test_data_without_cues_is_refused_before_anything_is_trained(data: Path) -> None:
    (cue_folder(data / "val", CUES) / "cues.json").unlink()
    models = models_of(_overrides(data), EXPERIMENT)
    with pytest.raises(ValueError, match=r"no cues in .*val.*bevstack cues make"):
        plan(_overrides(data), models, CONDITIONS, [0], data)
    with pytest.raises(ValueError, match=r"no cues in .*val.*bevstack cues make"):
        captioner_of_cues(_overrides(data), EXPERIMENT)
    with pytest.raises(ValueError, match="drive_small has no cues to vary: give data.cues.name=NAME"):
        captioner_of_cues([*_overrides(data), "data.cues.name=null"], EXPERIMENT)


def test_what_is_not_known_is_refused_with_what_is() -> None:
    with pytest.raises(ValueError, match=r"no configs/ablation/lidar_small.yaml.*drive_small"):
        models_of(["experiment=lidar_small"], "lidar_small")
    with pytest.raises(ValueError, match="no variant 'residuel'.*did you mean residual"):
        models_of([f"experiment={EXPERIMENT}"], EXPERIMENT, ("residuel",))
    with pytest.raises(ValueError, match="no condition 'fesh'.*did you mean fresh"):
        conditions_of(("fesh",))


def test_only_what_is_not_scored_yet_is_scored(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = models_of(_overrides(data), EXPERIMENT, ("residual",))
    (run,) = plan(_overrides(data), models, conditions_of(("fresh", "wrong")), [0], data, limit=5)
    run.metrics.parent.mkdir(parents=True)
    run.metrics.write_text("{}")
    (run.run / "weights.safetensors").touch()
    called: list[list[str]] = []
    monkeypatch.setattr(carrying_out, "_call", lambda run, words, processes: called.append(words))
    carrying_out.carry_out([run], processes=1, limit=5, say=lambda line: None)
    (words,) = called
    assert words[:3] == ["eval", "--checkpoint", str(run.run)] and words[-2:] == ["--limit", "5"]
    assert words[words.index("--data") + 1] == str(data / "val") and "--figures-only" in words
    assert words[words.index("--wrong-cues") + 1] == "0"
    assert words[words.index("--out") + 1] == str(run.run / "eval" / "wrong")


def test_a_run_is_finished_when_it_is_scored_under_every_text(data: Path) -> None:
    models = models_of(_overrides(data), EXPERIMENT, ("residual",))
    (run,) = plan(_overrides(data), models, conditions_of(("fresh", "wrong")), [0], data)
    for scoring in run.scorings:
        assert not run.is_finished
        run.metrics_of(scoring).parent.mkdir(parents=True)
        run.metrics_of(scoring).write_text(json.dumps({}))
    assert not run.is_finished
    (run.run / "weights.safetensors").touch()
    assert run.is_finished
