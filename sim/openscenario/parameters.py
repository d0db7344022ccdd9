"""Parameters of OpenSCENARIO: declared values, `$name` and `${expression}` in attributes, and constraints.

A file becomes concrete by writing the values into its tree: whatever reads it afterwards sees no parameters.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from bevstack.sim.openscenario.xml_nodes import Node
from bevstack.types.errors import did_you_mean

Values = Mapping[str, str]
"""Name -> value, as the file writes it."""

_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_.\-]*)")
_IN_EXPRESSION = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_LONGEST = 2000

_FUNCTIONS: dict[str, Callable[..., float]] = {
    "pow": math.pow,
    "round": lambda value: math.floor(value + 0.5),
    "floor": math.floor,
    "ceil": math.ceil,
    "sqrt": math.sqrt,
    "abs": abs,
    "sign": lambda value: float((value > 0) - (value < 0)),
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "min": min,
    "max": max,
}
_OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: math.fmod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_RULES: dict[str, Callable[[float, float], bool]] = {
    "equalTo": operator.eq,
    "notEqualTo": operator.ne,
    "greaterThan": operator.gt,
    "lessThan": operator.lt,
    "greaterOrEqual": operator.ge,
    "lessOrEqual": operator.le,
}


def declared(owner: Node, given: Values, outer: Values) -> dict[str, str]:
    """Values of the parameters that an element declares, with those of the elements around it.

    Args:
        owner: The element with `ParameterDeclarations`.
        given: Values that replace the declared ones.
        outer: What expressions may also name.

    Raises:
        ValueError: an expression cannot be read.
    """
    values = dict(outer)
    declarations = owner.child("ParameterDeclarations")
    for node in declarations.all("ParameterDeclaration") if declarations else ():
        name = node.text("name")
        values[name] = given[name] if name in given else with_values(node.text("value"), values, node)
    return values


def broken_constraints(owner: Node, values: Values) -> list[str]:
    """Parameters whose value meets none of their constraint groups, with what is asked for."""
    broken = []
    declarations = owner.child("ParameterDeclarations")
    for node in declarations.all("ParameterDeclaration") if declarations else ():
        name, groups = node.text("name"), node.all("ConstraintGroup")
        if groups and not any(all(_holds(c, values[name], values) for c in g.all("ValueConstraint")) for g in groups):
            asked = " or ".join(
                " and ".join(f"{c.text('rule')} {with_values(c.text('value'), values, c)}" for c in group.children)
                for group in groups
            )
            broken.append(f"{name}={values[name]} must be {asked}")
    return broken


def concrete(node: Node, values: Values) -> Node:
    """The same tree with values in place of parameters; inner declarations count from their element on.

    Raises:
        ValueError: a parameter is unknown, or an expression cannot be evaluated; with file, line and element.
    """
    scope = declared(node, {}, values) if node.child("ParameterDeclarations") else values
    attributes = {key: with_values(text, scope, node) if "$" in text else text for key, text in node.attributes.items()}
    children = [concrete(child, scope) for child in node.children if child.tag != "ParameterDeclarations"]
    return replace(node, attributes=attributes, children=children)


def without_declarations(node: Node) -> Node:
    """The same element without its parameters, whose values are known."""
    return replace(node, children=[child for child in node.children if child.tag != "ParameterDeclarations"])


def with_values(text: str, values: Values, node: Node) -> str:
    """An attribute's text with values for `$name` and `${expression}`.

    Raises:
        ValueError: as `concrete`.
    """
    text = text.strip()
    if text.startswith("${") and text.endswith("}"):
        try:
            return _written(_evaluated(text[2:-1], values))
        except ValueError as error:
            raise node.fault(f"expression '{text}': {error}") from None
    match = _NAME.fullmatch(text)
    if match is None:
        return text
    if match[1] not in values:
        raise node.fault(f"parameter '{match[1]}' is not declared{did_you_mean(match[1], values)}")
    return values[match[1]]


def compares(left: str, rule: str, right: str) -> bool:
    """Whether two values are as a rule says: as numbers where both are, else as text.

    Raises:
        ValueError: the rule is unknown.
    """
    if rule not in _RULES:
        raise ValueError(f"rule '{rule}' is none of {', '.join(_RULES)}")
    try:
        return _RULES[rule](float(left), float(right))
    except ValueError:
        return rule in ("equalTo", "notEqualTo") and (left == right) == (rule == "equalTo")


def _holds(constraint: Node, value: str, values: Values) -> bool:
    return compares(value, constraint.text("rule"), with_values(constraint.text("value"), values, constraint))


def _written(value: float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def _evaluated(expression: str, values: Values) -> float | bool:
    if len(expression) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} characters")
    try:
        tree = ast.parse(_IN_EXPRESSION.sub(lambda match: f" p_{match[1]} ", expression).strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError):
        raise ValueError("it is no arithmetic") from None
    try:
        result = _of(tree, values)
    except (ZeroDivisionError, OverflowError):
        raise ValueError("it has no value: division by zero or out of range") from None
    if not math.isfinite(result):
        raise ValueError(f"it gives {result}, which is not finite")
    return result


def _of(node: ast.expr, values: Values) -> float | bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name):
        return _named(node.id, values)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_of(node.left, values), _of(node.right, values))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_of(node.operand, values))
    if isinstance(node, ast.BoolOp):
        parts = [bool(_of(part, values)) for part in node.values]
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        arguments = [_of(argument, values) for argument in node.args]
        try:
            return _FUNCTIONS[node.func.id](*arguments)
        except (TypeError, ValueError):
            raise ValueError(f"{node.func.id}{tuple(arguments)} has no value") from None
    name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else type(node).__name__
    raise ValueError(f"{name} is not known; there are + - * / % not and or, {', '.join(_FUNCTIONS)}")


def _named(name: str, values: Values) -> float | bool:
    if name == "pi":
        return math.pi
    if name in ("true", "false"):
        return name == "true"
    plain = name.removeprefix("p_")
    if not name.startswith("p_") or plain not in values:
        raise ValueError(f"'{plain}' is not declared{did_you_mean(plain, values)}")
    text = values[plain]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{plain}='{text}' is no number") from None
