"""People and cyclists who are triggered."""

import math

import numpy as np
import pytest
from fixtures.straight_roads import straight_road

from bevstack.sim.agents.view import EGO, RoadUser, WorldView
from bevstack.sim.agents.walker import ArrivalTrigger, Walker, time_to_way

ROAD = straight_road()
ACROSS = np.array([(50.0, -4.0), (50.0, 4.0)])


def world(ego_x, speed, now_s=0.0):
    ego = RoadUser(x_m=ego_x, y_m=0.0, yaw_rad=0.0, speed_mps=speed, length_m=4.0, width_m=1.8)
    return WorldView(now_s=now_s, users={EGO: ego}, roads=ROAD)


def test_a_crossing_begins_when_the_ego_vehicle_is_the_time_away_and_not_before():
    walker = Walker(way=ACROSS, trigger=ArrivalTrigger(point=(50.0, 0.0), within_s=2.0))
    state = walker.begin()
    # The front is 2 m ahead of the centre: at 10 m/s, two seconds are left with the centre 22 m away.
    assert not walker.step(state, world(27.9, 10.0), 0.1).is_off
    assert walker.step(state, world(28.0, 10.0), 0.1).is_off
    assert not walker.step(state, world(28.0, 0.0), 0.1).is_off
    assert not walker.step(state, world(60.0, 10.0), 0.1).is_off


def test_a_distance_triggers_a_standing_ego_too():
    trigger = ArrivalTrigger(point=(50.0, 0.0), within_m=10.0)
    assert trigger.fires(world(39.0, 0.0)) and not trigger.fires(world(37.0, 0.0))


def test_who_has_set_off_walks_to_the_end_at_its_speed_and_stands():
    walker = Walker(way=ACROSS, speed_mps=2.0, acceleration_mps2=2.0)
    state = walker.begin()
    for k in range(100):
        state = walker.step(state, world(0.0, 0.0, 0.1 * k), 0.1)
        if k == 29:  # one second to reach 2 m/s (1 m), two more at it
            assert state.station_m == pytest.approx(5.0, abs=1e-6)
    assert (state.user.x_m, state.user.y_m, state.user.speed_mps) == (50.0, 4.0, 0.0)
    assert state.user.yaw_rad == pytest.approx(math.pi / 2)


def test_somebody_careful_waits_for_a_gap():
    walker = Walker(way=ACROSS, accepted_gap_s=4.0)
    assert time_to_way(ACROSS, world(20.0, 10.0)) == pytest.approx(2.8)
    assert not walker.step(walker.begin(), world(20.0, 10.0), 0.1).is_off
    assert walker.step(walker.begin(), world(0.0, 10.0), 0.1).is_off
    assert walker.step(walker.begin(), world(60.0, 10.0), 0.1).is_off


def test_a_vehicle_on_the_way_is_there_already():
    assert time_to_way(ACROSS, world(50.0, 0.0)) == 0.0
    assert time_to_way(ACROSS, world(20.0, 0.0)) == math.inf


def test_a_cyclist_who_comes_riding_has_its_speed_from_the_begin():
    cyclist = Walker(way=ACROSS, speed_mps=15 / 3.6)
    state = cyclist.begin(length_m=1.8, width_m=0.6, class_name="bicycle", is_off=True)
    after = cyclist.step(state, world(0.0, 0.0), 0.1)
    assert after.station_m == pytest.approx(0.1 * 15 / 3.6)


def test_nobody_starts_before_its_time():
    walker = Walker(way=ACROSS, start_s=1.0)
    assert not walker.step(walker.begin(), world(0.0, 0.0, 0.9), 0.1).is_off
    assert walker.step(walker.begin(), world(0.0, 0.0, 1.0), 0.1).is_off


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"way": np.zeros((2, 2))}, "two different points"),
        ({"way": ACROSS, "speed_mps": 0.0}, "speed_mps=0"),
        ({"way": ACROSS, "accepted_gap_s": -1.0}, "accepted_gap_s=-1"),
    ],
)
def test_an_impossible_walk_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        Walker(**values)
