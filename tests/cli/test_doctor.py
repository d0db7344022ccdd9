"""The installation check finds what is wrong and says how to mend it."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from bevstack import doctor
from bevstack.cli.main import main

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "total available")


def find(findings: list[doctor.Finding], name: str) -> doctor.Finding:
    return next(finding for finding in findings if finding.name == name)


def test_this_installation_is_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--workers", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"]
    assert {"python", "torch", "gpu", "spconv", "numba", "disk", "memory"} <= {
        row["name"] for row in report["findings"]
    }


def test_an_absent_extra_is_a_note_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_import", lambda name: (None, f"{name} cannot be imported: ImportError: absent"))
    finding = doctor._ros()
    assert finding.status == "note"
    assert "pip install 'bevstack[ros]'" in finding.remedy


def test_too_many_workers_for_the_memory_name_the_number_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(total=8 * doctor.GB, available=6 * doctor.GB))
    finding = doctor._memory(workers=16)
    assert finding.status == "problem"
    assert finding.remedy == "train with data.workers=2"


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10 * doctor.GB, 9 * doctor.GB, doctor.GB))
    assert doctor._disk().status == "problem"


def test_a_folder_without_tables_is_not_a_data_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--data", str(tmp_path)]) == 1
    assert "not a nuScenes root" in capsys.readouterr().out


def test_a_mistyped_command_gets_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "did you mean train" in capsys.readouterr().err
