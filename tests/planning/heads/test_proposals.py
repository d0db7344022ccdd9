import numpy as np
import pytest
import torch
from fixtures.planning_scenes import driven

from bevstack.planning.heads.proposals import CREEPING_MPS, proposals_of
from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.types import Trajectory


@pytest.mark.parametrize("acceleration", [-2.0, 0.0, 2.0])
@pytest.mark.parametrize("curvature", [-0.05, 0.0, 0.02])
def test_the_points_of_a_drive_become_a_plan_that_the_vehicle_can_drive(acceleration: float, curvature: float) -> None:
    poses = driven(7.0, curvature=curvature, acceleration=acceleration)
    (proposals,) = proposals_of(poses[None, None, :, :2], torch.zeros(1, 1), "test")
    trajectory = Trajectory(
        poses_ego=proposals.poses_ego[0].astype(np.float64), speeds_mps=proposals.speeds_mps[0], dt_s=proposals.dt_s
    )
    assert NUSCENES_VEHICLE.limits_broken(trajectory) == ()
    np.testing.assert_allclose(proposals.speeds_mps[0], 7.0 + acceleration * 0.5 * np.arange(1, 7), atol=0.1)


def test_jitter_at_standstill_is_no_reversing_but_reversing_is() -> None:
    jitter = torch.tensor([[0.02, 0.0], [-0.03, 0.01], [-0.1, 0.0]])
    back = torch.tensor([[-1.0, 0.0], [-2.0, 0.0], [-3.0, 0.0]])
    (proposals,) = proposals_of(torch.stack((jitter, back))[None], torch.tensor([[1.0, 0.0]]), "test")
    assert proposals.speeds_mps[0].min() >= 0
    assert proposals.speeds_mps[1].max() < -CREEPING_MPS
    assert proposals.scores.tolist() == [1.0, 0.0]
