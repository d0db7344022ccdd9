import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_labels

from bevstack.data.class_names import ATTRIBUTES, ATTRIBUTES_OF_CLASS, DETECTION_CLASSES
from bevstack.perception.heads.detection import BOX_CHANNELS, CenterHead, DetectionOutput, focal_loss
from bevstack.perception.heads.heatmap_targets import gaussian_radius_cells
from bevstack.types import BevFeatures, Labels

SCENE = [
    ("car", "vehicle.moving", 6.3, -4.1, 0.9, 4.6, 1.9, 1.7, 0.4, 5.0, 2.0),
    ("car", "vehicle.parked", -7.2, 9.9, 0.8, 4.2, 1.8, 1.5, -3.1, 0.0, 0.0),
    ("bus", "vehicle.stopped", 2.1, 7.7, 1.6, 11.0, 2.9, 3.4, 1.6, 0.1, 0.0),
    ("pedestrian", "pedestrian.standing", -3.3, -3.3, 0.9, 0.7, 0.7, 1.8, 2.2, 0.0, 0.1),
    ("bicycle", "cycle.with_rider", -9.0, -9.0, 0.8, 1.7, 0.6, 1.4, 0.0, 4.0, 0.0),
    ("traffic_cone", None, 11.1, 11.4, 0.4, 0.4, 0.4, 0.9, 1.0, 0.0, 0.0),
    ("barrier", None, 0.2, -11.0, 0.5, 0.5, 2.5, 1.0, -0.7, 0.0, 0.0),
]
TASKS = (DETECTION_CLASSES[:5], DETECTION_CLASSES[5:6], DETECTION_CLASSES[6:8], DETECTION_CLASSES[8:])


def make_head(**changes: object) -> CenterHead:
    return CenterHead(**{"in_channels": 6, "shared_channels": 8, "branch_channels": 8, **changes}).eval()


def bev(batch_size: int = 1) -> BevFeatures:
    return BevFeatures(
        data=torch.randn(batch_size, 6, 32, 32),
        valid=torch.ones((batch_size, 1, 32, 32), dtype=torch.bool),
        grid=SMALL_GRID,
    )


def perfect_output(head: CenterHead, labels: Labels) -> DetectionOutput:
    """What the head would have to say to be exactly right."""
    targets = head.targets(labels, SMALL_GRID)
    size = len(labels.boxes_ego)
    boxes = torch.zeros(size, head._num_tasks, sum(BOX_CHANNELS.values()), 32 * 32)
    attribute = torch.zeros(len(targets.cell_index), len(ATTRIBUTES))
    known = targets.attribute_index >= 0
    attribute[known, targets.attribute_index[known]] = 9.0
    parts = (
        targets.offset,
        targets.height,
        targets.log_size,
        targets.heading,
        targets.velocity.nan_to_num(),
        attribute,
    )
    frame, cell = targets.cell_index // 1024, targets.cell_index % 1024
    boxes[frame, head._task_of_class[targets.class_index], :, cell] = torch.cat(parts, dim=1)
    probability = targets.heatmap.clamp(1e-4, 1 - 1e-4)
    return DetectionOutput(
        heatmap=probability.logit(),
        boxes=boxes.unflatten(-1, (32, 32)),
        features=torch.randn(size, 8, 32, 32),
        grid=SMALL_GRID,
    )


@pytest.mark.parametrize("tasks", [None, TASKS])
def test_decoding_the_encoded_boxes_gives_the_boxes(tasks: tuple | None) -> None:
    head = make_head(tasks=tasks, score_threshold=0.9)
    (found,) = head.decode(perfect_output(head, make_labels([SCENE])))
    assert len(found) == len(SCENE)
    for row in SCENE:
        distance = np.hypot(found.boxes.rows[:, 0] - row[2], found.boxes.rows[:, 1] - row[3])
        index = int(distance.argmin())
        assert DETECTION_CLASSES[found.boxes.class_index[index]] == row[0]
        np.testing.assert_allclose(found.boxes.rows[index], row[2:], atol=1e-4)
        attribute = found.attribute_index[index]
        assert (ATTRIBUTES[attribute] if attribute >= 0 else None) == row[1]


