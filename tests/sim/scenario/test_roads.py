"""Test tracks are drawn exactly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.scenario.road_specs import CrossingRoads, CurvedRoad, StraightRoad, TownRoads
from bevstack.sim.scenario.roads import build_roads
from bevstack.sim.scenario.ways import Way


def test_a_straight_road_has_its_lanes_beside_the_middle():
    roads = build_roads(StraightRoad(length_m=100.0, lanes_ahead=2, lanes_oncoming=1, lane_width_m=3.0))
    assert list(roads.lane_names) == ["ahead_1", "ahead_2", "oncoming_1"]
    assert roads.lane("ahead_2").pose_at(40.0) == pytest.approx((40.0, -4.5, 0.0))
    x, y, yaw = roads.lane("oncoming_1").pose_at(40.0)
    assert (x, y, abs(yaw)) == pytest.approx((60.0, 1.5, math.pi))
    assert roads.lane("ahead_1").right_neighbor == roads.lane_names["ahead_2"]
    assert roads.lane("ahead_2").left_neighbor == roads.lane_names["ahead_1"]
    assert roads.network.drivable.area == pytest.approx(100 * (9 + 2 * 0.5))


@pytest.mark.parametrize("radius", [-60.0, 60.0])
def test_a_curve_turns_by_its_angle_on_its_radius(radius):
    roads = build_roads(CurvedRoad(radius_m=radius, angle_rad=1.2, before_m=50.0, after_m=20.0))
    way = roads.way("ahead_1")
    lane_radius = abs(radius + 1.75)
    assert way.length_m == pytest.approx(50 + 1.2 * lane_radius + 20, abs=0.05)
    assert abs(way.curvature(60.0)) == pytest.approx(1 / lane_radius, rel=1e-3)
    assert way.pose(way.length_m)[2] == pytest.approx(math.copysign(1.2, radius))


@pytest.mark.parametrize(("to", "radius"), [("west", 9.75), ("east", 6.25)])
def test_ways_through_a_crossing_are_quarter_circles(to, radius):
    roads = build_roads(CrossingRoads(arm_m=50.0, half_m=8.0, lane_width_m=3.5))
    way = roads.way("south_in", ("south_in", f"south_to_{to}", f"{to}_out"))
    assert way.length_m == pytest.approx(100 + radius * math.pi / 2, abs=0.01)
    assert way.curvature(50 + radius) == pytest.approx((1 if to == "west" else -1) / radius, rel=0.01)


def test_every_way_through_a_crossing_joins_its_lanes():
    roads = build_roads(CrossingRoads())
    for lane in roads.network.lanes:
        for index in lane.successors:
            np.testing.assert_allclose(lane.centerline[-1], roads.network.lanes[index].centerline[0], atol=1e-9)
    assert sum(lane.is_connector for lane in roads.network.lanes) == 12
    assert all(roads.network.drivable.buffer(0.01).contains(lane.polygon) for lane in roads.network.lanes)


def test_without_a_route_the_way_goes_straight_on():
    roads = build_roads(CrossingRoads())
    names = {index: name for name, index in roads.lane_names.items()}
    assert [names[index] for index in roads.way("east_in").lanes] == ["east_in", "east_to_west", "west_out"]


def test_a_broken_route_is_named():
    roads = build_roads(CrossingRoads())
    with pytest.raises(ValueError, match="'east_out' does not follow 'south_in'"):
        roads.way("south_in", ("south_in", "east_out"))
    with pytest.raises(ValueError, match="no lane 'suoth_in'.*did you mean south_in"):
        roads.lane("suoth_in")


def test_a_town_can_be_the_road_and_is_the_same_for_its_seed():
    one, other = (build_roads(TownRoads(town="crossroads", seed=4)) for _ in range(2))
    np.testing.assert_array_equal(one.lane("0").centerline, other.lane("0").centerline)
    assert one.speed_limit_mps > 5


@pytest.mark.parametrize(
    "spec",
    [
        StraightRoad(length_m=-1.0),
        StraightRoad(lanes_ahead=0),
        CurvedRoad(radius_m=2.0),
        CrossingRoads(half_m=2.0),
        StraightRoad(lane_width_m=0.0),
    ],
)
def test_impossible_roads_are_refused(spec):
    with pytest.raises(ValueError, match="road: "):
        build_roads(spec)


@given(st.floats(-20.0, 130.0), st.floats(-4.0, 4.0))
def test_a_point_beside_a_way_is_found_again(station, left):
    way = Way.through(np.array([(0.0, 0.0), (50.0, 0.0), (110.0, 0.0)]))
    x, y, _ = way.pose(station, left)
    assert way.station_of(x, y) == pytest.approx((station, left), abs=1e-9)
