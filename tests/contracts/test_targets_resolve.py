"""Every `_target_` in the configuration is importable and takes the arguments that stand beside it."""

import inspect
from collections.abc import Iterator
from typing import Any

import hydra.utils
import pytest
import yaml

from bevstack.build import CONFIG_FOLDER

FILES = sorted(CONFIG_FOLDER.rglob("*.yaml"))


def _targets(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for child in node.values():
            yield from _targets(child)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_targets_exist_and_know_their_arguments(file: Any) -> None:
    for node in _targets(yaml.safe_load(file.read_text())):
        target = hydra.utils.get_object(node["_target_"])
        known = inspect.signature(target).parameters
        given = set(node) - {"_target_", "_partial_"}
        assert given <= set(known), f"{node['_target_']} does not take {sorted(given - set(known))}"
        required = {name for name, parameter in known.items() if parameter.default is inspect.Parameter.empty}
        if not node.get("_partial_") and file.parent.name not in ("data", "experiment"):
            assert required <= given, f"{node['_target_']} lacks {sorted(required - given)}"


def test_no_code_and_no_arithmetic_in_yaml() -> None:
    for file in FILES:
        text = file.read_text()
        assert "${eval" not in text and "${oc." not in text, file
