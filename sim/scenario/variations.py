"""From a scenario with parameters to scenarios without: given values, drawn ones, or the official grid."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass, replace
from typing import Any, get_args

import numpy as np

from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.sim.scenario.expressions import holds, value_of
from bevstack.sim.scenario.reading import hints_of, is_number, members
from bevstack.sim.scenario.schema import DEFAULT_SIZES, Parameter, Scenario
from bevstack.types.errors import did_you_mean

_DRAWS = 1000
"""How often values are drawn until they meet the constraints."""


def grid_of(parameter: Parameter) -> tuple[float, ...]:
    """The official values of a parameter: those listed, or the range in its steps with both ends.

    Raises:
        ValueError: neither or both are given, or the range is empty.
    """
    if bool(parameter.values) == (parameter.low is not None or parameter.high is not None):
        raise ValueError(f"parameter {parameter.name} needs either values, or low and high")
    if parameter.values:
        return parameter.values
    if parameter.low is None or parameter.high is None or not parameter.low <= parameter.high:
        raise ValueError(f"parameter {parameter.name}: low={parameter.low} must be at most high={parameter.high}")
    if parameter.step is None:
        return (parameter.low, parameter.high) if parameter.low < parameter.high else (parameter.low,)
    if not parameter.step > 0:
        raise ValueError(f"parameter {parameter.name}: step={parameter.step} must be positive")
    count = math.floor((parameter.high - parameter.low) / parameter.step + 1e-9)
    steps = [round(parameter.low + index * parameter.step, 9) for index in range(count + 1)]
    return tuple(steps if steps[-1] >= parameter.high - 1e-9 else [*steps, parameter.high])


def default_of(parameter: Parameter) -> float:
    """The value where nothing else is asked for."""
    grid = grid_of(parameter)
    return parameter.default if parameter.default is not None else grid[len(grid) // 2]


def grid_values(scenario: Scenario, vehicle: VehicleParams = NUSCENES_VEHICLE) -> Iterator[dict[str, float]]:
    """Every combination of the official values that meets the constraints, the last parameter changing fastest."""
    names = [parameter.name for parameter in scenario.parameters]
    for row in itertools.product(*(grid_of(parameter) for parameter in scenario.parameters)):
        values = dict(zip(names, row, strict=True))
        if meets_constraints(scenario, values, vehicle):
            yield values


def variations(scenario: Scenario, vehicle: VehicleParams = NUSCENES_VEHICLE) -> Iterator[Scenario]:
    """The official grid: every combination of values, in every weather that the scenario names."""
    for values in grid_values(scenario, vehicle):
        for kind in (scenario.weather.kind, *scenario.weather.also):
            yield concrete(replace(scenario, weather=replace(scenario.weather, kind=kind)), values, vehicle=vehicle)


def count_variations(scenario: Scenario, vehicle: VehicleParams = NUSCENES_VEHICLE) -> int:
    """How many `variations` gives."""
    return sum(1 for _ in grid_values(scenario, vehicle)) * (1 + len(scenario.weather.also))


def concrete(
    scenario: Scenario,
    values: Mapping[str, float] | None = None,
    *,
    seed: int | None = None,
    vehicle: VehicleParams = NUSCENES_VEHICLE,
) -> Scenario:
    """The scenario with a value for every parameter, and every expression evaluated.

    Args:
        scenario: With or without free parameters.
        values: Of some or all parameters; the others have their default.
        seed: Draw the others instead, from their ranges and distributions.
        vehicle: The ego vehicle, whose measures expressions may name.

    Raises:
        ValueError: a parameter is unknown or outside of its range, a constraint is not met, or an expression is wrong.
    """
    given = dict(values or {})
    _check_names(scenario, given)
    chosen = _drawn(scenario, given, seed, vehicle) if seed is not None else _defaults(scenario) | given
    names = names_of(scenario, chosen, vehicle)
    broken = [condition for condition in scenario.constraints if not holds(condition, names)]
    if broken:
        raise ValueError(f"scenario {scenario.name}: {chosen} do not meet the constraint '{broken[0]}'")
    bare = replace(scenario, parameters=(), derived={}, constraints=(), values={})
    solved = _solved(bare, names, f"scenario {scenario.name}")
    return replace(
        solved,
        values=scenario.values | chosen,
        weather=replace(solved.weather, also=()),
    )


def names_of(scenario: Scenario, chosen: Mapping[str, float], vehicle: VehicleParams) -> dict[str, float]:
    """What expressions may name: parameters, derived values, and the measures of the ego vehicle and of the actors.

    `ego.length`, `ego.width`, `ego.front` and `ego.rear` (from the rear axle to the ends); `NAME.length` and
    `NAME.width` of an actor.

    Raises:
        ValueError: a derived value or size cannot be computed.
    """
    names = dict(chosen) | {
        "ego.length": vehicle.length_m,
        "ego.width": vehicle.width_m,
        "ego.front": vehicle.front_ahead_m,
        "ego.rear": vehicle.rear_overhang_m,
    }
    for actor in scenario.actors:
        size = actor.size_lwh or DEFAULT_SIZES[actor.class_name]
        names[f"{actor.name}.length"] = value_of(size[0], names)
        names[f"{actor.name}.width"] = value_of(size[1], names)
    for name, number in scenario.derived.items():
        names[name] = _number(number, names, f"scenario {scenario.name}, derived.{name}")
    return names


def meets_constraints(scenario: Scenario, values: Mapping[str, float], vehicle: VehicleParams) -> bool:
    """Whether values of all parameters are allowed together."""
    if not scenario.constraints:
        return True
    names = names_of(scenario, values, vehicle)
    return all(holds(condition, names) for condition in scenario.constraints)


def _defaults(scenario: Scenario) -> dict[str, float]:
    return {parameter.name: default_of(parameter) for parameter in scenario.parameters}


def _check_names(scenario: Scenario, given: Mapping[str, float]) -> None:
    known = {parameter.name: parameter for parameter in scenario.parameters}
    for name, value in given.items():
        if name not in known:
            hint = did_you_mean(name, known) or f"; it has {', '.join(known) or 'none'}"
            raise ValueError(f"scenario {scenario.name} has no parameter '{name}'{hint}")
        grid = grid_of(known[name])
        if not min(grid) <= value <= max(grid):
            raise ValueError(f"scenario {scenario.name}: {name}={value} must lie in {min(grid):g} to {max(grid):g}")


def _drawn(scenario: Scenario, given: Mapping[str, float], seed: int, vehicle: VehicleParams) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        chosen = {parameter.name: _draw(parameter, rng) for parameter in scenario.parameters} | dict(given)
        if meets_constraints(scenario, chosen, vehicle):
            return chosen
    raise ValueError(f"scenario {scenario.name}: {_DRAWS} draws met its constraints never; given were {dict(given)}")


def _draw(parameter: Parameter, rng: np.random.Generator) -> float:
    grid = grid_of(parameter)
    if parameter.values:
        return float(rng.choice(parameter.values))
    low, high = grid[0], grid[-1]
    if parameter.distribution == "uniform":
        return float(rng.uniform(low, high))
    if parameter.distribution == "log_uniform":
        if not low > 0:
            raise ValueError(f"parameter {parameter.name}: low={low} of a log_uniform range must be positive")
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return float(np.clip(rng.normal((low + high) / 2, (high - low) / 6), low, high))


def _solved(value: Any, names: Mapping[str, float], where: str) -> Any:
    """The same value with numbers for all expressions."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changed = {}
    for name, hint in hints_of(type(value)).items():
        old, key = getattr(value, name), f"{where}.{name}" if "." in where else f"{where}, {name}"
        changed[name] = _solved_field(old, hint, names, key)
    return dataclasses.replace(value, **changed)


def _solved_field(old: Any, hint: Any, names: Mapping[str, float], key: str) -> Any:
    if is_number(hint) and old is not None:
        return _number(old, names, key)
    if members(hint) == (bool, str):
        return holds(old, names) if isinstance(old, str) else old
    if isinstance(old, tuple) and _is_size(hint):
        return tuple(_number(entry, names, key) for entry in old)
    if isinstance(old, tuple):
        return tuple(_solved(entry, names, f"{key}[{index}]") for index, entry in enumerate(old))
    if isinstance(old, dict):
        return {name: _number(entry, names, f"{key}.{name}") for name, entry in old.items()}
    return _solved(old, names, key)


def _is_size(hint: Any) -> bool:
    """Whether a field is a tuple of numbers or expressions."""
    return any(is_number(entry) for option in members(hint) for entry in get_args(option))


def _number(old: float | str, names: Mapping[str, float], key: str) -> float:
    try:
        return value_of(old, names)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
