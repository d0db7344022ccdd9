"""`bevstack scenario import`, `export` and `import-table`: OpenSCENARIO XML and OpenDRIVE files."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bevstack.sim.openscenario.import_table import FileRow

EXAMPLES = """  bevstack scenario import cut_in.xosc --out cut_in.yaml   from OpenSCENARIO
  bevstack scenario export CPNA-50 --out cpna.xosc     to OpenSCENARIO 1.2, roads beside it as .xodr
  bevstack scenario import-table FOLDER                how the files of a folder fare
"""


def add_parsers(actions: "argparse._SubParsersAction[Any]") -> None:
    """Add the three subcommands."""
    reading = actions.add_parser(
        "import",
        help="read OpenSCENARIO",
        description="Read OpenSCENARIO XML 1.0 to 1.3 with its catalogs and OpenDRIVE roads. What has no counterpart "
        "is named with file, line and element. Of a file that varies another, the first variation is taken.",
    )
    reading.add_argument("file", type=Path, help="an .xosc file")
    reading.add_argument("--out", type=Path, metavar="YAML", help="write the scenario there instead of printing it")
    reading.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="values of the file's parameters")
    reading.add_argument("--ego", metavar="NAME", help="the vehicle under test (default: the one named Ego)")
    writing = actions.add_parser(
        "export",
        help="write OpenSCENARIO",
        description="Write a scenario as OpenSCENARIO XML 1.2, with its roads beside it as OpenDRIVE (.xodr). What has "
        "no element is named.",
    )
    writing.add_argument("name", help="of the library, or a YAML file")
    writing.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .xosc file to write")
    writing.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="values of parameters")
    table = actions.add_parser(
        "import-table",
        help="how OpenSCENARIO files of a folder fare",
        description="For every .xosc file below a folder: is it read, does it run without sensors and with a vehicle "
        "under test that does not react, and does it end as its author states (the stop trigger holds, and whom the "
        "file watches for a collision is hit)?",
    )
    table.add_argument("folder", type=Path)
    table.add_argument("--losses", action="store_true", help="also list what was not carried over, by file and line")
    table.add_argument("--longest", type=float, metavar="S", help="give up after so many seconds of a scenario (1200)")


def run_import(options: argparse.Namespace) -> int:
    """Entry point of `bevstack scenario import`."""
    import sys

    from bevstack.sim.openscenario.importing import import_xosc
    from bevstack.sim.openscenario.playing import with_duration
    from bevstack.sim.scenario.writing import scenario_yaml

    if not options.file.is_file():
        raise ValueError(f"there is no file '{options.file}'")
    imported = import_xosc(options.file, dict(_assignment(text) for text in options.set), ego=options.ego)
    text = scenario_yaml(with_duration(imported))
    if options.out:
        options.out.write_text(text, "utf-8")
        print(
            f"{options.out}: {len(imported.scenario.actors)} actors, {len(imported.losses)} elements not carried over"
        )
    else:
        print(text, end="")
    for loss in imported.losses:
        print(f"not carried over: {loss}", file=sys.stderr)
    for broken in imported.broken_constraints:
        print(f"against the file's own constraints: {broken}", file=sys.stderr)
    return 0


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: it must be NAME=VALUE, such as Ego_speed_kph=40")
    return name, value


def run_export(options: argparse.Namespace) -> int:
    """Entry point of `bevstack scenario export`."""
    from bevstack.sim.openscenario.exporting import save_xosc
    from bevstack.sim.scenario.catalogue import load_scenario
    from bevstack.sim.scenario.variations import concrete

    if options.out.suffix != ".xosc":
        raise ValueError(f"--out {options.out}: the name must end in .xosc; the roads go beside it as .xodr")
    values = {name: _number(name, value) for name, value in map(_assignment, options.set)}
    losses = save_xosc(concrete(load_scenario(options.name), values), options.out)
    print(f"{options.out} and {options.out.with_suffix('.xodr').name}")
    for loss in losses:
        print(f"not written: {loss}")
    return 0


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"--set {name}={value}: the value must be a number") from None


def run_import_table(options: argparse.Namespace) -> int:
    """Entry point of `bevstack scenario import-table`."""
    from bevstack.sim.openscenario.import_table import counts, table_of
    from bevstack.sim.openscenario.playing import LONGEST_S

    if not options.folder.is_dir():
        raise ValueError(f"there is no folder '{options.folder}'")
    print(f"{'file':<70} parses runs ends  what happens")
    rows = []
    for row in table_of(options.folder, options.longest or LONGEST_S):
        rows.append(row)
        print(_line(row))
        for loss in row.losses if options.losses else ():
            print(f"    not carried over: {loss}")
    print()
    for count in counts(rows):
        further = f", {count.run} run, {count.end_as_stated} end as stated" if count.kind != "catalog" else ""
        print(f"{count.kind:<10} {count.files:>4} files: {count.parse} parse{further}")
    return 0


def _line(row: "FileRow") -> str:
    steps = (row.parses, row.runs, row.ends_as_stated)
    marks = ["yes" if step else "no" for step in steps] if row.kind != "catalog" else ["yes", "-", "-"]
    end = f"ends after {row.end_s:.1f} s" if row.end_s is not None else ""
    hits = ", ".join(f"hits {name} after {time_s:.1f} s" for name, time_s in row.contacts)
    lost = f"{len(row.losses)} not carried over" if row.losses else ""
    told = "; ".join(part for part in (row.why, hits, end, lost) if part)
    return f"{row.file[-70:]:<70} {marks[0]:<6} {marks[1]:<4} {marks[2]:<5} {told}"
