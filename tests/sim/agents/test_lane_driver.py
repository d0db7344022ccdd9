"""Drivers on lanes: distance, junctions, lane changes."""

import dataclasses
import math

import numpy as np
import pytest
from fixtures.straight_roads import LANE_WIDTH_M, play, straight_road
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.planning.idm import IdmParams
from bevstack.sim.agents.driver_habits import DriverHabits
from bevstack.sim.agents.lane_driver import LaneDriver
from bevstack.sim.agents.mobil import MobilParams, Neighbours, lane_gain
from bevstack.sim.agents.view import EGO, RoadUser, WorldView
from bevstack.sim.world.town import make_town
from bevstack.sim.world.traffic_kernels import rectangles_overlap

ROAD = straight_road()


def rectangle(user):
    return np.array((user.x_m, user.y_m, user.yaw_rad, user.length_m / 2, user.width_m / 2))


def car(x, speed, y=0.0):
    return RoadUser(x_m=x, y_m=y, yaw_rad=0.0, speed_mps=speed, length_m=4.5, width_m=1.8)


def gap_of(behind, ahead):
    return ahead.x_m - behind.x_m - (ahead.length_m + behind.length_m) / 2


def test_the_model_has_its_known_values():
    habits = DriverHabits(idm=IdmParams(headway_s=1.5))
    assert habits.acceleration(0.0, 20.0, math.inf, 0.0) == 1.5
    assert habits.acceleration(10.0, 20.0, math.inf, 0.0) == pytest.approx(1.5 * (1 - 0.5**4))
    wanted = 2 + 10 * 1.5 + 10 * 10 / (2 * math.sqrt(3.0))
    assert habits.acceleration(10.0, 20.0, 60.0, 0.0) == pytest.approx(1.5 * (1 - 0.5**4 - (wanted / 60) ** 2))
    assert habits.acceleration(30.0, 20.0, math.inf, 0.0) == -2.0


def test_a_follower_settles_at_the_models_equilibrium_gap():
    driver = LaneDriver(name="a", roads=straight_road(length_m=1200.0))
    state = driver.begin((0,), 20.0, 12.0)
    leader_x = 80.0
    for _ in range(600):
        world = WorldView(now_s=0.0, users={"a": state.user, "lead": car(leader_x, 12.0)}, roads=driver.roads)
        state = driver.step(state, world, 0.1)
        leader_x += 1.2
    expected = (2 + 12 * 1.5) / math.sqrt(1 - (12 / 25) ** 4)
    assert state.user.speed_mps == pytest.approx(12.0, abs=0.1)
    assert gap_of(state.user, car(leader_x, 12.0)) == pytest.approx(expected, abs=0.8)


def test_a_driver_stops_behind_what_stands_and_stays():
    driver = LaneDriver(name="a", roads=ROAD)
    states = {"a": driver.begin((0,), 20.0, 15.0)}
    ends = [s["a"].user for s in play({"a": driver}, states, ROAD, steps=300, others={EGO: car(150.0, 0.0)})]
    assert ends[-1].speed_mps < 0.05
    assert 1.2 < gap_of(ends[-1], car(150.0, 0.0)) < 3.5
    assert ends[-1].x_m - ends[-20].x_m < 0.05


@settings(max_examples=40)
@given(
    st.lists(st.floats(0, 22), min_size=2, max_size=5),
    st.lists(st.floats(2.5, 40), min_size=4, max_size=4),
    st.integers(0, 60),
)
def test_cars_that_can_still_stop_never_touch_whatever_the_first_one_does(speeds, spaces, brakes_at):
    habits = DriverHabits(max_braking_mps2=8.0)
    x, states, drivers = 300.0, {}, {}
    ahead = speeds[0]
    for k, speed in enumerate(speeds):
        if k:
            # Room to stop after one step of surprise, as hard as it can.
            x -= 4.5 + spaces[k - 1] + max(0.0, speed**2 - ahead**2) / 12.0 + 0.4 * speed
        if x < 5.0:
            break
        drivers[f"{k}"] = LaneDriver(name=f"{k}", roads=ROAD, habits=habits)
        states[f"{k}"] = drivers[f"{k}"].begin((0,), x, speed)
        ahead = speed
    names = list(states)
    for step in range(80):
        users = {name: states[name].user for name in names if states[name].user is not None}
        world = WorldView(now_s=0.1 * step, users=users, roads=ROAD)
        for name in names:
            states[name] = drivers[name].step(states[name], world, 0.1)
        first = states[names[0]]
        if step >= brakes_at and first.user is not None:
            slower = max(0.0, users[names[0]].speed_mps - 0.6)
            states[names[0]] = dataclasses.replace(first, user=dataclasses.replace(first.user, speed_mps=slower))
        bodies = [states[name].user for name in names if states[name].user is not None]
        for front, back in zip(bodies, bodies[1:]):
            assert gap_of(back, front) > 0


def test_a_red_light_holds_the_driver_at_the_line_and_green_lets_it_go():
    town = make_town("crossroads", np.random.default_rng(3))
    lane = next(lane for lane in town.roads.lanes if not lane.is_connector and lane.successors and lane.length_m > 40)
    driver = LaneDriver(name="a", roads=town.roads, seed=1)
    states = {"a": driver.begin((lane.index,), lane.length_m - 35.0, 8.0)}
    *_, held = play({"a": driver}, states, town.roads, steps=150, stopped=frozenset({lane.index}))
    user = held["a"].user
    assert user.speed_mps < 0.1
    station, _ = lane.station_of(user.x_m, user.y_m)
    line = lane.length_m if lane.stop_station_m is None else lane.stop_station_m
    assert -0.2 < line - station - user.length_m / 2 < 3.5
    *_, freed = play({"a": driver}, held, town.roads, steps=150)
    assert freed["a"].user is None or np.hypot(freed["a"].user.x_m - user.x_m, freed["a"].user.y_m - user.y_m) > 20


