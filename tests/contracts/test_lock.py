"""`lock.txt` and `pyproject.toml` agree, and what is installed is what the lock says."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = {
    canonicalize_name(name): version
    for name, version in (line.split("==") for line in (ROOT / "lock.txt").read_text().splitlines() if line)
}
GROUPS = {"dependencies": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_lock_satisfies_every_declared_range(group: str) -> None:
    for requirement in map(Requirement, GROUPS[group]):
        version = LOCK.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} of {group} is not in lock.txt"
        assert requirement.specifier.contains(version), f"lock.txt has {requirement.name} {version}, not {requirement}"


def test_lock_lists_exact_versions_once_and_in_order() -> None:
    lines = (ROOT / "lock.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+", line) for line in lines)
    names = [canonicalize_name(line.split("==")[0]) for line in lines[1:]]
    assert lines[0].startswith("torch==")
    assert len(set(names)) == len(names)


def test_installed_versions_are_those_of_the_lock() -> None:
    different = {}
    for name, version in LOCK.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "absent"
        if installed.split("+")[0] != version:
            different[name] = (version, installed)
    assert not different, f"run make setup; (locked, installed): {different}"
