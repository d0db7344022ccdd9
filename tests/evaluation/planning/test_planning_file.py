"""Planning files: round trips, and every fault with file, sample and field."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.planned_drives import left_turn_poses, plans_of, straight_poses

from bevstack.evaluation.planning.file import PlanColumns, read_planning, write_planning
from bevstack.evaluation.planning.origin import PlanOrigin

POSES = np.concatenate((straight_poses(5.0), left_turn_poses()))


def content() -> dict[str, Any]:
    meta = {"format": "bevstack-planning-1", "uses_ego_status": True, "command_source": "route", "frame": "ego"}
    one, two = ({"poses": [[float(step), 0.0] for step in range(6)]} for _ in range(2))
    return {"meta": meta | {"step_s": 0.5}, "results": {"one": one | {"command": "left"}, "two": two}}


def written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("columns", [2, 3])
def test_plans_survive_the_file(tmp_path: Path, columns: int) -> None:
    plans = plans_of(POSES[..., :columns], frame="lidar", uses_ego_status=True)
    plans.command_index[:] = (0, -1)
    found = read_planning(write_planning(tmp_path / "plans.json", plans))
    assert found.sample_tokens == plans.sample_tokens and found.has_yaw == (columns == 3)
    np.testing.assert_array_equal(found.poses, plans.poses)
    assert found.command_index.tolist() == [0, -1]
    assert (found.frame, found.uses_ego_status, found.command_source) == ("lidar", True, "none")


def test_who_made_a_plan_and_why_survives_the_file_and_a_choice_of_samples(tmp_path: Path) -> None:
    said = PlanOrigin(source="fallback_stop", reasons=("off the road in 1.2 s", "hits a car"))
    plans = replace(plans_of(POSES), origins=(PlanOrigin(), said))
    found = read_planning(write_planning(tmp_path / "plans.json", plans))
    assert found.origins == (PlanOrigin(), said)
    assert found.take([1]).origins == (said,) and found.take([0]).origins == ()
    with pytest.raises(ValueError, match="1 origins of 2 plans"):
        replace(plans, origins=(said,))


def test_no_plans_are_a_valid_file(tmp_path: Path) -> None:
    plans = plans_of(np.zeros((0, 6, 2)))
    assert read_planning(write_planning(tmp_path / "plans.json", plans)).sample_tokens == ()


def test_a_file_written_by_hand_is_read(tmp_path: Path) -> None:
    plans = read_planning(written(tmp_path / "plans.json", content()))
    assert plans.uses_ego_status and plans.command_source == "route" and plans.command_index.tolist() == [1, -1]
    assert plans.poses[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5] and np.isnan(plans.poses[..., 2]).all()


FAULTS = {
    "meta field 'uses_ego_status' is None": lambda document: document["meta"].pop("uses_ego_status"),
    "meta field 'format' is 'other'": lambda document: document["meta"].update(format="other"),
    "meta field 'frame' is 'lida'.*did you mean lidar": lambda document: document["meta"].update(frame="lida"),
    "meta field 'command_source' is None": lambda document: document["meta"].pop("command_source"),
    "meta field 'step_s' is 0.1": lambda document: document["meta"].update(step_s=0.1),
    "sample two, field 'poses': 5 steps": lambda document: document["results"]["two"]["poses"].pop(),
    "sample two, field 'poses': None": lambda document: document["results"]["two"].pop("poses"),
    r"sample one, field 'poses': step 3 is \[1\]": lambda document: document["results"]["one"]["poses"].insert(3, [1]),
    r"sample one, field 'poses': step 0 is \[True, 0\]": lambda document: document["results"]["one"]["poses"].insert(
        0, [True, 0]
    ),
    r"sample one, field 'poses': step 0 is \['x', 0\]": lambda document: document["results"]["one"]["poses"].insert(
        0, ["x", 0]
    ),
    "sample one, field 'command' is 'up'": lambda document: document["results"]["one"].update(command="up"),
    r"sample two, field 'reasons' is 'none'": lambda document: document["results"]["two"].update(reasons="none"),
    r"sample one, field 'source' is 3": lambda document: document["results"]["one"].update(source=3),
    "sample two, field 'poses': 2 and 3 numbers": lambda document: document["results"]["two"].update(
        poses=[[0.0, 0.0, 0.0]] * 6
    ),
    "it needs 'meta' and 'results'": lambda document: document.pop("results"),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_is_named_with_file_sample_and_field(tmp_path: Path, message: str) -> None:
    document = content()
    FAULTS[message](document)
    for plan in document.get("results", {}).values():
        if "poses" in plan and len(plan["poses"]) > 6:
            plan["poses"].pop()
    with pytest.raises(ValueError, match=r"plans\.json.*" + message):
        read_planning(written(tmp_path / "plans.json", document))


def test_nan_and_truncated_files_are_refused(tmp_path: Path) -> None:
    document = content()
    document["results"]["one"]["poses"][2][0] = float("nan")
    with pytest.raises(ValueError, match=r"plans\.json is not complete JSON.*NaN"):
        read_planning(written(tmp_path / "plans.json", document))
    path = written(tmp_path / "plans.json", content())
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match="not complete JSON"):
        read_planning(path)
    with pytest.raises(FileNotFoundError):
        read_planning(tmp_path / "none.json")


def test_plans_take_the_order_of_the_split_and_a_wrong_set_of_samples_is_named() -> None:
    plans = plans_of(POSES)
    turned = plans.in_order_of(("sample1", "sample0"))
    np.testing.assert_array_equal(turned.poses, plans.poses[::-1])
    with pytest.raises(ValueError, match=r"plans\.json: 1 samples of the split have no plan, the first is sample2"):
        plans.in_order_of(("sample0", "sample1", "sample2"), "plans.json")
    with pytest.raises(ValueError, match="sample sample1 is not in the split"):
        plans.in_order_of(("sample0",))
    twice = PlanColumns(
        sample_tokens=("a", "a"), poses=plans.poses, command_index=plans.command_index, uses_ego_status=False
    )
    with pytest.raises(ValueError, match="sample a has two plans"):
        twice.in_order_of(("a",))


def test_columns_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="poses of sample sample1 are not finite"):
        poses = POSES.copy()
        poses[1, 2, 0] = np.inf
        plans_of(poses)
    with pytest.raises(ValueError, match="known everywhere or nowhere"):
        poses = POSES.copy()
        poses[1, 2, 2] = np.nan
        plans_of(poses)
    with pytest.raises(ValueError, match=r"must be \(2, 6, 3\)"):
        replace(plans_of(POSES), poses=POSES[:, :5])
    with pytest.raises(ValueError, match="frame='map'"):
        plans_of(POSES, frame="map")
