import pytest
import torch
from fixtures.planning_scenes import LEFT, NAN, RIGHT, STRAIGHT

from bevstack.planning.path_motion import wrapped
from bevstack.planning.rollout import Ways
from bevstack.planning.sampling import TrajectorySampler
from bevstack.planning.vehicle import NUSCENES_VEHICLE

SAMPLER = TrajectorySampler()


def sampled(command: int, speed: float = 5.0) -> Ways:
    return SAMPLER(torch.tensor([command]), torch.tensor([speed]))


@pytest.mark.parametrize("command", [LEFT, STRAIGHT, RIGHT, -1])
@pytest.mark.parametrize("speed", [0.0, 8.0, 14.0, NAN])
def test_every_candidate_stays_within_the_stated_limits(command: int, speed: float) -> None:
    ways = sampled(command, speed)
    assert ways.poses.shape == (1, 600, 6, 3)
    speeds = ways.speeds_mps
    assert speeds.min() >= 0
    assert speeds.max() <= NUSCENES_VEHICLE.max_speed_mps
    change = torch.diff(speeds, dim=-1) / 0.5
    assert change.min() >= -3.0 - 1e-4
    assert change.max() <= 7.0 + 1e-4
    turns = wrapped(torch.diff(ways.poses[..., 2], dim=-1)).abs() / 0.5
    middle = (speeds[..., 1:] + speeds[..., :-1]) / 2
    assert (turns <= NUSCENES_VEHICLE.max_curvature_per_m * middle + 1e-3).all()
    slowest = torch.minimum(speeds[..., 1:], speeds[..., :-1])
    assert (turns * slowest <= NUSCENES_VEHICLE.max_lateral_mps2 + 1e-3).all()


def test_start_speeds_are_the_present_one_or_random_ones_up_to_15() -> None:
    first = sampled(STRAIGHT, 9.0).poses[0, :, 0, 0] / 0.5
    present = first[::2]
    assert ((present > 9.0 - 3 * 0.25 - 0.01) & (present < 9.0 + 7 * 0.25 + 0.01)).all()
    others = first[1::2]
    assert others.min() < 1.0
    assert 12.0 < others.max() < 15.0 + 7 * 0.25 + 0.01


def test_commands_choose_different_sets() -> None:
    left, straight, right = (sampled(command).poses[0] for command in (LEFT, STRAIGHT, RIGHT))
    assert left[:, -1, 1].min() >= -1e-4
    assert right[:, -1, 1].max() <= 1e-4
    assert (left[:, -1, 2] > 0.5).float().mean() > 0.2
    assert straight[:, -1, 2].abs().max() < left[:, -1, 2].abs().max()
    assert (straight[:, -1, 1].abs() < 2.0).float().mean() > 0.4


def test_the_right_turns_are_the_left_turns_in_a_mirror() -> None:
    mirror = torch.tensor([1.0, -1.0, -1.0])
    torch.testing.assert_close(sampled(LEFT).poses * mirror, sampled(RIGHT).poses)


def test_a_frame_without_a_command_chooses_among_some_of_each_set() -> None:
    mixed = sampled(-1).poses[0]
    for offset, command in enumerate((RIGHT, LEFT, STRAIGHT)):
        torch.testing.assert_close(mixed[command::3], sampled(command).poses[0, command::3])
        assert offset == command


def test_the_same_seed_gives_the_same_candidates_and_another_seed_others() -> None:
    again, other = TrajectorySampler(), TrajectorySampler(seed=1)
    inputs = torch.tensor([LEFT, STRAIGHT]), torch.tensor([3.0, NAN])
    assert torch.equal(again(*inputs).poses, SAMPLER(*inputs).poses)
    assert not torch.equal(other(*inputs).poses, SAMPLER(*inputs).poses)


def test_frames_of_a_batch_are_sampled_as_if_alone() -> None:
    both = SAMPLER(torch.tensor([LEFT, -1]), torch.tensor([3.0, NAN])).poses
    torch.testing.assert_close(both[0], sampled(LEFT, 3.0).poses[0])
    torch.testing.assert_close(both[1], sampled(-1, NAN).poses[0])


def test_empty_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="clothoid_scale_m"):
        TrajectorySampler(clothoid_scale_m=(6.0, 6.0))
    with pytest.raises(ValueError, match="candidates=0"):
        TrajectorySampler(candidates=0)
