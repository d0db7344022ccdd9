"""Arithmetic in scenario files: names, numbers and a few functions, read from Python's syntax tree and nothing else.

Names are the scenario's parameters and derived values; `ego.width` and `target.length` are measures of the vehicle and
of actors.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping

from bevstack.types.errors import did_you_mean

Number = float | str
"""A number, or an expression that gives one once the parameters are known."""

FUNCTIONS: dict[str, tuple[int | None, Callable[..., float]]] = {
    "min": (None, min),
    "max": (None, max),
    "abs": (1, abs),
    "sqrt": (1, math.sqrt),
    "sin": (1, math.sin),
    "cos": (1, math.cos),
    "acos": (1, math.acos),
    "kmh": (1, lambda value: value / 3.6),
    "deg": (1, math.radians),
}
"""Name -> number of arguments (None: one or more) and what it does. kmh and deg turn into m/s and radians."""

CONSTANTS = {"pi": math.pi, "gravity": 9.81}

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_COMPARE: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_LONGEST = 500


def value_of(number: Number, names: Mapping[str, float]) -> float:
    """The number itself, or what the expression gives.

    Args:
        number: Of a scenario.
        names: Values of what the expression may name; measures under dotted names.

    Raises:
        ValueError: the expression is not arithmetic, names something unknown, or has no finite value.
    """
    if not isinstance(number, str):
        return float(number)
    result = _checked(number, names)
    if isinstance(result, bool):
        raise ValueError(f"expression '{number}' is true or false where a number is needed")
    return float(result)


def holds(condition: str, names: Mapping[str, float]) -> bool:
    """Whether a comparison such as `ego_kmh >= target_kmh + 20` is true; several are joined by `and` or `or`.

    Raises:
        ValueError: as `value_of`; or the expression is no comparison.
    """
    result = _checked(condition, names)
    if not isinstance(result, bool):
        raise ValueError(f"expression '{condition}' is a number where a comparison is needed, such as 'speed > 3'")
    return result


def names_in(expression: str) -> frozenset[str]:
    """The names that an expression needs, without constants and functions; dotted names whole.

    Raises:
        ValueError: it cannot be read.
    """
    found: set[str] = set()
    pending: list[ast.AST] = [_parsed(expression)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Attribute | ast.Name):
            found.add(_dotted(node, expression))
        elif isinstance(node, ast.Call):
            pending.extend(node.args)
        else:
            pending.extend(ast.iter_child_nodes(node))
    return frozenset(found - set(CONSTANTS))


def _checked(expression: str, names: Mapping[str, float]) -> float | bool:
    try:
        result = _evaluate(_parsed(expression), expression, names)
    except ZeroDivisionError:
        raise ValueError(f"expression '{expression}' divides by zero") from None
    if isinstance(result, complex) or not math.isfinite(result):
        raise ValueError(f"expression '{expression}' gives {result}, which is not finite")
    return result


def _parsed(expression: str) -> ast.expr:
    if len(expression) > _LONGEST:
        raise ValueError(f"expression of {len(expression)} characters is longer than {_LONGEST}; name parts of it")
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"'{expression}' is neither a number nor arithmetic") from None


def _evaluate(node: ast.expr, text: str, names: Mapping[str, float]) -> float | bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.Name | ast.Attribute):
        return _named(_dotted(node, text), text, names)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_evaluate(node.left, text, names), _evaluate(node.right, text, names))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_evaluate(node.operand, text, names))
    if isinstance(node, ast.Call):
        return _call(node, text, names)
    if isinstance(node, ast.Compare):
        terms = [_evaluate(term, text, names) for term in (node.left, *node.comparators)]
        if all(type(op) in _COMPARE for op in node.ops):
            return all(_COMPARE[type(op)](a, b) for op, a, b in zip(node.ops, terms[:-1], terms[1:], strict=True))
    if isinstance(node, ast.BoolOp):
        parts = [bool(_evaluate(part, text, names)) for part in node.values]
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    raise ValueError(f"expression '{text}' has {type(node).__name__}, which is not allowed; use + - * / ( ) and names")


def _call(node: ast.Call, text: str, names: Mapping[str, float]) -> float:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in FUNCTIONS or node.keywords:
        raise ValueError(
            f"expression '{text}' calls '{name}'{did_you_mean(name, FUNCTIONS)}; there are {', '.join(FUNCTIONS)}"
        )
    count, function = FUNCTIONS[name]
    arguments = [float(_evaluate(argument, text, names)) for argument in node.args]
    if not arguments or (count is not None and len(arguments) != count):
        raise ValueError(f"expression '{text}' gives {name} {len(arguments)} values; it takes {count or '1 or more'}")
    try:
        return function(*arguments)
    except ValueError:
        raise ValueError(f"expression '{text}': {name}{tuple(arguments)} has no value") from None


def _dotted(node: ast.AST, text: str) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    raise ValueError(f"expression '{text}' has a name of more than two parts")


def _named(name: str, text: str, names: Mapping[str, float]) -> float:
    if name in names:
        return float(names[name])
    if name in CONSTANTS:
        return CONSTANTS[name]
    known = [*names, *CONSTANTS]
    hint = did_you_mean(name, known) or f"; known: {', '.join(sorted(known))}"
    raise ValueError(f"expression '{text}' names '{name}', which is unknown{hint}")
