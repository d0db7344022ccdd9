"""The list of protocols: whole, consistent, and true to the files that implement them."""

import ast
from pathlib import Path

import pytest

import bevstack.evaluation
from bevstack.evaluation.protocols import PROTOCOLS, TASKS, protocol, protocols_of, same_protocols

FOLDER = Path(bevstack.evaluation.__file__).parent
IDENTITY_BEGINS = tuple(f"{name.partition('/')[0]}/" for name in PROTOCOLS)


def identities_in(path: Path) -> list[str]:
    """Texts that a file gives a name in capitals and that look like the identity of a protocol."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            name = node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""
            if name.isupper() and node.value.value.startswith(IDENTITY_BEGINS):
                found.append(node.value.value)
    return found


def test_every_identity_that_a_file_declares_is_listed() -> None:
    declared = {identity for path in FOLDER.rglob("*.py") for identity in identities_in(path)}
    assert {"det/nusc-cvpr19", "map/bevfusion-iou", "occ/occ3d-miou", "occ/rayiou"} <= declared
    assert declared <= set(PROTOCOLS)


def test_every_task_has_a_protocol_and_every_protocol_a_known_task() -> None:
    assert {info.task for info in PROTOCOLS.values()} == set(TASKS)
    assert protocols_of("map") == ("map/bevfusion-iou", "map/iou-fixed-0.5", "map/ap", "map/chamfer-ap")
    for info in PROTOCOLS.values():
        assert info.title and info.source and info.headline.isidentifier()


def test_a_wrong_identity_or_task_is_named_with_the_nearest_right_one() -> None:
    with pytest.raises(ValueError, match="'plan/uniat' .did you mean .*plan/uniad"):
        protocol("plan/uniat")
    with pytest.raises(ValueError, match="no task 'planing' .did you mean planning"):
        protocols_of("planing")


def test_results_share_a_table_only_under_the_same_protocols() -> None:
    assert same_protocols([["plan/vad", "plan/uniad"], ["plan/uniad", "plan/vad"]]) == ("plan/vad", "plan/uniad")
    assert same_protocols([]) == ()
    with pytest.raises(ValueError, match="only some of them have plan/uniad, plan/vad"):
        same_protocols([["plan/uniad"], ["plan/vad"]])
    with pytest.raises(ValueError, match="no protocol 'nds'"):
        same_protocols([["nds"]])
