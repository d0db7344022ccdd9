"""How the files of a folder fare: which are read, which run, and which end as their authors state."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from bevstack.sim.openscenario.distributions import is_distribution
from bevstack.sim.openscenario.importing import Imported, import_xosc, variants
from bevstack.sim.openscenario.losses import Loss
from bevstack.sim.openscenario.playing import LONGEST_S, Ending, play
from bevstack.sim.openscenario.xml_nodes import read_xml

Kind = Literal["scenario", "variation", "catalog"]
_TRIED = 500
"""So many variations are looked through for one that meets the file's own constraints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """One file."""

    file: str
    """From the folder that was searched."""
    kind: Kind
    parses: bool = False
    runs: bool = False
    ends_as_stated: bool = False
    why: str = ""
    """Of the first step that failed."""
    end_s: float | None = None
    contacts: tuple[tuple[str, float], ...] = ()
    """Whom the vehicle under test touched, and when."""
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Files of one kind, and how many came how far."""

    kind: Kind
    files: int
    parse: int
    run: int
    end_as_stated: int


def table_of(folder: Path, longest_s: float = LONGEST_S) -> Iterator[FileRow]:
    """A row for every .xosc file below a folder, in the order of their paths.

    A variation file is tried with its first variation that meets the constraints of its scenario.

    Raises:
        ValueError: there is no such file.
    """
    paths = sorted(folder.rglob("*.xosc"))
    if not paths:
        raise ValueError(f"there is no .xosc file in '{folder}'")
    for path in paths:
        yield _row(path, str(path.relative_to(folder)), longest_s)


def counts(rows: list[FileRow]) -> list[Count]:
    """Sums by kind; catalogs only parse."""
    kinds: tuple[Kind, ...] = ("scenario", "variation", "catalog")
    return [
        Count(
            kind=kind,
            files=len(of),
            parse=sum(row.parses for row in of),
            run=sum(row.runs for row in of),
            end_as_stated=sum(row.ends_as_stated for row in of),
        )
        for kind in kinds
        if (of := [row for row in rows if row.kind == kind])
    ]


def _row(path: Path, file: str, longest_s: float) -> FileRow:
    kind: Kind = "scenario"
    try:
        root = read_xml(path)
        if root.child("Catalog") is not None:
            return FileRow(file=file, kind="catalog", parses=True)
        kind = "variation" if is_distribution(root) else "scenario"
        imported = _first_allowed(path)
    except (ValueError, OSError) as error:
        return FileRow(file=file, kind=kind, why=str(error))
    try:
        ending = play(imported, longest_s)
    except ValueError as error:
        return FileRow(file=file, kind=kind, parses=True, why=str(error), losses=imported.losses)
    why = _unlike_stated(imported, ending, longest_s)
    return FileRow(
        file=file, kind=kind, parses=True, runs=True, ends_as_stated=not why, why=why, end_s=ending.end_s,
        contacts=tuple(ending.contacts.items()), losses=imported.losses,
    )  # fmt: skip


def _first_allowed(path: Path) -> Imported:
    first: Imported | None = None
    for choice in islice(variants(path), _TRIED):
        imported = import_xosc(path, choice)
        if not imported.broken_constraints:
            return imported
        first = first or imported
    if first is None:
        raise ValueError(f"{path.name}: it names no variation")
    return first


def _unlike_stated(imported: Imported, ending: Ending, longest_s: float) -> str:
    """What the file states and does not happen; empty where all does."""
    missed = [name for name in imported.collides_with if name not in ending.contacts]
    if missed:
        return f"the vehicle under test does not hit {', '.join(missed)}"
    if not imported.stop_groups:
        return "" if imported.collides_with else "it states no end"
    return "" if ending.end_s is not None else f"its stop trigger does not hold within {longest_s:g} s"
