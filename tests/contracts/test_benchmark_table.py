"""The published table is the measured one."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make_table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("make_table", ROOT / "benchmarks" / "make_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("common", None)
    return module


def test_the_table_of_the_document_is_made_from_the_committed_results(make_table: ModuleType) -> None:
    document = make_table.DOCUMENT.read_text()
    assert make_table.with_table(document, make_table.table()) == document, "run python benchmarks/make_table.py"


def test_every_suite_of_the_table_has_its_script(make_table: ModuleType) -> None:
    for path in make_table.RESULTS.glob("*.json"):
        for result in (rows for rows in [json.loads(path.read_text())] if isinstance(rows, list)):
            assert {row["suite"] for row in result} == {path.stem}
            assert (ROOT / "benchmarks" / f"{path.stem}.py").is_file()


def test_a_row_gives_for_each_peer_how_many_times_faster_ours_is(make_table: ModuleType, tmp_path: Path) -> None:
    timings = {name: {"min_ms": ms} for name, ms in (("peer", 30.0), ("other", 120.0), ("bevstack numba", 2.5))}
    row = {"suite": "s", "case": "c", "equality": "equal", "machine": {"load": 1.5}, "timings": timings}
    (tmp_path / "s.json").write_text(json.dumps([row]))
    (tmp_path / "record.json").write_text("{}")
    assert make_table.table(tmp_path) == make_table.HEADER + (
        "| `s`, load 1.5 | c | peer (30 ms) | numba **12** (2.5 ms) | equal | `python benchmarks/s.py` |\n"
        "| `s`, load 1.5 | c | other (120 ms) | numba **48** (2.5 ms) | equal | `python benchmarks/s.py` |\n"
    )
