"""The whole table: the expert, plans and baselines, shards, worlds of our own and real drives."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import real_nuscenes_root
from fixtures.drives import SPLIT, Track, drive, straight
from fixtures.nuscenes_tiny import T_EGO_LIDAR
from fixtures.worlds import tiny_world  # noqa: F401

from bevstack.data.index import DatasetIndex, open_index
from bevstack.evaluation.planning.baselines import baseline_plans
from bevstack.evaluation.planning.file import NO_COMMAND, PlanColumns
from bevstack.evaluation.planning.sums import merge_sums
from bevstack.evaluation.planning.table import (
    PlanningRow,
    PlanningTable,
    PlanningTruth,
    read_planning_truth,
    read_training,
    score_planning,
    sum_plans,
    tabulate,
)
from bevstack.evaluation.protocols import PROTOCOLS

BASELINES = ("constant_velocity", "constant_turn", "copy_last")


def turning_left(t: float) -> tuple[float, float, float]:
    """A circle of 8 m at 4 m/s."""
    return 200.0 + 8.0 * float(np.sin(t / 2)), 200.0 + 8.0 * float(1 - np.cos(t / 2)), t / 2


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DatasetIndex:
    """The vehicle turns left in three scenes; in one a car stands where it would end by going straight on."""
    scenes = {
        "scene-9001": {"in the way": Track(path=straight(208.0, 200.0))},
        "scene-9002": {"away": Track(path=straight(0.0, 0.0))},
        "scene-9003": {"away": Track(path=straight(0.0, 0.0))},
    }
    root = tmp_path_factory.mktemp("drive") / "root"
    return drive(root, scenes, num_keyframes=9, ego=turning_left, T_ego_lidar=T_EGO_LIDAR)


@pytest.fixture(scope="module")
def truth(index: DatasetIndex) -> PlanningTruth:
    return read_planning_truth(index, SPLIT)


def expert_plans(truth: PlanningTruth, *, uses_ego_status: bool = False, error_m: float = 0.0) -> PlanColumns:
    """The expert's way as a plan, shifted to the left."""
    poses = truth.future.poses_ego.copy()
    poses[..., 1] += error_m
    return PlanColumns(
        sample_tokens=truth.future.sample_tokens,
        poses=poses,
        command_index=np.full(len(poses), NO_COMMAND, np.int8),
        uses_ego_status=uses_ego_status,
    )


def row_of(table: PlanningTable, name: str, frames: str = "all") -> PlanningRow:
    return next(row for row in table.rows if row.name == name and row.frames == frames)


def test_the_expert_and_its_copy_have_no_error_and_every_baseline_is_there_twice(truth: PlanningTruth) -> None:
    table = score_planning(truth, {"copy": expert_plans(truth)})
    assert [row.name for row in table.rows[::2]] == ["expert", "copy", *BASELINES]
    assert [row.frames for row in table.rows[:2]] == ["all", "turning"]
    for name in ("expert", "copy"):
        row = row_of(table, name)
        values = [asdict(scores.l2_m) for scores in (row.uniad, row.stp3, row.vad)]
        assert all(set(one.values()) == {0.0} for one in values)
        assert row.polygon.collision_until["vehicles"].at_3s == 0.0
    assert (row_of(table, "expert").kind, row_of(table, "copy").kind) == ("expert", "prediction")


def test_straight_on_meets_the_car_that_the_turn_avoids(truth: PlanningTruth) -> None:
    table = score_planning(truth, {})
    straight_on = row_of(table, "constant_velocity")
    assert straight_on.polygon.collision_until["vehicles"].at_3s > 0
    assert row_of(table, "constant_turn").polygon.collision_until["vehicles"].at_3s == 0
    # The chord of the past makes it a few centimetres slow.
    assert row_of(table, "constant_turn").uniad.l2_m_known.at_1s < 0.6 < straight_on.uniad.l2_m_known.at_1s


def test_what_a_reader_would_miss_is_named(truth: PlanningTruth) -> None:
    table = score_planning(truth, {"mine": expert_plans(truth)})
    assert table.not_reported == (
        "ego_status_mlp: no training split was given to learn it from",
        "plan/boundary: the data set has no map expansion",
        "no prediction with ego status: score the model both ways",
    )
    both = {"without": expert_plans(truth), "with": expert_plans(truth, uses_ego_status=True)}
    complete = score_planning(truth, both, (truth.status, truth.future))
    assert complete.not_reported == ("plan/boundary: the data set has no map expansion",)
    assert row_of(complete, "with").uses_ego_status and not row_of(complete, "without").uses_ego_status
    assert row_of(complete, "ego_status_mlp").kind == "baseline"
    assert (complete.num_frames, complete.turning_rad) == (27, pytest.approx(np.radians(15)))


