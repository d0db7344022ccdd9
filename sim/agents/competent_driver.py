"""Which collisions an attentive human would have prevented: the careful and competent driver of UN Regulation No. 157.

Regulation No. 157 (automated lane keeping), guidance on traffic disturbance critical scenarios, table of performance
model factors: a lane change is perceived once the other's centre is 0.375 m off the middle of its lane, 0.4 s pass to
evaluate the risk, another 0.75 s until braking begins, and 0.6 s until it has reached 0.774 g (0.85 g once a vehicle
that cuts in is wholly ahead). A cut-in is a danger where the time to collision is 2 s or less.
"""

import math
from dataclasses import dataclass, fields

import numpy as np

from bevstack.sim.agents.batch_kinematic import (
    ACCELERATION,
    DURATION_S,
    EGO_SPEED,
    GAP,
    JERK,
    OTHER_SPEED,
    PERCEIVED_AT,
    SIDE,
    SIDE_SPEED,
    Encounters,
    Reaction,
    Sizes,
    cut_ins,
    play_encounters,
)

GRAVITY_MPS2 = 9.81
PERCEIVED_AFTER_M = 0.375
"""Deviation from the middle of the lane at which a lane change is perceived."""
DANGER_TTC_S = 2.0
_LANE_INTRUSION_BRAKING_MPS2, _LANE_INTRUSION_DELAY_S = 6.0, 0.35
_ALL_THINGS_STAND_S = 60.0


def competent_driver(*, friction: float = 1.0, at_cut_in: bool = False) -> Reaction:
    """The driver on a road of some friction.

    Args:
        friction: 1 is dry.
        at_cut_in: Whether somebody moves over from the next lane: then what is further away in time is no danger yet,
            and the brakes are helped once it is wholly ahead.

    Raises:
        ValueError: the friction is not in (0, 1].
    """
    if not 0 < friction <= 1:
        raise ValueError(f"friction={friction} must be in (0, 1]")
    return Reaction(
        evaluation_s=0.4,
        delay_s=0.75,
        braking_mps2=0.774 * GRAVITY_MPS2 * friction,
        build_up_s=0.6,
        ttc_s=DANGER_TTC_S if at_cut_in else math.inf,
        wrapped_braking_mps2=0.85 * GRAVITY_MPS2 * friction if at_cut_in else 0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Danger:
    """Numbers of a concrete scenario; all finite."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise ValueError(f"{field.name}={getattr(self, field.name)} must be finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class CutIn(_Danger):
    """Somebody slower moves over from the next lane."""

    ego_mps: float
    other_mps: float
    gap_m: float
    """dx0: from the own front to the other's rear, when it begins."""
    side_mps: float
    """How fast it moves over."""
    acceleration_mps2: float = 0.0
    lane_width_m: float = 3.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOut(_Danger):
    """The leader swerves around something that stands, or is slow, and was hidden by it."""

    ego_mps: float
    headway_s: float = 2.0
    """To the leader, which drives as fast as the ego vehicle."""
    ahead_gap_m: float
    """dx0_f: from the leader's front to what is ahead of it."""
    side_mps: float
    """How fast the leader moves away."""
    ahead_mps: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deceleration(_Danger):
    """The leader brakes; the driver perceives that from its begin."""

    ego_mps: float
    other_mps: float
    gap_m: float
    braking_mps2: float
    """The leader's strongest, positive."""
    jerk_mps3: float = 12.65
    """How fast it gets there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a danger with the competent driver at the wheel."""

    is_preventable: bool
    impact_mps: float
    """Relative speed of the collision that could not be prevented; 0 without one."""
    min_gap_m: float
    min_ttc_s: float
    brakes_at_s: float
    """After the begin; infinite where there was no need."""


def judged(danger: CutIn | CutOut | Deceleration, *, friction: float = 1.0, sizes: Sizes | None = None) -> Verdict:
    """Whether the competent driver prevents the collision.

    Raises:
        ValueError: a speed or distance is negative, the friction not in (0, 1].
    """
    sizes = sizes or Sizes()
    at_cut_in = isinstance(danger, CutIn)
    driver = competent_driver(friction=friction, at_cut_in=at_cut_in)
    duration_s = DURATION_S if at_cut_in else _ALL_THINGS_STAND_S
    result = play_encounters(_encounter(danger, sizes), driver, sizes=sizes, duration_s=duration_s)
    return Verdict(
        is_preventable=not bool(result.collides[0]),
        impact_mps=float(result.impact_mps[0]),
        min_gap_m=float(result.min_gap_m[0]),
        min_ttc_s=float(result.min_ttc_s[0]),
        brakes_at_s=float(result.brakes_at_s[0]),
    )


def is_preventable(danger: CutIn | CutOut | Deceleration, *, friction: float = 1.0, sizes: Sizes | None = None) -> bool:
    """Whether a careful and competent human driver prevents the collision; `judged` says how narrowly."""
    return judged(danger, friction=friction, sizes=sizes).is_preventable


def cut_in_must_be_avoided(ttc_s: float, closing_mps: float) -> bool:
    """Paragraph 5.2.5.2: whether the system itself has to avoid a cut-in.

    Args:
        ttc_s: Time to collision when the other is 0.3 m inside the lane.
        closing_mps: How much faster the ego vehicle is; 0 or less has no collision to avoid.
    """
    return ttc_s > closing_mps / (2 * _LANE_INTRUSION_BRAKING_MPS2) + _LANE_INTRUSION_DELAY_S


def _encounter(danger: CutIn | CutOut | Deceleration, sizes: Sizes) -> Encounters:
    if isinstance(danger, CutIn):
        return cut_ins(
            ego_mps=np.array([danger.ego_mps]),
            other_mps=np.array([danger.other_mps]),
            gap_m=np.array([danger.gap_m]),
            side_mps=np.array([danger.side_mps]),
            acceleration_mps2=np.array([danger.acceleration_mps2]),
            perceived_after_m=PERCEIVED_AFTER_M,
            lane_width_m=danger.lane_width_m,
        )
    row = np.zeros((1, 8))
    row[0, EGO_SPEED], row[0, SIDE], row[0, SIDE_SPEED] = danger.ego_mps, 0.0, 0.0
    if isinstance(danger, CutOut):
        if not danger.side_mps > 0:
            raise ValueError(f"side_mps={danger.side_mps} must be positive: the leader moves away")
        leader = danger.headway_s * danger.ego_mps + sizes.other_length_m
        row[0, OTHER_SPEED], row[0, GAP] = danger.ahead_mps, leader + danger.ahead_gap_m
        row[0, JERK], row[0, PERCEIVED_AT] = math.inf, PERCEIVED_AFTER_M / danger.side_mps
    else:
        row[0, OTHER_SPEED], row[0, GAP] = danger.other_mps, danger.gap_m
        row[0, ACCELERATION], row[0, JERK] = -danger.braking_mps2, danger.jerk_mps3
    return Encounters(rows=row)
