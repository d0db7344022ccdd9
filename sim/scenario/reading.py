"""YAML into the types of a scenario; what does not fit is named with file, line, key, value and remedy.

The types themselves say what may stand where: there is no second list of keys.
"""

import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from bevstack.sim.scenario.expressions import names_in
from bevstack.types.errors import did_you_mean

T = TypeVar("T")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The reader of libyaml, which is faster, where PyYAML was built with it."""

_STR, _INT, _FLOAT, _BOOL, _NULL = (f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null"))


def read(text: str, kind: type[T], source: str) -> T:
    """A value of a dataclass, from YAML.

    Args:
        text: One document.
        kind: The dataclass.
        source: Name of the file, for messages.

    Raises:
        ValueError: the text is no YAML, has a wrong or missing key, or a value of the wrong kind.
    """
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise ValueError(f"{source} is empty; it must describe a {kind.__name__}")
        return _Reader(loader, source).read(node, kind, "")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{source}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    finally:
        loader.dispose()


@cache
def hints_of(kind: type) -> dict[str, Any]:
    """Field -> its type, of a dataclass."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union; the type alone where it is none."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def is_number(hint: Any) -> bool:
    """Whether a field takes a number or an expression, or also nothing."""
    return {float, str} <= set(members(hint))


class _Reader:
    def __init__(self, loader: yaml.SafeLoader, source: str) -> None:
        self._loader, self._source = loader, source

    def read(self, node: yaml.Node, hint: Any, key: str) -> Any:
        options = members(hint)
        if type(None) in options and node.tag == _NULL:
            return None
        options = tuple(option for option in options if option is not type(None))
        if {float, str} <= set(options):
            return self._number(node, key)
        if all(is_dataclass(option) for option in options):
            return self._dataclass(node, options, key)
        if options == (bool, str):
            return self._scalar(node, bool if node.tag == _BOOL else str, key)
        (option,) = options
        return self._plain(node, option, key)

    def _plain(self, node: yaml.Node, hint: Any, key: str) -> Any:
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Literal:
            value = self._scalar(node, str, key)
            if value not in arguments:
                hint_text = did_you_mean(value, arguments)
                self._fail(node, key, f"'{value}' is none of {', '.join(arguments)}{hint_text}")
            return value
        if origin is tuple:
            return self._sequence(node, arguments, key)
        if origin is dict:
            return {name: self.read(child, arguments[1], f"{key}.{name}") for name, child in self._pairs(node, key)}
        return self._scalar(node, hint, key)

    def _dataclass(self, node: yaml.Node, options: tuple[type, ...], key: str) -> Any:
        pairs = dict(self._pairs(node, key))
        kind = options[0]
        if hasattr(kind, "KIND"):
            kind = self._kind_named(node, pairs.pop("kind", None), options, key)
        hints = hints_of(kind)
        for name, child in pairs.items():
            if name not in hints:
                hint = did_you_mean(name, hints) or f"; known: {', '.join(hints)}"
                self._fail(child, f"{key}.{name}", f"there is no such key{hint}")
        given = {name: self.read(child, hints[name], f"{key}.{name}".lstrip(".")) for name, child in pairs.items()}
        needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
        missing = [name for name in needed if name not in given]
        if missing:
            self._fail(node, key, f"{', '.join(missing)} must be given")
        return kind(**given)

    def _kind_named(self, node: yaml.Node, child: yaml.Node | None, options: tuple[type, ...], key: str) -> type:
        kinds = {option.KIND: option for option in options}  # type: ignore[attr-defined]
        if child is None:
            self._fail(node, key, f"kind must be given, one of {', '.join(kinds)}")
        name = self._scalar(child, str, f"{key}.kind")
        if name not in kinds:
            self._fail(child, f"{key}.kind", f"'{name}' is none of {', '.join(kinds)}{did_you_mean(name, kinds)}")
        return kinds[name]

    def _pairs(self, node: yaml.Node, key: str) -> list[tuple[str, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._fail(node, key, f"{_shown(node)} must be keys with values")
        seen: dict[str, yaml.Node] = {}
        for name, child in node.value:
            if name.value in seen:
                self._fail(name, f"{key}.{name.value}", "is given twice")
            seen[str(name.value)] = child
        return list(seen.items())

    def _sequence(self, node: yaml.Node, arguments: tuple[Any, ...], key: str) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self._fail(node, key, f"{_shown(node)} must be a list")
        if arguments[-1] is not Ellipsis and len(node.value) != len(arguments):
            self._fail(node, key, f"has {len(node.value)} entries and needs {len(arguments)}")
        return tuple(
            self.read(child, arguments[0 if arguments[-1] is Ellipsis else index], f"{key}[{index}]")
            for index, child in enumerate(node.value)
        )

    def _number(self, node: yaml.Node, key: str) -> float | str:
        if node.tag in (_INT, _FLOAT):
            return float(self._loader.construct_object(node))
        text = self._scalar(node, str, key)
        self._checked(node, key, lambda: names_in(text))
        return text

    def _scalar(self, node: yaml.Node, kind: type, key: str) -> Any:
        expected = {str: (_STR, _INT, _FLOAT), float: (_FLOAT, _INT), int: (_INT,), bool: (_BOOL,)}[kind]
        words = {str: "text", float: "a number", int: "a whole number", bool: "true or false"}
        if not isinstance(node, yaml.ScalarNode) or node.tag not in expected:
            self._fail(node, key, f"{_shown(node)} must be {words[kind]}")
        return str(node.value) if kind is str else kind(self._loader.construct_object(node))

    def _checked(self, node: yaml.Node, key: str, look: Callable[[], object]) -> None:
        try:
            look()
        except ValueError as error:
            self._fail(node, key, str(error))

    def _fail(self, node: yaml.Node, key: str, what: str) -> typing.NoReturn:
        where = f", key {key.lstrip('.')}" if key else ""
        raise ValueError(f"{self._source}, line {node.start_mark.line + 1}{where}: {what}")


def _shown(node: yaml.Node) -> str:
    return f"'{node.value}'" if isinstance(node, yaml.ScalarNode) else "this"
