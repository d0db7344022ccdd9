"""The scores of benchmarks, from their terms: NAVSIM, nuPlan, CARLA, NeuroNCAP, HUGSIM, and a Euro NCAP outcome.

A term that does not apply is NaN. It is left out, a weighted one with its weight; only without progress there is no
score, since standing still would be the best drive.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bevstack.sim.metrics.collisions import Collisions, Contact

Outcome = Literal["avoided", "mitigated", "hit"]

_MITIGATED_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class NavsimTerms:
    """Sub-scores of NAVSIM v1 and v2, each 0 to 1."""

    nc: float
    """No at-fault collision."""
    dac: float
    """Drivable area."""
    ddc: float
    """Driving direction."""
    tlc: float
    """Traffic lights."""
    ep: float
    """Progress."""
    ttc: float
    """Time to collision."""
    c: float
    """Comfort, v1."""
    lk: float
    """Lane keeping."""
    hc: float
    """Comfort with history, v2."""
    ec: float
    """Comfort of one plan after the other."""


def pdms(terms: NavsimTerms) -> float:
    """PDM score: NC DAC (5 EP + 5 TTC + 2 C) / 12 (Dauner et al., NAVSIM, NeurIPS 2024)."""
    return product(terms.nc, terms.dac) * weighted_mean({"ep": (5, terms.ep), "ttc": (5, terms.ttc), "c": (2, terms.c)})


def epdms(terms: NavsimTerms, human: NavsimTerms | None = None) -> float:
    """Extended PDM score: NC DAC DDC TLC (5 EP + 5 TTC + 2 LK + 2 HC + 2 EC) / 16 (NAVSIM v2, 2025).

    What the human driver, here the reference run, does not keep either (0) counts as kept. As in the published code, EC
    is not excused. Without a pair of plans EC is left out with its weight.
    """

    def excused(name: str) -> float:
        value = float(getattr(terms, name))
        return 1.0 if human is not None and not np.isnan(value) and getattr(human, name) == 0 else value

    mean = weighted_mean(
        {
            "ep": (5, excused("ep")),
            "ttc": (5, excused("ttc")),
            "lk": (2, excused("lk")),
            "hc": (2, excused("hc")),
            "ec": (2, terms.ec),
        }
    )
    return product(*(excused(name) for name in ("nc", "dac", "ddc", "tlc"))) * mean


@dataclass(frozen=True, slots=True, kw_only=True)
class NuplanTerms:
    """Sub-scores of nuPlan's closed-loop challenges, each 0 to 1."""

    no_at_fault_collisions: float
    drivable_area: float
    driving_direction: float
    making_progress: float
    progress: float
    ttc: float
    speed_limit: float
    comfort: float


def nuplan_score(terms: NuplanTerms) -> float:
    """Closed-loop score of nuPlan (Karnchanachari et al., 2024): four multipliers and (5 progress + 5 TTC + 4 speed
    limit + 2 comfort) / 16.
    """
    factor = product(terms.no_at_fault_collisions, terms.drivable_area, terms.driving_direction, terms.making_progress)
    return factor * weighted_mean(
        {
            "ep": (5, terms.progress),
            "ttc": (5, terms.ttc),
            "speed_limit": (4, terms.speed_limit),
            "comfort": (2, terms.comfort),
        }
    )


CARLA_PENALTIES: Mapping[str, float] = {
    "pedestrian": 0.5,
    "vehicle": 0.6,
    "static": 0.65,
    "red_light": 0.7,
    "scenario_timeout": 0.7,
    "stop_sign": 0.8,
}


def carla_penalty(infractions: Mapping[str, int]) -> float:
    """Product of the coefficients, each to the number of its infractions.

    Raises:
        ValueError: an infraction that CARLA's leaderboard does not have.
    """
    unknown = set(infractions) - set(CARLA_PENALTIES)
    if unknown:
        raise ValueError(f"infractions {sorted(unknown)} must be among {sorted(CARLA_PENALTIES)}")
    return float(np.prod([CARLA_PENALTIES[name] ** count for name, count in infractions.items()]))


def carla_infractions(collisions: Collisions, *, red_lights: int, stop_signs: int, timeout: bool) -> dict[str, int]:
    """Counts by kind. Every contact counts, whoever's fault it is; who rides a cycle counts as a vehicle."""
    kinds = [_carla_kind(contact) for contact in collisions.contacts]
    return {
        **{kind: kinds.count(kind) for kind in ("pedestrian", "vehicle", "static")},
        "red_light": red_lights,
        "stop_sign": stop_signs,
        "scenario_timeout": int(timeout),
    }


def carla_driving_score(route_completion: float, penalty: float) -> float:
    """Driving score, 0 to 100: completion of the route (a share) in percent times the penalty (leaderboard 2.0)."""
    return 100.0 * route_completion * penalty


def neuroncap_score(collisions: Collisions) -> float:
    """5 without a collision, else 4 max(0, 1 - v_i / v_r): relative speed at the first impact over what it would have
    been unbraked (Ljungbergh et al., NeuroNCAP, ECCV 2024).
    """
    contact = collisions.first
    if contact is None:
        return 5.0
    if contact.unbraked_speed_mps <= 0:
        return 0.0
    return 4.0 * max(0.0, 1.0 - contact.relative_speed_mps / contact.unbraked_speed_mps)


def hd_score(hd_mean: float, route_completion: float) -> float:
    """HUGSIM's driving score: mean of its plans' scores times the completed share of the route (Zhou et al., 2024)."""
    return hd_mean * route_completion


def outcome(collisions: Collisions) -> Outcome:
    """What Euro NCAP's tests of emergency braking look at: no contact, one at a relative speed more than 5 % below the
    unbraked one, or one at full speed.
    """
    contact = collisions.first
    if contact is None:
        return "avoided"
    return "mitigated" if contact.relative_speed_mps < _MITIGATED_SHARE * contact.unbraked_speed_mps else "hit"


def product(*factors: float) -> float:
    """Of the factors that apply."""
    return float(np.prod([factor for factor in factors if not np.isnan(factor)]))


def weighted_mean(terms: Mapping[str, tuple[int, float]]) -> float:
    """Mean of (weight, value) of the terms that apply; NaN where progress ("ep") is not known."""
    if np.isnan(terms["ep"][1]):
        return np.nan
    known = [(weight, value) for weight, value in terms.values() if not np.isnan(value)]
    return float(sum(weight * value for weight, value in known) / sum(weight for weight, _ in known))


def _carla_kind(contact: Contact) -> str:
    if contact.is_object:
        return "static"
    return "pedestrian" if contact.class_name == "pedestrian" else "vehicle"
