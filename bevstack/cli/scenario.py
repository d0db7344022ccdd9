"""`bevstack scenario`: the library of scenarios, one scenario in full, and what is wrong with a file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli import scenario_exchange

if TYPE_CHECKING:
    from bevstack.sim.scenario.schema import Parameter

DESCRIPTION = """Scenarios are typed YAML: a road, the ego vehicle, actors with manoeuvres, weather, faults and what is
expected. The library has those of Euro NCAP 2026, UN R157, NHTSA, CARLA/Bench2Drive and NeuroNCAP by their names."""

EXAMPLES = (
    """examples:
  bevstack scenario list                               all scenarios and suites
  bevstack scenario list ncap2026                      those of one standard
  bevstack scenario show CPNA-50 --png cpna.png        one in YAML, and a picture from above
  bevstack scenario show 4_4_1_cut_in --set dx0_m=10   with a value for a parameter
  bevstack scenario check my.yaml                      what is wrong with a file
"""
    + scenario_exchange.EXAMPLES
)

_CORNERS = 64
"""So many variations are tried by `check`, spread over all."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bevstack scenario",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the library", description="List scenarios, suites and gaps.")
    listing.add_argument("folder", nargs="?", help="only one: ncap2026, r157, nhtsa, carla44, neuroncap")
    show = actions.add_parser("show", help="print a scenario as YAML", description="Print a scenario as YAML.")
    show.add_argument("name", help="of the library, or a file")
    show.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="values of parameters: print it concrete"
    )
    show.add_argument("--seed", type=int, metavar="S", help="draw the parameters: print it concrete")
    show.add_argument("--png", type=Path, metavar="FILE", help="also draw it from above")
    check = actions.add_parser(
        "check",
        help="find faults in files",
        description="Read files, place everybody in variations spread over the grid, and drive an unprotected ego "
        "vehicle through: does what 'danger' claims happen? Exit code 1 where something is wrong.",
    )
    check.add_argument("files", nargs="+", help="YAML files, or names of the library")
    scenario_exchange.add_parsers(actions)
    return parser


def run(arguments: list[str]) -> int:
    """Entry point of `bevstack scenario`."""
    options = _parser().parse_args(arguments)
    run_action = {
        "list": _list,
        "show": _show,
        "check": _check,
        "import": scenario_exchange.run_import,
        "export": scenario_exchange.run_export,
        "import-table": scenario_exchange.run_import_table,
    }[options.action]
    return run_action(options)


def _list(options: argparse.Namespace) -> int:
    from bevstack.sim.scenario.catalogue import (
        FOLDERS,
        library_names,
        load_index,
        load_scenario,
        load_suite,
        scenario_count,
        suite_names,
    )
    from bevstack.sim.scenario.variations import count_variations
    from bevstack.types.errors import did_you_mean

    if options.folder and options.folder not in FOLDERS:
        hint = did_you_mean(options.folder, FOLDERS) or f"; there are {', '.join(FOLDERS)}"
        raise ValueError(f"the library has no folder '{options.folder}'{hint}")
    for folder in [options.folder] if options.folder else FOLDERS:
        index = load_index(folder)
        print(f"\n{index.source}")
        for name in (name for name in library_names() if name.startswith(f"{folder}/")):
            scenario = load_scenario(name)
            parameters = ", ".join(_range(parameter) for parameter in scenario.parameters)
            print(f"  {name:<52} {count_variations(scenario):>5} variations  {parameters}")
        for gap in index.not_included:
            print(f"  not included: {gap.name}: {gap.why}")
    if not options.folder:
        print("\nsuites")
        for name in suite_names():
            suite = load_suite(name)
            print(f"  {name:<12} {scenario_count(suite):>5} runs  {suite.description}")
    return 0


def _range(parameter: "Parameter") -> str:
    if parameter.values:
        return f"{parameter.name} {' '.join(f'{value:g}' for value in parameter.values)}"
    step = f" by {parameter.step:g}" if parameter.step else ""
    return f"{parameter.name} {parameter.low:g}..{parameter.high:g}{step}"


def _show(options: argparse.Namespace) -> int:
    from bevstack.sim.scenario.catalogue import load_scenario
    from bevstack.sim.scenario.variations import concrete
    from bevstack.sim.scenario.writing import scenario_yaml

    scenario = load_scenario(options.name)
    values = dict(_assignment(text) for text in options.set)
    chosen = concrete(scenario, values, seed=options.seed)
    is_concrete = bool(values) or options.seed is not None
    print(scenario_yaml(chosen if is_concrete else scenario), end="")
    if options.png:
        from bevstack.sim.scenario.picture import save_picture

        save_picture(chosen, options.png)
    return 0


def _assignment(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(f"--set {text}: it must be NAME=NUMBER, such as ego_kmh=40") from None


def _check(options: argparse.Namespace) -> int:
    failed = 0
    for name in options.files:
        try:
            count = _check_one(name)
        except (ValueError, OSError) as error:
            print(f"{name}: {error}")
            failed += 1
        else:
            print(f"{name}: good, {count} variations tried")
    return 1 if failed else 0


def _check_one(name: str) -> int:
    from bevstack.sim.scenario.catalogue import load_scenario
    from bevstack.sim.scenario.check import check_concrete
    from bevstack.sim.scenario.unprotected import check_danger
    from bevstack.sim.scenario.variations import concrete, grid_values

    scenario = load_scenario(name)
    grid = list(grid_values(scenario))
    if not grid:
        raise ValueError("no combination of its parameters meets its constraints")
    tried = grid[:: max(1, -(-len(grid) // _CORNERS))]
    for values in tried:
        variation = concrete(scenario, values)
        check_concrete(variation)
        check_danger(variation)
    return len(tried)
