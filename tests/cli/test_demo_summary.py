"""The end of the demo, whatever tasks the weights have; and its steps, whatever they can do."""

import argparse
from pathlib import Path

import pytest

from bevstack.cli import eval as eval_command
from bevstack.cli.demo import Abilities, Demo, abilities_of, cue_arguments, summary
from bevstack.evaluation.checkpoint import open_checkpoint

BOXES = {"mean_ap": 0.5, "nds": 0.45}
DENSE = {
    "map": {"map/bevfusion-iou": {"mean_iou": 0.61}, "map/iou-fixed-0.5": {"mean_iou": 0.55}},
    "occupancy": {"occ/occ3d-miou": {"mean_iou": None, "iou": 0.7}},
}


def test_weights_with_boxes_alone_show_boxes_alone() -> None:
    lines = summary("shipped", {"fusion": BOXES, "lidar": {"mean_ap": 0.4, "nds": 0.35}}).splitlines()
    assert [line.split() for line in lines] == [
        ["shipped", "mAP", "NDS"],
        ["fusion", "0.500", "0.450"],
        ["lidar", "0.400", "0.350"],
    ]


def test_three_tasks_stand_side_by_side_under_their_leading_protocols() -> None:
    lines = summary("shipped", {"fusion": {**BOXES, **DENSE}}).splitlines()
    assert lines[0].split() == ["shipped", "mAP", "NDS", "map", "mIoU", "occ", "mIoU", "occ", "IoU"]
    assert lines[1].split() == ["fusion", "0.500", "0.450", "0.610", "-", "0.700"]


def test_a_model_without_objects_has_no_columns_of_boxes() -> None:
    lines = summary("control", {"camera": {"map": DENSE["map"]}}).splitlines()
    assert [line.split() for line in lines] == [["control", "map", "mIoU"], ["camera", "0.610"]]


def test_each_task_beside_boxes_is_named_by_its_headline_and_one_that_was_not_scored_has_no_column() -> None:
    more = {
        "tracking": {"track/nusc-2020": {"amota": 0.31, "amotp": 1.2}},
        "planning": {"plan/uniad": {"l2_m": {"at_1s": 0.4, "at_2s": 1.0, "at_3s": 2.5}}},
    }
    lines = summary("before", {"fusion": {**BOXES, **more}, "camera": BOXES}).splitlines()
    assert lines[0].split() == ["before", "mAP", "NDS", "AMOTA", "AMOTP", "L2", "1s", "L2", "3s"]
    assert lines[1].split() == ["fusion", "0.500", "0.450", "0.310", "1.200", "0.400", "2.500"]
    assert lines[2].split() == ["camera", "0.500", "0.450", "-", "-", "-", "-"]


def commands_of(abilities: Abilities, weights: str = "demo") -> list[list[str]]:
    options = argparse.Namespace(out=Path("runs/demo"), weights=weights, scenes=3, keyframes=8, steps=2, open=False)
    return [command for _, commands in Demo(options, abilities).steps() for command in commands]


def test_weights_without_language_make_no_cues_and_rules_plan_for_them() -> None:
    commands = commands_of(Abilities(experiment="m3net_small"))
    assert [command[0] for command in commands] == ["sim", "sim", "eval", "train", "eval", "report"]
    evaluations = [eval_command.parser().parse_args(command[1:]) for command in commands if command[0] == "eval"]
    assert [args.planner for args in evaluations] == ["rule", "rule"]
    assert all(args.limit is None for args in evaluations)  # tracks and plans need whole scenes
    assert "experiment=m3net_small" in commands[3] and not any("cues" in word for word in commands[3])


def test_weights_that_read_and_plan_get_cues_of_both_worlds_before_they_are_scored_and_plan_themselves() -> None:
    abilities = Abilities(experiment="drive_small", cues="zero-shot-estimates", plans=True)
    commands = commands_of(abilities, "new.safetensors")
    assert [command[0] for command in commands] == ["sim", "sim", "cues", "cues", "eval", "train", "eval", "report"]
    for command, world in zip(commands[2:4], ("train", "held_out"), strict=True):
        assert command[2] == f"runs/demo/worlds/{world}" and command[-1] == "zero-shot-estimates"
    assert [eval_command.parser().parse_args(command[1:]).planner for command in (commands[4], commands[6])] == [
        "learned",
        "learned",
    ]
    assert {"experiment=drive_small", "init_from=new.safetensors", "data.cues.name=zero-shot-estimates"} <= set(
        commands[5]
    )


@pytest.mark.parametrize(
    ("name", "captioner", "refine"),
    [
        ("zero-shot", "zero-shot", "none"),
        ("describer-oracle", "describer-oracle", "none"),
        ("zero-shot-estimates", "zero-shot", "estimates"),
        ("blip2-opt-2.7b-annotations", "zero-shot", "estimates"),
    ],
)
def test_cues_are_made_offline_under_the_name_that_the_weights_know(name: str, captioner: str, refine: str) -> None:
    words = cue_arguments(name, "demo")
    assert words[:4] == ["--captioner", captioner, "--refine", refine] and words[-2:] == ["--name", name]
    assert ("--checkpoint" in words) == (refine == "estimates")


def test_what_shipped_weights_can_do_is_read_from_them() -> None:
    abilities, checkpoint = abilities_of("detection"), open_checkpoint("detection")
    assert abilities == Abilities(experiment=checkpoint.config.name, cues=None, plans=False)
