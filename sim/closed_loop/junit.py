"""Results as JUnit XML, valid under the schema of Apache Ant's JUnit task that CI servers check against.

A scenario is a test case; an expectation that was not met is a failure, a run that was not driven to its end an error.
"""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bevstack.sim.closed_loop.verdict import BROKEN_ENDINGS

_NOT_XML = dict.fromkeys([*range(0x9), 0xB, 0xC, *range(0xE, 0x20)])
"""Characters that no XML document may hold."""


def write_junit(summaries: Sequence[dict[str, Any]], path: Path, *, suite: str) -> None:
    """Write finished runs.

    Args:
        summaries: `run_folder.read_summary` of each.
        path: The file.
        suite: Name of the whole.
    """
    root = ElementTree.Element("testsuites")
    groups: dict[str, list[dict[str, Any]]] = {}
    for summary in summaries:
        groups.setdefault(summary["group"], []).append(summary)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    for number, (group, runs) in enumerate(groups.items()):
        root.append(_suite(suite, group, runs, number, now))
    ElementTree.indent(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _suite(suite: str, group: str, runs: list[dict[str, Any]], number: int, now: str) -> ElementTree.Element:
    broken = sum(run["ending"] in BROKEN_ENDINGS for run in runs)
    failed = sum(not run["passed"] for run in runs) - broken
    node = ElementTree.Element(
        "testsuite",
        name=group,
        package=suite,
        id=str(number),
        timestamp=now,
        hostname=platform.node() or "localhost",
        tests=str(len(runs)),
        failures=str(failed),
        errors=str(broken),
        time=f"{sum(run['wall_s'] for run in runs):.3f}",
    )
    properties = ElementTree.SubElement(node, "properties")
    facts = {**{f"agent.{k}": v for k, v in runs[0]["agent"].items()}, **runs[0]["versions"]}
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", name=_clean(name), value=_clean(str(value)))
    for run in runs:
        node.append(_case(group, run))
    ElementTree.SubElement(node, "system-out")
    ElementTree.SubElement(node, "system-err")
    return node


def _case(group: str, run: dict[str, Any]) -> ElementTree.Element:
    values = " ".join(f"{name}={value:g}" for name, value in run["parameters"].items())
    name = f"{run['scenario']} {values} seed={run['seed']}".replace("  ", " ")
    case = ElementTree.Element("testcase", classname=_clean(group), name=_clean(name), time=f"{run['wall_s']:.3f}")
    unmet = [verdict for verdict in run["expectations"] if not verdict["passed"]]
    if run["ending"] in BROKEN_ENDINGS:
        error = ElementTree.SubElement(case, "error", type=run["ending"], message=_clean(run["remark"]))
        error.text = _clean(f"{run['ending']}: {run['remark']}")
    elif unmet:
        # The schema allows one failure a case: the first names the kind, the text has all.
        first = unmet[0]
        failure = ElementTree.SubElement(case, "failure", type=first["kind"], message=_clean(first["words"]))
        failure.text = _clean("\n".join(f"{verdict['kind']}: {verdict['words']}" for verdict in unmet))
    return case


def _clean(text: str) -> str:
    return text.translate(_NOT_XML)
