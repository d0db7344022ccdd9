"""Variations: the files that give a scenario's parameters one set of values after the other."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

from bevstack.sim.openscenario.xml_nodes import Node

Choice = dict[str, str]
"""Parameter -> value, as the file writes it."""


def is_distribution(root: Node) -> bool:
    """Whether a document varies a scenario instead of being one."""
    return root.child("ParameterValueDistribution") is not None


def varied_file(root: Node, folder: Path) -> Path:
    """The scenario that is varied.

    Raises:
        ValueError: it is not named.
    """
    return folder / root.need("ParameterValueDistribution", "ScenarioFile").text("filepath")


def choices(root: Node) -> Iterator[Choice]:
    """All combinations, the last distribution changing fastest.

    Raises:
        ValueError: the distribution is not deterministic, or a range cannot be stepped through.
    """
    axes = _axes(root)
    for row in itertools.product(*axes):
        yield {name: value for part in row for name, value in part.items()}


def count(root: Node) -> int:
    """How many `choices` gives."""
    return math.prod(len(axis) for axis in _axes(root))


def _axes(root: Node) -> list[list[Choice]]:
    body = root.need("ParameterValueDistribution")
    deterministic = body.child("Deterministic")
    if deterministic is None:
        raise body.fault("only deterministic distributions are read; random ones name no values to try")
    return [_axis(node) for node in deterministic.children]


def _axis(node: Node) -> list[Choice]:
    if node.tag == "DeterministicSingleParameterDistribution":
        name, inner = node.text("parameterName"), node.only()
        if inner.tag == "DistributionSet":
            return [{name: element.text("value")} for element in inner.all("Element")]
        if inner.tag == "DistributionRange":
            return [{name: value} for value in _stepped(inner)]
    elif node.tag == "DeterministicMultiParameterDistribution":
        sets = node.need("ValueSetDistribution").all("ParameterValueSet")
        return [{a.text("parameterRef"): a.text("value") for a in entry.all("ParameterAssignment")} for entry in sets]
    raise node.fault("this distribution is not known; there are value sets, sets and stepped ranges")


def _stepped(node: Node) -> list[str]:
    limits, step = node.need("Range"), node.number("stepWidth")
    low, high = limits.number("lowerLimit"), limits.number("upperLimit")
    if not step > 0 or low > high or (high - low) / step > 1e6:
        raise node.fault(f"stepWidth={step:g} must be positive and lead from {low:g} to {high:g}")
    steps = math.floor((high - low) / step + 1e-9)
    return [repr(round(low + index * step, 9)) for index in range(steps + 1)]
