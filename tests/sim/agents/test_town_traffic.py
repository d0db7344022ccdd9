"""A town's traffic with the ego vehicle driven from outside."""

import numpy as np
import pytest

from bevstack.sim.agents.town_traffic import TownTraffic
from bevstack.sim.world.presets import STANDARD
from bevstack.sim.world.town import make_town
from bevstack.sim.world.traffic import simulate_traffic

SEED, DURATION_S = 2, 4.0
ORIGIN = (0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def town():
    return make_town("t_junction", np.random.default_rng(SEED))


@pytest.fixture(scope="module")
def world(town):
    return simulate_traffic(town, seed=SEED, duration_s=DURATION_S, preset=STANDARD)


def fresh(town):
    return TownTraffic(town, seed=SEED, duration_s=DURATION_S, preset=STANDARD)


def ego_at(world, step):
    x, y, _, yaw = world.ego.poses[step]
    return (float(x), float(y), float(yaw)), float(world.ego.speeds_mps[step])


def poses_of(states):
    return np.array([(np.nan,) * 3 if state is None else state.pose for state in states])


def test_an_ego_driven_as_the_world_drives_it_meets_the_worlds_own_tracks(town, world):
    traffic = fresh(town)
    assert traffic.ego_start[0] == pytest.approx(ego_at(world, 0)[0], abs=1e-9)
    assert traffic.ego_start[1] == ego_at(world, 0)[1]
    assert [actor.model.size_lwh for actor in traffic.actors] == [track.model.size_lwh for track in world.actors]
    states = traffic.states()
    for step in range(len(world.ego.times_s)):
        if step > 0:
            states = traffic.step(*ego_at(world, step))
        for state, track in zip(states, world.actors, strict=True):
            if step >= len(track.times_s):
                continue
            assert state is not None
            assert state.pose == pytest.approx(tuple(track.poses[step, [0, 1, 3]]), abs=1e-6)
            assert state.ground_m == track.poses[step, 2]
            assert state.phase_index == track.phase_index[step]


@pytest.mark.slow
def test_a_step_of_a_tenth_of_a_second_is_two_of_the_traffics_own(town, world):
    traffic = fresh(town)
    for step in range(2, 41, 2):
        states = traffic.step(*ego_at(world, step), dt_s=0.1)
    assert traffic.now_s == pytest.approx(2.0)
    for state, track in zip(states, world.actors, strict=True):
        if len(track.times_s) > 40:
            np.testing.assert_allclose(state.pose[:2], track.poses[40, :2], atol=0.05)


def test_an_ego_that_stays_behind_changes_what_the_others_do_and_nobody_drives_into_it(town, world):
    traffic = fresh(town)
    pose, _ = traffic.ego_start
    for _ in range(160):
        states = traffic.step(pose, 0.0)
    moved = np.nanmax(np.abs(poses_of(states)[:, :2] - poses_of(fresh(town).states())[:, :2]))
    assert moved > 1.0
    centre = np.array(pose[:2])
    for actor, state in zip(traffic.actors, states, strict=True):
        if actor.kind == "vehicle" and state is not None:
            assert np.hypot(*(np.array(state.pose[:2]) - centre)) > 1.9


@pytest.mark.slow
def test_the_same_drive_twice_is_bit_equal(town, world):
    def drive():
        traffic = fresh(town)
        return [poses_of(traffic.step(*ego_at(world, step))).tobytes() for step in range(1, 30)]

    assert drive() == drive()


@pytest.mark.slow
def test_names_are_unique_and_say_the_class(town):
    names = [actor.name for actor in fresh(town).actors]
    assert len(set(names)) == len(names)
    assert all(actor.name.startswith(actor.model.class_name) for actor in fresh(town).actors)


def test_velocities_are_those_of_the_poses(town, world):
    traffic = fresh(town)
    before = traffic.step(*ego_at(world, 1))
    after = traffic.step(*ego_at(world, 2))
    for actor, old, new in zip(traffic.actors, before, after, strict=True):
        if actor.kind != "vehicle" or actor.is_trailer or old is None or new is None:
            continue
        moved = (np.array(new.pose[:2]) - old.pose[:2]) / 0.05
        np.testing.assert_allclose(moved, np.add(old.velocity, new.velocity) / 2, atol=0.6)


def test_a_step_that_is_no_multiple_or_not_finite_is_refused(town):
    traffic = fresh(town)
    with pytest.raises(ValueError, match="dt_s=0.07"):
        traffic.step(ORIGIN, 0.0, dt_s=0.07)
    with pytest.raises(ValueError, match="finite"):
        traffic.step((np.nan, 0.0, 0.0), 0.0)
