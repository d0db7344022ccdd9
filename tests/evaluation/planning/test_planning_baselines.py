"""Plans that look at nothing: known ways, and a network that learns from the past and is the same every time."""

import numpy as np
import pytest
from fixtures.planned_drives import TIMES_S, future_of, status_of, straight_poses

from bevstack.evaluation.planning.baselines import (
    baseline_plans,
    constant_turn,
    constant_velocity,
    copy_last,
    train_ego_status_mlp,
)
from bevstack.evaluation.planning.ego_future import EgoFuture
from bevstack.evaluation.planning.ego_status import EgoStatus


def braking_drives(count: int, seed: int) -> tuple[EgoStatus, EgoFuture]:
    """Vehicles that slow down by a tenth of their speed each second: neither baseline of constants knows."""
    speed = np.random.default_rng(seed).uniform(2, 12, count)
    poses = straight_poses(1.0, count)
    poses[..., 0] = speed[:, None] * (TIMES_S - 0.05 * TIMES_S**2)
    return status_of(speed), future_of(poses)


def test_constant_velocity_and_copy_last_are_what_they_say() -> None:
    np.testing.assert_allclose(constant_velocity(status_of([4.0, 0.0]))[:, :, 0], [4.0 * TIMES_S, 0.0 * TIMES_S])
    assert not copy_last(3).any() and copy_last(3).shape == (3, 6, 3)


def test_a_constant_turn_runs_on_its_circle() -> None:
    poses = constant_turn(status_of([4.0, 4.0, 4.0], [0.5, -0.5, 0.0]))
    radius = 8.0
    angle = 0.5 * TIMES_S
    circle = np.stack((radius * np.sin(angle), radius * (1 - np.cos(angle)), angle), axis=1)
    np.testing.assert_allclose(poses[0], circle)
    np.testing.assert_allclose(poses[1], circle * (1, -1, -1))
    np.testing.assert_allclose(poses[2], straight_poses(4.0)[0])
    nearly = constant_turn(status_of([4.0], [1e-7]))
    np.testing.assert_allclose(nearly, straight_poses(4.0), atol=2e-6)


def test_a_frame_without_a_past_stays_where_it_is() -> None:
    unknown = status_of([np.nan], [np.nan])
    assert not constant_velocity(unknown).any() and not constant_turn(unknown).any()


def test_the_network_learns_what_constants_do_not_know_and_is_the_same_every_time() -> None:
    status, future = braking_drives(400, seed=0)
    mlp = train_ego_status_mlp(status, future)
    unseen_status, unseen = braking_drives(50, seed=1)
    plan = mlp.plan(unseen_status)
    error = np.linalg.norm(plan - unseen.poses_ego, axis=-1)[:, -1].mean()
    constant = np.linalg.norm(constant_velocity(unseen_status) - unseen.poses_ego, axis=-1)[:, -1].mean()
    assert constant > 2.0 and error < 0.25
    np.testing.assert_array_equal(plan, train_ego_status_mlp(status, future).plan(unseen_status))
    one_by_one = np.concatenate([mlp.plan(unseen_status.of_frames(np.array([row]))) for row in range(50)])
    np.testing.assert_allclose(one_by_one, plan, atol=1e-4)


def test_steps_that_do_not_exist_teach_nothing() -> None:
    status, future = braking_drives(60, seed=0)
    spoilt = future_of(future.poses_ego, num_known=[3] * 60)
    short = train_ego_status_mlp(status, spoilt)
    spoilt.poses_ego[:, 3:] = 1e6
    np.testing.assert_array_equal(short.plan(status), train_ego_status_mlp(status, spoilt).plan(status))
    with pytest.raises(ValueError, match="none of the 60 training frames has a future"):
        train_ego_status_mlp(status, future_of(future.poses_ego, num_known=[0] * 60))


def test_all_but_standing_still_declare_that_they_use_the_ego_status() -> None:
    plans = baseline_plans(("a", "b"), status_of([1.0, 2.0]))
    assert {name: plan.uses_ego_status for name, plan in plans.items()} == {
        "constant_velocity": True,
        "constant_turn": True,
        "copy_last": False,
    }
    assert all(plan.sample_tokens == ("a", "b") and plan.command_source == "none" for plan in plans.values())