def test_a_perfect_output_has_almost_no_loss_and_a_wrong_one_has_more() -> None:
    head, labels = make_head(), make_labels([SCENE])
    perfect = perfect_output(head, labels)
    good = head.loss(perfect, labels)
    assert set(good) == {"heatmap", "offset", "height", "size", "yaw", "velocity", "attribute"}
    assert all(value < 1e-5 for name, value in good.items() if name not in ("heatmap", "attribute"))
    assert good["attribute"] < 0.01
    worse = head.loss(replace(perfect, heatmap=perfect.heatmap.roll(3, -1), boxes=perfect.boxes + 0.5), labels)
    assert all(worse[name] > good[name] for name in good if name != "attribute")


def test_each_term_is_the_mean_over_boxes_of_the_summed_error() -> None:
    head, labels = make_head(), make_labels([SCENE])
    output = perfect_output(head, labels)
    output.boxes[:, :, 3:6] += 0.25
    assert head.loss(output, labels)["size"] == pytest.approx(0.75, abs=1e-5)


def test_unknown_velocity_does_not_count() -> None:
    head = make_head()
    rows = [(*SCENE[0][:9], math.nan, math.nan), SCENE[1]]
    labels = make_labels([rows])
    output = perfect_output(head, labels)
    output.boxes[:, :, 8:10] += 1.0
    terms = head.loss(output, labels)
    assert terms["velocity"] == pytest.approx(2.0, abs=1e-5)  # one known box, both components off by one
    assert all(value.isfinite() for value in terms.values())


def test_a_barrier_seen_from_behind_is_as_right_and_a_car_is_not() -> None:
    head = make_head()
    for row, is_wrong in ((SCENE[6], False), (SCENE[0], True)):
        labels = make_labels([[row]])
        output = perfect_output(head, labels)
        output.boxes[:, :, 6:8] *= -1
        assert (head.loss(output, labels)["yaw"] > 1.0) == is_wrong


def test_boxes_without_points_and_outside_the_grid_are_not_asked_for() -> None:
    unseen = make_labels([SCENE], num_points=0)
    assert len(make_head().targets(unseen, SMALL_GRID).cell_index) == 0
    assert len(make_head(min_points=0).targets(unseen, SMALL_GRID).cell_index) == len(SCENE)
    outside = make_labels([[("car", None, 13.0, 0, 0, 4, 2, 1.5, 0, 0, 0)]])
    assert not make_head().targets(outside, SMALL_GRID).heatmap.any()


def test_frames_without_boxes_have_a_finite_loss_and_gradient() -> None:
    head = make_head().train()
    terms = head.loss(head(bev(2)), make_labels([[], []]))
    sum(terms.values()).backward()
    assert all(value.isfinite() for value in terms.values())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())


def test_larger_things_have_wider_bumps() -> None:
    head = make_head()
    areas = []
    for row in (SCENE[3], SCENE[2]):
        heatmap = head.targets(make_labels([[(*row[:2], 0.4, 0.4, *row[4:])]]), SMALL_GRID).heatmap
        assert heatmap.max() == 1 and (heatmap == 1).sum() == 1
        areas.append(int((heatmap > 0).sum()))
    assert areas[1] > areas[0]


def test_a_box_moved_by_its_radius_still_overlaps_by_the_asked_share() -> None:
    length, width = torch.tensor([5.0, 12.0]), torch.tensor([2.5, 4.0])
    radius = gaussian_radius_cells(length, width, 0.3)
    shared = (length - radius) * (width - radius)
    torch.testing.assert_close(shared / (2 * length * width - shared), torch.tensor([0.3, 0.3]))


