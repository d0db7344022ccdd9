"""XML as a small tree whose nodes know file, line and path, so that every fault can say where it is.

Document types are refused: with them go entities that expand without end, and files from elsewhere.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

_LARGEST_BYTES = 200_000_000
_DEEPEST = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """One element."""

    tag: str
    """Without name space."""
    attributes: dict[str, str]
    source: str
    """Name of the file."""
    line: int
    path: str
    """From the root, such as `OpenSCENARIO/Storyboard/Init`; repeated elements have their position or name."""
    children: list["Node"] = field(default_factory=list)

    def all(self, tag: str) -> list["Node"]:
        """The direct children of that name."""
        return [child for child in self.children if child.tag == tag]

    def child(self, *tags: str) -> "Node | None":
        """The first of the direct children with the first name, in that the first with the next, and so on."""
        node: Node | None = self
        for tag in tags:
            node = next((child for child in node.children if child.tag == tag), None) if node else None
        return node

    def need(self, *tags: str) -> "Node":
        """As `child`.

        Raises:
            ValueError: it is missing.
        """
        found = self.child(*tags)
        if found is None:
            raise self.fault(f"the element {'/'.join(tags)} is missing")
        return found

    def only(self) -> "Node":
        """The first child, of whatever name.

        Raises:
            ValueError: there is none.
        """
        if not self.children:
            raise self.fault("it is empty and needs an element")
        return self.children[0]

    def walk(self) -> Iterator["Node"]:
        """This node and everything in it, in the order of the file."""
        yield self
        for child in self.children:
            yield from child.walk()

    def text(self, name: str, default: str | None = None) -> str:
        """An attribute.

        Raises:
            ValueError: it is missing and has no default.
        """
        value = self.attributes.get(name, default)
        if value is None:
            raise self.fault(f"the attribute {name} is missing")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """An attribute as a finite number.

        Raises:
            ValueError: it is missing and has no default, or is no finite number.
        """
        if name not in self.attributes and default is not None:
            return default
        value = self.text(name)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self.fault(f"{name}='{value}' must be a finite number")
        return number

    def flag(self, name: str, *, default: bool = False) -> bool:
        """An attribute that is true or false.

        Raises:
            ValueError: it is neither.
        """
        value = self.attributes.get(name, str(default).lower()).strip()
        if value not in ("true", "false", "1", "0"):
            raise self.fault(f"{name}='{value}' must be true or false")
        return value in ("true", "1")

    def fault(self, what: str) -> ValueError:
        """An error that says where."""
        return ValueError(f"{self.source}, line {self.line}, {self.path}: {what}")


def read_xml(path: Path) -> Node:
    """The root element of a file.

    Raises:
        ValueError: the file is no XML, has a document type, or is too large.
        OSError: it cannot be read.
    """
    if path.stat().st_size > _LARGEST_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes are more than the {_LARGEST_BYTES} that are read")
    return parse_xml(path.read_bytes(), path.name)


def parse_xml(text: str | bytes, source: str) -> Node:
    """The root element of a text.

    Args:
        text: One document.
        source: Name of the file, for messages.

    Raises:
        ValueError: the text is no XML, or has a document type.
    """
    builder = _Builder(source)
    try:
        builder.parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ValueError(f"{source}, line {error.lineno}: not XML: {expat.ErrorString(error.code)}") from None
    return builder.root


class _Builder:
    def __init__(self, source: str) -> None:
        self._source = source
        self._open: list[Node] = []
        self.root: Node
        self.parser: Any = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(":")[2]
        line = self.parser.CurrentLineNumber
        if not self._open:
            node = Node(tag=tag, attributes=attributes, source=self._source, line=line, path=tag)
            self.root = node
        else:
            parent = self._open[-1]
            if len(self._open) > _DEEPEST:
                raise parent.fault(f"elements are nested deeper than {_DEEPEST}")
            path = f"{parent.path}/{tag}{_which(parent, tag, attributes)}"
            node = Node(tag=tag, attributes=attributes, source=self._source, line=line, path=path)
            parent.children.append(node)
        self._open.append(node)

    def _end(self, name: str) -> None:
        self._open.pop()

    def _refuse(self, *_: object) -> None:
        raise ValueError(f"{self._source}, line {self.parser.CurrentLineNumber}: it has a document type (DOCTYPE), "
                         "which neither standard uses and which can expand without end; remove it")  # fmt: skip


def _which(parent: Node, tag: str, attributes: dict[str, str]) -> str:
    """What tells an element from others of its name."""
    for key in ("name", "entityRef", "id", "parameterName"):
        if key in attributes:
            return f"[{attributes[key]}]"
    count = sum(child.tag == tag for child in parent.children)
    return f"[{count + 1}]" if count else ""
