"""Very many one-to-one encounters on a straight road at once, without sensors: cut-ins, cut-outs, braking leaders.

Both vehicles are rectangles along the road. The other one moves by a fixed script; the ego vehicle keeps its speed,
perceives the danger, reacts after a delay and brakes to a stop, its brakes growing linearly to their full strength.
Letters: N encounters.
"""

import math
from dataclasses import dataclass, fields

import numba
import numpy as np
from jaxtyping import Bool, Float

STEP_S = 0.01
DURATION_S = 12.0
KMH = 1 / 3.6

EGO_SPEED, OTHER_SPEED, GAP, SIDE, SIDE_SPEED, ACCELERATION, JERK, PERCEIVED_AT = range(8)
EVALUATION, DELAY, BRAKING, BUILD_UP, TTC, WRAPPED_BRAKING = range(6)
EGO_LENGTH, EGO_WIDTH, OTHER_LENGTH, OTHER_WIDTH = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """How the ego vehicle answers a danger.

    Raises:
        ValueError: a value is negative or NaN, or the braking not positive.
    """

    evaluation_s: float
    """From perceiving something to knowing it for a danger."""
    delay_s: float
    """From knowing to the begin of braking."""
    braking_mps2: float
    build_up_s: float
    """From the begin of braking to its full strength."""
    ttc_s: float = math.inf
    """What is further away in time is no danger yet."""
    wrapped_braking_mps2: float = 0.0
    """Full strength once the other vehicle is wholly ahead in the own lane, where that is more."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise ValueError(f"{field.name}={getattr(self, field.name)} must be 0 or more")
        if not 0 < self.braking_mps2 < math.inf:
            raise ValueError(f"braking_mps2={self.braking_mps2} must be positive and finite")

    def as_row(self) -> Float[np.ndarray, "6"]:
        """The numbers as the kernel reads them."""
        return np.array([getattr(self, field.name) for field in fields(self)], np.float64)


PROMPT_SYSTEM = Reaction(evaluation_s=0.0, delay_s=0.3, braking_mps2=8.0, build_up_s=0.0, ttc_s=4.0)
"""A system that knows at once, and brakes as hard as a dry road allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of the two vehicles, in metres."""

    ego_length_m: float = 4.084
    ego_width_m: float = 1.85
    other_length_m: float = 4.5
    other_width_m: float = 1.8

    def as_row(self) -> Float[np.ndarray, "4"]:
        """The numbers as the kernel reads them."""
        return np.array([getattr(self, field.name) for field in fields(self)], np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encounters:
    """What happens around the ego vehicle, one row of columns `EGO_SPEED` to `PERCEIVED_AT` each.

    Speeds in m/s; the free gap ahead; the distance between the centres across the road and the speed at which it
    shrinks; the other's final acceleration and how fast that grows (infinite: at once); when the ego vehicle perceives
    something.
    """

    rows: Float[np.ndarray, "N 8"]

    def __post_init__(self) -> None:
        if np.isnan(self.rows).any() or (self.rows[:, [EGO_SPEED, OTHER_SPEED, SIDE, SIDE_SPEED, JERK]] < 0).any():
            bad = int(np.flatnonzero(np.isnan(self.rows).any(1) | (self.rows[:, [0, 1, 3, 4, 6]] < 0).any(1))[0])
            raise ValueError(f"encounter {bad} is {self.rows[bad].tolist()}: speeds, distance across and jerk are >= 0")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """What came of each encounter."""

    collides: Bool[np.ndarray, " N"]
    impact_mps: Float[np.ndarray, " N"]
    """Relative speed at the collision; 0 without one."""
    min_gap_m: Float[np.ndarray, " N"]
    """Least free gap to the other while it was ahead in the way; infinite where it never was."""
    min_ttc_s: Float[np.ndarray, " N"]
    """Least gap over closing speed meanwhile; 0 at a collision."""
    brakes_at_s: Float[np.ndarray, " N"]
    """Infinite where the ego vehicle never braked."""


def play_encounters(
    encounters: Encounters, reaction: Reaction, *, sizes: Sizes | None = None, duration_s: float = DURATION_S
) -> Outcomes:
    """Play every encounter in steps of `STEP_S`; the same rows give the same bits, alone or among others.

    Args:
        encounters: The scripts.
        reaction: Of the ego vehicle.
        sizes: Of the vehicles; a Zoe and a usual car where not given.
        duration_s: Of each.

    Raises:
        ValueError: the duration is not positive.
    """
    if not 0 < duration_s < math.inf:
        raise ValueError(f"duration_s={duration_s} must be positive and finite")
    rows = np.ascontiguousarray(encounters.rows, np.float64)
    out = _play_all(rows, reaction.as_row(), (sizes or Sizes()).as_row(), round(duration_s / STEP_S))
    return Outcomes(
        collides=out[:, 0] > 0, impact_mps=out[:, 1], min_gap_m=out[:, 2], min_ttc_s=out[:, 3], brakes_at_s=out[:, 4]
    )


def cut_ins(
    *,
    ego_mps: Float[np.ndarray, " N"],
    other_mps: Float[np.ndarray, " N"],
    gap_m: Float[np.ndarray, " N"],
    side_mps: Float[np.ndarray, " N"],
    acceleration_mps2: Float[np.ndarray, " N"],
    perceived_after_m: float,
    lane_width_m: float = 3.5,
) -> Encounters:
    """A vehicle from the next lane moves over to the middle of the own.

    Args:
        ego_mps: Own speed.
        other_mps: The other's.
        gap_m: From the own front to its rear, when it begins to move over.
        side_mps: How fast it moves over.
        acceleration_mps2: Its own, from the begin on.
        perceived_after_m: The cut-in is perceived once it has moved so far.
        lane_width_m: How far it has to go.
    """
    rows = np.zeros((len(ego_mps), 8))
    rows[:, EGO_SPEED], rows[:, OTHER_SPEED], rows[:, GAP] = ego_mps, other_mps, gap_m
    rows[:, SIDE], rows[:, SIDE_SPEED] = lane_width_m, side_mps
    rows[:, ACCELERATION], rows[:, JERK] = acceleration_mps2, np.inf
    with np.errstate(divide="ignore"):
        rows[:, PERCEIVED_AT] = perceived_after_m / rows[:, SIDE_SPEED]
    return Encounters(rows=rows)


def drawn_cut_ins(count: int, *, seed: int, perceived_after_m: float = 0.375) -> Encounters:
    """Cut-ins drawn evenly from the logical scenario 4.4.1 of the public ALKS scenarios for UN R157.

    Own speed 20 to 60 km/h, the other 10 to 50 km/h slower (but not backwards), gap 0 to 60 m, moving over at 0.5 to
    3 m/s, accelerating by -3 to 3 m/s2.
    """
    rng = np.random.default_rng(seed)
    ego = rng.uniform(20.0, 60.0, count) * KMH
    other = np.maximum(ego + rng.uniform(-50.0, -10.0, count) * KMH, 0.0)
    return cut_ins(
        ego_mps=ego,
        other_mps=other,
        gap_m=rng.uniform(0.0, 60.0, count),
        side_mps=rng.uniform(0.5, 3.0, count),
        acceleration_mps2=rng.uniform(-3.0, 3.0, count),
        perceived_after_m=perceived_after_m,
    )


@numba.njit(cache=True, nogil=True)
def _play_all(rows: np.ndarray, reaction: np.ndarray, sizes: np.ndarray, steps: int) -> np.ndarray:
    out = np.empty((len(rows), 5))
    for n in range(len(rows)):
        play_encounter(rows[n], reaction, sizes, steps, out[n])
    return out


@numba.njit(cache=True, nogil=True)
def play_encounter(row: np.ndarray, reaction: np.ndarray, sizes: np.ndarray, steps: int, out: np.ndarray) -> None:
    """One encounter; writes whether it collides, impact, least gap, least time to collision and begin of braking."""
    ego, other, gap = row[EGO_SPEED], row[OTHER_SPEED], row[GAP]
    reach = 0.5 * (sizes[EGO_WIDTH] + sizes[OTHER_WIDTH])
    wrapped = 0.5 * abs(sizes[EGO_WIDTH] - sizes[OTHER_WIDTH])
    past = -(sizes[EGO_LENGTH] + sizes[OTHER_LENGTH])
    knows_at = row[PERCEIVED_AT] + reaction[EVALUATION]
    brakes_at, final = math.inf, row[ACCELERATION]
    out[0], out[1], out[2], out[3] = 0.0, 0.0, math.inf, math.inf
    for k in range(steps + 1):
        now = k * STEP_S
        side = max(row[SIDE] - row[SIDE_SPEED] * now, 0.0)
        closing = ego - other
        if gap <= past:
            break
        if side < reach:
            if gap <= 0.0:
                across = row[SIDE_SPEED] if side > 0.0 else 0.0
                out[0], out[1], out[2], out[3] = 1.0, math.sqrt(closing * closing + across * across), 0.0, 0.0
                break
            out[2] = min(out[2], gap)
            if closing > 0.0:
                out[3] = min(out[3], gap / closing)
        if brakes_at == math.inf and now >= knows_at and gap <= closing * reaction[TTC]:
            brakes_at = now + reaction[DELAY]
        middle = now + 0.5 * STEP_S
        braking = 0.0
        if middle > brakes_at:
            braking = reaction[BRAKING] if side > wrapped else max(reaction[BRAKING], reaction[WRAPPED_BRAKING])
            if middle - brakes_at < reaction[BUILD_UP]:
                braking *= (middle - brakes_at) / reaction[BUILD_UP]
        grown = row[JERK] * middle
        pull = max(min(final, grown), -grown)
        ego_after, other_after = max(ego - braking * STEP_S, 0.0), max(other + pull * STEP_S, 0.0)
        gap += 0.5 * (other + other_after - ego - ego_after) * STEP_S
        ego, other = ego_after, other_after
    out[4] = brakes_at
