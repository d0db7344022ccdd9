"""The scenarios and suites that come with the project, and files of one's own."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from bevstack.sim.scenario.check import check_scenario
from bevstack.sim.scenario.reading import read
from bevstack.sim.scenario.schema import Scenario
from bevstack.sim.scenario.variations import concrete, count_variations, variations
from bevstack.types.errors import did_you_mean

_SUFFIX = ".yaml"
FOLDERS = ("ncap2026", "r157", "nhtsa", "carla44", "neuroncap")


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteEntry:
    """Scenarios of a suite: one, or all of a folder."""

    scenario: str | None = None
    """Name as `library_names` gives it; or `all_of`."""
    all_of: str | None = None
    """A folder of the library."""
    values: dict[str, float] = field(default_factory=dict)
    """Of some parameters."""
    take: Literal["default", "grid", "draws"] = "default"
    """The default values; every official variation; or `draws` drawn ones."""
    draws: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A named list of scenarios."""

    name: str
    description: str = ""
    entries: tuple[SuiteEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotIncluded:
    """An official scenario that the library leaves out."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryIndex:
    """What a folder of the library covers of its source."""

    source: str
    not_included: tuple[NotIncluded, ...] = ()


@cache
def library_names() -> tuple[str, ...]:
    """All scenarios of the library, as folder/name."""
    names = (f"{folder}/{entry.name.removesuffix(_SUFFIX)}" for folder in FOLDERS for entry in _files(folder))
    return tuple(sorted(names))


@cache
def suite_names() -> tuple[str, ...]:
    """All suites of the library."""
    return tuple(sorted(entry.name.removesuffix(_SUFFIX) for entry in _files("suites")))


def load_scenario(name: str | Path) -> Scenario:
    """A scenario of the library by its name, with or without the folder, or one from a file.

    Raises:
        ValueError: there is none of that name, or its file has a fault.
        OSError: the file cannot be read.
    """
    if isinstance(name, Path) or str(name).endswith((_SUFFIX, ".yml")):
        return read_scenario(Path(name).read_text(encoding="utf-8"), str(name))
    matches = [known for known in library_names() if name in (known, known.partition("/")[2])]
    if len(matches) != 1:
        known = [*library_names(), *(full.partition("/")[2] for full in library_names())]
        several = f"several scenarios are named '{name}': {', '.join(matches)}"
        what = several if matches else f"no scenario is named '{name}'"
        hint = "" if matches else did_you_mean(name, known)
        raise ValueError(f"{what}{hint}; `bevstack scenario list` shows all, a file's name ends in {_SUFFIX}")
    return read_scenario(_text(matches[0]), f"{matches[0]}{_SUFFIX}")


def read_scenario(text: str, source: str) -> Scenario:
    """A scenario from YAML, checked as far as that is possible without values of its parameters.

    Raises:
        ValueError: a fault, with file, line, key, value and remedy.
    """
    scenario = read(text, Scenario, source)
    check_scenario(scenario, source)
    return scenario


def load_suite(name: str | Path) -> Suite:
    """A suite of the library by its name, or one from a file.

    Raises:
        ValueError: there is none of that name, or its file has a fault.
        OSError: the file cannot be read.
    """
    if isinstance(name, Path) or str(name).endswith((_SUFFIX, ".yml")):
        return read(Path(name).read_text(encoding="utf-8"), Suite, str(name))
    if name not in suite_names():
        hint = did_you_mean(name, suite_names()) or f"; there are {', '.join(suite_names())}"
        raise ValueError(f"there is no suite '{name}'{hint}")
    return read(_text(f"suites/{name}"), Suite, f"suites/{name}{_SUFFIX}")


def load_index(folder: str) -> LibraryIndex:
    """What a folder covers of its source, and what it leaves out."""
    return read(_text(f"{folder}/index"), LibraryIndex, f"{folder}/index{_SUFFIX}")


def scenarios_of(suite: Suite) -> Iterator[tuple[str, Scenario]]:
    """Library name and concrete scenario of every run of a suite, in its order.

    Raises:
        ValueError: an entry names nothing known.
    """
    for entry in suite.entries:
        for name in _names_of(entry, suite.name):
            scenario = load_scenario(name)
            if entry.take == "grid":
                yield from ((name, variation) for variation in variations(scenario))
            elif entry.take == "draws":
                yield from ((name, concrete(scenario, entry.values, seed=seed)) for seed in range(entry.draws))
            else:
                yield name, concrete(scenario, entry.values)


def scenario_count(suite: Suite) -> int:
    """How many runs `scenarios_of` gives."""
    total = 0
    for entry in suite.entries:
        for name in _names_of(entry, suite.name):
            runs = count_variations(load_scenario(name)) if entry.take == "grid" else 1
            total += entry.draws if entry.take == "draws" else runs
    return total


def _names_of(entry: SuiteEntry, suite: str) -> tuple[str, ...]:
    if (entry.scenario is None) == (entry.all_of is None):
        raise ValueError(f"suite {suite}: an entry needs either scenario or all_of")
    if entry.scenario is not None:
        return (entry.scenario,)
    names = tuple(name for name in library_names() if name.startswith(f"{entry.all_of}/"))
    if not names:
        raise ValueError(f"suite {suite}: there is no folder '{entry.all_of}'; there are {', '.join(FOLDERS)}")
    return names


def _files(folder: str) -> list[Traversable]:
    place = files("bevstack.sim.scenario").joinpath("library", folder)
    entries = place.iterdir() if place.is_dir() else ()
    return [entry for entry in entries if entry.name.endswith(_SUFFIX) and entry.name != f"index{_SUFFIX}"]


def _text(name: str) -> str:
    return files("bevstack.sim.scenario").joinpath("library", f"{name}{_SUFFIX}").read_text(encoding="utf-8")
