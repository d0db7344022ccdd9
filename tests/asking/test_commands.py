from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.worlds import tiny_world  # noqa: F401 - a fixture

from bevstack.asking.believed import Belief, believe, believe_annotations
from bevstack.asking.commands import parse_command
from bevstack.asking.goals import FollowGoal, RouteGoal, StopGoal, understand
from bevstack.asking.made_commands import MIN_POINTS, count_found, make_commands
from bevstack.asking.referred import resolve
from bevstack.asking.sources import open_run
from bevstack.asking.talk2car import choose_among_referred, class_accuracy, iou, read_commands, referred_iou
from bevstack.asking.way import FRONT_M
from bevstack.cli.main import main
from bevstack.planning.rule_planner import RulePlanner
from bevstack.types.scene import Detections, SceneEstimate
from bevstack.types.trajectory import Route, RouteCommand
from tests.fixtures.scenes import scene_of

STREET = [
    ("car", 30.0, 0.0, 0.0, 5.0),
    ("car", 25.0, 5.0, 0.0, 0.0),
    ("truck", 35.0, -6.0, 0.0, 0.0),
    ("car", 45.0, 5.0, np.pi - 0.01, 8.0),
    ("pedestrian", 28.0, -4.0, np.pi / 2, 1.5),
]
"""A car ahead, one standing on the left, a truck standing on the right, an oncoming car, a pedestrian who crosses."""


def street(objects: list[tuple[str, float, float, float, float]] = STREET, speed_mps: float = 5.0) -> Belief:
    frame = scene_of(objects)
    truth = frame.annotations
    assert truth is not None
    found = Detections(
        boxes=truth.boxes, scores=np.ones(len(objects), np.float32), attribute_index=truth.attribute_index
    )
    frame = replace(frame, ego=replace(frame.ego, speed_mps=speed_mps))
    return believe(SceneEstimate(token=frame.token, timestamp_us=0, detections=found), frame)


@pytest.mark.parametrize(
    ("text", "action", "relation", "classes", "colour", "side"),
    [
        ("stop behind the white car", "stop", "behind", ("car",), "white", None),
        ("park next to the truck on the left", "park", "next_to", ("truck",), None, "left"),
        ("turn right after the pedestrian", "turn", "after", ("pedestrian",), None, None),
        ("once the light turns green, turn left behind the silver car", "turn", "behind", ("car",), "grey", None),
        ("follow that red truck", "follow", None, ("truck",), "red", None),
        ("stop the car next to the guy on our right", "stop", "next_to", ("pedestrian",), None, "right"),
        ("let this car in front of us pull out", "yield", None, ("car",), None, "ahead"),
        ("change into the right lane behind the blue car", "change_lane", "behind", ("car",), "blue", None),
        ("park in front of the first truck on the right.", "park", "in_front_of", ("truck",), None, "right"),
        ("pull over near that parked bus", "stop", "next_to", ("bus",), None, None),
    ],
)
def test_a_command_is_read_into_its_parts(
    text: str, action: str, relation: str | None, classes: tuple[str, ...], colour: str | None, side: str | None
) -> None:
    command = parse_command(text)
    assert (command.action, command.relation) == (action, relation)
    assert command.reference is not None
    assert (command.reference.classes, command.reference.colour, command.reference.side) == (classes, colour, side)


def test_turns_keep_their_direction_and_sides_of_objects_are_none() -> None:
    assert parse_command("turn right after the truck on the left").direction is RouteCommand.RIGHT
    assert parse_command("make a left at the bus").direction is RouteCommand.LEFT
    assert parse_command("park next to the truck on the left").direction is None


def test_the_vehicle_itself_is_not_the_referred_object() -> None:
    assert parse_command("stop the car").reference is None
    assert parse_command("park my car in the parking lot").reference is None


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("follow the car in front of us", (30.0, 0.0)),
        ("stop next to the car on the left", (25.0, 5.0)),
        ("stop behind the truck", (35.0, -6.0)),
        ("let the oncoming car pass", (45.0, 5.0)),
        ("wait for the pedestrian crossing the street", (28.0, -4.0)),
        ("stop behind the moving car", (30.0, 0.0)),
        ("turn left after the second car on the left", (45.0, 5.0)),
        ("turn left after the first car on the left", (25.0, 5.0)),
        ("stop behind the blue truck", (35.0, -6.0)),
        ("stop behind the red vehicle in front of us", (30.0, 0.0)),
    ],
)
def test_the_object_that_is_meant_comes_first(words: str, place: tuple[float, float]) -> None:
    best = understand(words, street()).candidates[0]
    assert best.thing.xy == pytest.approx(place, abs=0.01)


