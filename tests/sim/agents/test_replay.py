"""Recorded drives played again."""

import math

import numpy as np
import pytest
from fixtures.drives import Track, drive, straight
from fixtures.straight_roads import straight_road

from bevstack.sim.agents.recording import RecordedTrack, Recording, interpolated_poses, read_recording
from bevstack.sim.agents.replay import ReplayedUser, ReplayState, TakeOver
from bevstack.sim.agents.view import EGO, RoadUser, WorldView
from bevstack.types.errors import DatasetError

ROAD = straight_road(length_m=300.0)
STEPS = 101


def row(x0, speed, y=0.0):
    x = x0 + speed * 0.1 * np.arange(STEPS)
    return np.column_stack((x, np.full(STEPS, y), np.zeros(STEPS)))


def recorded(poses, class_name="car"):
    return RecordedTrack(name="t", class_name=class_name, size_lwh=(4.5, 1.8, 1.5), poses=poses)


def behind():
    """The ego vehicle drives 10 m/s from x = 50, a car follows 20 m behind."""
    track = recorded(row(28.0, 10.0))
    return Recording(scene="s", ego_poses=row(50.0, 10.0), tracks=(track,)), track


def play(agent, ego_of, steps=100, state=None):
    state, states = state or agent.begin(), []
    for k in range(steps):
        users = {EGO: ego_of(k)} | ({"t": state.user} if state.user else {})
        state = agent.step(state, WorldView(now_s=0.1 * k, users=users, roads=ROAD), 0.1)
        states.append(state)
    return states


def as_recorded(recording):
    return lambda k: RoadUser.ego_vehicle(tuple(recording.ego_poses[k]), 10.0)


def stopping(k):
    """The ego vehicle brakes by 5 m/s2 instead."""
    t = min(0.1 * k, 2.0)
    return RoadUser.ego_vehicle((50.0 + 10 * t - 2.5 * t * t, 0.0, 0.0), 10.0 - 5.0 * t)


def test_an_ego_that_drives_as_recorded_meets_the_record_itself():
    recording, track = behind()
    states = play(ReplayedUser(recording=recording, track=track, take_over=TakeOver()), as_recorded(recording))
    for k, state in enumerate(states):
        assert (state.user.x_m, state.user.y_m) == pytest.approx(tuple(track.poses[k + 1, :2]), abs=1e-9)
        assert not state.is_taken_over


def test_an_ego_that_stops_is_driven_into_without_take_over_and_not_with_it():
    recording, track = behind()
    blind = play(ReplayedUser(recording=recording, track=track), stopping)
    assert blind[-1].user.x_m > stopping(99).x_m
    driven = play(ReplayedUser(recording=recording, track=track, take_over=TakeOver()), stopping)
    assert driven[-1].is_taken_over
    for k, state in enumerate(driven):
        assert stopping(k + 1).x_m - state.user.x_m > (4.5 + 4.084) / 2
    assert driven[-1].user.speed_mps < 0.3


def test_an_ego_that_leaves_its_record_to_the_side_changes_nothing():
    recording, track = behind()
    agent = ReplayedUser(recording=recording, track=track, take_over=TakeOver())
    states = play(agent, lambda k: RoadUser.ego_vehicle((50.0, 8.0, 0.0), 0.0))
    assert not states[-1].is_taken_over


def test_who_was_taken_over_stays_so_and_drives_on_after_the_ego_has_gone():
    recording, track = behind()
    agent = ReplayedUser(recording=recording, track=track, take_over=TakeOver())
    stopped = play(agent, stopping)[-1]
    away = play(agent, lambda k: RoadUser.ego_vehicle((200.0, 30.0, 0.0), 0.0), state=stopped, steps=60)
    assert away[-1].is_taken_over and away[-1].user.speed_mps > 4.0


def test_somebody_is_there_only_while_annotated():
    poses = row(28.0, 10.0)
    poses[:10], poses[50:] = np.nan, np.nan
    recording = Recording(scene="s", ego_poses=row(50.0, 10.0), tracks=())
    states = play(ReplayedUser(recording=recording, track=recorded(poses)), as_recorded(recording))
    present = [k + 1 for k, state in enumerate(states) if state.user is not None]
    assert present == list(range(10, 50))


def test_people_and_what_stands_are_never_taken_over():
    recording, _ = behind()
    for track in (recorded(row(28.0, 0.0)), recorded(row(28.0, 1.4), "pedestrian")):
        agent = ReplayedUser(recording=recording, track=track, take_over=TakeOver())
        assert not play(agent, lambda k: RoadUser.ego_vehicle((33.0, 0.0, 0.0), 0.0))[-1].is_taken_over


def test_between_key_frames_poses_are_linear_and_yaw_goes_the_short_way():
    poses = interpolated_poses(
        np.array([0.0, 0.5]), np.array([(0.0, 0.0, 3.1), (5.0, 1.0, -3.1)]), np.array([0.0, 0.25, 0.5, 0.6])
    )
    assert poses[1, :2] == pytest.approx((2.5, 0.5)) and abs(poses[1, 2]) == pytest.approx(math.pi, abs=1e-6)
    assert np.isnan(poses[3]).all()


def test_a_long_gap_without_annotation_stays_empty():
    poses = interpolated_poses(np.array([0.0, 2.0]), np.zeros((2, 3)), np.arange(0.0, 2.05, 0.1))
    assert np.isfinite(poses[[0, -1]]).all() and np.isnan(poses[1:-1]).all()


def test_a_data_set_is_read_with_its_ego_vehicle_and_everybody_annotated(tmp_path):
    north = straight(205.0, 210.0, yaw=np.pi / 2, speed=4.0)
    ego = straight(200.0, 200.0, yaw=np.pi / 2, speed=8.0)
    index = drive(tmp_path / "root", {"scene-9001": {"north": Track(path=north)}}, ego=ego)
    found = read_recording(index, "scene-9001")
    seconds = found.times_s
    np.testing.assert_allclose(found.ego_poses[:, 1], 200.0 + 8.0 * seconds, atol=1e-6)
    (track,) = found.tracks
    np.testing.assert_allclose(track.poses[:, 1], 210.0 + 4.0 * seconds, atol=1e-6)
    assert track.poses[:, 2] == pytest.approx(np.pi / 2)
    with pytest.raises(DatasetError, match="scene-9009"):
        read_recording(index, "scene-9009")


def test_the_same_world_gives_the_same_state():
    recording, track = behind()
    agent = ReplayedUser(recording=recording, track=track, take_over=TakeOver())
    assert play(agent, stopping) == play(agent, stopping)
    assert isinstance(agent.begin(), ReplayState)


def test_a_take_over_without_meaning_is_refused():
    with pytest.raises(ValueError, match="deviation_m=0"):
        TakeOver(deviation_m=0.0)
