import math

import numpy as np
import pytest
import torch

from bevstack.perception.heads.hungarian import MatchingCosts, assign
from bevstack.types import BevGrid

GRID = BevGrid(x_range_m=(-20.0, 20.0), y_range_m=(-10.0, 10.0), z_range_m=(-5.0, 3.0), cell_m=0.5)


def box(x: float, y: float) -> list[float]:
    return [x, y, 0.0, 4.0, 2.0, 1.5, 0.3, 0.0, 0.0]


def test_the_assignment_has_the_least_total_and_uses_each_query_once() -> None:
    objects, queries = assign(np.array([[1.0, 0.0, 9.0], [5.0, 0.5, 9.0]]))
    assert objects.tolist() == [0, 1] and queries.tolist() == [0, 1]  # 1.5, although query 1 suits both best


def test_of_more_objects_than_queries_the_costliest_is_left_out() -> None:
    objects, queries = assign(np.array([[3.0], [1.0], [2.0]]))
    assert objects.tolist() == [1] and queries.tolist() == [0]


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_no_object_or_no_query_gives_no_pair(shape: tuple[int, int]) -> None:
    objects, queries = assign(np.zeros(shape))
    assert len(objects) == len(queries) == 0


def test_the_cost_is_the_weighted_sum_of_its_three_parts() -> None:
    logits = torch.tensor([[0.0, -3.0]])
    cost = MatchingCosts().matrix(
        logits, torch.tensor([box(2.0, 1.0)]), torch.tensor([0]), torch.tensor([box(0, 0)]), GRID
    )
    class_cost = 0.25 * 0.25 * math.log(2) - 0.75 * 0.25 * math.log(2)
    centre_cost = 2 / 40 + 1 / 20
    no_overlap = MatchingCosts(iou_weight=0.0).matrix(
        logits, torch.tensor([box(2.0, 1.0)]), torch.tensor([0]), torch.tensor([box(0, 0)]), GRID
    )
    assert no_overlap[0, 0] == pytest.approx(0.15 * class_cost + 0.25 * centre_cost, abs=1e-6)
    assert 0 < no_overlap[0, 0] - cost[0, 0] < 0.25
    same = MatchingCosts().matrix(logits, torch.tensor([box(0, 0)]), torch.tensor([0]), torch.tensor([box(0, 0)]), GRID)
    assert same[0, 0] == pytest.approx(0.15 * class_cost - 0.25, abs=1e-4)


def test_a_query_sure_of_the_class_is_preferred_where_boxes_are_equal() -> None:
    logits = torch.tensor([[-2.0, 2.0], [2.0, -2.0]])
    cost = MatchingCosts().matrix(
        logits, torch.tensor([box(1, 0), box(1, 0)]), torch.tensor([0, 1]), torch.tensor([box(0, 0), box(0, 0)]), GRID
    )
    assert assign(cost)[1].tolist() == [1, 0]


def test_a_diverged_network_is_assigned_without_failing() -> None:
    boxes = torch.tensor([box(0, 0), box(1, 1)])
    boxes[0, 0] = torch.nan
    cost = MatchingCosts().matrix(torch.zeros(2, 1), boxes, torch.tensor([0]), torch.tensor([box(0, 0)]), GRID)
    assert np.isfinite(cost).all() and assign(cost)[1].tolist() == [1]


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        MatchingCosts(iou_weight=-1.0)
