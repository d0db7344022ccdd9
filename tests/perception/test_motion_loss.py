import math

import numpy as np
import pytest
import torch
from fixtures.agents import Row, agents_of_rows, labels_of_rows
from hypothesis import given
from hypothesis import strategies as st

from bevstack.perception.heads.motion_loss import best_mode_terms, match_agents, nearest_pairs

CARS: list[Row] = [("car", 0.0, 0.0, 0.0, 1.0), ("car", 10.0, 0.0, 0.0, 1.0), ("pedestrian", 0.0, 1.0, 0.0, 1.0)]
FUTURES = torch.arange(3 * 12 * 2, dtype=torch.float32).view(3, 12, 2)


def test_agents_match_the_object_of_their_class_that_is_nearest() -> None:
    found: list[Row] = [("pedestrian", 0.0, 0.2, 0.0, 0.0), ("car", 11.9, 0.0, 0.0, 0.0), ("car", 0.5, 0.5, 0.0, 0.0)]
    matched = match_agents(
        agents_of_rows([[], found]), labels_of_rows([[], CARS], [FUTURES[:0], FUTURES]), within_m=2.0, steps=12
    )
    pairs = {int(agent): float(future[0, 0]) for agent, future in zip(matched.agent, matched.future_ego, strict=True)}
    assert pairs == {2: FUTURES[0, 0, 0], 1: FUTURES[1, 0, 0], 0: FUTURES[2, 0, 0]}
    assert matched.frame.tolist() == [1, 1, 1]


def test_objects_too_far_without_a_future_and_padding_do_not_match() -> None:
    found: list[Row] = [("car", 2.1, 0.0, 0.0, 0.0), ("car", 10.0, 0.0, 0.0, 0.0)]
    futures = FUTURES.clone()
    futures[1] = torch.nan
    matched = match_agents(
        agents_of_rows([found], padding=4), labels_of_rows([CARS], [futures]), within_m=2.0, steps=12
    )
    assert len(matched.agent) == 0
    padding = labels_of_rows([[("car", 0.0, 0.0, 0.0, 0.0)]], [FUTURES[:1]])
    assert len(match_agents(agents_of_rows([[]]), padding, within_m=2.0, steps=12).agent) == 0


def test_labels_of_fewer_steps_are_unknown_from_there_on_and_more_are_cut() -> None:
    agents = agents_of_rows([CARS])
    for steps, known in ((4, 4), (16, 12)):
        matched = match_agents(agents, labels_of_rows([CARS], [FUTURES[:, :12]]), within_m=2.0, steps=steps)
        assert matched.future_ego.shape[1] == steps and int(matched.future_ego[0].isfinite().all(-1).sum()) == known


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2**16))
def test_pairs_are_unique_near_and_none_can_be_added(rows: int, columns: int, seed: int) -> None:
    apart = np.random.default_rng(seed).uniform(0, 4, (rows, columns))
    own, theirs = nearest_pairs(apart, 2.0)
    assert len(set(own.tolist())) == len(own) and len(set(theirs.tolist())) == len(theirs)
    assert (apart[own, theirs] <= 2.0).all()
    free = np.ix_(np.setdiff1d(np.arange(rows), own), np.setdiff1d(np.arange(columns), theirs))
    assert not (apart[free] <= 2.0).any()
    if (apart <= 2.0).any():
        assert apart.min() == apart[own[0], theirs[0]]


def test_only_the_best_mode_is_drawn_to_the_truth_and_its_probability_raised() -> None:
    truth = torch.zeros(1, 2, 2)
    modes = torch.tensor([[[[3.0, 4.0], [3.0, 4.0]], [[0.0, 0.5], [0.6, 0.8]]]], requires_grad=True)
    logits = torch.zeros(1, 2, requires_grad=True)
    terms = best_mode_terms(modes, logits, truth)
    assert float(terms["displacement"].detach()) == pytest.approx((0.5**2 / 2 + 0.5) / 2)
    assert float(terms["mode"].detach()) == pytest.approx(math.log(2))
    (terms["displacement"] + terms["mode"]).backward()
    assert not modes.grad[0, 0].any() and modes.grad[0, 1].any()
    assert logits.grad[0, 1] < 0 < logits.grad[0, 0]


def test_modes_that_come_equally_near_are_to_be_equally_probable_and_farther_ones_less() -> None:
    modes = torch.tensor([0.0, 0.0, 0.5]).view(1, 3, 1, 1).expand(1, 3, 4, 2) * torch.tensor([1.0, 0.0])
    wanted = torch.tensor([[0.0, 0.0, -1.0]])  # half a metre farther: less probable by a factor of e
    logits = wanted.clone().requires_grad_()
    term = best_mode_terms(modes, logits, torch.zeros(1, 4, 2))["mode"]
    term.backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 3), atol=1e-5, rtol=0)


def test_unknown_steps_do_not_count() -> None:
    truth = torch.zeros(1, 2, 2)
    truth[0, 1] = torch.nan
    modes = torch.tensor([[[[0.0, 2.0], [900.0, 900.0]]]], requires_grad=True)
    terms = best_mode_terms(modes, torch.zeros(1, 1), truth)
    assert float(terms["displacement"].detach()) == pytest.approx(1.5)
    terms["displacement"].backward()
    assert modes.grad.isfinite().all() and not modes.grad[0, 0, 1].any()


def test_an_exact_mode_costs_nothing_and_has_a_finite_gradient() -> None:
    modes = torch.zeros(1, 1, 3, 2, requires_grad=True)
    term = best_mode_terms(modes, torch.zeros(1, 1), torch.zeros(1, 3, 2))["displacement"]
    term.backward()
    assert float(term.detach()) == pytest.approx(0.0, abs=1e-5) and modes.grad.isfinite().all()