def test_many_drivers_through_a_junction_never_touch_and_all_get_through():
    town = make_town("crossroads", np.random.default_rng(3))
    entries = [k.index for k in town.roads.lanes if not k.is_connector and k.successors and k.length_m > 45]
    agents, states = {}, {}
    for k, lane in enumerate(entries):
        for back in (20.0, 40.0):
            name = f"{lane}-{back}"
            agents[name] = LaneDriver(name=name, roads=town.roads, seed=k)
            states[name] = agents[name].begin((lane,), town.roads.lanes[lane].length_m - back, 6.0)
    for after in play(agents, states, town.roads, steps=450):
        bodies = [rectangle(state.user) for state in after.values() if state.user is not None]
        for i, one in enumerate(bodies):
            assert not any(rectangles_overlap(one, other) for other in bodies[i + 1 :])
    through = sum(state.user is None or town.roads.lanes[state.lanes[-1]].successors == () for state in after.values())
    assert through == len(after)
    assert sum(state.user is None or state.user.speed_mps > 1 for state in after.values()) == len(after)


def test_a_lane_change_pays_behind_a_slow_leader_and_not_on_a_free_road():
    habits = DriverHabits()
    own, nobody = car(0.0, 15.0), Neighbours(leader=None, follower=None)
    slow = Neighbours(leader=(car(30.0, 5.0), 25.5), follower=None)
    assert lane_gain(own, slow, nobody, habits, 25.0, MobilParams()) > 0
    assert lane_gain(own, nobody, nobody, habits, 25.0, MobilParams()) == pytest.approx(-0.1)


def test_a_change_that_would_make_the_new_follower_brake_hard_is_not_safe():
    own = car(0.0, 15.0)
    slow = Neighbours(leader=(car(30.0, 5.0), 25.5), follower=None)
    fast_behind = Neighbours(leader=None, follower=(car(-12.0, 25.0), 7.5))
    assert lane_gain(own, slow, fast_behind, DriverHabits(), 25.0, MobilParams()) is None


def test_politeness_gives_up_a_change_that_costs_others_more():
    own, slow = car(0.0, 15.0), Neighbours(leader=(car(40.0, 13.0), 35.5), follower=None)
    behind = Neighbours(leader=None, follower=(car(-36.5, 18.0), 32.0))
    selfish = lane_gain(own, slow, behind, DriverHabits(), 25.0, MobilParams(politeness=0.0))
    polite = lane_gain(own, slow, behind, DriverHabits(), 25.0, MobilParams(politeness=1.0))
    assert selfish > 0 > polite


def test_a_driver_overtakes_smoothly_and_ends_in_the_other_lane():
    roads = straight_road(lanes=2)
    driver = LaneDriver(name="a", roads=roads, lane_changes=MobilParams())
    states = {"a": driver.begin((0,), 30.0, 15.0)}
    ys = [0.0]
    for after in play({"a": driver}, states, roads, steps=120, others={EGO: car(80.0, 3.0)}):
        ys.append(after["a"].user.y_m)
    assert ys[-1] == pytest.approx(LANE_WIDTH_M, abs=0.05)
    assert np.abs(np.diff(ys)).max() / 0.1 < 2.0
    assert after["a"].user.yaw_rad == pytest.approx(0.0, abs=1e-3)


def test_a_cyclist_rides_at_the_edge():
    driver = LaneDriver(name="c", roads=ROAD, habits=DriverHabits(wished_mps=4.2), offset_m=-1.0)
    states = {"c": driver.begin((0,), 20.0, 4.0, length_m=1.8, width_m=0.6, class_name="bicycle")}
    *_, after = play({"c": driver}, states, ROAD, steps=100)
    assert after["c"].user.y_m == pytest.approx(-1.0, abs=1e-6)
    assert after["c"].user.speed_mps == pytest.approx(4.2, abs=0.02)


def test_the_same_world_gives_the_same_state_and_none_is_changed():
    driver = LaneDriver(name="a", roads=ROAD)
    state = driver.begin((0,), 20.0, 10.0)
    world = WorldView(now_s=0.0, users={"a": state.user, EGO: car(60.0, 5.0)}, roads=ROAD)
    again = LaneDriver(name="a", roads=ROAD)
    assert driver.step(state, world, 0.1) == driver.step(state, world, 0.1) == again.step(state, world, 0.1)


def test_who_reaches_the_end_of_the_road_leaves():
    driver = LaneDriver(name="a", roads=ROAD)
    states = {"a": driver.begin((0,), 390.0, 20.0)}
    *_, after = play({"a": driver}, states, ROAD, steps=30)
    assert after["a"].user is None


def test_a_route_whose_lanes_do_not_meet_is_refused():
    with pytest.raises(ValueError, match="lead into each other"):
        LaneDriver(name="a", roads=straight_road(lanes=2)).begin((0, 1), 0.0, 5.0)
    with pytest.raises(ValueError, match="politeness=-1"):
        MobilParams(politeness=-1.0)
    with pytest.raises(ValueError, match="wished_mps=0"):
        DriverHabits(wished_mps=0.0)
