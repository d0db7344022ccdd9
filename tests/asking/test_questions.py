from dataclasses import replace

import numpy as np
import pytest

from bevstack.asking.answer import CANNOT
from bevstack.asking.believed import Belief, believe, believe_annotations
from bevstack.asking.grammar import parse
from bevstack.asking.template import TemplateAnswerer
from bevstack.data.maps import MAP_CLASSES
from bevstack.types import Boxes3D
from bevstack.types.bev import BevGrid
from bevstack.types.cue import Cue
from bevstack.types.frame import Frame
from bevstack.types.scene import Detections, MapSegmentation, MotionForecasts, SceneEstimate, Tracks
from bevstack.types.trajectory import Plan, Route, RouteCommand, Trajectory
from tests.fixtures.scenes import TIMESTAMP_US, empty_road, one_car_ahead, scene_of

STREET = [
    ("car", 12.0, 0.0, 0.0, 5.0),
    ("car", 20.0, -3.0, 0.0, 0.0),
    ("truck", -15.0, 1.0, 0.0, 4.0),
    ("pedestrian", 9.0, 4.0, -np.pi / 2, 1.5),
    ("car", 30.0, 8.0, 3.1, 6.0),
]
"""A car ahead that drives on, one that stands ahead to the right, a truck behind, a pedestrian about to cross from the
left, and an oncoming car."""


def perceived(frame: Frame) -> SceneEstimate:
    """As if a model had found exactly what is there, with full certainty."""
    truth = frame.annotations
    assert truth is not None
    found = Detections(
        boxes=truth.boxes, scores=np.ones(len(truth.boxes), np.float32), attribute_index=truth.attribute_index
    )
    return SceneEstimate(token=frame.token, timestamp_us=frame.timestamp_us, detections=found)


def street(**changes: object) -> Belief:
    frame = scene_of(STREET)
    return replace(believe(perceived(frame), frame), **changes)  # type: ignore[arg-type]


def said(question: str, belief: Belief | None = None) -> str:
    return TemplateAnswerer().answer(question, belief or street()).text


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many cars are ahead?", "There are three cars ahead."),
        ("how many vehicles are within 15 m", "There is one vehicle within 15 m."),
        ("How many moving cars are there?", "There are two moving cars."),
        ("How many objects are farther than 25 metres?", "There is one object beyond 25 m."),
        ("Is there a pedestrian on the left?", "Yes, one pedestrian on the left."),
        ("Are there any buses?", "No, I see no buses."),
        ("Are there moving cars to the front right of the ego car?", "No, I see no moving cars ahead on the right."),
        ("What is behind us?", "There is one truck behind."),
        ("What objects are ahead?", "There are three cars and one pedestrian ahead."),
        ("What is the nearest vehicle?", "The nearest is a moving car 12.0 m away, ahead."),
        ("How far is the truck behind?", "The truck is 15.0 m away, behind."),
        ("Where is the pedestrian?", "The pedestrian is 9.8 m away, ahead."),
        ("How fast is the car ahead?", "The car is moving at 5.0 m/s (18 km/h)."),
        ("How fast is the car on the right?", "The car is not moving (0.0 m/s)."),
        ("Is the car in front moving?", "Yes, the car ahead is moving."),
        ("Is the truck parked?", "No, the truck behind is moving."),
        ("What will the pedestrian do?", "The pedestrian ahead will cross our way, from left, in 2.0 s."),
        ("Will the truck stop?", "The truck behind will keep going straight."),
        ("What colour is the car ahead?", "The car ahead is red."),
        ("How many red cars are there?", "There are three red cars."),
        ("Is there a green pedestrian?", "Yes, one green pedestrian."),
        ("How fast are we?", "We are driving at 5.0 m/s (18 km/h), +0.3 m/s2, turning left."),
    ],
)
def test_a_question_about_a_known_street_has_its_known_answer(question: str, answer: str) -> None:
    assert said(question) == answer


def test_an_answer_names_the_things_that_it_rests_on() -> None:
    answer = TemplateAnswerer().answer("How many cars are ahead?", street())
    assert answer.things == (1, 3, 4)
    assert answer.grounds[0] == "car 1: 12.0 m ahead, moving at 5.0 m/s, score 1.00"


def test_the_way_is_free_where_nothing_crosses_it() -> None:
    frame = one_car_ahead(distance_m=40.0)
    assert said("Can we go straight?", believe(perceived(frame), frame)).startswith("Yes")


