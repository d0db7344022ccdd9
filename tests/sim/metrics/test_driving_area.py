import numpy as np
import pytest
from fixtures.drive_logs import NO_ROADS, drive_log, lane, road_network, straight
from shapely.geometry import MultiPolygon, box

from bevstack.sim.drive_log import RedLight
from bevstack.sim.metrics.areas import DrivenAreas
from bevstack.sim.metrics.driving_area import RoadCompliance, driving_direction, lane_keeping, speed_limit_score
from bevstack.sim.metrics.route import RoutePlaces
from bevstack.sim.metrics.tracks import Tracks
from bevstack.sim.world.roads import StopLine


def compliance_of(log):
    tracks = Tracks.of(log)
    return RoadCompliance.of(tracks, DrivenAreas.of(tracks), RoutePlaces.of(tracks))


def test_driving_in_the_middle_of_the_lane_keeps_every_rule():
    result = compliance_of(drive_log(*straight(60, 10.0)))
    scores = (result.drivable_area, result.drivable_area_nuplan, result.lane_keeping, result.driving_direction)
    assert scores == (1.0, 1.0, 1.0, 1.0)
    assert (result.traffic_light, result.speed_limit, result.stop_signs_run, result.max_outside_m) == (1.0, 1.0, 0, 0.0)


@pytest.mark.parametrize(("y", "outside", "navsim", "nuplan"), [
    (-0.75, 0.0, 1.0, 1.0),  # the right corners lie on the edge of the road at -1.75
    (-0.95, 0.2, 0.0, 1.0),
    (-1.15, 0.4, 0.0, 0.0),
])  # fmt: skip
def test_corners_beside_the_road_are_measured_and_nuplan_forgives_three_tenths(y, outside, navsim, nuplan):
    result = compliance_of(drive_log(*straight(10, 10.0, y=y)))
    assert result.max_outside_m == pytest.approx(outside, abs=1e-9)
    assert (result.drivable_area, result.drivable_area_nuplan) == (navsim, nuplan)
    assert result.outside_share == float(outside > 0)


def test_a_seam_between_two_areas_is_no_edge_of_the_road():
    halves = MultiPolygon((box(-100.0, -1.75, 10.0, 8.75), box(10.0 + 1e-9, -1.75, 300.0, 8.75)))
    poses, speeds = straight(30, 10.0, x=-3.0 + 5e-10)  # at 1 s the front stands in the seam
    assert compliance_of(drive_log(poses, speeds, roads=road_network(drivable=halves))).drivable_area == 1.0


def test_a_turned_footprint_leaves_the_road_before_its_centre():
    # Half length 2, half width 1 at 30 degrees: the front right corner is 2 sin 30 - 1 cos 30 = 0.134 m from the axis.
    poses, speeds = straight(2, 1.0, y=-1.7, yaw=np.deg2rad(-30))
    poses[1] = poses[0]
    # The centre is at y = -1.7 - 1 sin 30 = -2.2, outside by 0.45; the front right corner at -2.2 - 1 - 0.866.
    assert compliance_of(drive_log(poses, speeds)).max_outside_m == pytest.approx(2.2 + 1 + np.sqrt(0.75) - 1.75)


def test_in_several_lanes_needs_a_corner_in_two_and_no_lane_that_holds_all():
    for y, expected in ((0.0, False), (1.0, True), (1.75, True), (3.5, False)):
        tracks = Tracks.of(drive_log(*straight(5, 10.0, y=y)))
        assert (
            DrivenAreas.of(tracks).in_several_lanes.all() == expected == DrivenAreas.of(tracks).in_several_lanes.any()
        )


def test_lane_keeping_fails_after_twenty_steps_on_end_and_junction_steps_neither_count_nor_end_it():
    offsets, outside = np.zeros(60), np.zeros(60, bool)
    offsets[10:29] = -0.6
    assert lane_keeping(offsets, outside) == 1.0
    offsets[29] = 0.51
    assert lane_keeping(offsets, outside) == 0.0
    offsets[20] = 0.5
    assert lane_keeping(offsets, outside) == 1.0
    junction = outside.copy()
    junction[20] = True  # the step inside is skipped: 10 + 9 beside, then one more
    assert lane_keeping(offsets, junction) == 1.0
    offsets[30] = 0.6
    assert lane_keeping(offsets, junction) == 0.0
    assert np.isnan(lane_keeping(np.full(5, np.nan), outside[:5]))


