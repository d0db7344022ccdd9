"""The careful and competent driver of UN R157."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.agents.competent_driver import (
    CutIn,
    CutOut,
    Deceleration,
    competent_driver,
    cut_in_must_be_avoided,
    is_preventable,
    judged,
)

KMH = 1 / 3.6


def stopping_way(speed):
    """From perceiving to standing."""
    full, ramp = 0.774 * 9.81, 0.6
    return speed * (0.4 + 0.75 + ramp) - full * ramp**2 / 6 + (speed - full * ramp / 2) ** 2 / (2 * full)


def test_the_unavoidable_cut_in_of_the_public_scenarios_is_not_preventable():
    danger = CutIn(ego_mps=60 * KMH, other_mps=40 * KMH, gap_m=10.0, side_mps=3.0)
    found = judged(danger)
    assert not found.is_preventable and 0 < found.impact_mps < 20 * KMH + 3
    # 0.125 s to 0.375 m, 0.4 s, 0.75 s.
    assert found.brakes_at_s == pytest.approx(1.275, abs=0.011)


def test_the_same_cut_in_from_further_away_is_preventable():
    assert is_preventable(CutIn(ego_mps=60 * KMH, other_mps=40 * KMH, gap_m=25.0, side_mps=3.0))


def test_a_cut_in_without_closing_speed_needs_no_braking():
    found = judged(CutIn(ego_mps=50 * KMH, other_mps=50 * KMH, gap_m=8.0, side_mps=1.0))
    assert found.is_preventable and found.brakes_at_s == math.inf


@pytest.mark.parametrize("speed", [30 * KMH, 60 * KMH])
@pytest.mark.parametrize("spare", [-0.3, 0.3])
def test_a_cut_out_is_preventable_exactly_where_the_driver_can_stop(speed, spare):
    perceived = speed * 0.375 / 1.0
    ahead = stopping_way(speed) + perceived + spare - 2.0 * speed - 4.5
    danger = CutOut(ego_mps=speed, ahead_gap_m=ahead, side_mps=1.0)
    assert is_preventable(danger) == (spare > 0)


def test_a_leader_that_brakes_as_hard_as_the_driver_needs_the_way_of_the_reaction():
    speed = 60 * KMH
    danger = Deceleration(
        ego_mps=speed,
        other_mps=speed,
        gap_m=speed * 1.15 + 0.2,
        braking_mps2=0.774 * 9.81,
        jerk_mps3=0.774 * 9.81 / 0.6,
    )
    found = judged(danger)
    assert found.is_preventable and found.min_gap_m == pytest.approx(0.2, abs=0.05)
    assert not is_preventable(dataclasses.replace(danger, gap_m=speed * 1.15 - 0.2))


@given(st.floats(20, 60), st.floats(10, 50), st.floats(0, 58), st.floats(0.5, 3))
def test_more_room_never_makes_a_braking_leader_less_preventable(speed, slower, gap, more):
    danger = Deceleration(ego_mps=speed * KMH, other_mps=max(speed - slower, 0) * KMH, gap_m=gap, braking_mps2=6.0)
    if is_preventable(danger):
        assert is_preventable(dataclasses.replace(danger, gap_m=gap + more))


def test_a_wet_road_takes_away_what_a_dry_one_prevents():
    danger = CutOut(ego_mps=60 * KMH, ahead_gap_m=12.0, side_mps=1.5)
    assert is_preventable(danger) and not is_preventable(danger, friction=0.4)


def test_the_paragraph_on_lane_intrusion_asks_for_6_mps2_after_0_35_s():
    assert cut_in_must_be_avoided(20 * KMH / 12 + 0.36, 20 * KMH)
    assert not cut_in_must_be_avoided(20 * KMH / 12 + 0.34, 20 * KMH)


def test_full_braking_is_0_774_g():
    assert competent_driver().braking_mps2 == pytest.approx(7.593, abs=1e-3)
    with pytest.raises(ValueError, match="friction=0"):
        competent_driver(friction=0.0)
    with pytest.raises(ValueError, match="side_mps=0"):
        judged(CutOut(ego_mps=10.0, ahead_gap_m=10.0, side_mps=0.0))
    with pytest.raises(ValueError, match="gap_m=nan"):
        CutIn(ego_mps=10.0, other_mps=5.0, gap_m=math.nan, side_mps=1.0)