def test_a_crossing_pedestrian_closes_the_way() -> None:
    assert said("May we go on?").startswith("No, do not go on: the pedestrian ahead would be in the way in")


def test_a_turn_is_refused_for_who_stands_in_it() -> None:
    frame = scene_of([("pedestrian", 11.0, -8.0, 0.0, 0.0)])
    belief = believe(perceived(frame), frame)
    assert said("Can I turn right?", belief).startswith("No, do not turn right: the pedestrian")
    assert said("Can I turn left?", belief).startswith("Yes")


def test_braking_is_explained_by_the_car_that_it_closes_in_on() -> None:
    frame = scene_of([("car", 10.0, 0.0, 0.0, 0.0)])
    belief = believe(perceived(frame), frame)
    assert belief.ego is not None
    braking = replace(belief, ego=replace(belief.ego, acceleration_mps2=-2.0))
    answer = TemplateAnswerer().answer("Why did it brake?", braking)
    assert answer.text == "Because a car is in the way 4.4 m ahead of us."
    assert "gap 4.4 m, 2.9 m/s2 of braking needed" in answer.grounds


def test_the_reasons_of_the_plan_come_first() -> None:
    stop = Trajectory(poses_ego=np.zeros((6, 3)), speeds_mps=np.zeros(6), dt_s=0.5)
    plan = Plan(trajectory=stop, source="fallback_stop", reasons=("candidate 3 meets car 0 after 1.5 s",))
    answer = said("Why are we stopping?", street(plan=plan))
    assert answer.startswith("Because the planner says: candidate 3 meets car 0 after 1.5 s.")
    assert said("What will we do?", street(plan=plan)).startswith("The vehicle stops within 3 s")


def test_no_braking_is_called_no_braking() -> None:
    assert said("Why did it brake?").startswith("It is not braking (speed 5.0 m/s")


def test_braking_without_a_visible_cause_is_not_explained() -> None:
    belief = believe(perceived(empty_road()), empty_road())
    assert belief.ego is not None
    braking = replace(belief, ego=replace(belief.ego, acceleration_mps2=-2.0))
    assert CANNOT in said("Why did it brake?", braking)


def test_route_and_limit_come_from_the_route() -> None:
    route = Route(command=RouteCommand.LEFT, waypoints_ego=np.zeros((0, 2)), speed_limit_mps=50 / 3.6)
    assert said("What is the speed limit?", street(route=route)) == "The speed limit is 50 km/h (13.9 m/s)."
    assert said("Where are we going?", street(route=route)) == "The route turns left."
    assert CANNOT in said("What is the speed limit?") and CANNOT in said("What does the route command?")


def test_attention_goes_to_the_crossing_pedestrian_and_tells_the_cue() -> None:
    cue = Cue(
        text="a pedestrian steps off the kerb", embedding=np.array([1.0, 0.0], np.float32), mirrored_embedding=None,
        frame_token="frame-0", timestamp_us=TIMESTAMP_US, source="test",
    )  # fmt: skip
    answer = said("What should the driver look at?", street(cue=cue))
    assert answer.startswith("Look at the pedestrian ahead") and answer.endswith("a pedestrian steps off the kerb")


def test_a_crossing_on_the_map_is_found_on_the_way() -> None:
    grid = BevGrid(x_range_m=(-50.0, 50.0), y_range_m=(-50.0, 50.0), z_range_m=(-5.0, 3.0), cell_m=0.5)
    probabilities = np.zeros((len(MAP_CLASSES), *grid.shape_yx), np.float32)
    probabilities[list(MAP_CLASSES).index("ped_crossing"), 90:110, 140:150] = 0.9
    seen = MapSegmentation(probabilities=probabilities, grid=grid)
    assert said("Is there a crosswalk ahead?", street(map=seen)) == (
        "Yes, there is a pedestrian crossing 20 m ahead on the way."
    )
    assert said("Is there a stop line?", street(map=seen)) == "No, I see no stop line on the way."
    assert CANNOT in said("Is there a crosswalk ahead?")


def test_a_forecast_says_more_than_the_velocity() -> None:
    frame = scene_of([("car", 20.0, 5.0, 0.0, 5.0)])
    angle = np.linspace(0.15, 1.8, 12)
    curve = np.stack((20 + 9 * np.sin(angle), 5 + 9 * (1 - np.cos(angle))), axis=1)
    motion = MotionForecasts(
        trajectories_ego=curve[None, None].astype(np.float32), probabilities=np.ones((1, 1), np.float32), dt_s=0.5
    )
    estimate = replace(perceived(frame), motion=motion)
    assert said("What will the car do?", believe(estimate, frame)) == "The car ahead will turn left."
    assert said("What will the car do?", believe(perceived(frame), frame)) == "The car ahead will keep going straight."


