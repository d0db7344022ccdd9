import math

import pytest
import torch
from fixtures.agents import agents_of_rows
from fixtures.planning_scenes import NAN, labels_of

from bevstack.planning.obstacle_raster import occupancy_raster, rectangles_at_velocity, rectangles_of_labels
from bevstack.types import BevGrid

GRID = BevGrid(x_range_m=(-10.0, 30.0), y_range_m=(-10.0, 10.0), z_range_m=(-5.0, 3.0), cell_m=0.5)


def test_a_found_box_goes_on_at_its_velocity() -> None:
    agents = agents_of_rows([[("car", 10.0, 2.0, math.pi / 2, 4.0)]])
    (found,) = rectangles_at_velocity(agents, steps=3, step_s=0.5)
    assert found[0, :, 1].tolist() == pytest.approx([4.0, 6.0, 8.0])
    assert found[0, 0].tolist() == pytest.approx([10.0, 4.0, 4.5, 1.9, math.pi / 2], abs=1e-5)


def test_an_annotated_box_turns_with_its_way_and_is_unknown_where_its_future_is() -> None:
    future = torch.tensor([[[12.0, 0.0], [12.0, 2.0], [12.0, 4.0], [NAN, NAN]]])
    labels = labels_of([None], frames=[[("car", 10.0, 0.0, 0.0, 4.0)]], agent_futures=[future])
    (found,) = rectangles_of_labels(labels, steps=5)
    assert found[0, 1, 4] == pytest.approx(math.pi / 2)
    assert found[0, :, :2].isfinite().all(dim=1).tolist() == [True, True, True, False, False]


def test_boxes_without_any_known_future_are_nowhere() -> None:
    labels = labels_of([None], frames=[[("car", 10.0, 0.0, 0.0, 4.0)]])
    labels = type(labels)(**{**{name: getattr(labels, name) for name in labels.__slots__}, "agent_futures_ego": None})
    raster = occupancy_raster(rectangles_of_labels(labels, steps=2), torch.ones(1, 1), GRID)
    assert raster.sum() == 0


def test_the_cells_under_a_box_are_occupied_and_no_others() -> None:
    rectangle = torch.tensor([10.0, 1.0, 4.0, 2.0, 0.6]).view(1, 1, 1, 5)
    raster = occupancy_raster(rectangle, torch.full((1, 1), 0.7), GRID)[0, 0]
    offset = GRID.centers_m() - torch.tensor([10.0, 1.0])
    along = offset[..., 0] * math.cos(0.6) + offset[..., 1] * math.sin(0.6)
    across = offset[..., 1] * math.cos(0.6) - offset[..., 0] * math.sin(0.6)
    assert raster[(along.abs() < 2.0) & (across.abs() < 1.0)].unique().tolist() == pytest.approx([0.7])
    assert raster[(along.abs() > 2.5) | (across.abs() > 1.5)].sum() == 0


def test_where_boxes_overlap_the_surer_one_counts() -> None:
    rectangles = torch.tensor([10.0, 0.0, 4.0, 2.0, 0.0]).expand(1, 2, 1, 5)
    raster = occupancy_raster(rectangles, torch.tensor([[0.4, 0.9]]), GRID)
    assert raster.unique().tolist() == pytest.approx([0.0, 0.9])


def test_frames_of_a_batch_and_their_steps_do_not_mix() -> None:
    agents = agents_of_rows([[("car", 10.0, 0.0, 0.0, 4.0)], []], padding=1)
    rectangles = rectangles_at_velocity(agents, steps=2, step_s=0.5)
    raster = occupancy_raster(rectangles, torch.where(agents.mask, agents.scores, 0.0), GRID)
    assert raster[1].sum() == 0
    assert raster[0, 0].nonzero()[:, 1].min() < raster[0, 1].nonzero()[:, 1].min()


def test_no_boxes_occupy_nothing() -> None:
    raster = occupancy_raster(torch.zeros(2, 0, 3, 5), torch.zeros(2, 0), GRID)
    assert raster.shape == (2, 3, *GRID.shape_yx)
    assert raster.sum() == 0