def test_a_second_against_the_traffic_costs_half_from_two_metres_and_all_from_six():
    # Windows have eleven steps: 0.18 * 11 = 1.98, 0.2 * 11 = 2.2, 0.54 * 11 = 5.94, 0.55 * 11 = 6.05.
    for step, score in ((0.18, 1.0), (0.2, 0.5), (0.54, 0.5), (0.55, 0.0)):
        assert driving_direction(np.full(40, step)) == score
    short = np.zeros(40)
    short[5] = 1.99
    assert driving_direction(short) == 1.0


def test_the_oncoming_lane_counts_the_way_in_it_and_not_within_a_junction():
    poses, speeds = straight(31, 10.0, y=7.0)
    result = compliance_of(drive_log(poses, speeds))
    assert result.against_traffic_m == pytest.approx(30.0)
    assert result.driving_direction == 0.0
    junction = road_network(segments=(box(-100, -20, 300, 20),), is_intersection=(True,))
    result = compliance_of(drive_log(poses, speeds, roads=junction))
    assert (result.against_traffic_m, result.driving_direction) == (0.0, 1.0)


def test_reversing_in_the_own_lane_is_against_the_traffic():
    poses, speeds = straight(21, -1.5, x=50.0)
    result = compliance_of(drive_log(poses, speeds))
    assert result.against_traffic_m == pytest.approx(3.0)
    assert result.driving_direction == 1.0  # 1.65 m in eleven steps


def test_a_junction_entered_at_red_is_run_and_standing_over_the_line_is_not():
    roads = road_network((lane(0, 0.0, start=-100.0, end=20.0),))
    poses, speeds = straight(40, 10.0)  # the front is at 20 after 1.7 s
    for from_s, until_s, count in ((0.0, 5.0, 1), (0.0, 1.69, 0), (1.71, 5.0, 0), (1.69, 1.71, 1)):
        light = RedLight(lanes=(0,), from_s=from_s, until_s=until_s)
        result = compliance_of(drive_log(poses, speeds, roads=roads, red_lights=(light,)))
        assert (result.red_lights_run, result.traffic_light) == (count, float(count == 0))
    poses, speeds = straight(60, 10.0, acceleration=-50 / 16.9)  # stops at 16.9, the front at 19.9
    log = drive_log(poses, speeds, roads=roads, red_lights=(RedLight(lanes=(0,), from_s=0.0, until_s=9.0),))
    assert compliance_of(log).red_lights_run == 0
    poses, speeds = straight(40, 10.0, y=4.0)  # another lane
    assert compliance_of(drive_log(poses, speeds, roads=roads, red_lights=log.red_lights)).red_lights_run == 0


def test_a_stop_sign_wants_a_standstill_within_four_metres_of_its_line():
    line = StopLine(polygon=box(18, -1.75, 20, 1.75), kind="STOP_SIGN", crossing=None, lanes=(0,))
    roads = road_network((lane(0, 0.0, start=-100.0, end=22.0, stop_station_m=120.0),))
    roads = type(roads)(**{**vars(roads), "stop_line_details": (line,)})
    through = straight(40, 10.0)
    assert compliance_of(drive_log(*through, roads=roads)).stop_signs_run == 1

    def stops_with_front_at(x):
        there = straight(40, 10.0, acceleration=-50 / (x - 3.0))
        on = straight(40, 5.0, x=x - 3.0)
        return np.concatenate((there[0], on[0])), np.concatenate((there[1], on[1]))

    assert compliance_of(drive_log(*stops_with_front_at(18.0), roads=roads)).stop_signs_run == 0
    assert compliance_of(drive_log(*stops_with_front_at(15.0), roads=roads)).stop_signs_run == 1


def test_the_speed_limit_score_is_the_mean_overspeed_over_five_miles_per_hour():
    # 21 steps of 0.1 s at 1 m/s too fast within 2 s: 1 - 21 * 0.1 / (2.23 * 2).
    assert speed_limit_score(np.ones(21), 2.0) == pytest.approx(1 - 2.1 / 4.46)
    assert speed_limit_score(np.full(21, 9.0), 2.0) == 0.0
    result = compliance_of(drive_log(*straight(21, 14.9)))
    assert result.max_overspeed_mps == pytest.approx(1.0)
    assert result.speed_limit == pytest.approx(1 - 2.1 / 4.46)
    assert np.isnan(compliance_of(drive_log(*straight(21, 14.9), speed_limit_mps=np.nan)).speed_limit)


def test_what_a_world_does_not_have_is_not_scored():
    result = compliance_of(drive_log(*straight(21, 5.0), roads=NO_ROADS, route=np.zeros((0, 2))))
    for value in (result.drivable_area, result.max_outside_m, result.driving_direction, result.lane_keeping):
        assert np.isnan(value)
