from dataclasses import replace

import pytest
import torch
from fixtures.agents import GRID
from fixtures.planning_scenes import CAR_AHEAD, NAN, driven, labels_of

from bevstack.planning.expert import Expert
from bevstack.planning.heads.anchor_targets import (
    collisions,
    departures,
    distance_to_expert,
    rule_targets,
    soft_choice,
)
from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.types import BevGrid, Labels

ANCHORS = torch.stack((driven(0.0), driven(6.0), driven(8.0, curvature=0.06)))
"""Stand, straight on for 18 m, and a wide turn to the left."""


def expert_of(labels: Labels) -> Expert:
    return Expert.of(labels, steps=6)


def standing(x: float, y: float = 0.0) -> torch.Tensor:
    return torch.tensor([x, y]).expand(1, 6, 2).clone()


def test_only_the_trajectory_that_meets_an_agent_collides() -> None:
    labels = labels_of([driven(1.0)], frames=[CAR_AHEAD], agent_futures=[standing(12.0)])
    touched, known = collisions(ANCHORS, labels, expert_of(labels), NUSCENES_VEHICLE)
    assert touched.tolist() == [[False, True, False]]
    assert known.tolist() == [True]


def test_an_agent_that_has_driven_on_is_not_met() -> None:
    ahead = driven(8.0)[None, :, :2] + torch.tensor([12.0, 0.0])
    labels = labels_of([driven(1.0)], frames=[CAR_AHEAD], agent_futures=[ahead])
    touched, _ = collisions(ANCHORS, labels, expert_of(labels), NUSCENES_VEHICLE)
    assert not touched.any()


def test_futures_that_are_not_known_say_nothing() -> None:
    own, unknown = driven(1.0), torch.full((1, 6, 2), NAN)
    labels = labels_of([own, own, own], frames=[CAR_AHEAD, [], CAR_AHEAD], agent_futures=[
        unknown, torch.zeros(0, 6, 2), standing(12.0),
    ])  # fmt: skip
    touched, known = collisions(ANCHORS, labels, expert_of(labels), NUSCENES_VEHICLE)
    assert known.tolist() == [False, True, True]
    assert touched.any(dim=1).tolist() == [False, False, True]
    without = replace(labels, agent_futures_ego=None)
    assert not collisions(ANCHORS, without, expert_of(without), NUSCENES_VEHICLE)[1].any()


def test_steps_beyond_the_own_future_are_not_looked_at() -> None:
    short = driven(1.0).clone()
    short[2:] = NAN
    labels = labels_of([short], frames=[CAR_AHEAD], agent_futures=[standing(14.0)])
    touched, _ = collisions(ANCHORS, labels, expert_of(labels), NUSCENES_VEHICLE)
    assert not touched.any()


def test_leaving_the_drivable_area_is_found_exactly_where_it_happens() -> None:
    centers = GRID.centers_m()
    road = centers[..., 1].abs() < 4.0
    labels = labels_of([driven(1.0)], drivable=road)
    leaves, known = departures(ANCHORS, labels, expert_of(labels), NUSCENES_VEHICLE, GRID)
    assert leaves.tolist() == [[False, False, True]]
    assert known.tolist() == [True]


def test_a_vehicle_that_is_not_on_the_road_now_cannot_leave_it() -> None:
    labels = labels_of([driven(1.0)], drivable=GRID.centers_m()[..., 0] > 10.0)
    assert departures(ANCHORS, labels, expert_of(labels), NUSCENES_VEHICLE, GRID)[1].tolist() == [False]


def test_frames_without_a_map_do_not_know_the_road() -> None:
    labels = labels_of([driven(1.0)], drivable=torch.ones(GRID.shape_yx, dtype=torch.bool))
    no_map = replace(labels, map_valid=torch.tensor([False]))
    assert not departures(ANCHORS, no_map, expert_of(labels), NUSCENES_VEHICLE, GRID)[1].any()
    assert not departures(ANCHORS, labels_of([driven(1.0)]), expert_of(labels), NUSCENES_VEHICLE, GRID)[1].any()
    other = BevGrid(x_range_m=(-8.0, 8.0), y_range_m=(-8.0, 8.0), z_range_m=(-5.0, 3.0), cell_m=0.5)
    larger = replace(other, x_range_m=(-16.0, 16.0))
    with pytest.raises(ValueError, match="same map_grid"):
        departures(ANCHORS, labels, expert_of(labels), NUSCENES_VEHICLE, larger)


def test_a_frame_without_an_own_future_knows_no_rule() -> None:
    road = torch.ones(GRID.shape_yx, dtype=torch.bool)
    labels = labels_of([None, driven(1.0)], drivable=road)
    targets = rule_targets(ANCHORS, labels, expert_of(labels), NUSCENES_VEHICLE, GRID)
    assert targets.is_known.tolist() == [[False, False], [True, True]]
    assert not targets.is_broken.any()


def test_the_nearest_trajectory_is_wanted_most_and_all_add_up_to_one() -> None:
    labels = labels_of([driven(6.0), None])
    distance = distance_to_expert(ANCHORS[..., :2].expand(2, -1, -1, -1), expert_of(labels))
    assert distance[0, 1].item() == 0
    assert distance[0, 0].item() == pytest.approx(3.0 * 3.5)
    assert distance[1].abs().max() == 0
    wanted = soft_choice(distance, 1.0)
    torch.testing.assert_close(wanted.sum(dim=1), torch.ones(2))
    assert wanted[0].argmax() == 1
    assert wanted[0, 0] / wanted[0, 1] == pytest.approx(torch.exp(torch.tensor(-10.5)).item(), rel=1e-3)
