import numpy as np
import pytest
from fixtures.drive_logs import drive_log, moving, straight
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.metrics.progress import Progress, ego_progress, ego_progress_nuplan
from bevstack.sim.metrics.route import RoutePlaces
from bevstack.sim.metrics.tracks import Tracks


def progress_of(log, reference_m=np.nan):
    tracks = Tracks.of(log)
    return Progress.of(tracks, RoutePlaces.of(tracks), reference_m)


def test_progress_is_the_way_along_the_route_and_not_the_way_driven():
    poses, speeds = straight(31, 10.0, yaw=np.deg2rad(60))
    assert progress_of(drive_log(poses, speeds)).progress_m == pytest.approx(15.0)


def test_completion_is_of_the_reference_run_where_there_is_one_else_of_the_rest_of_the_route():
    poses, speeds = straight(31, 10.0)  # the centre starts at 1 on a route that ends at 250: the rest is 249 m
    log = drive_log(poses, speeds)
    assert progress_of(log).route_completion == pytest.approx(30 / 249)
    assert progress_of(log, 40.0).route_completion == pytest.approx(0.75)
    assert progress_of(log, 20.0).route_completion == 1.0
    assert progress_of(drive_log(poses, speeds, ending="goal"), 40.0).route_completion == 1.0


def test_navsim_asks_for_no_progress_within_five_metres_and_shares_the_larger_way():
    assert ego_progress(0.0, 5.0) == 1.0
    assert ego_progress(3.0, 6.0) == 0.5
    assert ego_progress(9.0, 6.0) == 1.0
    assert ego_progress(-4.0, 10.0) == 0.0
    assert np.isnan(ego_progress(9.0, np.nan))


def test_nuplan_counts_ways_below_two_metres_as_two():
    assert ego_progress_nuplan(0.0, 1.0) == 1.0
    assert ego_progress_nuplan(0.0, 8.0) == 0.25
    assert ego_progress_nuplan(-0.1, 8.0) == 0.0
    assert ego_progress_nuplan(9.0, 8.0) == 1.0


def test_a_parked_vehicle_beside_a_driving_reference_makes_no_progress():
    result = progress_of(drive_log(*straight(31, 0.0)), 50.0)
    assert (result.progress_m, result.ego_progress, result.route_completion) == (0.0, 0.0, 0.0)
    assert result.ego_progress_nuplan == pytest.approx(0.04)
    assert result.is_making_progress == 0.0


def test_a_route_that_crosses_itself_is_followed_and_not_jumped():
    # Once around a circle of 20 m radius and on through its start.
    angle = np.linspace(0, 2.5 * np.pi, 500)
    route = 20 * np.stack((np.sin(angle), 1 - np.cos(angle)), axis=1)
    driven = np.linspace(0, 2.2 * np.pi, 200)
    poses = np.stack((20 * np.sin(driven), 20 - 20 * np.cos(driven), driven), axis=1)
    log = drive_log(poses, np.full(200, 7.0), route=route)
    assert progress_of(log).progress_m == pytest.approx(20 * 2.2 * np.pi, rel=2e-3)


def test_others_are_placed_on_the_route_and_the_left_is_positive():
    log = drive_log(
        *straight(5, 10.0), actors=[moving("a", 5, 0.0, x=30.0, y=2.0), moving("b", 5, 0.0, x=40.0, y=-3.0)]
    )
    places = RoutePlaces.of(Tracks.of(log))
    np.testing.assert_allclose(places.actor_stations_m[:, 0], (80.0, 90.0))
    np.testing.assert_allclose(places.actor_offsets_m[:, 0], (2.0, -3.0))


@given(st.floats(-np.pi, np.pi), st.floats(-500, 500))
def test_turning_and_moving_the_world_changes_no_progress(turn, shift):
    poses, speeds = straight(31, 8.0, y=0.4, yaw=0.05)
    log = drive_log(poses, speeds)
    rotation = np.array(((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))))
    moved = np.concatenate((poses[:, :2] @ rotation.T + shift, poses[:, 2:] + turn), axis=1)
    other = drive_log(moved, speeds, route=log.route @ rotation.T + shift)
    assert progress_of(other).progress_m == pytest.approx(progress_of(log).progress_m, abs=1e-6)
