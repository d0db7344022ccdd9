"""What a network would do by itself."""

import numpy as np
import pytest
from fixtures.road_scenes import cruising, driving, scene, straight_route

from bevstack.planning.first_proposal import FirstProposal
from bevstack.types import Planner, PlanProposals
from bevstack.types.errors import PlanningError


def test_the_first_proposal_leaves_as_it_is_whatever_is_in_its_way() -> None:
    planner = FirstProposal()
    assert isinstance(planner, Planner)
    ways = (cruising(20.0), cruising(8.0))
    proposals = PlanProposals(
        poses_ego=np.array([way.poses_ego for way in ways], np.float32),
        speeds_mps=np.array([way.speeds_mps for way in ways], np.float32),
        scores=np.array([1.0, 0.5], np.float32),
        dt_s=0.5,
        planner="sampled",
    )
    wall = scene(("car", 12.0, 0.0, 0.0, 0.0, 0.0), proposals=proposals)
    plan = planner.plan(wall, driving(2.0), straight_route())
    np.testing.assert_allclose(plan.trajectory.poses_ego, cruising(20.0).poses_ego, atol=1e-5)
    assert plan.source == "learned" and plan.reasons == ()


def test_without_a_proposal_there_is_no_plan() -> None:
    with pytest.raises(PlanningError, match="no proposals"):
        FirstProposal().plan(scene(), driving(5.0), straight_route())
