"""Refinement: what goes, what is added, and where the facts may come from."""

import dataclasses

import numpy as np
import pytest
from fixtures.scenes import empty_road, one_car_ahead, pedestrian_left, scene_of

from bevstack.data.maps import MAP_CLASSES
from bevstack.perception.language.facts import SceneFacts, annotated_facts, facts_from_annotations, facts_from_estimate
from bevstack.perception.language.refine import LEAD_GAP_S, refine
from bevstack.types import BevGrid, Detections, Frame, MapMasks, MapSegmentation, Route, RouteCommand, SceneEstimate

GRID = BevGrid(x_range_m=(-50.0, 50.0), y_range_m=(-50.0, 50.0), z_range_m=(-5.0, 3.0), cell_m=0.5)
LEFT = Route(command=RouteCommand.LEFT, waypoints_ego=np.zeros((0, 2)), speed_limit_mps=np.nan)


def _facts(frame: Frame) -> SceneFacts:
    return annotated_facts(frame, cameras=None)


def _with_map(frame: Frame, **ahead_m: float) -> Frame:
    """The frame with a strip of each named map class across the way, that far in front of the bumper."""
    masks = np.zeros((len(MAP_CLASSES), *GRID.shape_yx), bool)
    for name, distance in ahead_m.items():
        column = int((distance + 3.4 + 50.0) / GRID.cell_m)
        masks[list(MAP_CLASSES).index(name), :, column : column + 4] = True
    return dataclasses.replace(
        frame, annotations=dataclasses.replace(frame.annotations, map_masks=MapMasks(masks=masks, grid=GRID))
    )


def _estimate(frame: Frame, score: float, **more) -> SceneEstimate:
    boxes = frame.annotations.boxes
    detections = Detections(
        boxes=boxes,
        scores=np.full(len(boxes), score, np.float32),
        attribute_index=np.full(len(boxes), -1, np.int64),
    )
    return SceneEstimate(token=frame.token, timestamp_us=frame.timestamp_us, detections=detections, **more)


# -- statements -------------------------------------------------------------------------------------------------------
def test_statements_that_nothing_supports_go_and_others_stay() -> None:
    facts = _facts(scene_of([("car", 30.0, 8.0, 0.0, 0.0), ("truck", 30.0, -8.0, 0.0, 0.0)]))
    said = "A car is parked on the left. A bus waits ahead. There are pedestrians on the right. It rains."
    refined = refine(said, facts, None)
    assert refined.text == "A car is parked on the left. It rains."
    assert refined.dropped == ("A bus waits ahead", "There are pedestrians on the right") and refined.added == ()


def test_a_statement_about_the_wrong_side_goes() -> None:
    facts = _facts(scene_of([("car", 30.0, 8.0, 0.0, 0.0)]))
    assert refine("A car on the right.", facts, None).text == ""
    assert refine("A car on the left.", facts, None).text == "A car on the left."
    assert refine("A vehicle is ahead.", facts, None).text == "A vehicle is ahead."


def test_a_denial_goes_where_the_thing_is_there() -> None:
    assert refine("There are no cars.", _facts(one_car_ahead(30.0)), None).dropped == ("There are no cars",)
    assert refine("There are no cars.", _facts(empty_road()), None).text == "There are no cars."


def test_crossings_need_a_map_and_traffic_lights_are_never_supported() -> None:
    said = "There is a crosswalk. The traffic light is red."
    assert refine(said, _facts(empty_road()), None).text == ""
    assert refine(said, _facts(_with_map(empty_road(), ped_crossing=30.0)), None).text == "There is a crosswalk."


def test_without_facts_only_the_manoeuvre_is_added() -> None:
    assert refine("A bus is ahead.", None, LEFT).text == "We turn left. A bus is ahead."
    assert refine("A bus is ahead.", None, None).text == "A bus is ahead."


# -- what safety needs ------------------------------------------------------------------------------------------------
def test_a_pedestrian_near_ahead_is_added_where_the_text_has_none() -> None:
    frame = scene_of([("pedestrian", 15.4, -3.0, np.pi / 2, 1.4)])
    refined = refine("It rains.", _facts(frame), None)
    assert refined.text == "A pedestrian crosses 12 m ahead from the right. It rains."
    assert refine("Someone walks on the right.", _facts(frame), None).added == ()


@pytest.mark.parametrize(("x_m", "y_m"), [(22.0, -3.0), (15.0, -9.0), (-6.0, 0.0)])
def test_a_pedestrian_far_aside_or_behind_is_not_added(x_m: float, y_m: float) -> None:
    assert refine("It rains.", _facts(scene_of([("pedestrian", x_m, y_m, 0.0, 0.0)])), None).added == ()


def test_a_lead_vehicle_is_added_within_two_seconds_of_driving() -> None:
    reach_m = LEAD_GAP_S * empty_road().ego.speed_mps
    rear_m = 3.4 + 2.3  # bumper to rear axle, half of a car
    for gap_m, is_added in ((reach_m - 0.5, True), (reach_m + 0.5, False)):
        added = refine("It rains.", _facts(one_car_ahead(gap_m + rear_m)), None).added
        assert [("car" in sentence) for sentence in added] == [True] * is_added
    beside = scene_of([("car", 10.0, 5.0, 0.0, 5.0)])
    assert refine("It rains.", _facts(beside), None).added == ()


