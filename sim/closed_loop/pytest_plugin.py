"""Scenarios as pytest items: every YAML file is driven once, and every expectation in it is a test.

A folder of scenarios needs a `conftest.py` with one line:

    from bevstack.sim.closed_loop.pytest_plugin import *  # noqa: F403

Then `pytest scenarios/ --drive-agent oracle --junit-xml out.xml` collects, for each scenario and each of its official
variations that `--drive-take` asks for, one item per expectation, and one named `danger`: an ego vehicle that does not
react meets what the scenario says, so that passing means something.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from bevstack.sim.closed_loop.agents.names import BLIND_AGENTS
from bevstack.sim.closed_loop.jobs import DriveJob
from bevstack.sim.closed_loop.one_run import Driven, DriveSetting, drive_job
from bevstack.sim.scenario.catalogue import load_scenario
from bevstack.sim.scenario.unprotected import check_danger
from bevstack.sim.scenario.variations import concrete, variations

__all__ = ["pytest_addoption", "pytest_collect_file"]

AGENTS = dict(BLIND_AGENTS)
"""Name -> how to make an agent; a conftest may add its own, with `SETTING` for its sensors."""
SETTING = DriveSetting(measures_progress=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of scenarios."""
    group = parser.getgroup("scenarios", "scenarios in a closed loop")
    group.addoption("--drive-agent", default="oracle", metavar="AGENT", help="who drives scenarios (default: oracle)")
    group.addoption("--drive-seed", default=0, type=int, metavar="S", help="seed of the runs (default: 0)")
    group.addoption(
        "--drive-take",
        default="default",
        choices=("default", "grid"),
        help="each scenario with its default values, or all official variations",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "ScenarioFile | None":
    """YAML files are scenarios."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    return ScenarioFile.from_parent(parent, path=file_path)


class ScenarioFile(pytest.File):
    """A file with one scenario."""

    def collect(self) -> Iterator["ScenarioVariation"]:
        """Its variations; a file with a fault is an error of collection that names line and key."""
        try:
            scenario = load_scenario(self.path)
            takes_all = self.config.getoption("--drive-take") == "grid"
            chosen = list(variations(scenario)) if takes_all else [concrete(scenario)]
        except (ValueError, OSError) as error:
            raise self.CollectError(str(error)) from None
        for index, one in enumerate(chosen):
            values = ",".join(f"{name}={value:g}" for name, value in one.values.items())
            weather = one.weather.kind if takes_all and scenario.weather.also else ""
            label = "-".join(part for part in (values, weather) if part) or "drive"
            job = DriveJob(
                index=index,
                name=self.path.stem,
                group=self.path.parent.name,
                scenario=one,
                seed=self.config.getoption("--drive-seed"),
            )
            yield ScenarioVariation.from_parent(self, name=label, job=job)


class ScenarioVariation(pytest.Collector):
    """A concrete scenario; it is driven when its first item runs."""

    def __init__(self, *, job: DriveJob, **of: Any) -> None:
        super().__init__(**of)
        self.job = job

    def collect(self) -> Iterator[pytest.Item]:
        """The danger, and every expectation."""
        yield DangerItem.from_parent(self, name="danger")
        counts: dict[str, int] = {}
        for index, wanted in enumerate(self.job.scenario.expectations):
            counts[wanted.KIND] = counts.get(wanted.KIND, 0) + 1
            again = f"_{counts[wanted.KIND]}" if counts[wanted.KIND] > 1 else ""
            yield ExpectationItem.from_parent(self, name=f"{wanted.KIND}{again}", index=index)

    @cached_property
    def driven(self) -> Driven:
        """The run, shared by all items."""
        name = self.config.getoption("--drive-agent")
        if name not in AGENTS:
            raise pytest.UsageError(f"--drive-agent {name} is none of {', '.join(AGENTS)}")
        return drive_job(self.job, AGENTS[name](), SETTING)


class UnmetError(AssertionError):
    """A scenario did not go as it should."""


class _Item(pytest.Item):
    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The reason alone: the stack says nothing about a drive."""
        if isinstance(excinfo.value, UnmetError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """File and name of the item."""
        assert self.parent is not None
        return self.path, 0, f"{self.path.name}::{self.parent.name}::{self.name}"


class DangerItem(_Item):
    """An ego vehicle that does not react meets what the scenario says."""

    parent: ScenarioVariation

    def runtest(self) -> None:
        """Drive unprotected."""
        try:
            check_danger(self.parent.job.scenario)
        except ValueError as error:
            raise UnmetError(str(error)) from None


class ExpectationItem(_Item):
    """One expectation of the agent's run."""

    parent: ScenarioVariation

    def __init__(self, *, index: int, **of: Any) -> None:
        super().__init__(**of)
        self.index = index

    def runtest(self) -> None:
        """Drive, if no item before did, and look at the verdict."""
        driven = self.parent.driven
        verdict = driven.verdicts[self.index]
        self.add_report_section("call", "drive", f"ending {driven.log.ending}, hash {driven.hash}")
        if not verdict.passed:
            raise UnmetError(f"{verdict.kind}: {verdict.words} (agent {driven.log.agent}, ending {driven.log.ending})")
