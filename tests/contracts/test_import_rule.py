"""The architecture's import rules, and the names that must never be importable on their own."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINTER = Path(sys.executable).with_name("lint-imports")


def test_modules_import_only_from_lower_rows() -> None:
    result = subprocess.run([LINTER, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]


def test_importing_everything_leaves_no_bare_name() -> None:
    script = (
        "import importlib, pkgutil, sys, bevstack\n"
        "for m in pkgutil.walk_packages(bevstack.__path__, 'bevstack.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "print([n for n in ('perception', 'fusion', 'planning', 'sim', 'configs') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("folder", ["launch", "tests"])
def test_folder_is_not_a_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


def test_types_need_neither_configuration_nor_training_frameworks() -> None:
    script = "import sys, bevstack.types; print([n for n in ('hydra', 'omegaconf', 'lightning') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_package_folder_is_reached_through_its_link() -> None:
    import bevstack

    names = {module.name for module in pkgutil.iter_modules(bevstack.__path__)}
    assert {"perception", "fusion", "planning", "sim", "configs"} <= names
    assert Path(importlib.import_module("bevstack.sim").__file__ or "").resolve().parent == ROOT / "sim"
