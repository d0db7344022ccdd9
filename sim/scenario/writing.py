"""The types of a scenario as YAML: what equals its default is left out, and reading it gives an equal value."""

from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import yaml

from bevstack.sim.scenario.schema import Scenario

_WIDTH = 110
_LONGEST_LEAF = 90
"""Characters of keys and values that still go on one line."""


def scenario_yaml(scenario: Scenario) -> str:
    """A scenario as a YAML document; `catalogue.read_scenario` gives it back exactly."""
    return as_yaml(scenario)


def as_yaml(value: object) -> str:
    """A dataclass as a YAML document."""
    return yaml.dump(_plain(value), Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Short leaves on one line, no aliases."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **(keywords | {"default_flow_style": None}))

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        scalars = [part for pair in node.value for part in pair if isinstance(part, yaml.ScalarNode)]
        if sum(len(part.value) + 3 for part in scalars) > _LONGEST_LEAF:
            node.flow_style = False
        return node


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        kind = {"kind": value.KIND} if hasattr(value, "KIND") else {}
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        kept = {f.name: _plain(given[f.name]) for f in fields(value) if not _is_default(f, given[f.name])}
        return kind | kept
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value


def _is_default(field: Field, value: Any) -> bool:
    if field.default is not MISSING:
        return bool(value == field.default)
    return field.default_factory is not MISSING and value == field.default_factory()
