"""Encounters by the thousand."""

import math

import numpy as np
import pytest

from bevstack.sim.agents.batch_kinematic import (
    PROMPT_SYSTEM,
    Encounters,
    Reaction,
    Sizes,
    cut_ins,
    drawn_cut_ins,
    play_encounter,
    play_encounters,
)

NEVER = Reaction(evaluation_s=math.inf, delay_s=0.0, braking_mps2=1.0, build_up_s=0.0)


def standing_ahead(speed, gap, perceived_at=0.0):
    return Encounters(rows=np.array([[speed, 0.0, gap, 0.0, 0.0, 0.0, math.inf, perceived_at]]))


def test_without_reaction_the_collision_comes_at_full_speed():
    result = play_encounters(standing_ahead(10.0, 30.0), NEVER)
    assert result.collides[0] and result.impact_mps[0] == pytest.approx(10.0)
    assert result.brakes_at_s[0] == math.inf and result.min_gap_m[0] == 0.0


@pytest.mark.parametrize("spare", [-0.2, 0.2])
def test_a_stop_needs_the_way_of_delay_and_braking(spare):
    way = 10.0 * 0.3 + 10.0**2 / (2 * 8.0)
    result = play_encounters(standing_ahead(10.0, way + spare), Reaction(
        evaluation_s=0.0, delay_s=0.3, braking_mps2=8.0, build_up_s=0.0))  # fmt: skip
    assert bool(result.collides[0]) == (spare < 0)
    if spare > 0:
        assert result.min_gap_m[0] == pytest.approx(spare, abs=0.02)


def test_brakes_that_build_up_linearly_stop_later_by_what_calculus_says():
    slow = Reaction(evaluation_s=0.0, delay_s=0.0, braking_mps2=6.0, build_up_s=0.6)
    lost = 0.5 * 6.0 * 0.6
    way = 10.0 * 0.6 - 6.0 * 0.6**2 / 6 + (10.0 - lost) ** 2 / 12
    assert play_encounters(standing_ahead(10.0, way + 0.05), slow).min_gap_m[0] == pytest.approx(0.05, abs=0.01)


def test_a_cut_in_beside_the_ego_vehicle_hits_its_side():
    made = cut_ins(
        ego_mps=np.array([10.0]), other_mps=np.array([10.0]), gap_m=np.array([-2.0]), side_mps=np.array([1.0]),
        acceleration_mps2=np.zeros(1), perceived_after_m=0.375,
    )  # fmt: skip
    result = play_encounters(made, NEVER)
    assert result.collides[0] and result.impact_mps[0] == pytest.approx(1.0, abs=1e-9)


def test_who_is_passed_before_it_moves_over_is_no_danger():
    made = cut_ins(
        ego_mps=np.array([25.0]), other_mps=np.array([5.0]), gap_m=np.array([1.0]), side_mps=np.array([0.5]),
        acceleration_mps2=np.zeros(1), perceived_after_m=0.375,
    )  # fmt: skip
    result = play_encounters(made, NEVER)
    assert not result.collides[0] and result.min_gap_m[0] == math.inf


def test_a_batch_of_two_equals_two_of_one_and_repeats_bit_for_bit():
    many = drawn_cut_ins(50, seed=3)
    whole, again = play_encounters(many, PROMPT_SYSTEM), play_encounters(many, PROMPT_SYSTEM)
    for n in (0, 17, 49):
        alone = play_encounters(Encounters(rows=many.rows[n : n + 1]), PROMPT_SYSTEM)
        for name in ("collides", "impact_mps", "min_gap_m", "min_ttc_s", "brakes_at_s"):
            assert getattr(alone, name)[0] == getattr(whole, name)[n] == getattr(again, name)[n]


def test_compiled_and_plain_python_agree_bit_for_bit():
    many = drawn_cut_ins(12, seed=4)
    fast, out = play_encounters(many, PROMPT_SYSTEM), np.empty(5)
    for n in range(12):
        play_encounter.py_func(many.rows[n], PROMPT_SYSTEM.as_row(), Sizes().as_row(), 1200, out)
        found = (fast.collides[n], fast.impact_mps[n], fast.min_gap_m[n], fast.min_ttc_s[n], fast.brakes_at_s[n])
        assert found == tuple(out)


def test_a_quicker_reaction_never_collides_more_nor_harder():
    many = drawn_cut_ins(2000, seed=5)
    late = Reaction(evaluation_s=0.0, delay_s=1.0, braking_mps2=8.0, build_up_s=0.0, ttc_s=4.0)
    quick, slow, never = (play_encounters(many, how) for how in (PROMPT_SYSTEM, late, NEVER))
    assert quick.collides.sum() < slow.collides.sum() < never.collides.sum()


def test_drawn_cut_ins_stay_in_their_ranges_and_follow_the_seed():
    rows = drawn_cut_ins(1000, seed=1).rows
    assert rows[:, 0].min() >= 20 / 3.6 and rows[:, 0].max() <= 60 / 3.6
    assert (rows[:, 1] >= 0).all() and (rows[:, 0] - rows[:, 1] <= 50 / 3.6 + 1e-9).all()
    assert (rows == drawn_cut_ins(1000, seed=1).rows).all() and (rows != drawn_cut_ins(1000, seed=2).rows).any()


def test_nothing_in_nothing_out():
    assert len(play_encounters(Encounters(rows=np.zeros((0, 8))), PROMPT_SYSTEM).collides) == 0


def test_impossible_numbers_are_refused_by_their_row():
    rows = np.zeros((2, 8))
    rows[1, 0] = -1.0
    with pytest.raises(ValueError, match="encounter 1"):
        Encounters(rows=rows)
    with pytest.raises(ValueError, match="braking_mps2=0"):
        Reaction(evaluation_s=0.0, delay_s=0.0, braking_mps2=0.0, build_up_s=0.0)
    with pytest.raises(ValueError, match="duration_s=0"):
        play_encounters(Encounters(rows=np.zeros((0, 8))), PROMPT_SYSTEM, duration_s=0.0)
