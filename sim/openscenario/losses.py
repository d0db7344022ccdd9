"""What an import could not carry over, by file, line and element."""

from dataclasses import dataclass, field

from bevstack.sim.openscenario.xml_nodes import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Something in the file that the scenario does not have."""

    source: str
    line: int
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}, {self.path}: {self.what}"


@dataclass(slots=True)
class Losses:
    """All of them, each once."""

    found: list[Loss] = field(default_factory=list)

    def note(self, node: Node, what: str) -> None:
        """Remember that an element is not carried over."""
        loss = Loss(source=node.source, line=node.line, path=node.path, what=what)
        if loss not in self.found:
            self.found.append(loss)


class UnsupportedElementError(ValueError):
    """An element that has no counterpart in our scenarios; what holds it is left out and named."""

    def __init__(self, node: Node, what: str) -> None:
        """Remember the element and why."""
        super().__init__(str(node.fault(what)))
        self.node, self.what = node, what