def test_a_stop_line_and_a_crossing_ahead_are_added() -> None:
    frame = _with_map(empty_road(), stop_line=10.0, ped_crossing=13.0)
    added = refine("It rains.", _facts(frame), None).added
    assert added == ("a stop line lies 10 m ahead", "a pedestrian crossing lies 13 m ahead")
    assert refine("It rains.", _facts(_with_map(empty_road(), stop_line=35.0)), None).added == ()


def test_what_is_added_is_itself_supported() -> None:
    facts = _facts(
        _with_map(scene_of([("pedestrian", 12.0, 1.0, 0.0, 1.0), ("car", 9.0, 0.0, 0.0, 3.0)]), stop_line=6.0)
    )
    once = refine("It rains.", facts, LEFT)
    assert len(once.added) == 3
    again = refine(once.text, facts, LEFT)
    assert again.text == once.text and again.added == ()


# -- the manoeuvre ----------------------------------------------------------------------------------------------------
def test_the_manoeuvre_is_that_of_the_route_whatever_the_captioner_says() -> None:
    refined = refine(
        "The road is wet. We should turn right here. A car turns right.", _facts(one_car_ahead(40.0)), LEFT
    )
    assert refined.text.startswith("We turn left. The road is wet.")
    assert "We should turn right here" in refined.dropped


def test_the_future_changes_nothing() -> None:
    frame = one_car_ahead(10.0)
    future = np.column_stack((np.arange(1.0, 7.0), 3.0 * np.arange(1.0, 7.0), np.full(6, 0.5)))
    planted = dataclasses.replace(
        frame,
        annotations=dataclasses.replace(frame.annotations, ego_future=future, agent_futures_ego=np.ones((1, 12, 2))),
    )
    plain, leaked = (refine("It rains.", _facts(each), LEFT) for each in (frame, planted))
    assert plain == leaked


# -- where facts come from --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("split", ["val", "mini_val", "test", "worlds", "held_out", "train_val", "", "(unknown)"])
def test_ground_truth_of_a_split_that_is_not_for_training_is_refused(split: str) -> None:
    with pytest.raises(ValueError, match="not for training"):
        facts_from_annotations(one_car_ahead(), split=split)


def test_ground_truth_of_a_training_split_is_used() -> None:
    for split in ("train", "mini_train", "train_mine"):
        assert facts_from_annotations(one_car_ahead(), split=split).origin == "annotations"
    with pytest.raises(ValueError, match="has no annotations"):
        facts_from_annotations(dataclasses.replace(one_car_ahead(), annotations=None), split="train")


def test_estimates_give_the_same_facts_without_any_ground_truth() -> None:
    frame = scene_of([("pedestrian", 12.0, 1.0, 0.0, 1.0), ("car", 9.0, 0.0, 0.0, 3.0)])
    blind = dataclasses.replace(frame, annotations=None)
    found, known = facts_from_estimate(_estimate(frame, 0.9), blind), _facts(frame)
    assert found.objects == known.objects and found.origin == "estimates"


def test_doubtful_detections_and_unlikely_map_cells_are_no_facts() -> None:
    frame = _with_map(one_car_ahead(), ped_crossing=10.0)
    masks = frame.annotations.map_masks.masks
    for certainty, is_fact in ((0.2, False), (0.8, True)):
        seen = MapSegmentation(probabilities=np.where(masks, certainty, 0.0).astype(np.float32), grid=GRID)
        facts = facts_from_estimate(_estimate(frame, certainty, map=seen), frame)
        assert bool(facts.objects) == is_fact and (facts.crossing_ahead_m is not None) == is_fact


def test_an_estimate_without_parts_gives_no_facts_and_one_of_another_frame_is_refused() -> None:
    frame = one_car_ahead()
    nothing = SceneEstimate(token=frame.token, timestamp_us=frame.timestamp_us)
    facts = facts_from_estimate(nothing, frame)
    assert facts.objects == () and not facts.knows_map
    with pytest.raises(ValueError, match="of frame other"):
        facts_from_estimate(dataclasses.replace(nothing, token="other"), frame)


def test_facts_are_limited_to_what_the_cameras_of_the_captioner_see() -> None:
    frame = scene_of([("car", -15.0, 0.0, 0.0, 0.0), ("car", 15.0, 0.0, 0.0, 0.0)])
    front = facts_from_annotations(frame, split="train", cameras=("CAM_FRONT",))
    assert [known.x_m for known in front.objects] == [15.0] and len(_facts(frame).objects) == 2


def test_distances_are_from_the_bumper_to_the_nearest_point() -> None:
    (car,) = _facts(one_car_ahead(15.7)).objects
    assert car.distance_m == pytest.approx(10.0, abs=1e-4) and car.gap_m == pytest.approx(10.0, abs=1e-4)
    (pedestrian,) = _facts(pedestrian_left(6.0)).objects
    assert pedestrian.distance_m == pytest.approx(np.hypot(3.4 - 1.5 - 0.35, 6.0 - 0.35), abs=1e-4)
    assert pedestrian.side == "left" and pedestrian.gap_m < 0