def test_the_colour_decides_where_nothing_else_does() -> None:
    belief = street([("car", 20.0, 3.0, 0.0, 0.0), ("truck", 20.0, -3.0, 0.0, 0.0)])  # red and blue in the pictures
    phrase = parse_command("stop behind the blue vehicle").reference
    assert phrase is not None
    best, other = resolve(phrase, belief)
    assert (best.thing.name, other.thing.name) == ("truck", "car")
    assert best.share > 0.9 and any(reason.startswith("colour -") for reason in other.reasons)
    assert best.share + other.share == pytest.approx(1.0)


def test_what_is_not_there_is_not_found() -> None:
    understood = understand("stop behind the bicycle", street())
    assert understood.goal is None and understood.said == "I cannot do that: I see no bicycle ('bicycle')."


def test_stopping_behind_a_car_keeps_the_gap_to_its_rear() -> None:
    goal = understand("stop behind the car in front of us", street()).goal
    assert isinstance(goal, StopGoal) and goal.side is None
    assert goal.front_ego[0] == pytest.approx(30.0 - 4.6 / 2 - 2.0, abs=0.05)
    assert goal.along_m == pytest.approx(goal.front_ego[0] - FRONT_M)


def test_the_rule_planner_stops_where_the_command_asks() -> None:
    frame = scene_of([("car", 26.0, 0.0, 0.0, 0.0)])
    belief = street([("car", 26.0, 0.0, 0.0, 0.0)])
    goal = understand("stop behind the car", belief).goal
    assert isinstance(goal, StopGoal) and belief.ego is not None
    empty = SceneEstimate(token=frame.token, timestamp_us=frame.timestamp_us, detections=Detections.empty())
    straight = Route(
        command=RouteCommand.STRAIGHT, waypoints_ego=np.stack((np.arange(2.0, 60, 2), np.zeros(29)), 1),
        speed_limit_mps=13.9,
    )  # fmt: skip
    planner = RulePlanner(horizon_s=7.0)
    ego = replace(belief.ego, yaw_rate_radps=0.0)
    free = planner.plan(empty, ego, straight).trajectory
    obeyed = planner.plan(empty, ego, straight, stop_goal_ego=goal.front_ego).trajectory
    assert free.poses_ego[-1, 0] + FRONT_M > goal.front_ego[0] + 5
    assert goal.front_ego[0] - 4 < obeyed.poses_ego[-1, 0] + FRONT_M < goal.front_ego[0] + 0.5


def test_parking_behind_a_car_at_the_kerb_pulls_over_to_its_row() -> None:
    goal = understand("park behind the truck on the right", street()).goal
    assert isinstance(goal, StopGoal) and goal.side == "right"
    assert goal.pose_ego[1] == pytest.approx(-6.0, abs=0.05)
    assert goal.front_ego[0] == pytest.approx(35.0 - 4.0 - 2.0, abs=0.05)


def test_a_goal_behind_the_vehicle_or_too_close_is_refused_with_the_reason() -> None:
    close = street([("car", 6.5, 0.0, 0.0, 0.0)], speed_mps=10.0)
    assert "behind" in understand("stop behind the car", close).problem
    fast = street([("car", 16.0, 0.0, 0.0, 0.0)], speed_mps=15.0)
    assert "m/s2 of braking" in understand("stop behind the car", fast).problem


def test_a_turn_after_an_object_changes_the_route_behind_it() -> None:
    goal = understand("turn right after the truck", street()).goal
    assert isinstance(goal, RouteGoal)
    assert goal.after_m == pytest.approx(39.0, abs=0.1)
    ahead = Route(
        command=RouteCommand.STRAIGHT, waypoints_ego=np.stack((np.arange(2.0, 60, 2), np.zeros(29)), 1),
        speed_limit_mps=13.9,
    )  # fmt: skip
    route = goal.route(ahead)
    assert route.command is RouteCommand.RIGHT and route.speed_limit_mps == 13.9
    assert route.waypoints_ego[-1, 0] == 38.0


