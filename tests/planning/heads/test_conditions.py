from dataclasses import replace

import pytest
import torch
from fixtures.agents import WIDTH
from fixtures.planning_scenes import LEFT, NAN, RIGHT, batch_of, scene, straight_route

from bevstack.planning.heads.conditions import Conditions, KnownOrNot, route_command, route_target


def test_the_target_is_thirty_metres_ahead_or_where_the_route_ends() -> None:
    batch = batch_of([LEFT, LEFT, LEFT], routes=[straight_route(25), straight_route(4), None])
    target = route_target(batch)
    assert target[0].tolist() == [30.0, 0.0]
    assert target[1].tolist() == [6.0, 0.0]
    assert target[2].isnan().all()
    assert route_target(replace(batch, route_ego=None)).isnan().all()


def test_a_frame_without_a_command_has_none() -> None:
    batch = batch_of([LEFT, -1])
    assert route_command(batch).tolist() == [LEFT, -1]
    assert route_command(replace(batch, route_command=None)).tolist() == [-1, -1]


def test_a_number_that_is_unknown_has_a_vector_of_its_own() -> None:
    part = KnownOrNot(2, 4)
    found = part(torch.tensor([[1.0, 2.0], [1.0, NAN], [NAN, NAN]]))
    torch.testing.assert_close(found[1:], part.unknown.expand(2, -1))
    assert not torch.allclose(found[0], found[1])
    found.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in part.parameters())


def test_unknown_conditions_differ_from_every_known_one() -> None:
    conditions = Conditions(in_channels=WIDTH, channels=8, ego_status=True).eval()
    context = scene([[], [], []])
    known = batch_of([LEFT, RIGHT, -1], status=[(0.0, 0.0, 0.0), (NAN, 0.0, 0.0), (0.0, NAN, 0.0)])
    found = conditions(context, known, conditions.visible_status(known))
    assert len(found.unique(dim=0)) == 3
    assert found.isfinite().all()


def test_a_head_that_may_not_see_the_status_has_no_weights_for_it() -> None:
    names = {name.partition(".")[0] for name, _ in Conditions(
        in_channels=WIDTH, channels=8, ego_status=False
    ).named_parameters()}  # fmt: skip
    assert "status" not in names
    with pytest.raises(ValueError, match="status_dropout=2"):
        Conditions(in_channels=WIDTH, channels=8, ego_status=True, status_dropout=2.0)


def test_dropout_hides_the_whole_status_of_some_training_frames_and_of_none_when_driving() -> None:
    conditions = Conditions(in_channels=WIDTH, channels=8, ego_status=True, status_dropout=0.5)
    batch = batch_of([LEFT] * 64, status=[(5.0, 1.0, 0.1)] * 64)
    hidden = conditions.train().visible_status(batch).isnan()
    assert 10 < int(hidden[:, 0].sum()) < 54 and torch.equal(hidden[:, 0], hidden.all(dim=1))
    assert not conditions.eval().visible_status(batch).isnan().any()
    assert Conditions(in_channels=WIDTH, channels=8, ego_status=False).visible_status(batch) is None
