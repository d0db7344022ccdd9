"""The documents point at things that exist, and the project speaks of itself alone."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md"))
CODE_FOLDERS = ("bevstack/", "perception/", "fusion/", "planning/", "sim/", "configs/", "tests/", "benchmarks/")
TEXT_SUFFIXES = (".py", ".md", ".yaml", ".toml", ".sh", ".txt")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_named_files_exist(document: Path) -> None:
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    named = [name for name in re.findall(r"`([\w./-]+/[\w./-]*)`", text) if name.startswith(CODE_FOLDERS)]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing, f"{document.name} names files that do not exist: {missing}"


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    assert named and named <= targets


def test_every_command_of_the_readme_exists() -> None:
    from bevstack.cli.main import COMMANDS

    named = set(re.findall(r"^bevstack ([a-z]+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    assert named and named <= set(COMMANDS)


def test_every_training_command_of_the_readme_says_where_its_data_is() -> None:
    from bevstack.build import compose, data_location

    commands = re.findall(r"^bevstack train ([^#\n]+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert commands
    for command in commands:
        config = compose(command.split())
        assert data_location(config, "train")[0] and data_location(config, "val")[0]


def test_no_tracked_text_holds_a_machine_path() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    files = [ROOT / name for name in tracked.split("\0") if name.endswith(TEXT_SUFFIXES)]
    if not files:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"(?<![\w.])/(?:work|root|home)/\w")
    assert not [str(file) for file in files if file.is_file() and pattern.search(file.read_text(errors="ignore"))]
