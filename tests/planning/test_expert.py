import torch
from fixtures.planning_scenes import NAN, driven, labels_of

from bevstack.planning.expert import Expert


def test_unknown_steps_and_frames_do_not_enter_a_mean() -> None:
    half = driven(4.0).clone()
    half[3:] = NAN
    expert = Expert.of(labels_of([driven(4.0), half, None]), steps=6)
    assert expert.known.sum(dim=1).tolist() == [6, 3, 0]
    values = torch.arange(6.0).expand(3, 6)
    assert expert.mean_over_steps(values).tolist() == [2.5, 1.0, 0.0]
    assert expert.mean_over_frames(torch.tensor([1.0, 3.0, 100.0])) == 2.0


def test_labels_with_fewer_or_more_steps_fit() -> None:
    labels = labels_of([driven(4.0)])
    assert Expert.of(labels, steps=8).known[0].tolist() == [True] * 6 + [False] * 2
    assert Expert.of(labels, steps=4).poses.shape == (1, 4, 3)


def test_labels_without_futures_teach_nothing_and_still_have_a_gradient() -> None:
    weight = torch.ones(1, requires_grad=True)
    expert = Expert.of(labels_of([None]), steps=6)
    expert.mean_over_frames(weight * 5).backward()
    assert weight.grad is not None
    assert weight.grad.item() == 0
