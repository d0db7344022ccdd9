import numpy as np
import pytest
from fixtures.drive_logs import NO_ROADS, actor, drive_log, moving, straight
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.metrics.areas import DrivenAreas
from bevstack.sim.metrics.collisions import Collisions, first_touch
from bevstack.sim.metrics.tracks import Tracks


def collisions_of(log):
    tracks = Tracks.of(log)
    return Collisions.of(tracks, DrivenAreas.of(tracks))


def parked(name, steps, x, y, yaw=0.0, **of):
    return moving(name, steps, 0.0, x=x, y=y, yaw=yaw, **of)


def test_the_first_touch_is_found_between_two_steps():
    # Front at 3 + 10 t, the rear of the parked car at 25 - 2 = 23: they touch at t = 2.0 s; at 14 m/s at 20/14 s.
    for speed, seconds in ((10.0, 2.0), (14.0, 20 / 14)):
        poses, speeds = straight(40, speed)
        contact = collisions_of(drive_log(poses, speeds, actors=[parked("lead", 40, 25.0, 0.0)])).first
        assert contact.time_s == pytest.approx(seconds, abs=1e-4)
        assert contact.impact_speed_mps == pytest.approx(speed)
        assert contact.relative_speed_mps == pytest.approx(speed)
        assert (contact.kind, contact.face, contact.is_at_fault) == ("stopped_track", "front", True)
        np.testing.assert_allclose(contact.point_ego, (2.0, 0.0), atol=1e-2)


def test_a_contact_that_no_step_shows_is_found():
    # A cyclist 0.5 m long crosses at 20 m/s just ahead of a standing front: seen at y = -2 and y = 0.3 only.
    poses, speeds = straight(3, 0.0)
    rows = np.array(((3.2, -2.9, np.pi / 2), (3.2, 2.9, np.pi / 2), (3.2, 8.7, np.pi / 2)))
    log = drive_log(poses, speeds, actors=[actor("bike", rows, class_name="bicycle", size=(0.5, 0.5, 1.7))])
    contact = collisions_of(log).first
    # Its front reaches y = -1 after 2.9 - 0.25 - 1 = 1.65 m of 5.8 m.
    assert contact.time_s == pytest.approx(0.1 * 1.65 / 5.8, abs=1e-4)


def test_a_braking_vehicle_hits_with_what_is_left_of_its_speed():
    # v^2 = 15^2 - 2 * 6 * 10 = 105 when 10 m are used up.
    poses, speeds = straight(40, 15.0, acceleration=-6.0)
    contact = collisions_of(drive_log(poses, speeds, actors=[parked("lead", 40, 15.0, 0.0)])).first
    assert contact.impact_speed_mps == pytest.approx(np.sqrt(105), abs=0.02)


def test_the_relative_speed_is_the_length_of_the_difference_of_velocities():
    poses, speeds = straight(40, 10.0)
    crossing = moving("cross", 40, 5.0, x=13.0, y=-5.0, yaw=np.pi / 2)
    contact = collisions_of(drive_log(poses, speeds, actors=[crossing])).first
    assert contact.relative_speed_mps == pytest.approx(np.hypot(10, 5))
    assert (contact.kind, contact.is_at_fault) == ("active_front", True)


def test_who_runs_into_the_rear_is_at_fault():
    poses, speeds = straight(40, 5.0)
    log = drive_log(poses, speeds, actors=[moving("follower", 40, 12.0, x=-10.0)])
    contact = collisions_of(log).first
    assert (contact.kind, contact.face, contact.is_at_fault) == ("active_rear", "rear", False)
    assert contact.relative_speed_mps == pytest.approx(7.0)


def test_a_standing_vehicle_is_never_at_fault():
    poses, speeds = straight(40, 0.0)
    contact = collisions_of(drive_log(poses, speeds, actors=[moving("oncoming", 40, -8.0, x=20.0)])).first
    assert (contact.kind, contact.face, contact.is_at_fault) == ("stopped_ego", "front", False)


