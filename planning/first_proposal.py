"""The most wanted proposal of a learned planner as it is: what papers score, and nothing to drive by."""

import numpy as np

from bevstack.types.errors import PlanningError
from bevstack.types.frame import EgoState
from bevstack.types.scene import SceneEstimate
from bevstack.types.trajectory import Plan, Route, Trajectory


class FirstProposal:
    """Hands the first proposal on, without a look at limits, objects, road or the vehicle's own motion. A `Planner`.

    Beside `LearnedPlanner` it tells what the network knows by itself from what the checks around it add.
    """

    def plan(self, scene: SceneEstimate, ego: EgoState, route: Route) -> Plan:
        """The proposal.

        Raises:
            PlanningError: there is none.
        """
        proposals = scene.proposals
        if proposals is None or not len(proposals):
            raise PlanningError("there are no proposals")
        trajectory = Trajectory(
            poses_ego=proposals.poses_ego[0].astype(np.float64),
            speeds_mps=proposals.speeds_mps[0].astype(np.float64),
            dt_s=proposals.dt_s,
        )
        return Plan(trajectory=trajectory, source="learned", reasons=())
