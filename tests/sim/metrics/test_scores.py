import numpy as np
import pytest
from fixtures.drive_logs import drive_log, moving, straight

from bevstack.sim.metrics.areas import DrivenAreas
from bevstack.sim.metrics.collisions import Collisions
from bevstack.sim.metrics.scores import (
    NavsimTerms,
    NuplanTerms,
    carla_driving_score,
    carla_infractions,
    carla_penalty,
    epdms,
    hd_score,
    neuroncap_score,
    nuplan_score,
    outcome,
    pdms,
)
from bevstack.sim.metrics.tracks import Tracks


def terms(**changes):
    return NavsimTerms(
        **(dict.fromkeys(("nc", "dac", "ddc", "tlc", "ep", "ttc", "c", "lk", "hc", "ec"), 1.0) | changes)
    )


def collisions_of(*actors, speed=15.0, acceleration=0.0, steps=60):
    tracks = Tracks.of(drive_log(*straight(steps, speed, acceleration=acceleration), actors=actors))
    return Collisions.of(tracks, DrivenAreas.of(tracks))


def test_pdms_weighs_progress_and_ttc_with_five_and_comfort_with_two():
    assert pdms(terms()) == 1.0
    assert pdms(terms(ep=0.8, c=0.0)) == pytest.approx((5 * 0.8 + 5) / 12)
    assert pdms(terms(ep=0.8, ttc=0.0, nc=0.5)) == pytest.approx(0.5 * (5 * 0.8 + 2) / 12)
    assert pdms(terms(dac=0.0)) == 0.0


def test_epdms_weighs_sixteen_sixteenths_and_multiplies_four():
    assert epdms(terms()) == 1.0
    assert epdms(terms(ep=0.8, hc=0.0)) == pytest.approx((5 * 0.8 + 5 + 2 + 2) / 16)
    assert epdms(terms(ddc=0.5, nc=0.5, lk=0.0, ec=0.5)) == pytest.approx(0.25 * (5 + 5 + 2 + 1) / 16)
    assert epdms(terms(tlc=0.0)) == 0.0


def test_what_the_human_does_not_keep_is_excused_but_steadiness():
    human = terms(dac=0.0, hc=0.0, ec=0.0, nc=0.5)
    assert epdms(terms(dac=0.0, hc=0.0), human) == 1.0
    assert epdms(terms(ec=0.0), human) == pytest.approx(14 / 16)
    assert epdms(terms(nc=0.5), human) == 0.5  # half kept is kept


def test_terms_that_do_not_apply_leave_with_their_weight_but_progress_is_needed():
    assert epdms(terms(ec=np.nan, hc=0.0)) == pytest.approx(12 / 14)
    assert pdms(terms(dac=np.nan, c=np.nan, ttc=0.0)) == pytest.approx(0.5)
    assert np.isnan(pdms(terms(ep=np.nan))) and np.isnan(epdms(terms(ep=np.nan)))


def test_nuplan_has_four_multipliers_and_weights_five_five_four_two():
    known = dict.fromkeys(NuplanTerms.__slots__, 1.0)
    assert nuplan_score(NuplanTerms(**known)) == 1.0
    assert nuplan_score(NuplanTerms(**(known | {"progress": 0.6, "speed_limit": 0.5}))) == pytest.approx(12 / 16)
    for name in ("no_at_fault_collisions", "drivable_area", "driving_direction", "making_progress"):
        assert nuplan_score(NuplanTerms(**(known | {name: 0.0}))) == 0.0


def test_carla_multiplies_a_coefficient_for_each_infraction():
    penalty = carla_penalty({"pedestrian": 1, "vehicle": 2, "stop_sign": 0})
    assert penalty == pytest.approx(0.5 * 0.6 * 0.6)
    assert carla_driving_score(0.8, penalty) == pytest.approx(14.4)
    assert carla_penalty({"static": 1, "red_light": 1, "stop_sign": 1, "scenario_timeout": 1}) == pytest.approx(
        0.65 * 0.7 * 0.8 * 0.7
    )
    with pytest.raises(ValueError, match="parking"):
        carla_penalty({"parking": 1})


def test_carla_counts_contacts_by_class():
    small = {"size": (0.6, 0.6, 1.7)}
    collisions = collisions_of(
        moving("walker", 60, 0.0, x=20.0, class_name="pedestrian", **small),
        moving("bike", 60, 0.0, x=30.0, class_name="bicycle", **small),
        moving("cone", 60, 0.0, x=40.0, class_name="traffic_cone", **small),
    )
    counts = carla_infractions(collisions, red_lights=2, stop_signs=1, timeout=True)
    assert counts == {
        "pedestrian": 1, "vehicle": 1, "static": 1, "red_light": 2, "stop_sign": 1, "scenario_timeout": 1,
    }  # fmt: skip


def test_neuroncap_gives_five_or_up_to_four_for_what_was_braked_away():
    assert neuroncap_score(collisions_of()) == 5.0
    lead = moving("lead", 60, 0.0, x=15.0)
    assert neuroncap_score(collisions_of(lead)) == 0.0
    # 15 m/s braked by 6 m/s2 over 10 m: sqrt(225 - 120).
    braked = collisions_of(lead, acceleration=-6.0)
    assert neuroncap_score(braked) == pytest.approx(4 * (1 - np.sqrt(105) / 15), abs=0.01)
    # An oncoming car at 5 m/s: of 20 m/s 15 - v remain.
    oncoming = collisions_of(moving("oncoming", 60, -5.0, x=40.0), acceleration=-6.0)
    impact = oncoming.first.impact_speed_mps
    assert neuroncap_score(oncoming) == pytest.approx(4 * (1 - (impact + 5) / 20), abs=1e-6)


def test_an_impact_is_avoided_mitigated_or_a_hit():
    lead = moving("lead", 60, 0.0, x=15.0)
    assert outcome(collisions_of(moving("lead", 60, 0.0, x=40.0), acceleration=-6.0)) == "avoided"
    assert outcome(collisions_of(lead, acceleration=-6.0)) == "mitigated"
    assert outcome(collisions_of(lead)) == "hit"


def test_hugsim_multiplies_its_mean_with_the_way():
    assert hd_score(0.7, 0.5) == pytest.approx(0.35)
