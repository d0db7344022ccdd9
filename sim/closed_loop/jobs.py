"""What a suite asks for, run by run: which scenario, with which values and seed, under which name."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bevstack.sim.scenario.catalogue import (
    library_names,
    load_scenario,
    load_suite,
    scenarios_of,
    suite_names,
)
from bevstack.sim.scenario.schema import Scenario
from bevstack.sim.scenario.variations import concrete
from bevstack.sim.scenario.writing import scenario_yaml
from bevstack.types.errors import did_you_mean

_FILE_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveJob:
    """One run of a suite."""

    index: int
    """In the order of the suite; the seed and everything else follow from what the job says, not from this."""
    name: str
    """Of the scenario in the library, or of its file."""
    group: str
    """What results are summed up by: the folder of the library."""
    scenario: Scenario
    """Concrete."""
    seed: int

    @property
    def key(self) -> str:
        """Name of the run's folder; it says which run it is and sorts in the suite's order."""
        stem = self.name.replace("/", "_").replace(" ", "_")
        return f"{self.index:05d}-{stem}-{self.seed}"

    @property
    def fingerprint(self) -> str:
        """Of scenario and seed: a finished run is taken for this one only if it agrees."""
        return hashlib.sha256(f"{self.seed}\n{scenario_yaml(self.scenario)}".encode()).hexdigest()


def jobs_of(what: str, *, seed: int = 0, repeats: int = 1, limit: int | None = None) -> tuple[DriveJob, ...]:
    """The runs that a name stands for.

    Args:
        what: A suite, a scenario of the library, or a YAML file of either.
        seed: Of the first round.
        repeats: Rounds; each has the next seed.
        limit: No more runs than this, spread evenly over the whole.

    Raises:
        ValueError: nothing is called that, a file has a fault, or a number is not positive.
        OSError: a file cannot be read.
    """
    if repeats < 1 or (limit is not None and limit < 1):
        raise ValueError(f"repeats={repeats} and limit={limit} must be 1 or more")
    if seed < 0:
        raise ValueError(f"seed={seed} must be 0 or more")
    named = [(name, scenario, seed + k) for k in range(repeats) for name, scenario in _scenarios(what)]
    rows = range(len(named)) if limit is None or limit >= len(named) else _spread(len(named), limit)
    return tuple(
        DriveJob(index=row, name=named[row][0], group=_group(named[row][0]), scenario=named[row][1], seed=named[row][2])
        for row in rows
    )


def _scenarios(what: str) -> Iterator[tuple[str, Scenario]]:
    if what.endswith(_FILE_ENDINGS):
        path = Path(what)
        if _is_suite(path):
            yield from scenarios_of(load_suite(path))
        else:
            yield path.stem, concrete(load_scenario(path))
    elif what in suite_names():
        yield from scenarios_of(load_suite(what))
    elif _is_scenario(what):
        name = next(known for known in library_names() if what in (known, known.partition("/")[2]))
        yield name, concrete(load_scenario(what))
    else:
        known = [*suite_names(), *library_names(), *(full.partition("/")[2] for full in library_names())]
        hint = did_you_mean(what, known) or f"; suites are {', '.join(suite_names())}"
        raise ValueError(f"there is no suite or scenario '{what}'{hint}; `bevstack drive --list` shows all")


def _is_suite(path: Path) -> bool:
    """A suite has entries; a scenario has none."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return any(line.startswith("entries:") for line in lines)


def _is_scenario(name: str) -> bool:
    return any(name in (known, known.partition("/")[2]) for known in library_names())


def _group(name: str) -> str:
    folder, slash, _ = name.partition("/")
    return folder if slash else "own"


def _spread(total: int, count: int) -> list[int]:
    """Rows spread evenly over all, the first and the last among them."""
    if count == 1:
        return [0]
    return [round(k * (total - 1) / (count - 1)) for k in range(count)]