def test_following_names_whom() -> None:
    goal = understand("follow the truck", street()).goal
    assert isinstance(goal, FollowGoal) and goal.thing.name == "truck"
    assert "does not say whom" in understand("follow", street()).problem


def test_commands_about_a_planted_truth_never_reach_it_from_predictions() -> None:
    nothing = SceneEstimate(token="frame-0", timestamp_us=0, detections=Detections.empty())
    understood = understand("stop behind the truck", believe(nothing, scene_of(STREET)))
    assert not understood.candidates and not understood.oracle
    assert understand("stop behind the truck", believe_annotations(scene_of(STREET))).oracle


def test_an_empty_command_is_refused() -> None:
    with pytest.raises(ValueError, match="stop behind the white car"):
        parse_command(" ")


# ---------------------------------------------------------------- made commands


def test_made_commands_mean_one_object_and_are_the_same_for_a_seed() -> None:
    truth = believe_annotations(scene_of(STREET), min_points=MIN_POINTS)
    made = make_commands(truth, 3, 4)
    assert made == make_commands(truth, 3, 4)
    assert len({command.target.number for command in made}) == len(made) > 1
    for command in made:
        assert understand(command.text, truth).candidates[0].thing.number == command.target.number, command.text


def test_commands_are_not_made_over_predictions() -> None:
    with pytest.raises(ValueError, match="annotations"):
        make_commands(street(), 0, 1)


def test_the_oracle_finds_more_than_a_blind_system(tiny_world: Path) -> None:  # noqa: F811
    beliefs = open_run(None, tiny_world, from_annotations=True).beliefs
    tokens = [beliefs.frames.token(index) for index in range(0, len(beliefs.frames), 3)]
    oracle = count_found(beliefs, tokens, per_frame=2, oracle=True)
    assert oracle.num_commands == oracle.num_perceived > 0 and oracle.accuracy > 0.5

    class Blind:
        frames = beliefs.frames

        def belief(self, token: str) -> Belief:
            return believe(SceneEstimate(token=token, timestamp_us=0, detections=Detections.empty()))

    blind = count_found(Blind(), tokens, per_frame=2)
    assert blind.num_commands == oracle.num_commands and blind.num_right == blind.num_perceived == 0


# ---------------------------------------------------------------- the real commands


def test_the_real_commands_are_read_and_their_boxes_project_onto_each_other(nuscenes_real: Path) -> None:
    commands = read_commands(nuscenes_real / "talk2car" / "val_commands.json")
    assert len(commands) == 1163
    overlaps = np.array([iou(command.projected, command.rectangle) for command in commands])
    assert np.median(overlaps) > 0.85  # the calibration is nominal, not that of each car


def test_the_class_of_most_real_references_is_read(nuscenes_real: Path) -> None:
    right, known = class_accuracy(read_commands(nuscenes_real / "talk2car" / "val_commands.json"))
    assert known == 1132 and right / known > 0.88


def test_real_references_are_told_apart_better_than_by_chance(nuscenes_real: Path) -> None:
    choice = choose_among_referred(read_commands(nuscenes_real / "talk2car" / "val_commands.json"))
    assert choice.num_commands == 256 and choice.num_right > 1.4 * choice.by_chance


def test_a_box_that_is_found_has_the_overlap_of_its_projection() -> None:
    from bevstack.asking.talk2car import RealCommand

    belief = street([("truck", 30.0, 0.0, 0.0, 0.0)])
    rectangle = belief.things[0].views["CAM_FRONT"]
    command = RealCommand(
        text="stop behind the truck", sample_token="s", category="vehicle.truck", rectangle=rectangle,
        T_cam_box=np.eye(4), size_wlh=(2.5, 8.0, 3.2),
    )  # fmt: skip
    assert referred_iou(command, belief) == pytest.approx(1.0)
    assert referred_iou(replace(command, text="stop behind the bus stop"), belief) == 0.0


def test_a_malformed_file_of_commands_is_named(tmp_path: Path) -> None:
    path = tmp_path / "commands.json"
    path.write_text('{"commands": [{"command": "stop"}]}')
    with pytest.raises(ValueError, match=r"command 0: field 'sample_token' is missing"):
        read_commands(path)


def test_the_command_line_prints_candidates_and_goal(tiny_world: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    arguments = ["ask", "--command", "stop next to the car", "--data", str(tiny_world), "--from-annotations"]
    assert main(arguments) == 0
    assert "stop next_to, 'car'" in capsys.readouterr().out
