"""`bevstack compare` through the command line: what differs, what is refused, and when the gate fails."""

import json
import shutil
from pathlib import Path

import pytest
from fixtures.result_folders import evaluate_file, write_data, write_results

from bevstack.cli.main import main
from bevstack.evaluation.comparison.gate import Shown, parse_conditions


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good run, a clearly worse one, and the good one again with other seeds."""
    folder = tmp_path_factory.mktemp("compare")
    root = write_data(folder / "data")
    quality = {"good": (0.3, 0.9, 0), "bad": (0.9, 0.6, 1), "again": (0.3, 0.9, 2), "third": (0.3, 0.9, 3)}
    made = {"data": root}
    for name, (noise, share, seed) in quality.items():
        file = write_results(folder / f"{name}.json", root, noise_m=noise, found_share=share, seed=seed)
        made[name] = evaluate_file(file, root, folder / name)
    made["few"] = evaluate_file(folder / "good.json", root, folder / "few", "--limit", "7")
    return made


def compare(runs: dict[str, Path], a: str, b: str, *more: str) -> int:
    sides = (",".join(str(runs[name]) for name in side.split(",")) for side in (a, b))
    return main(["compare", *sides, "--resamples", "120", *more])


def edited(run: Path, out: Path, edit) -> Path:
    """A copy of a results folder with other metrics.json."""
    shutil.copytree(run, out)
    metrics = json.loads((out / "metrics.json").read_text())
    edit(metrics)
    (out / "metrics.json").write_text(json.dumps(metrics))
    return out


def test_a_worse_run_is_called_worse_with_its_interval(runs, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert compare(runs, "good", "bad", "--json", str(tmp_path / "c.json")) == 0
    printed = capsys.readouterr().out
    assert "det/nusc-cvpr19" in printed and "32 frames of 8 scenes" in printed
    (nds,) = [line for line in printed.splitlines() if line.startswith("det.NDS")]
    assert nds.endswith("worse") and "[-" in nds
    assert "one run a side" in printed
    content = json.loads((tmp_path / "c.json").read_text())
    (figures,) = content["rows"].values()
    found = next(figure for figure in figures if figure["name"] == "det.NDS")
    before, after = (
        100 * next(iter(json.loads((runs[name] / "metrics.json").read_text())["results"].values()))["nds"]
        for name in ("good", "bad")
    )
    assert (found["a"], found["b"]) == pytest.approx((before, after))
    assert found["interval"]["low"] < found["difference"] < found["interval"]["high"] < 0
    assert found["is_significant"] is True


def test_a_run_equals_itself(runs, capsys: pytest.CaptureFixture) -> None:
    assert compare(runs, "good", "good", "--fail-if", "det.NDS < 0; det.mAP < 0") == 0
    printed = capsys.readouterr().out
    (nds,) = [line for line in printed.splitlines() if line.startswith("det.NDS")]
    assert nds.endswith("equal")
    assert "gate passed: 2 conditions" in printed


def test_the_gate_fails_with_its_own_exit_code(runs, capsys: pytest.CaptureFixture) -> None:
    assert compare(runs, "good", "bad", "--fail-if", "det.NDS < -0.5 significant") == 3
    assert "FAILED  det.NDS < -0.5 significant" in capsys.readouterr().out
    assert compare(runs, "bad", "good", "--fail-if", "det.NDS < -0.5", "--fail-if", "det.mATE > 0.02") == 0
    assert compare(runs, "good", "bad", "--fail-if", "det.NDS < -99, det.mATE > 0.02") == 3


def test_a_gate_on_a_wrong_name_is_an_error_with_the_nearest_one(runs, capsys: pytest.CaptureFixture) -> None:
    assert compare(runs, "good", "bad", "--fail-if", "det.NSD < -0.5") == 1
    assert "no figure 'det.NSD' (did you mean det.NDS" in capsys.readouterr().err
    assert compare(runs, "good", "bad", "--fail-if", "det.NDS") == 1
    assert "'det.NDS' is no condition: it must look like 'det.NDS < -0.5'" in capsys.readouterr().err
    assert compare(runs, "good", "bad", "--fail-if", "lidar:det.NDS < 0") == 1
    assert "there is no row 'lidar'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "only-one"])
    assert stopped.value.code == 2


def test_slices_are_compared_and_gated(runs, capsys: pytest.CaptureFixture) -> None:
    assert compare(runs, "good", "bad", "--slices", "0-20 m", "--fail-if", "det.mAP@night < -1") == 3
    printed = capsys.readouterr().out
    assert "det.mAP@night" in printed and "det.mAP@0-20 m" in printed and "det.NDS@rain" not in printed
    assert compare(runs, "good", "bad", "--slices", "nigth") == 1
    assert "no slice 'nigth' (did you mean night" in capsys.readouterr().err


def test_several_seeds_a_side_widen_the_interval_by_their_spread(runs, tmp_path: Path) -> None:
    files = tmp_path / "one.json", tmp_path / "many.json"
    assert compare(runs, "good", "bad", "--json", str(files[0])) == 0
    assert compare(runs, "good,again,third", "bad", "--json", str(files[1])) == 0
    one, many = ({f["name"]: f for f in next(iter(json.loads(file.read_text())["rows"].values()))} for file in files)
    assert many["det.NDS"]["interval"]["method"] == "seeds"
    assert len(many["det.NDS"]["a_runs"]) == 3
    assert many["det.NDS"]["a"] == pytest.approx(sum(many["det.NDS"]["a_runs"]) / 3)
    width = [f["det.NDS"]["interval"]["high"] - f["det.NDS"]["interval"]["low"] for f in (one, many)]
    assert width[1] > width[0]


def test_runs_on_other_samples_data_or_protocols_are_refused(runs, tmp_path: Path, capsys) -> None:
    assert compare(runs, "good", "few") == 1
    assert "different samples (32 and 7; only" in capsys.readouterr().err
    hashed = edited(runs["good"], tmp_path / "hash", lambda m: m["data"].update(hash="0" * 64))
    assert main(["compare", str(runs["good"]), str(hashed)]) == 1
    assert "different data (hash" in capsys.readouterr().err
    other = edited(runs["good"], tmp_path / "protocol", lambda m: m.update(protocols=["det/nusc-cvpr19", "plan/vad"]))
    assert main(["compare", str(runs["good"]), str(other)]) == 1
    assert "only some of them have plan/vad" in capsys.readouterr().err


def test_a_folder_without_results_is_refused_by_name(runs, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["compare", str(runs["good"]), str(tmp_path)]) == 1
    assert "has no metrics.json" in capsys.readouterr().err
    assert main(["compare", f"{runs['good']}:radar", str(runs["bad"])]) == 1
    assert "no row 'radar'" in capsys.readouterr().err


def test_conditions_are_read_as_they_are_written() -> None:
    first, second = parse_conditions(["fusion:det.mAP@rare classes<=-1e-1 significant; det.mATE > .5"])
    assert (first.row, first.figure, first.sign, first.number) == ("fusion", "det.mAP@rare classes", "<=", -0.1)
    assert first.needs_significance and not second.needs_significance
    assert (second.row, second.number) == (None, 0.5)
    for text, message in (
        ("det.NDS < x", "is no condition"),
        ("det.NDS < 1 sure", "what is 'sure'"),
        (" ", "an empty"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_conditions([text])


def test_what_was_not_measured_never_passes_a_gate() -> None:
    table = {
        "fusion": {"a": Shown(difference=None, is_significant=None), "b": Shown(difference=-1, is_significant=None)}
    }
    (plain, significant, known) = parse_conditions(["a < 0", "b < 0 significant", "b < 0"])
    with pytest.raises(ValueError, match="was not measured"):
        plain.holds(table)
    with pytest.raises(ValueError, match="has no interval"):
        significant.holds(table)
    assert known.holds(table) == ["fusion"]