def test_tracks_are_spoken_of_before_detections_and_keep_their_forecasts() -> None:
    frame = scene_of([("car", 20.0, 5.0, 0.0, 5.0), ("truck", 30.0, -5.0, 0.0, 5.0)])
    estimate = perceived(frame)
    assert estimate.detections is not None
    boxes = estimate.detections.boxes
    tracks = Tracks(
        boxes=Boxes3D(rows=boxes.rows[1:], class_index=boxes.class_index[1:]), scores=np.ones(1, np.float32),
        attribute_index=np.array([-1]), identity=np.array([7]), num_hits=np.array([3]),
        unseen_s=np.zeros(1, np.float32), detection_index=np.array([1]),
    )  # fmt: skip
    paths = np.zeros((2, 1, 12, 2), np.float32)
    paths[1, 0] = (30.0, -5.0)
    motion = MotionForecasts(trajectories_ego=paths, probabilities=np.ones((2, 1), np.float32), dt_s=0.5)
    belief = believe(replace(estimate, tracks=tracks, motion=motion), frame)
    assert [(thing.name, thing.identity) for thing in belief.things] == [("truck", 7)]
    assert said("What will the truck do?", belief) == "The truck ahead will stay where it is."


def test_what_is_not_understood_is_not_answered_but_told() -> None:
    answer = TemplateAnswerer().answer("What is the meaning of life?", street())
    assert not answer.answered and CANNOT in answer.text and "how many cars are ahead?" in answer.text
    assert not TemplateAnswerer().answer("How many unicorns are there?", street()).answered


def test_a_model_without_a_detection_head_is_not_taken_for_an_empty_street() -> None:
    belief = believe(SceneEstimate(token="frame-0", timestamp_us=0))
    assert CANNOT in said("How many cars are ahead?", belief)
    assert said("How many cars are ahead?", believe(perceived(empty_road()))) == "There are no cars ahead."


def test_an_empty_question_is_refused_with_an_example() -> None:
    with pytest.raises(ValueError, match="how many cars"):
        said("  ")


def test_annotations_of_the_frame_never_reach_an_answer_from_predictions() -> None:
    full, bare = scene_of(STREET), replace(scene_of(STREET), annotations=None)
    nothing = SceneEstimate(token="frame-0", timestamp_us=0, detections=Detections.empty())
    for question in ("What objects are there ahead?", "How many cars are ahead?", "What should the driver look at?"):
        with_truth = TemplateAnswerer().answer(question, believe(nothing, full))
        assert with_truth == TemplateAnswerer().answer(question, believe(nothing, bare))
        assert not with_truth.oracle and not with_truth.things


def test_answers_from_annotations_are_marked_as_an_upper_bound() -> None:
    answer = TemplateAnswerer().answer("How many cars are ahead?", believe_annotations(scene_of(STREET)))
    assert answer.oracle and answer.text == "There are three cars ahead."
    with pytest.raises(ValueError, match="no annotations"):
        believe_annotations(replace(scene_of(STREET), annotations=None))


def test_pictures_of_another_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="frame-9"):
        believe(SceneEstimate(token="frame-9", timestamp_us=0), scene_of(STREET))


def test_weak_detections_are_not_spoken_of() -> None:
    frame = scene_of(STREET)
    estimate = perceived(frame)
    assert estimate.detections is not None
    weak = replace(estimate.detections, scores=np.array([0.9, 0.2, 0.2, 0.2, 0.2], np.float32))
    assert len(believe(replace(estimate, detections=weak)).things) == 1
    assert len(believe(replace(estimate, detections=weak), min_score=0.1).things) == 5


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How fast may we drive?", "speed_limit"), ("Why are we slow?", "why"), ("Is it safe to turn left?", "may_go"),
        ("What is the vehicle going to do?", "forecast"), ("Do you see a cyclist?", "exists"),
        ("Is there a bus lane?", "unknown"), ("How many parking lots?", "unknown"),
    ],
)  # fmt: skip
def test_the_kind_of_a_question_is_read(question: str, kind: str) -> None:
    assert parse(question).kind == kind
