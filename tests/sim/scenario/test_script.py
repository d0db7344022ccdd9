"""Scripted actors: what triggers look at and what actions do."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.scenario.actions import (
    AppearAction,
    FollowAction,
    HoldAction,
    LaneChangeAction,
    SpeedAction,
    TeleportAction,
    VanishAction,
    Waypoint,
)
from bevstack.sim.scenario.motion import Body, EgoMotion, along_and_across, gap_between, time_to_collision
from bevstack.sim.scenario.places import LanePlace, RelativePlace, WorldPlace
from bevstack.sim.scenario.road_specs import StraightRoad
from bevstack.sim.scenario.roads import build_roads
from bevstack.sim.scenario.schema import ActorSpec, EgoSpec, Maneuver, Scenario
from bevstack.sim.scenario.script import Script, advance
from bevstack.sim.scenario.triggers import (
    AfterTrigger,
    AllTrigger,
    AnyTrigger,
    DistanceTrigger,
    HeadwayTrigger,
    ReachTrigger,
    SpeedTrigger,
    StandstillTrigger,
    StationTrigger,
    TimeTrigger,
    TravelledTrigger,
    TtcTrigger,
)

AT_ONCE = TimeTrigger(at_s=0.0)


def script_of(*maneuvers, speed=10.0, ego_speed=10.0, ahead=50.0):
    actor = ActorSpec(
        name="target", class_name="car", start=RelativePlace(ahead_m=ahead), speed_mps=speed, maneuvers=maneuvers
    )
    scenario = Scenario(
        name="test",
        road=StraightRoad(length_m=500.0, lanes_ahead=2),
        ego=EgoSpec(start=LanePlace(lane="ahead_2", station_m=20.0), speed_mps=ego_speed),
        actors=(actor,),
    )
    return Script(scenario=scenario, roads=build_roads(scenario.road))


def play(script, seconds, ego_speed=10.0, dt=0.1):
    """States from 0 on, against an ego vehicle at constant speed."""
    state = script.start()
    states = [state]
    for step in range(round(seconds / dt)):
        way = ego_speed * step * dt
        standing = step * dt if ego_speed == 0 else 0.0
        ego = EgoMotion(x=20 + way, y=-5.25, yaw=0.0, speed_mps=ego_speed, travelled_m=way, standing_s=standing)
        state = advance(script, state, ego, dt)
        states.append(state)
    return states


def start_of(states, name="act"):
    """Time at which a manoeuvre had begun."""
    return next((state.time_s for state in states if name in state.started), None)


def act(when, action=None):
    return Maneuver(name="act", when=when, action=action or HoldAction(duration_s=0.0))


def test_without_manoeuvres_speed_and_lane_are_kept():
    target = play(script_of(), 3.0)[-1].actors["target"]
    assert target.pose == pytest.approx((100.0, -5.25, 0.0))
    assert target.velocity == pytest.approx((10.0, 0.0))


@pytest.mark.parametrize("shape", ["linear", "cubic", "sinusoidal"])
def test_a_speed_change_takes_its_time_and_covers_the_mean_speed(shape):
    target = play(script_of(act(AT_ONCE, SpeedAction(speed_mps=4.0, shape=shape, by="time", amount=2.0))), 2.0)[-1]
    assert target.actors["target"].speed_mps == pytest.approx(4.0)
    assert target.actors["target"].station_m == pytest.approx(70 + 7 * 2, abs=1e-3)
    assert target.ended["act"] == pytest.approx(2.0)


def test_braking_by_rate_stops_where_kinematics_says():
    states = play(script_of(act(AT_ONCE, SpeedAction(speed_mps=0.0, by="rate", amount=5.0))), 4.0)
    assert states[-1].actors["target"].station_m == pytest.approx(70 + 10**2 / (2 * 5.0), abs=1e-6)
    assert states[-1].ended["act"] == pytest.approx(2.0)


def test_a_speed_change_by_distance_ends_after_that_distance():
    states = play(script_of(act(AT_ONCE, SpeedAction(speed_mps=5.0, by="distance", amount=30.0))), 4.0)
    assert states[-1].ended["act"] == pytest.approx(4.0, abs=0.011)
    assert states[-1].actors["target"].station_m == pytest.approx(100.0, abs=1e-3)


def test_a_step_in_speed_happens_at_once():
    states = play(script_of(act(TimeTrigger(at_s=0.25), SpeedAction(speed_mps=0.0, shape="step"))), 1.0)
    assert states[-1].actors["target"].station_m == pytest.approx(70 + 10 * 0.25)


def test_a_speed_can_be_relative_to_the_ego_vehicle():
    action = SpeedAction(speed_mps=-2.0, relative_to="ego", by="time", amount=1.0)
    assert play(script_of(act(AT_ONCE, action)), 2.0, ego_speed=15.0)[-1].actors["target"].speed_mps == 13.0


@pytest.mark.parametrize(
    ("by", "amount", "duration"), [("time", 2.0, 2.0), ("distance", 30.0, 3.0), ("rate", math.pi / 2 * 3.5 / 2, 2.0)]
)
def test_a_lane_change_ends_in_the_next_lane(by, amount, duration):
    states = play(script_of(act(AT_ONCE, LaneChangeAction(lanes_left=1, by=by, amount=amount))), 4.0)
    assert states[-1].ended["act"] == pytest.approx(duration, abs=0.011)
    x, y, yaw = states[-1].actors["target"].pose
    assert (x, y, yaw) == pytest.approx((110.0, -1.75, 0.0), abs=1e-6)


def test_a_vehicle_faces_where_it_goes_while_it_changes_lanes():
    states = play(script_of(act(AT_ONCE, LaneChangeAction(lanes_left=1, shape="linear", by="time", amount=2.0))), 1.0)
    assert states[-1].actors["target"].pose[2] == pytest.approx(math.atan2(1.75, 10.0))
    assert states[-1].actors["target"].velocity == pytest.approx((10.0, 1.75))


def test_a_way_with_times_is_met_at_its_points():
    points = (
        Waypoint(place=WorldPlace(x_m=80.0, y_m=-5.25), time_s=2.0),
        Waypoint(place=WorldPlace(x_m=80.0, y_m=4.75), time_s=4.0),
    )
    states = play(script_of(act(AT_ONCE, FollowAction(points=points))), 5.0)
    assert states[10].actors["target"].pose[:2] == pytest.approx((75.0, -5.25))
    assert states[30].actors["target"].pose[:2] == pytest.approx((80.0, -0.25), abs=1e-6)
    assert states[30].actors["target"].speed_mps == pytest.approx(5.0)
    assert states[-1].ended["act"] == pytest.approx(4.0)


def test_a_way_without_times_is_taken_at_its_own_speed():
    points = (Waypoint(place=WorldPlace(x_m=100.0, y_m=-5.25)), Waypoint(place=WorldPlace(x_m=100.0, y_m=30.0)))
    states = play(script_of(act(AT_ONCE, FollowAction(points=points))), 5.0)
    assert states[-1].actors["target"].pose[:2] == pytest.approx((100.0, 14.75))


def test_teleporting_appearing_and_vanishing():
    place = LanePlace(lane="ahead_1", station_m=200.0)
    states = play(script_of(act(TimeTrigger(at_s=1.0), TeleportAction(place=place))), 2.0)
    assert states[-1].actors["target"].pose == pytest.approx((210.0, -1.75, 0.0))
    gone = play(
        script_of(
            Maneuver(name="goes", when=TimeTrigger(at_s=0.5), action=VanishAction()),
            Maneuver(name="comes", when=AfterTrigger(maneuver="goes", delay_s=0.5), action=AppearAction()),
        ),
        1.5,
    )
    assert [state.actors["target"].is_present for state in gone] == [True] * 6 + [False] * 5 + [True] * 5


@pytest.mark.parametrize(
    ("trigger", "begins_s"),
    [
        (TimeTrigger(at_s=1.0), 1.0),
        (StationTrigger(lane="ahead_2", station_m=40.0), 2.0),
        (ReachTrigger(place=WorldPlace(x_m=50.0, y_m=-5.25), within_m=1.0), 2.9),
        (TravelledTrigger(distance_m=25.0), 2.5),
        (SpeedTrigger(speed_mps=9.0), 0.0),
        (SpeedTrigger(speed_mps=9.0, rule="below"), None),
        (DistanceTrigger(to="target", distance_m=20.0, measure="centres"), 3.0),
        (DistanceTrigger(to="target", distance_m=50.0 - 3.342 - 2.01 - 15.0), 1.5),
        (DistanceTrigger(to="target", distance_m=50.0 - 3.342 - 2.01 - 15.0, measure="along"), 1.5),
        (DistanceTrigger(to="target", distance_m=0.0, measure="across"), 0.0),
        (TtcTrigger(to="target", time_s=2.0), 4.4648 - 2.0),
        (HeadwayTrigger(to="target", time_s=2.0), 4.4648 - 2.0),
        (AllTrigger(of=(TimeTrigger(at_s=1.0), TravelledTrigger(distance_m=15.0))), 1.5),
        (AnyTrigger(of=(TimeTrigger(at_s=1.0), TravelledTrigger(distance_m=15.0))), 1.0),
        (StandstillTrigger(who="target", for_s=1.0), 1.0),
        (AllTrigger(of=(TimeTrigger(at_s=1.0), SpeedTrigger(speed_mps=9.0, rule="below"))), None),
    ],
)
def test_a_trigger_starts_when_it_says(trigger, begins_s):
    states = play(script_of(act(trigger), speed=0.0), 4.0)
    began = start_of(states)
    # States are seen every 0.1 s, the look that begins something is at most 10 ms late.
    assert began is None if begins_s is None else began == pytest.approx(begins_s + 0.06, abs=0.0601)


def test_a_new_order_ends_the_one_before():
    script = script_of(
        Maneuver(name="first", when=AT_ONCE, action=SpeedAction(speed_mps=0.0, by="time", amount=4.0)),
        Maneuver(name="second", when=TimeTrigger(at_s=1.0), action=SpeedAction(speed_mps=20.0, by="time", amount=1.0)),
    )
    state = play(script, 4.0)[-1]
    assert state.actors["target"].speed_mps == 20.0
    assert state.ended["first"] == pytest.approx(1.0)


def test_the_same_play_gives_the_same_bits_and_leaves_its_input():
    script = script_of(act(TtcTrigger(to="target", time_s=2.0), LaneChangeAction(lanes_left=1)), speed=3.0)
    one, other = play(script, 6.0), play(script, 6.0)
    assert [s.actors["target"].pose for s in one] == [s.actors["target"].pose for s in other]
    assert one[0].time_s == 0.0
    assert not one[0].started


def test_an_actor_that_others_move_is_taken_as_it_is():
    script = script_of(act(AT_ONCE, SpeedAction(speed_mps=0.0, shape="step")))
    state = script.start()
    motion = state.actors["target"].moved(90.0, 0.0, 7.0, 0.0, 0.1)
    ego = EgoMotion(x=20.0, y=-5.25, yaw=0.0, speed_mps=10.0)
    after = advance(script, state, ego, moved_by_others={"target": motion})
    assert after.actors["target"] is motion
    assert not after.started


def test_places_relative_to_each_other_in_a_circle_are_refused():
    actors = tuple(
        ActorSpec(name=name, class_name="car", start=RelativePlace(to=to)) for name, to in (("a", "b"), ("b", "a"))
    )
    scenario = Scenario(
        name="test",
        road=StraightRoad(),
        ego=EgoSpec(start=LanePlace(lane="ahead_1", station_m=0.0), speed_mps=1.0),
        actors=actors,
    )
    with pytest.raises(ValueError, match="is placed relative to it"):
        Script(scenario=scenario, roads=build_roads(scenario.road)).start()


def body(x, y, yaw=0.0, speed=0.0, length=4.0, width=2.0):
    return Body(
        x=x,
        y=y,
        yaw=yaw,
        length_m=length,
        width_m=width,
        vx=speed * math.cos(yaw),
        vy=speed * math.sin(yaw),
        reference=(x, y),
        travelled_m=0.0,
        standing_s=0.0,
    )


def test_time_to_collision_of_hand_made_pairs():
    assert time_to_collision(body(0, 0, speed=10), body(24, 0)) == pytest.approx(2.0)
    assert time_to_collision(body(0, 0, speed=10), body(24, 3)) == math.inf
    assert time_to_collision(body(0, 0, speed=10), body(24, 0, speed=10)) == math.inf
    assert time_to_collision(body(0, 0, speed=10), body(3, 0)) == 0.0
    # From the side: 20 m along its way until it reaches the ego's flank, while the ego comes past the same place.
    assert time_to_collision(body(0, 0, speed=10), body(20, -23, math.pi / 2, 10)) == pytest.approx(2.0)


@given(st.floats(-30, 30), st.floats(-30, 30), st.floats(-3, 3))
def test_gaps_are_the_same_seen_from_either_side(x, y, yaw):
    one, other = body(0, 0), body(x, y, yaw)
    assert gap_between(one, other) == pytest.approx(gap_between(other, one), abs=1e-9)
    along, across = along_and_across(one, other)
    assert gap_between(one, other) >= math.hypot(along, across) - 1e-9