def test_the_table_is_json_without_nan_and_headlines_are_its_fields(truth: PlanningTruth) -> None:
    shards = truth.of_scenes([0])
    short = replace(shards, future=replace(shards.future, valid=np.zeros_like(shards.future.valid)))
    table = asdict(score_planning(short, {}))
    json.dumps(table, allow_nan=False)
    assert table["rows"][0]["vad"]["l2_m"] == {"at_1s": None, "at_2s": None, "at_3s": None, "mean": None}
    for row in asdict(score_planning(truth, {}))["rows"]:
        for part in ("uniad", "stp3", "vad", "polygon"):
            assert PROTOCOLS[row[part]["protocol"]].headline in row[part]


def test_shards_by_scene_give_the_table_of_the_whole(truth: PlanningTruth) -> None:
    plans = {"mine": expert_plans(truth, error_m=0.7)}
    whole = sum_plans(truth, plans, baseline_plans(truth.future.sample_tokens, truth.status))
    parts = []
    for scenes in ([0, 2], [1]):
        shard = truth.of_scenes(scenes)
        rows = [plans["mine"].sample_tokens.index(token) for token in shard.future.sample_tokens]
        own = replace(
            plans["mine"],
            sample_tokens=shard.future.sample_tokens,
            poses=plans["mine"].poses[rows],
            command_index=plans["mine"].command_index[rows],
        )
        parts.append(sum_plans(shard, {"mine": own}, baseline_plans(shard.future.sample_tokens, shard.status)))
    merged = {
        name: replace(entry, sums=merge_sums([part[name].sums for part in parts])) for name, entry in whole.items()
    }
    assert tabulate(merged, truth.future) == tabulate(whole, truth.future)


def test_the_network_is_trained_on_a_training_split_without_a_scene_that_is_scored(tmp_path: Path) -> None:
    scenes = {name: {"a": Track(path=straight(0.0, 0.0))} for name in ("scene-1", "scene-2", "scene-3")}
    index = drive(tmp_path / "root", scenes, num_keyframes=9, ego=turning_left, T_ego_lidar=T_EGO_LIDAR)
    assert read_training(index, SPLIT) is None
    splits = {"train": ["scene-1", "scene-2"], "mine": ["scene-3"], "mixed": ["scene-2", "scene-3"]}
    (index.folder / "splits.json").write_text(json.dumps(splits))
    training = read_training(index, "mine")
    assert training is not None and len(training[0]) == 18 and training[1].scene_names == ("scene-1", "scene-2")
    assert read_training(index, "mixed") is None and read_training(index, "train") is None
    table = score_planning(read_planning_truth(index, "mine"), {}, training)
    learned, constant = row_of(table, "ego_status_mlp"), row_of(table, "constant_velocity")
    assert learned.vad.l2_m.at_3s < 0.2 < constant.vad.l2_m.at_3s  # every scene drives the same circle


def test_plans_for_the_wrong_samples_or_with_the_name_of_a_baseline_are_refused(truth: PlanningTruth) -> None:
    with pytest.raises(ValueError, match="mine: 9 samples of the split have no plan"):
        score_planning(truth, {"mine": expert_plans(truth.of_scenes([0, 1]))})
    with pytest.raises(ValueError, match="named 'copy_last'"):
        score_planning(truth, {"copy_last": expert_plans(truth)})


@pytest.mark.slow
def test_plans_of_a_small_world_are_scored_against_its_map(tiny_world: Path) -> None:  # noqa: F811
    index = open_index(tiny_world)
    truth = read_planning_truth(index, next(iter(index.splits())))
    table = score_planning(truth, {"copy": expert_plans(truth)})
    expert, copy = row_of(table, "expert"), row_of(table, "copy")
    assert expert.boundary is not None and copy.boundary is not None
    assert copy.uniad.l2_m_known.at_1s == 0.0 and copy.boundary == expert.boundary
    assert np.isfinite(truth.status.steering_rad).all() and np.isfinite(truth.status.speed_mps).all()


@pytest.mark.skipif(real_nuscenes_root() is None, reason="no real nuScenes data")
def test_real_drives_are_scored_by_all_conventions(nuscenes_real: Path, tmp_path: Path) -> None:
    index = open_index(nuscenes_real / "mini_val" / "derived_tables", "v1.0-mini", out=tmp_path / "index")
    truth = read_planning_truth(index, "mini_val")
    table = score_planning(truth, {"copy": expert_plans(truth)})
    copy, moving, still = (row_of(table, name) for name in ("copy", "constant_velocity", "copy_last"))
    assert (copy.uniad.num_frames, copy.stp3.num_frames, copy.vad.num_frames) == (81, 65, 69)
    assert copy.vad.l2_m.mean == copy.polygon.collision_until["vehicles_and_pedestrians"].mean == 0.0
    assert moving.vad.l2_m.at_3s < moving.uniad.l2_m.at_3s < moving.uniad.l2_m_known.at_3s < still.vad.l2_m.at_3s
    assert (table.num_frames, table.num_turning_frames) == (81, 27)
