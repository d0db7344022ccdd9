"""Catalogs of OpenSCENARIO: vehicles, people, objects, controllers, manoeuvres, trajectories, routes, surroundings.

A reference is replaced by the entry that it names, with the values that it assigns.
"""

from dataclasses import replace
from pathlib import Path

from bevstack.sim.openscenario.parameters import concrete, declared, without_declarations
from bevstack.sim.openscenario.xml_nodes import Node, read_xml
from bevstack.types.errors import did_you_mean

_DEEPEST = 8


class Catalogs:
    """The entries of all catalogs that a scenario names, by catalog and entry."""

    def __init__(self, root: Node, folder: Path) -> None:
        """Read the folders that a concrete scenario gives.

        Args:
            root: Of the scenario.
            folder: That its paths begin at.

        Raises:
            ValueError: a folder is missing, or a file in it is no XML.
        """
        self._entries: dict[str, dict[str, Node]] = {}
        locations = root.child("CatalogLocations")
        for node in locations.children if locations else ():
            directory = folder / node.need("Directory").text("path")
            if not directory.is_dir():
                raise node.fault(f"there is no folder '{node.need('Directory').text('path')}' beside the file")
            for path in sorted(directory.glob("*.xosc")):
                self._read(path)

    def _read(self, path: Path) -> None:
        catalog = read_xml(path).child("Catalog")
        if catalog is not None:
            entries = self._entries.setdefault(catalog.text("name"), {})
            entries.update({entry.text("name"): entry for entry in catalog.children})

    def expanded(self, node: Node, depth: int = 0) -> Node:
        """The tree with entries in place of all references.

        Raises:
            ValueError: a catalog or an entry is missing, or entries refer to each other without end.
        """
        children = []
        for child in node.children:
            entry = self._entry(child) if child.tag == "CatalogReference" else child
            if child.tag == "CatalogReference" and depth >= _DEEPEST:
                raise child.fault(f"catalog entries refer to each other more than {_DEEPEST} deep")
            children.append(self.expanded(entry, depth + (child.tag == "CatalogReference")))
        return replace(node, children=children)

    def _entry(self, reference: Node) -> Node:
        catalog, name = reference.text("catalogName"), reference.text("entryName")
        if catalog not in self._entries:
            hint = did_you_mean(catalog, self._entries) or f"; there are {', '.join(self._entries) or 'none'}"
            raise reference.fault(f"there is no catalog '{catalog}'{hint}")
        entries = self._entries[catalog]
        if name not in entries:
            hint = did_you_mean(name, entries) or f"; there are {', '.join(entries)}"
            raise reference.fault(f"catalog '{catalog}' has no entry '{name}'{hint}")
        entry, assignments = entries[name], reference.child("ParameterAssignments")
        given = {a.text("parameterRef"): a.text("value") for a in assignments.children} if assignments else {}
        values = declared(entry, given, {})
        return concrete(without_declarations(entry), values)
