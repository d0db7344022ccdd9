import math

import pytest
import torch
from fixtures.agents import boxes_of
from hypothesis import given
from hypothesis import strategies as st

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.perception.heads.motion_anchors import MAX_MODES, MotionAnchors, to_ego, to_own, travel_axis

KEEP, STOP, LEFT, RIGHT, FASTER, SLOWER = range(6)
CAR, PEDESTRIAN, BARRIER = (DETECTION_CLASSES.index(name) for name in ("car", "pedestrian", "barrier"))


def ways(speed: float, class_index: int = CAR, **settings: float) -> torch.Tensor:
    anchors = MotionAnchors(**{"modes": 6, "steps": 12, "dt_s": 0.5, **settings})
    return anchors(torch.tensor([[[speed, 0.0]]]), torch.tensor([[class_index]]))[0, 0]


def test_going_on_is_constant_velocity_sideways_and_backwards_too() -> None:
    anchors = MotionAnchors(modes=6, steps=12, dt_s=0.5)
    velocity = torch.tensor([[[5.0, 0.0], [-0.4, 0.3]]])
    onward = anchors(velocity, torch.zeros(1, 2, dtype=torch.int64))[:, :, KEEP]
    times_s = 0.5 * torch.arange(1, 13)
    torch.testing.assert_close(onward, velocity[:, :, None] * times_s[:, None])


def test_a_car_at_five_metres_a_second_brakes_to_a_halt_in_two_seconds_and_five_metres() -> None:
    stop = ways(5.0)[STOP]
    torch.testing.assert_close(stop[3:], torch.tensor([[5.0, 0.0]]).expand(9, -1), atol=1e-5, rtol=0)
    assert stop[0, 0] == pytest.approx(5 * 0.5 - 2.5 * 0.5**2 / 2)


def test_a_turn_is_a_quarter_circle_and_then_straight() -> None:
    left = ways(4.5)[LEFT]  # at the speed of a turn: the radius stays
    radius = 4.5 / 0.35
    angle = 0.35 * 0.5 * torch.arange(1, 9)
    circle = radius * torch.stack((angle.sin(), 1 - angle.cos()), dim=1)
    torch.testing.assert_close(left[:8], circle, atol=0.02, rtol=0)
    torch.testing.assert_close((left[11] - left[10]), torch.tensor([0.0, 4.5 * 0.5]), atol=1e-5, rtol=0)


def test_turns_are_each_other_s_mirror_image_and_fast_ones_are_wide() -> None:
    slow, fast = ways(4.5), ways(20.0)
    for own in (slow, fast):
        torch.testing.assert_close(own[LEFT], own[RIGHT] * torch.tensor([1.0, -1.0]))
    first_turn = torch.atan2(fast[LEFT, 1, 1] - fast[LEFT, 0, 1], fast[LEFT, 1, 0] - fast[LEFT, 0, 0])
    assert 0 < first_turn < 3.0 / 15  # three metres a second squared, sideways


def test_who_stands_may_start_ahead_or_to_either_side() -> None:
    standing = ways(0.0)
    assert not standing[[KEEP, STOP, SLOWER]].any()
    assert standing[FASTER, -1, 0] == pytest.approx(1.2 * 6**2 / 2, rel=1e-3)
    assert standing[LEFT, -1, 1] > 2 and standing[RIGHT, -1, 1] < -2


def test_pedestrians_do_not_start_like_cars_and_barriers_never_move() -> None:
    assert ways(0.0, PEDESTRIAN)[FASTER, -1, 0] < 1.4 * 6 < ways(0.0)[FASTER, -1, 0]
    assert not ways(3.0, BARRIER).any()


def test_the_way_follows_the_velocity_of_fast_things_and_the_heading_of_slow_ones() -> None:
    boxes = boxes_of([("car", 0, 0, 0.7, 10.0), ("car", 0, 0, 0.7, 0.0), ("car", 0, 0, 0.7, -10.0)])
    angles = torch.atan2(*travel_axis(boxes).flip(-1).unbind(-1))
    torch.testing.assert_close(angles, torch.tensor([0.7, 0.7, 0.7 - math.pi]))
    boxes[1, 6] = math.pi / 2 + 0.7  # a wrong heading turns the way of a fast object hardly
    boxes[0, 6] = math.pi / 2 + 0.7
    angles = torch.atan2(*travel_axis(boxes).flip(-1).unbind(-1))
    assert abs(angles[0] - 0.7) < 0.06 and angles[1] == pytest.approx(0.7 + math.pi / 2)
    assert travel_axis(boxes_of([("car", 0, 0, 0.0, -0.5)])).isfinite().all()  # velocity and heading cancel


@given(st.floats(-math.pi, math.pi), st.floats(-50, 50), st.floats(-50, 50))
def test_there_and_back_is_nothing(angle: float, x: float, y: float) -> None:
    axis, vector = torch.tensor([math.cos(angle), math.sin(angle)]), torch.tensor([x, y])
    torch.testing.assert_close(to_ego(to_own(vector, axis), axis), vector, atol=1e-4, rtol=1e-5)


def test_numbers_out_of_their_range_are_refused() -> None:
    for changes in ({"modes": 0}, {"modes": MAX_MODES + 1}, {"steps": 0}, {"dt_s": 0.0}):
        with pytest.raises(ValueError, match="modes=.*steps=.*dt_s="):
            ways(1.0, **changes)
