import pytest
import torch
from torch import Tensor

from bevstack.planning.heads.refinement import DiffusionRefiner, RegressionRefiner

ANCHORS = torch.cumsum(torch.rand(2, 5, 6, 2, generator=torch.Generator().manual_seed(0)), dim=2)
QUERIES = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
INDEX = torch.tensor([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])


def nothing_there(points: Tensor) -> Tensor:
    return points.new_zeros(*points.shape[:-1], 3)


def make_diffusion(**changes: int) -> DiffusionRefiner:
    torch.manual_seed(0)
    return DiffusionRefiner(**{"channels": 16, "bev_channels": 3, "steps": 6, "vocabulary": 5, **changes})


def test_regression_begins_as_the_identity() -> None:
    refiner = RegressionRefiner(channels=16, bev_channels=3, steps=6, vocabulary=5)
    refined = refiner(QUERIES, ANCHORS, INDEX, nothing_there)
    assert torch.equal(refined.points, ANCHORS)
    assert refined.logits.abs().max() == 0


@pytest.mark.parametrize("denoisings", [1, 2, 5])
def test_diffusion_begins_as_the_identity_whatever_was_disturbed(denoisings: int) -> None:
    refiner = make_diffusion(denoisings=denoisings).eval()
    torch.testing.assert_close(refiner(QUERIES, ANCHORS, INDEX, nothing_there).points, ANCHORS)
    refiner.train()
    torch.testing.assert_close(refiner(QUERIES, ANCHORS, INDEX, nothing_there).points, ANCHORS)


def test_each_denoising_looks_at_the_scene_along_a_less_disturbed_trajectory() -> None:
    seen: list[Tensor] = []

    def watch(points: Tensor) -> Tensor:
        seen.append(points)
        return nothing_there(points)

    make_diffusion().eval()(QUERIES, ANCHORS, INDEX, watch)
    first, second = ((points - ANCHORS).norm(dim=-1).mean() for points in seen)
    assert len(seen) == 2
    assert 0.5 < first < 2.0
    assert 0.4 < second / first < 0.9


def test_the_disturbance_belongs_to_the_anchor_and_not_to_its_place_in_the_batch() -> None:
    refiner = make_diffusion().eval()
    with torch.no_grad():
        for parameter in refiner.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    once = refiner(QUERIES, ANCHORS, INDEX, nothing_there).points
    order = torch.tensor([3, 0, 4, 1, 2])
    again = refiner(QUERIES[:, order], ANCHORS[:, order], INDEX[:, order], nothing_there).points
    torch.testing.assert_close(again, once[:, order])


def test_training_disturbs_at_random_and_up_to_some_metres() -> None:
    refiner, seen = make_diffusion(), list[Tensor]()

    def watch(points: Tensor) -> Tensor:
        seen.append((points - ANCHORS).abs())
        return nothing_there(points)

    for _ in range(50):
        refiner(QUERIES, ANCHORS, INDEX, watch)
    spread = torch.stack([points.mean() for points in seen])
    assert spread.max() > 2 * spread.min()
    assert 0.5 < spread.mean() < 4.0


def test_times_that_do_not_fit_are_refused() -> None:
    for wrong in ({"denoisings": 0}, {"denoisings": 11}, {"start_time": 60}):
        with pytest.raises(ValueError, match="longest_time"):
            make_diffusion(**wrong)
