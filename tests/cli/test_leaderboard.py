"""Bundles are whole and signed or refused by name; their figures come out again; the page ranks and hides nothing."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from fixtures.browser import open_in_browser
from fixtures.result_folders import evaluate_file, write_data, write_results

from bevstack.cli.main import main
from bevstack.evaluation.comparison.bundle import verify


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data, two runs, a key, and the bundles of both runs: the good one signed."""
    folder = tmp_path_factory.mktemp("leaderboard")
    made = {"data": write_data(folder / "data"), "key": folder / "my.key", "entries": folder / "entries"}
    for name, noise in (("good", 0.3), ("bad", 0.9)):
        file = write_results(folder / f"{name}.json", made["data"], noise_m=noise, found_share=0.8)
        made[name] = evaluate_file(file, made["data"], folder / name)
    assert main(["leaderboard", "key", str(made["key"])]) == 0
    signed = ["pack", str(made["good"]), str(made["entries"] / "good.zip"), "--key", str(made["key"])]
    assert main(["leaderboard", *signed, "--name", "Good & <b>bold</b>"]) == 0
    assert main(["leaderboard", "pack", str(made["bad"]), str(made["entries"] / "bad.zip")]) == 0
    return made


def rewritten(bundle: Path, out: Path, changed: dict[str, bytes | None]) -> Path:
    """A copy with other content of some files; None leaves one out."""
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(out, "w") as new:
        for name in [*old.namelist(), *(name for name in changed if name not in old.namelist())]:
            content = changed[name] if name in changed else old.read(name)
            if content is not None:
                new.writestr(name, content)
    return out


def test_a_bundle_says_what_it_rests_on_and_no_path_of_the_machine(world: dict[str, Path]) -> None:
    bundle = verify(world["entries"] / "good.zip")
    assert bundle.manifest["protocols"] == ["det/nusc-cvpr19"]
    assert bundle.manifest["data"]["split"] == "mini_train"
    assert {"bevstack", "python", "torch", "nuscenes-devkit"} <= bundle.manifest["environment"].keys()
    assert bundle.signature is not None and len(bundle.signature.fingerprint) == 16
    text = json.dumps([bundle.manifest, bundle.metrics])
    assert str(world["data"].parent) not in text


def test_verify_names_the_key_and_refuses_another(world: dict[str, Path], capsys: pytest.CaptureFixture) -> None:
    good, bad = (str(world["entries"] / name) for name in ("good.zip", "bad.zip"))
    fingerprint = verify(Path(good)).signature.fingerprint
    assert main(["leaderboard", "verify", good, "--signer", fingerprint]) == 0
    assert f"fits the key {fingerprint}" in capsys.readouterr().out
    assert main(["leaderboard", "verify", good, "--signer", "0" * 16]) == 1
    assert f"signed by {fingerprint}, not by 0000" in capsys.readouterr().err
    assert main(["leaderboard", "verify", bad]) == 0
    assert "anyone could have made it" in capsys.readouterr().out
    assert main(["leaderboard", "verify", bad, "--signer", fingerprint]) == 1


def test_a_changed_bundle_is_refused_by_the_name_of_the_file(world, tmp_path: Path, capsys) -> None:
    good = world["entries"] / "good.zip"
    metrics = verify(good).metrics
    next(iter(metrics["results"].values()))["nds"] = 0.99
    faults = {
        "metrics.json is not what the manifest says": {"metrics.json": json.dumps(metrics).encode()},
        "extra.txt is not in the manifest": {"extra.txt": b"x"},
        "scene_statistics.npz is missing": {"scene_statistics.npz": None},
    }
    for number, (message, changed) in enumerate(faults.items()):
        assert main(["leaderboard", "verify", str(rewritten(good, tmp_path / f"{number}.zip", changed))]) == 1
        error = capsys.readouterr().err
        assert message in error and f"{number}.zip" in error


