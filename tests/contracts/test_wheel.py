"""What gets installed: one name, real files behind the links, configuration and weights included."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("bevstack", "perception", "fusion", "planning", "sim", "configs")


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names in a wheel that is built from a copy, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / "source" / name, symlinks=True, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(command, cwd=folder / "source", check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl"))).namelist()


def test_wheel_installs_one_top_level_name(wheel_names: list[str]) -> None:
    assert {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name} == {"bevstack"}


def test_wheel_holds_the_linked_folders_as_real_files(wheel_names: list[str]) -> None:
    for folder in FOLDERS[1:]:
        expected = {f"bevstack/{path.relative_to(ROOT)}" for path in (ROOT / folder).rglob("*.py")}
        assert expected <= set(wheel_names)


def test_wheel_holds_every_configuration_weights_and_report_file(wheel_names: list[str]) -> None:
    data = [*(ROOT / "configs").rglob("*.yaml"), *(ROOT / "bevstack" / "weights").glob("*")]
    data.append(ROOT / "perception" / "language" / "imagenet_names.txt")
    data += [path for path in (ROOT / "bevstack" / "report").iterdir() if path.suffix in (".html", ".js", ".css")]
    expected = {
        str(Path("bevstack") / path.relative_to(ROOT)).replace("bevstack/bevstack/", "bevstack/") for path in data
    }
    assert expected <= set(wheel_names)