@pytest.mark.parametrize(("y", "is_at_fault"), [(0.0, False), (1.6, True), (-1.5, True)])
def test_a_lateral_contact_is_the_ego_fault_between_lanes_and_beside_the_road_only(y, is_at_fault):
    # Half a metre away on the left, as fast as the ego vehicle, drifting right at 1 m/s.
    poses, speeds = straight(20, 10.0, y=y)
    t = np.arange(20) * 0.1
    rows = np.stack((1.0 + 10.0 * t, y + 2.5 - t, np.zeros(20)), axis=1)
    contact = collisions_of(drive_log(poses, speeds, actors=[actor("beside", rows)])).first
    assert (contact.kind, contact.face) == ("active_lateral", "side")
    assert contact.time_s == pytest.approx(0.5, abs=1e-3)
    assert contact.is_at_fault is is_at_fault


def test_things_cost_half_and_road_users_all():
    poses, speeds = straight(60, 10.0)
    cone = parked("cone", 60, 20.0, 0.0, class_name="traffic_cone", size=(0.4, 0.4, 0.8))
    second = parked("second", 60, 26.0, 0.0, class_name="barrier", size=(0.4, 2.0, 1.0))
    car = parked("car", 60, 40.0, 0.0)
    results = [collisions_of(drive_log(poses, speeds, actors=some)) for some in ([], [cone], [cone, second], [car])]
    assert [result.no_at_fault for result in results] == [1.0, 0.5, 0.5, 0.0]
    assert [result.no_at_fault_nuplan for result in results] == [1.0, 0.5, 0.0, 0.0]
    assert [contact.name for contact in results[2].contacts] == ["cone", "second"]


def test_an_actor_counts_once_and_only_while_it_is_there():
    poses, speeds = straight(60, 10.0)
    rows = np.tile((30.0, 0.0, 0.0), (60, 1))
    rows[:40] = np.nan  # appears after the vehicle has passed
    late = actor("late", rows)
    rows = np.tile((30.0, 0.0, 0.0), (60, 1))
    rows[:29] = np.nan  # appears at 2.9 s when the front is at 32: inside
    onto = actor("onto", rows)
    contacts = collisions_of(drive_log(poses, speeds, actors=[late, onto])).contacts
    assert [contact.name for contact in contacts] == ["onto"]
    assert contacts[0].time_s == pytest.approx(2.9)


def test_an_empty_world_without_roads_has_no_contact():
    poses, speeds = straight(10, 10.0)
    result = collisions_of(drive_log(poses, speeds, roads=NO_ROADS))
    assert result.contacts == () and result.no_at_fault == 1.0 and result.first is None


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(5.0, 20.0), st.floats(-20.0, 20.0), st.floats(-np.pi, np.pi))
def test_turning_and_moving_the_world_changes_no_contact(yaw, other_yaw, distance, side, turn):
    ego = np.array([(10.0 * t, 0.0, 4.0, 2.0, 0.2 * yaw * t) for t in np.linspace(0, 2, 21)])
    heading = np.array((np.cos(other_yaw), np.sin(other_yaw)))
    other = np.array(
        [(*(np.array((distance, side)) + 6 * t * heading), 4.5, 1.9, other_yaw) for t in np.linspace(0, 2, 21)]
    )
    c, s = np.cos(turn), np.sin(turn)

    def moved(rows):
        out = rows.copy()
        out[:, 0] = c * rows[:, 0] - s * rows[:, 1] + 50
        out[:, 1] = s * rows[:, 0] + c * rows[:, 1] - 20
        out[:, 4] = (rows[:, 4] + turn + np.pi) % (2 * np.pi) - np.pi
        return out

    first, second = first_touch(ego, other), first_touch(moved(ego), moved(other))
    np.testing.assert_allclose(first, second, atol=1e-4)
