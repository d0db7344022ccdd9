"""Whether a trajectory begins at the speed of now."""

import torch
from fixtures.planning_scenes import NAN

from bevstack.planning.heads.start_mismatch import StartMismatch

ANCHORS = torch.tensor([[[2.0, 0.0, 0.0], [4.0, 0.0, 0.0]], [[4.0, 0.0, 0.0], [8.0, 0.0, 0.0]]])
"""At 4 and at 8 m/s."""


def test_it_adds_nothing_before_training_and_can_learn() -> None:
    part = StartMismatch(4)
    found = part(ANCHORS, torch.tensor([[4.0, 0.0, 0.0]]))
    assert found.shape == (1, 2, 4) and not found.any()
    found.sum().backward()
    assert part.layers[2].weight.grad.any()


def test_it_depends_on_the_difference_alone_and_an_unknown_speed_adds_nothing() -> None:
    part = StartMismatch(4)
    torch.nn.init.normal_(part.layers[2].weight)
    status = torch.tensor([[4.0, 9.0, 9.0], [8.0, NAN, NAN], [NAN, 0.0, 0.0]])
    found = part(ANCHORS, status)
    torch.testing.assert_close(found[0, 0], found[1, 1])  # both begin at the speed of now
    assert not torch.allclose(found[0, 0], found[0, 1])
    assert not found[2].any() and found.isfinite().all()