def test_a_new_manifest_under_an_old_signature_is_refused(world, tmp_path: Path, capsys) -> None:
    good = world["entries"] / "good.zip"
    manifest = verify(good).manifest | {"name": "mine"}
    forged = rewritten(good, tmp_path / "forged.zip", {"manifest.json": json.dumps(manifest).encode()})
    assert main(["leaderboard", "verify", str(forged)]) == 1
    assert "the signature does not fit manifest.json" in capsys.readouterr().err


def test_what_is_no_bundle_is_refused(world, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    cut = tmp_path / "cut.zip"
    cut.write_bytes((world["entries"] / "good.zip").read_bytes()[:-100])
    assert main(["leaderboard", "verify", str(cut)]) == 1
    assert "cut.zip is no result bundle or is cut short" in capsys.readouterr().err
    assert main(["leaderboard", "verify", str(tmp_path / "none.zip")]) == 1
    assert main(["leaderboard", "pack", str(world["good"]), str(world["entries"] / "good.zip")]) == 1
    assert "a published bundle is never replaced" in capsys.readouterr().err
    assert main(["leaderboard", "key", str(world["key"])]) == 1
    assert "a key is never replaced" in capsys.readouterr().err


def test_the_figures_of_a_bundle_come_out_again(world: dict[str, Path], capsys: pytest.CaptureFixture) -> None:
    assert main(["leaderboard", "rescore", str(world["entries"] / "good.zip"), "--data", str(world["data"])]) == 0
    printed = capsys.readouterr().out
    assert "figures came out as claimed" in printed and printed.rstrip().endswith("\nconfirmed")


def test_a_claim_that_the_predictions_do_not_bear_out_is_found(world, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    shutil.copytree(world["bad"], run)
    metrics = json.loads((run / "metrics.json").read_text())
    next(iter(metrics["results"].values()))["nds"] += 0.01
    (run / "metrics.json").write_text(json.dumps(metrics))
    words = ["leaderboard", "pack", str(run), str(tmp_path / "claim.zip"), "--key", str(world["key"])]
    assert main(words) == 0
    assert main(["leaderboard", "rescore", str(tmp_path / "claim.zip"), "--data", str(world["data"])]) == 3
    printed = capsys.readouterr().out
    assert "DIFFERENT   det.NDS: claimed" in printed and "NOT CONFIRMED" in printed


def test_other_data_than_that_of_the_bundle_is_refused(world, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    other = write_data(tmp_path / "other", seed=6)
    assert main(["leaderboard", "rescore", str(world["entries"] / "good.zip"), "--data", str(other)]) == 1
    assert "the tables are not the same" in capsys.readouterr().err


def test_the_page_ranks_entries_shows_intervals_and_names_what_it_leaves_out(world, tmp_path: Path) -> None:
    entries = tmp_path / "entries"
    shutil.copytree(world["entries"], entries)
    rewritten(entries / "good.zip", entries / "forged.zip", {"extra.txt": b"x"})
    page = tmp_path / "page.html"
    assert main(["leaderboard", "page", str(entries), str(page)]) == 0
    text = page.read_text()
    assert text.index("good.zip") < text.index("bad.zip</small>")
    assert "forged.zip: extra.txt is not in the manifest" in text
    assert "&lt;b&gt;bold" in text and "<b>bold" not in text
    assert re.search(r"<small>\d+\.\d\d to \d+\.\d\d</small>", text)
    assert "det/nusc-cvpr19" in text
    assert not re.search(r"https?://|@import|url\(|<script", text)


def test_the_page_opens_in_a_browser(world: dict[str, Path], tmp_path: Path) -> None:
    assert main(["leaderboard", "page", str(world["entries"]), str(tmp_path / "page.html")]) == 0
    document = open_in_browser(tmp_path / "page.html", tmp_path / "profile")
    assert document.count("<tbody>") == 1 and "Leaderboard" in document


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["leaderboard", "page", str(tmp_path), str(tmp_path / "x.html")]) == 1
    assert "holds no .zip bundle" in capsys.readouterr().err