def test_mirroring_the_boxes_mirrors_the_heat_map() -> None:
    head = make_head()
    mirrored = [(*row[:3], -row[3], *row[4:8], -row[8], row[9], -row[10]) for row in SCENE]
    plain = head.targets(make_labels([SCENE]), SMALL_GRID)
    flipped = head.targets(make_labels([mirrored]), SMALL_GRID)
    torch.testing.assert_close(flipped.heatmap, plain.heatmap.flip(2))
    torch.testing.assert_close(flipped.heading, plain.heading * torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(flipped.offset, plain.offset * torch.tensor([1.0, -1.0]), rtol=0, atol=1e-5)


def test_two_frames_at_once_equal_each_alone() -> None:
    head, features = make_head(score_threshold=0.0), bev(2)
    together = head(features)
    labels = make_labels([SCENE, SCENE[:2]])
    for index in range(2):
        cut = slice(index, index + 1)
        alone = head(BevFeatures(data=features.data[cut], valid=features.valid[cut], grid=features.grid))
        torch.testing.assert_close(together.heatmap[cut], alone.heatmap, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.boxes[cut], alone.boxes, rtol=1e-4, atol=1e-5)
    heatmap = head.targets(labels, SMALL_GRID).heatmap
    torch.testing.assert_close(heatmap[1:], head.targets(make_labels([SCENE[:2]]), SMALL_GRID).heatmap)


def test_an_untrained_head_decodes_to_at_most_the_allowed_number_in_falling_order() -> None:
    head = make_head(score_threshold=0.0, max_detections=50)
    for found in head.decode(head(bev(2))):
        assert 0 < len(found) <= 50 and (np.diff(found.scores) <= 0).all()
        assert np.isfinite(found.boxes.rows).all() and (found.boxes.sizes > 0).all()
        assert (np.abs(found.boxes.yaws) <= np.pi).all()


def test_attributes_are_those_that_the_class_can_have() -> None:
    head = make_head(score_threshold=0.0)
    (found,) = head.decode(head(bev()))
    for class_index, attribute in zip(found.boxes.class_index, found.attribute_index, strict=True):
        allowed = ATTRIBUTES_OF_CLASS[DETECTION_CLASSES[class_index]]
        assert (attribute == -1) if not allowed else (ATTRIBUTES[attribute] in allowed)


def test_the_speed_rule_calls_a_fast_car_moving_and_a_standing_pedestrian_standing() -> None:
    head = make_head(attributes="speed", score_threshold=0.9)
    (found,) = head.decode(perfect_output(head, make_labels([[SCENE[0], SCENE[3], SCENE[5]]])))
    named = {DETECTION_CLASSES[c]: a for c, a in zip(found.boxes.class_index, found.attribute_index, strict=True)}
    assert ATTRIBUTES[named["car"]] == "vehicle.moving"
    assert ATTRIBUTES[named["pedestrian"]] == "pedestrian.standing"
    assert named["traffic_cone"] == -1


def test_of_two_overlapping_cars_the_better_stays_and_a_pedestrian_inside_stays_too() -> None:
    head = make_head(score_threshold=0.3, tasks=TASKS)
    beside = ("car", None, 8.0, -3.6, 0.9, 4.6, 1.9, 1.7, 0.4, 0, 0)
    inside = ("pedestrian", None, 6.2, -4.2, 0.9, 0.7, 0.7, 1.8, 0, 0, 0)
    output = perfect_output(head, make_labels([[SCENE[0], inside]]))
    both = perfect_output(head, make_labels([[SCENE[0], beside, inside]]))
    assert len(head.decode(output)[0]) == 2
    assert len(head.decode(both)[0]) == 2
    assert len(make_head(score_threshold=0.3, tasks=TASKS, nms_iou=1.0).decode(both)[0]) == 3


def test_the_focal_loss_of_one_uncertain_centre_is_the_paper_s_value() -> None:
    heatmap = torch.zeros(1, 1, 1, 2)
    heatmap[..., 0], heatmap[..., 1] = 1.0, 0.5
    logits = torch.tensor([0.0, math.log(0.25 / 0.75)]).view(1, 1, 1, 2)
    expected = -(0.5**2 * math.log(0.5) + 0.5**4 * 0.25**2 * math.log(0.75))
    assert focal_loss(logits, heatmap, 1) == pytest.approx(expected, rel=1e-5)


def test_tasks_that_forget_a_class_are_refused() -> None:
    with pytest.raises(ValueError, match="must hold each of"):
        make_head(tasks=(DETECTION_CLASSES[:4],))
